"""The OAuth2 edge: access tokens for an account that has no password.

Three ways in, one value out. `OAuthRefresh` is the `token=` of an Account: it keeps an access token fresh with a
refresh token (RFC 6749 6); `SavedLogin` does so for a login that a `TokenFile` keeps. `device_login` (RFC 8628) and
`loopback_login` (RFC 8252, PKCE by RFC 7636) get the first refresh token from a person with a browser. Endpoints are
values, so a test can put a fake in their place.

Core has no HTTP client of its own: what is needed of one is four form posts over the standard library, in a thread.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import json
import secrets
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from .errors import AuthenticationFailed, BadInput, Unreachable
from .tokenfile import TokenFile

EARLY = 120.0
"""Seconds before its end at which a token is replaced: a session must outlast the login."""
LARGEST = 256 * 1024


@dataclass(frozen=True)
class Endpoints:
    """Where a provider gives out tokens, and for what."""

    token: str
    authorize: str = ""
    device: str = ""
    scopes: tuple[str, ...] = ()


ENDPOINTS = {
    "gmail": Endpoints(
        token="https://oauth2.googleapis.com/token",  # noqa: S106
        authorize="https://accounts.google.com/o/oauth2/v2/auth",
        scopes=("https://mail.google.com/",),
    ),
    "outlook": Endpoints(
        token="https://login.microsoftonline.com/common/oauth2/v2.0/token",  # noqa: S106
        authorize="https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
        device="https://login.microsoftonline.com/common/oauth2/v2.0/devicecode",
        scopes=(
            "https://outlook.office.com/IMAP.AccessAsUser.All",
            "https://outlook.office.com/SMTP.Send",
            "offline_access",
        ),
    ),
}
"""Google's device flow does not allow the mail scope: log in to Gmail by the loopback redirect."""


class Tokens(dict[str, Any]):
    """What a token endpoint answered. Never prints."""

    def __repr__(self) -> str:
        return "Tokens(***)"


class OAuthRefresh:
    """An Account's `token=`: awaits an access token that is valid for two minutes at least.

    `on_rotate` is told each new refresh token before the access token is used: Microsoft and others replace it at
    every use, and whoever does not keep the new one is locked out at the next start.
    """

    def __init__(
        self, endpoints: Endpoints, client_id: str, refresh_token: str, *, client_secret: str = "",
        on_rotate: Callable[[str], Awaitable[None] | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._endpoints, self._client_id, self._client_secret = endpoints, client_id, client_secret
        self._refresh_token, self._on_rotate, self._clock = refresh_token, on_rotate, clock
        self._access, self._until = "", 0.0
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        return f"OAuthRefresh({self._endpoints.token!r})"

    async def __call__(self) -> str:
        """The access token.

        Raises:
            AuthenticationFailed: the refresh token is not valid any more: log in again.
            Unreachable: the token endpoint could not be asked.
        """
        async with self._turn:
            if self._clock() >= self._until - EARLY:
                await self._refresh()
            return self._access

    async def renew(self) -> None:
        """Forget the access token: the server refused it before its time."""
        async with self._turn:
            self._until = 0.0

    async def _refresh(self) -> None:
        form = {"grant_type": "refresh_token", "refresh_token": self._refresh_token, "client_id": self._client_id}
        if self._client_secret:
            form["client_secret"] = self._client_secret
        answer = await post(self._endpoints.token, form)
        _raise_for(answer, "access_token", "log in again with `agentmail login`")
        rotated = answer.get("refresh_token")
        if isinstance(rotated, str) and rotated and rotated != self._refresh_token:
            self._refresh_token = rotated
            if self._on_rotate is not None and (done := self._on_rotate(rotated)) is not None:
                await done
        self._access = str(answer["access_token"])
        self._until = self._clock() + _seconds(answer)


@dataclass(frozen=True)
class DeviceCode:
    """What a person must type, and where."""

    url: str
    code: str
    message: str


async def device_login(
    endpoints: Endpoints, client_id: str, show: Callable[[DeviceCode], None], *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, clock: Callable[[], float] = time.time,
) -> Tokens:  # fmt: skip
    """Log in on another device (RFC 8628): `show` the code, then wait until the person has typed it.

    Raises:
        AuthenticationFailed: the person said no, or took too long.
    """
    if not endpoints.device:
        raise BadInput("this provider has no device login; use the loopback redirect")
    started = await post(endpoints.device, {"client_id": client_id, "scope": " ".join(endpoints.scopes)})
    _raise_for(started, "device_code", "check the client id")
    url = str(started.get("verification_uri") or started.get("verification_url") or "")
    code = str(started.get("user_code", ""))
    said = str(started.get("message") or f"Open {url} and enter {code}")
    show(DeviceCode(_printable(url), _printable(code), _printable(said)))
    pause = min(_seconds(started, "interval", 5.0), 60.0)
    end = clock() + _seconds(started, "expires_in", 900.0)
    failed: Unreachable | None = None
    while clock() < end:
        await sleep(pause)
        try:
            answer = await post(endpoints.token, {
                "grant_type": "urn:ietf:params:oauth:grant-type:device_code", "client_id": client_id,
                "device_code": str(started["device_code"]),
            })  # fmt: skip
            failed, error = None, answer.get("error")
            if error == "authorization_pending":
                continue
            if error == "slow_down":
                pause += 5  # RFC 8628 3.5
                continue
            _raise_for(answer, "access_token", "start again")
        except Unreachable as exc:
            failed, pause = exc, min(pause * 2, 60.0)  # RFC 8628 3.5: the person types on, whatever the network does
            continue
        return answer
    if failed is not None:
        raise failed
    raise AuthenticationFailed("login: the code was not entered in time; start again")


async def loopback_login(
    endpoints: Endpoints, client_id: str, open_browser: Callable[[str], object], *, client_secret: str = "",
    login_hint: str = "", timeout: float = 300.0,
) -> Tokens:  # fmt: skip
    """Log in by a browser on this machine: it comes back to a port of ours that takes one answer.

    Raises:
        AuthenticationFailed: the person said no, or nothing came back in time.
    """
    verifier, state = secrets.token_urlsafe(64), secrets.token_urlsafe(24)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    came_back: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
                line = (await reader.readline()).decode("ascii", "replace").split()
                while (await reader.readline()).strip():
                    pass
            query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(line[1]).query)) if len(line) > 1 else {}
            # Another page in the same browser can call this port too; it does not know the state.
            ours = secrets.compare_digest(query.get("state", "").encode(), state.encode())
            text = "This is not the login we wait for."
            if ours:
                text = "You may close this window." if "code" in query else "The login was refused; see the terminal."
            page = f"<!doctype html><title>agentmail</title><p>{html.escape(text)}".encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(page)}\r\n"
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + page)
            await writer.drain()
            if ours and not came_back.done():
                came_back.set_result(query)
        except (OSError, ValueError, TimeoutError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0, limit=16_384)
    try:
        redirect = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        ask = {
            "response_type": "code", "client_id": client_id, "redirect_uri": redirect, "state": state,
            "scope": " ".join(endpoints.scopes), "code_challenge": challenge, "code_challenge_method": "S256",
            "access_type": "offline", "prompt": "consent",
        }  # fmt: skip
        if login_hint:
            ask["login_hint"] = login_hint
        await asyncio.to_thread(open_browser, f"{endpoints.authorize}?{urllib.parse.urlencode(ask)}")
        try:
            async with asyncio.timeout(timeout):
                query = await came_back
        except TimeoutError:
            raise AuthenticationFailed(f"login: the browser did not come back within {timeout:.0f} s") from None
    finally:
        server.close()
        await server.wait_closed()
    _raise_for(dict(query), "code", "start again")
    form = {"grant_type": "authorization_code", "code": query["code"], "redirect_uri": redirect,
            "client_id": client_id, "code_verifier": verifier}  # fmt: skip
    if client_secret:
        form["client_secret"] = client_secret
    answer = await post(endpoints.token, form)
    _raise_for(answer, "access_token", "start again")
    return answer


def keep_login(
    file: TokenFile, account: str, endpoints: Endpoints, client_id: str, client_secret: str, tokens: Tokens
) -> None:
    """Write down what `saved_token` needs to go on without a person.

    Raises:
        AuthenticationFailed: the provider gave no refresh token, so the login would end within the hour.
    """
    refresh = tokens.get("refresh_token")
    if not refresh:
        raise AuthenticationFailed("login: the provider gave no refresh token; allow offline access and log in again")
    file.save(account, {"token_url": endpoints.token, "client_id": client_id, "client_secret": client_secret,
                        "refresh_token": str(refresh), "login": secrets.token_hex(8)})  # fmt: skip


class SavedLogin(OAuthRefresh):
    """The `token=` of an account that logged in by `agentmail login`.

    What is kept is read anew before each use, and the new refresh token is kept before the lock goes: of two processes
    that refresh at once the second uses what the first one got. A later `agentmail login` counts from then on.
    """

    def __init__(self, file: TokenFile, account: str, *, clock: Callable[[], float] = time.time) -> None:
        self._file, self._account = file, account
        self._used = ""
        super().__init__(Endpoints(token=""), "", "", on_rotate=self._keep, clock=clock)

    @property
    def login(self) -> str:
        """Another one after each `agentmail login`, the same after each rotation."""
        return str((self._file.load(self._account) or {}).get("login", ""))

    async def __call__(self) -> str:
        if self._used != self.login:
            await self.renew()
        return await super().__call__()

    async def _refresh(self) -> None:
        async with self._file.locked():
            kept = self._file.load(self._account)
            if not kept or not kept.get("refresh_token"):
                raise AuthenticationFailed(f"{self._account}: no login is kept any more; use `agentmail login`")
            self._used = str(kept.get("login", ""))
            self._endpoints = Endpoints(token=str(kept.get("token_url", "")))
            self._client_id, self._client_secret = str(kept.get("client_id", "")), str(kept.get("client_secret", ""))
            self._refresh_token = str(kept["refresh_token"])
            await super()._refresh()

    def _keep(self, refresh_token: str) -> None:
        self._file.save(self._account, {**(self._file.load(self._account) or {}), "refresh_token": refresh_token})


def saved_token(file: TokenFile, account: str) -> SavedLogin | None:
    """The `token=` of an account that logged in by `agentmail login`; None when it did not."""
    kept = file.load(account)
    return SavedLogin(file, account) if kept and kept.get("refresh_token") else None


async def post(url: str, form: dict[str, str], *, timeout: float = 20.0) -> Tokens:
    """One form post; the JSON answer, also of a refusal (RFC 6749 5.2)."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise BadInput(f"{url}: tokens are only asked for over https")

    end = time.monotonic() + timeout

    def answered(stream: Any) -> bytes:
        """All of it, but not from somebody who drips."""
        found = bytearray()
        while len(found) < LARGEST and (piece := stream.read1(LARGEST)):
            found += piece
            if time.monotonic() > end:
                raise TimeoutError
        return bytes(found)

    def work() -> bytes:
        request = urllib.request.Request(url, urllib.parse.urlencode(form).encode())  # noqa: S310 — scheme checked above
        request.add_header("Accept", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 — scheme checked above
                return answered(answer)
        except urllib.error.HTTPError as exc:
            with exc:
                if exc.code >= 500:
                    raise
                return answered(exc)

    where = f"{parts.scheme}://{parts.netloc}{parts.path}"
    try:
        async with asyncio.timeout(timeout + 5):  # a thread cannot be ended, but it need not be waited for
            answer = json.loads(await asyncio.to_thread(work))
    except (OSError, ValueError, HTTPException, RecursionError) as exc:  # URLError is an OSError; not JSON a ValueError
        raise Unreachable(f"{where}: {_what_failed(exc)}; try again") from exc
    if not isinstance(answer, dict):
        raise Unreachable(f"{where}: no answer that can be read; try again")
    return Tokens(answer)


def _what_failed(exc: Exception) -> str:
    """In words for a person; what an exception holds may be the answer, and so a token."""
    if isinstance(exc, urllib.error.HTTPError):
        return f"the server answers {exc.code}"
    cause = exc.reason if isinstance(exc, urllib.error.URLError) else exc
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate rejected ({cause.verify_message})"
    for kind, words in (
        (socket.gaierror, "no such host"), (ConnectionRefusedError, "connection refused"),
        (TimeoutError, "no answer in time"), (OSError, f"no connection ({type(cause).__name__})"),
    ):  # fmt: skip
        if isinstance(cause, kind):
            return words
    return "no answer that can be read"


def _raise_for(answer: dict[str, Any], needs: str, advice: str) -> None:
    """Raises AuthenticationFailed for a refusal, and for an answer without what it must have.

    A refusal that will pass (RFC 6749 4.1.2.1, 5.2 and what providers add) is Unreachable: the login is still good.
    """
    error = answer.get("error")
    if error:
        said = _printable(f"{str(error)[:60]} {' '.join(str(answer.get('error_description') or '').split())[:200]}")
        if str(error) in {"temporarily_unavailable", "server_error", "slow_down", "rate_limit_exceeded"}:
            raise Unreachable(f"login is not possible now: {said.rstrip()}; try again later")
        if "AADSTS7000218" in said:  # Microsoft, of an application that was registered as a web site
            advice = "allow public client flows for the application, where it is registered"
        raise AuthenticationFailed(f"login refused: {said.rstrip()}; {advice}")
    if not isinstance(answer.get(needs), str) or not answer[needs]:
        raise AuthenticationFailed(f"login: an answer without {needs.replace('_', ' ')}; {advice}")


def _printable(text: str) -> str:
    """For a terminal: without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def _seconds(answer: dict[str, Any], name: str = "expires_in", default: float = 3600.0) -> float:
    try:
        found = float(answer.get(name) or default)
    except (TypeError, ValueError):
        return default
    return found if 0 < found < 10**9 else default
