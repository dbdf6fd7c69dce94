"""Logging in without a password, against a fake of a provider's endpoints."""

from __future__ import annotations

import asyncio
import json
import stat
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentmail.errors import AuthenticationFailed, BadInput, Unreachable
from agentmail.oauth import DeviceCode, Endpoints, OAuthRefresh, TokenFile, Tokens, device_login, loopback_login, post


class Provider:
    """A token endpoint: answers in turn, and what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, object]]] = []
        self.asked: list[dict[str, str]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length:")[2].split()[0])
        self.asked.append(dict(urllib.parse.parse_qsl((await reader.readexactly(length)).decode())))
        status, answer = self.answers.pop(0)
        body = json.dumps(answer).encode()
        writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()


@pytest.fixture
async def provider() -> AsyncIterator[tuple[Provider, Endpoints]]:
    fake = Provider()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield fake, Endpoints(f"{base}/token", "http://127.0.0.1/authorize", f"{base}/device", ("mail",))
    server.close()


async def test_a_token_is_used_until_shortly_before_its_end_and_rotation_is_kept(
    provider: tuple[Provider, Endpoints],
) -> None:
    fake, endpoints = provider
    now = [1000.0]
    kept: list[str] = []
    token = OAuthRefresh(endpoints, "id", "r1", on_rotate=kept.append, clock=lambda: now[0])
    fake.answers = [(200, {"access_token": "a1", "expires_in": 3600, "refresh_token": "r2"}),
                    (200, {"access_token": "a2", "expires_in": 3600})]  # fmt: skip
    assert ["a1", "a1"] == [await token() for _ in range(2)]
    assert ["r2"] == kept
    now[0] += 3500
    assert "a2" == await token()
    assert ["r1", "r2"] == [asked["refresh_token"] for asked in fake.asked]
    assert "r2" not in repr(token)
    await token.renew()
    fake.answers = [(400, {"error": "invalid_grant", "error_description": "revoked"})]
    with pytest.raises(AuthenticationFailed, match="log in again"):
        await token()
    fake.answers = [(503, {})]
    with pytest.raises(Unreachable):
        await token()


async def test_many_who_ask_at_once_ask_the_provider_once(provider: tuple[Provider, Endpoints]) -> None:
    fake, endpoints = provider
    fake.answers = [(200, {"access_token": "a1", "expires_in": 3600})]
    token = OAuthRefresh(endpoints, "id", "r1")
    assert {"a1"} == set(await asyncio.gather(*(token() for _ in range(5))))


async def test_device_code(provider: tuple[Provider, Endpoints]) -> None:
    fake, endpoints = provider
    shown: list[DeviceCode] = []
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    fake.answers = [
        (200, {"device_code": "d", "user_code": "AB-CD", "verification_uri": "https://example.org/go", "interval": 1}),
        (400, {"error": "authorization_pending"}), (400, {"error": "slow_down"}),
        (200, {"access_token": "a", "refresh_token": "r"}),
    ]  # fmt: skip
    tokens = await device_login(endpoints, "id", shown.append, sleep=sleep)
    assert "r" == tokens["refresh_token"]
    assert "AB-CD" in shown[0].message
    assert [1, 1, 6] == pauses
    fake.answers = [(200, {"device_code": "d", "user_code": "x"}), (400, {"error": "access_denied"})]
    with pytest.raises(AuthenticationFailed, match="access_denied"):
        await device_login(endpoints, "id", shown.append, sleep=sleep)


async def test_loopback_redirect_takes_only_its_own_answer(provider: tuple[Provider, Endpoints]) -> None:
    fake, endpoints = provider
    fake.answers = [(200, {"access_token": "a", "refresh_token": "r"})]

    def browser(url: str) -> None:
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        assert "S256" == asked["code_challenge_method"]
        for state in ("forged", asked["state"]):
            answer = urllib.parse.urlencode({"code": "c-" + state, "state": state})
            with urllib.request.urlopen(f"{asked['redirect_uri']}?{answer}") as page:
                page.read()

    tokens = await loopback_login(endpoints, "id", browser)
    assert "r" == tokens["refresh_token"]
    assert fake.asked[0]["code"] != "c-forged"
    assert len(fake.asked[0]["code_verifier"]) >= 43
    with pytest.raises(AuthenticationFailed, match="did not come back"):
        await loopback_login(endpoints, "id", lambda _: None, timeout=0.05)


async def test_tokens_are_never_asked_for_in_the_clear() -> None:
    with pytest.raises(BadInput, match="https"):
        await post("http://example.org/token", {})


def test_tokens_at_rest_are_ours_alone_and_never_print(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "deep" / "tokens.json", use_keyring=False)
    assert file.load("a@example.org") is None
    file.save("a@example.org", {"refresh_token": "one"})
    file.save("b@example.org", {"refresh_token": "two"})
    assert {"refresh_token": "one"} == file.load("a@example.org")
    assert 0o600 == stat.S_IMODE(file.path.stat().st_mode)
    assert [file.path] == list(file.path.parent.iterdir())
    assert "one" not in repr(Tokens(refresh_token="one"))
