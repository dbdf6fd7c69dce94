"""One POST: where it may go, and what an endpoint cannot do to us."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from agentmail.errors import Refused, Unreachable
from agentmail.settings import Settings, Webhook
from agentmail.webhooks.posting import Answer, is_public, post, resolve
from tests.servers.process import make_certificates

from .endpoint import OK, Endpoint

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def hook(url: str, **given: object) -> Webhook:
    return Webhook(url=url, secrets=(SECRET,), **({"allow_private": True} | given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("::ffff:8.8.8.8", True), ("64:ff9b::808:808", True),
        ("127.0.0.1", False), ("127.8.8.8", False), ("0.0.0.0", False), ("10.1.2.3", False), ("172.16.0.1", False),
        ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False), ("224.0.0.1", False),
        ("255.255.255.255", False), ("240.0.0.1", False), ("198.18.0.1", False), ("192.0.2.1", False),
        ("::1", False), ("::", False), ("fe80::1%eth0", False), ("fc00::1", False), ("fec0::1", False),
        ("ff02::1", False), ("::ffff:127.0.0.1", False), ("::ffff:169.254.169.254", False),
        ("64:ff9b::7f00:1", False), ("64:ff9b:1::808:808", False), ("2002:7f00:1::", False), ("2002:a00:1::", False),
        ("2001:0:7f00:1::", False), ("2001:db8::1", False), ("not an address", False), ("192.0.0.8", False),
        ("192.88.99.1", False), ("3fff:fff::1", False), ("::ffff:192.0.0.8", False), ("2002:c058:6301::", False),
        ("64:ff9b::c058:6301", False), ("192.0.1.1", True), ("192.88.100.1", True), ("2a00:1450::1", True),
    ],
)  # fmt: skip
def test_what_is_on_the_public_internet(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"])
async def test_our_own_network_is_refused_however_it_is_written(host: str) -> None:
    async with Endpoint() as endpoint:
        url = f"https://{host}:{endpoint.port}/"
        with pytest.raises((Refused, Unreachable), match=r"public internet|gaierror"):
            await post(hook(url, allow_private=False), {}, b"{}")
        assert endpoint.connections == 0


async def test_one_private_address_among_public_ones_is_enough() -> None:
    async def mixed(host: str, port: int) -> list[str]:
        return ["8.8.8.8", "10.0.0.1"]

    with pytest.raises(Refused, match=r"10\.0\.0\.1"):
        await post(hook("https://example.org/", allow_private=False), {}, b"{}", resolve=mixed)


async def test_it_connects_to_the_address_that_was_checked() -> None:
    """DNS rebinding: the name is asked once, and the connection does not ask again."""
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    async with Endpoint() as endpoint:
        url = f"http://no-such-name.invalid:{endpoint.port}/in?x=1"
        answer = await post(hook(url), {"X-Test": "1"}, b'{"a":1}', resolve=rebinding)
        [request] = endpoint.requests
    assert answer == Answer(204)
    assert asked == ["no-such-name.invalid"]
    assert request.line == "POST /in?x=1 HTTP/1.1"
    assert request.headers["host"] == f"no-such-name.invalid:{endpoint.port}"
    assert (request.headers["x-test"], request.body) == ("1", b'{"a":1}')


async def test_a_redirect_is_not_followed() -> None:
    async with Endpoint() as inside:
        moved = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {inside.url}\r\n\r\n".encode()
        async with Endpoint(moved) as endpoint:
            answer = await post(hook(endpoint.url), {}, b"{}")
        assert (answer.status, answer.taken, inside.connections) == (307, False, 0)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5_000, "LimitOverrun"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 20, "interim"),
        (b"220 mail.example.org ESMTP\r\n\r\n", "not HTTP"),
        (b"\x00" * 100 + b"\r\n\r\n", "not HTTP"),
        (b"", "no answer within"),
        (b"HTTP/1.1 200", "no answer within"),
    ],
    ids=["endless headers", "endless 1xx", "SMTP", "zeros", "silence", "half a line"],
)
async def test_an_endpoint_that_misbehaves_costs_little(said: bytes, error: str) -> None:
    async with Endpoint(said) as endpoint:
        with pytest.raises(Unreachable, match=error):
            await post(hook(endpoint.url, timeout=0.5 if "within" in error else 30), {}, b"{}")


async def test_interim_answers_and_pauses_are_read() -> None:
    said = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 Busy\r\nRetry-After: 120\r\n\r\n"
    async with Endpoint(said, b"HTTP/1.1 429 Slow\r\nretry-after: Fri, 1 Jan 2027 00:00:00 GMT\r\n\r\n") as endpoint:
        assert await post(hook(endpoint.url), {}, b"{}") == Answer(503, 120.0)
        assert await post(hook(endpoint.url), {}, b"{}") == Answer(429)


async def test_tls_has_to_prove_the_name(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with Endpoint(OK, tls=context) as endpoint:
        trusting = {"ca_file": tmp_path / "ca.pem"}
        assert (await post(hook(endpoint.url, **trusting), {}, b"{}", resolve=here)).taken
        with pytest.raises(Unreachable, match="certificate"):
            await post(hook(endpoint.url), {}, b"{}", resolve=here)
        other = endpoint.url.replace("localhost", "other.example")
        with pytest.raises(Unreachable, match="certificate"):
            await post(hook(other, **trusting), {}, b"{}", resolve=here)


async def test_nobody_listens() -> None:
    async with Endpoint() as endpoint:
        url = endpoint.url
    with pytest.raises(Unreachable):
        await post(hook(url), {}, b"{}")
    assert await resolve("127.0.0.1", 80) == ["127.0.0.1"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://example.org/"}, {"url": "ftp://example.org/", "allow_private": True},
        {"url": "https://user:word@example.org/"}, {"url": "https://example.org/a b"}, {"url": "https:///x"},
        {"url": "https://example.org/\r\nX-Evil: 1"}, {"url": "https://example.org/#f"}, {"secrets": ()},
        {"secrets": ("whsec_c2hvcnQ=",)}, {"secrets": ("whsec_!!!",)}, {"timeout": 31},
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_cannot_work_are_refused_without_telling_the_secret(wrong: dict[str, object]) -> None:
    given = {"url": "https://example.org/", "secrets": (SECRET,)} | wrong
    with pytest.raises(ValueError, match="1 validation error") as caught:
        Webhook(**given)  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


def test_secrets_do_not_print(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    toml = f'[[webhooks]]\nurl = "https://example.org/h"\nsecrets = ["{SECRET}"]\nevents = ["message.*"]\n'
    (tmp_path / "agentmail.toml").write_text(toml)
    settings = Settings.load()
    assert settings.webhooks[0].events == ("message.*",)
    for shown in (repr(settings), str(settings.webhooks), settings.model_dump_json()):
        assert SECRET.removeprefix("whsec_") not in shown
