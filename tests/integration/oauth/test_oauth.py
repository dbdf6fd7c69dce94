"""Logging in without a password, against a fake of a provider's endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import stat
import sys
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentmail.errors import AuthenticationFailed, BadInput, ConfigurationError, Unreachable
from agentmail.oauth import (
    DeviceCode,
    Endpoints,
    OAuthRefresh,
    Tokens,
    device_login,
    keep_login,
    loopback_login,
    post,
    saved_token,
)
from agentmail.tokenfile import TokenFile


class Provider:
    """A token endpoint: answers in turn, and what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, object]]] = []
        self.asked: list[dict[str, str]] = []
        self.rotates = ""
        """The refresh token that is good now, when it takes each of them once."""

    def rotated(self, form: dict[str, str]) -> tuple[int, dict[str, object]]:
        if form["refresh_token"] != self.rotates:
            return 400, {"error": "invalid_grant", "error_description": "used twice"}
        number = int(self.rotates[1:]) + 1
        self.rotates = f"r{number}"
        return 200, {"access_token": f"a{number}", "expires_in": 3600, "refresh_token": self.rotates}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length:")[2].split()[0])
        self.asked.append(dict(urllib.parse.parse_qsl((await reader.readexactly(length)).decode())))
        status, answer = self.answers.pop(0) if not self.rotates else self.rotated(self.asked[-1])
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
    assert all(0o600 == stat.S_IMODE(p.stat().st_mode) for p in file.path.parent.iterdir())
    assert "one" not in repr(Tokens(refresh_token="one"))


REFRESH = """
import asyncio, sys
from pathlib import Path
from agentmail.oauth import saved_token
from agentmail.tokenfile import TokenFile
token = saved_token(TokenFile(Path(sys.argv[1]), use_keyring=False), "me@example.org")
print(asyncio.run(token()))
"""


async def test_two_processes_that_refresh_at_once_do_not_lock_each_other_out(
    provider: tuple[Provider, Endpoints], tmp_path: Path
) -> None:
    """A provider that takes each refresh token once takes a second use for a theft, and ends the login."""
    fake, endpoints = provider
    fake.rotates = "r0"
    path = tmp_path / "tokens.json"
    file = TokenFile(path, use_keyring=False)
    keep_login(file, "me@example.org", endpoints, "id", "", Tokens(refresh_token="r0"))
    file.save("other@example.org", {"refresh_token": "theirs"})

    async def process() -> str:
        done = await asyncio.create_subprocess_exec(
            sys.executable, "-c", REFRESH, str(path), stdout=asyncio.subprocess.PIPE
        )
        return (await done.communicate())[0].decode().strip()

    assert ["a1", "a2", "a3"] == sorted(await asyncio.gather(*(process() for _ in range(3))))
    kept = file.load("me@example.org")
    assert kept is not None
    assert ("r3", endpoints.token) == (kept["refresh_token"], kept["token_url"])
    assert {"refresh_token": "theirs"} == file.load("other@example.org")


def test_many_who_save_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"

    def save(number: int) -> None:
        TokenFile(path, use_keyring=False).save(f"{number}@example.org", {"refresh_token": str(number)})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(save, range(40)))
    file = TokenFile(path, use_keyring=False)
    assert [{"refresh_token": str(n)} for n in range(40)] == [file.load(f"{n}@example.org") for n in range(40)]


async def test_a_login_made_by_another_process_counts_at_once(
    provider: tuple[Provider, Endpoints], tmp_path: Path
) -> None:
    fake, endpoints = provider
    file = TokenFile(tmp_path / "tokens.json", use_keyring=False)
    keep_login(file, "me@example.org", endpoints, "id", "", Tokens(refresh_token="old"))
    token = saved_token(file, "me@example.org")
    assert token is not None
    fake.answers = [(200, {"access_token": "a1", "refresh_token": "newer"}), (200, {"access_token": "a2"})]
    first = token.login
    assert ["a1", "a1"] == [await token(), await token()]
    assert first == token.login, "a rotation is not a login"
    keep_login(file, "me@example.org", endpoints, "id", "", Tokens(refresh_token="logged in again"))
    assert first != token.login
    assert "a2" == await token()
    assert "logged in again" == fake.asked[-1]["refresh_token"]
    file.path.unlink()
    with pytest.raises(AuthenticationFailed, match="agentmail login"):
        await token()


def test_a_file_that_others_could_read_is_closed_and_a_broken_one_says_so(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json", use_keyring=False)
    file.save("a@example.org", {"refresh_token": "one"})
    file.path.chmod(0o644)
    assert file.load("a@example.org") is not None
    assert 0o600 == stat.S_IMODE(file.path.stat().st_mode)
    file.path.write_text("{")
    with pytest.raises(ConfigurationError, match="mend or remove it"):
        file.load("a@example.org")


DEVICE = {"device_code": "d", "user_code": "AB", "verification_uri": "https://x"}


@pytest.mark.parametrize("odd", [{"interval": "soon"}, {"interval": -1}, {"expires_in": "x", "interval": None}])
async def test_odd_numbers_in_a_device_login_change_nothing(
    provider: tuple[Provider, Endpoints], odd: dict[str, object]
) -> None:
    fake, endpoints = provider
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    fake.answers = [(200, {**DEVICE, **odd}), (503, {}), (200, {"access_token": "a", "refresh_token": "r"})]
    await device_login(endpoints, "id", lambda _: None, sleep=sleep)
    assert [5.0, 10.0] == pauses, "a question that failed is asked again, later (RFC 8628 3.5)"


async def test_a_provider_that_is_busy_for_a_moment_ends_no_device_login(provider: tuple[Provider, Endpoints]) -> None:
    """The person is typing the code all the while."""
    fake, endpoints = provider
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    busy = [(400, {"error": "temporarily_unavailable"}), (400, {"error": "server_error"})]
    fake.answers = [(200, DEVICE), *busy, (200, {"access_token": "a", "refresh_token": "r"})]
    assert "a" == (await device_login(endpoints, "id", lambda _: None, sleep=sleep))["access_token"]
    assert [5.0, 10.0, 20.0] == pauses


@pytest.mark.parametrize(
    "answers",
    [
        [{"code": "x"}],
        [{"user_code": "x"}],
        [DEVICE, {"error": "expired_token"}],
        [DEVICE, {"device_code": "d"}],
        [DEVICE, {"access_token": {"a": 1}}],
        [DEVICE, {"error": {"a": 1}, "error_description": ["\x1b[2J"]}],
    ],
)
async def test_a_device_login_that_fails_says_so(
    provider: tuple[Provider, Endpoints], answers: list[dict[str, object]]
) -> None:
    fake, endpoints = provider

    async def sleep(_: float) -> None: ...

    fake.answers = [(200, answer) for answer in answers]
    with pytest.raises(AuthenticationFailed) as raised:
        await device_login(endpoints, "id", lambda _: None, sleep=sleep)
    assert str(raised.value).isprintable()


async def test_what_is_wrong_with_an_endpoint_is_said_in_words(provider: tuple[Provider, Endpoints]) -> None:
    fake, endpoints = provider
    fake.answers = [(502, {}), (400, {"error": "invalid_client", "error_description": "AADSTS7000218: secret needed"})]
    with pytest.raises(Unreachable, match="/device: the server answers 502; try again"):
        await device_login(endpoints, "id", lambda _: None)
    with pytest.raises(AuthenticationFailed, match="allow public client flows"):
        await device_login(endpoints, "id", lambda _: None)
    for url, words in (("http://127.0.0.1:1/", "connection refused"), ("https://x.invalid/", "no such host")):
        with pytest.raises(Unreachable, match=words):
            await post(url, {})
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unreachable, match="no answer in time"):
        await post(f"http://127.0.0.1:{silent.getsockname()[1]}/", {}, timeout=0.2)


async def test_a_device_login_at_a_provider_that_fails_to_the_end_blames_nobody_else(
    provider: tuple[Provider, Endpoints],
) -> None:
    fake, endpoints = provider
    fake.answers = [(200, {"device_code": "d", "expires_in": 10}), *[(500, {})] * 20]
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    with pytest.raises(Unreachable, match="the server answers 500"):
        await device_login(endpoints, "id", lambda _: None, sleep=sleep, clock=lambda: now[0])


async def test_a_code_that_nobody_types_ends(provider: tuple[Provider, Endpoints]) -> None:
    fake, endpoints = provider
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    fake.answers = [(200, {**DEVICE, "expires_in": 20}), *[(400, {"error": "authorization_pending"})] * 9]
    with pytest.raises(AuthenticationFailed, match="not entered in time"):
        await device_login(endpoints, "id", lambda _: None, sleep=sleep, clock=lambda: now[0])


@pytest.mark.parametrize("said", [{"error": "access_denied"}, {"error": "server_error"}, {"code": ""}])
async def test_a_browser_that_comes_back_without_a_code(
    provider: tuple[Provider, Endpoints], said: dict[str, str]
) -> None:
    _, endpoints = provider
    pages: list[bytes] = []

    def browser(url: str) -> None:
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        for state in ("f\xe4lschung", "", asked["state"]):
            answer = urllib.parse.urlencode({**said, "state": state})
            with urllib.request.urlopen(f"{asked['redirect_uri']}?{answer}") as page:
                pages.append(page.read())

    with pytest.raises((AuthenticationFailed, Unreachable)):
        await loopback_login(endpoints, "id", browser, timeout=30.0)
    assert [False, False, True] == [b"refused" in page or b"close this" in page for page in pages]


async def test_a_token_endpoint_that_drips_has_a_deadline() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 x\r\nContent-Length: 100000\r\n\r\n")
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.transport.abort()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    with pytest.raises(Unreachable, match="no answer in time"):
        await post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {}, timeout=0.2)
    server.close()
