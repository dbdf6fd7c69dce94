"""The OAuth2 edge: access tokens for an account that has no password.

Three ways in, one value out. `OAuthRefresh` is the `token=` of an Account: it keeps an access token fresh with a
refresh token (RFC 6749 6). `device_login` (RFC 8628) and `loopback_login` (RFC 8252, PKCE by RFC 7636) get the first
refresh token from a person with a browser. Endpoints are values, so a test can put a fake in their place.

Core has no HTTP client of its own: what is needed of one is four form posts over the standard library, in a thread.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import json
import os
import secrets
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import AuthenticationFailed, BadInput, Unreachable

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
        _raise_for(answer, "log in again with `agentmail login`")
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
    _raise_for(started, "check the client id")
    url = str(started.get("verification_uri") or started.get("verification_url") or "")
    code = str(started.get("user_code", ""))
    show(DeviceCode(url, code, str(started.get("message") or f"Open {url} and enter {code}")))
    pause = float(started.get("interval") or 5)
    end = clock() + float(started.get("expires_in") or 900)
    while clock() < end:
        await sleep(pause)
        answer = await post(endpoints.token, {
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code", "client_id": client_id,
            "device_code": str(started["device_code"]),
        })  # fmt: skip
        error = answer.get("error")
        if error == "authorization_pending":
            continue
        if error == "slow_down":
            pause += 5  # RFC 8628 3.5
            continue
        _raise_for(answer, "start again")
        return answer
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
            ours = secrets.compare_digest(query.get("state", ""), state)
            text = "You may close this window." if ours and "code" in query else "This is not the login we wait for."
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
    _raise_for(query, "start again")
    form = {"grant_type": "authorization_code", "code": query["code"], "redirect_uri": redirect,
            "client_id": client_id, "code_verifier": verifier}  # fmt: skip
    if client_secret:
        form["client_secret"] = client_secret
    answer = await post(endpoints.token, form)
    _raise_for(answer, "start again")
    return answer


class TokenFile:
    """Refresh tokens at rest: in the system's keyring when `keyring` is installed, else in a file of mode 0600."""

    def __init__(self, path: Path, *, use_keyring: bool = True) -> None:
        self.path = path
        self._keyring = _keyring() if use_keyring else None

    def load(self, account: str) -> dict[str, Any] | None:
        if self._keyring is not None:
            found = self._keyring.get_password("agentmail", account)
            return json.loads(found) if found else None
        return self._all().get(account)

    def save(self, account: str, what: dict[str, Any]) -> None:
        """Keep it. A process that dies meanwhile leaves the old file whole."""
        if self._keyring is not None:
            self._keyring.set_password("agentmail", account, json.dumps(what))
            return
        kept = {**self._all(), account: what}
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")  # made with mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(kept, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _all(self) -> dict[str, Any]:
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return kept if isinstance(kept, dict) else {}


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
                        "refresh_token": str(refresh)})  # fmt: skip


def saved_token(file: TokenFile, account: str) -> OAuthRefresh | None:
    """The `token=` of an account that logged in by `agentmail login`, rotation written back; None when it did not."""
    kept = file.load(account)
    if not kept or not kept.get("refresh_token"):
        return None

    def rotated(refresh_token: str) -> None:
        file.save(account, {**kept, "refresh_token": refresh_token})

    return OAuthRefresh(
        Endpoints(token=str(kept["token_url"])), str(kept.get("client_id", "")), str(kept["refresh_token"]),
        client_secret=str(kept.get("client_secret", "")), on_rotate=rotated,
    )  # fmt: skip


def _keyring() -> Any:
    try:
        import keyring  # type: ignore[import-not-found, unused-ignore]  # not a dependency: used when it is there
    except ImportError:
        return None
    return keyring


async def post(url: str, form: dict[str, str], *, timeout: float = 20.0) -> Tokens:
    """One form post; the JSON answer, also of a refusal (RFC 6749 5.2)."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise BadInput(f"{url}: tokens are only asked for over https")

    def work() -> bytes:
        request = urllib.request.Request(url, urllib.parse.urlencode(form).encode())  # noqa: S310 — scheme checked above
        request.add_header("Accept", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 — scheme checked above
                return bytes(answer.read(LARGEST))
        except urllib.error.HTTPError as exc:
            with exc:
                if exc.code >= 500:
                    raise
                return bytes(exc.read(LARGEST))

    where = f"{parts.scheme}://{parts.netloc}{parts.path}"
    try:
        answer = json.loads(await asyncio.to_thread(work))
    except (OSError, ValueError) as exc:  # URLError is an OSError; not JSON is a ValueError
        raise Unreachable(f"{where}: no answer that can be read ({type(exc).__name__}); try again") from exc
    if not isinstance(answer, dict):
        raise Unreachable(f"{where}: no answer that can be read; try again")
    return Tokens(answer)


def _raise_for(answer: dict[str, Any], advice: str) -> None:
    error = answer.get("error")
    if error:
        said = " ".join(str(answer.get("error_description") or "").split())[:200]
        raise AuthenticationFailed(f"login refused: {str(error)[:60]} {said}".rstrip() + f"; {advice}")
    if "access_token" not in answer and "device_code" not in answer and "code" not in answer:
        raise AuthenticationFailed(f"login: an answer without a token; {advice}")


def _seconds(answer: dict[str, Any]) -> float:
    try:
        return max(0.0, float(answer.get("expires_in", 3600)))
    except (TypeError, ValueError):
        return 3600.0
