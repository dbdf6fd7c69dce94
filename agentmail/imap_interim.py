"""Bytes from IMAP: one connection, one worker thread of its own, and a deadline for every call.

The only importer of imapclient, which blocks and is not safe to share between threads. A thread cannot be cancelled, so
a call that is over its time has its socket closed under it; the connection is then dead and says so. Its exceptions are
translated here by what the caller can do next.

Nothing here changes a mailbox except `append`: mailboxes are opened with EXAMINE, mail is read with BODY.PEEK[], so
`\\Seen` stays as it was (RFC 9051 6.4.5).
"""

from __future__ import annotations

import asyncio
import inspect
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from imaplib import IMAP4
from typing import Any, TypeVar

from imapclient import IMAPClient, SocketTimeout
from imapclient.exceptions import IMAPClientError, LoginError, ProtocolError

from .errors import (
    AuthenticationFailed,
    BadInput,
    CertificateRejected,
    MailboxError,
    ServerError,
    Throttled,
    Unreachable,
)
from .settings import Account

T = TypeVar("T")

MAX_UIDS = 500
"""Uids in one command; Courier drops the connection at lines of 8 KB, so ranges are never longer than 4 KB."""
MAX_LINE = 4_000
MAX_BYTES = 4_000_000
"""Bytes of messages asked for in one command, unless one message alone is larger."""
WINDOW = 20_000
"""Uids searched at a time: an answer for 150,000 is longer than the line that imaplib reads."""

_FAULTS = (IMAP4.error, IMAPClientError, OSError, ValueError, UnicodeError)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PASSING = re.compile(r"\[(UNAVAILABLE|LIMIT|INUSE|THROTTLED|OVERQUOTA|SERVERBUG)\]|throttled|too many", re.IGNORECASE)
_SENT_NAMES = (
    "sent", "sent items", "sent messages", "sent mail", "gesendet", "gesendete elemente", "envoyés", "éléments envoyés",
    "enviados", "elementos enviados", "inviata", "posta inviata", "verzonden", "verzonden items", "skickat", "sendt",
    "lähetetyt", "wysłane", "odeslané", "gönderilmiş öğeler", "отправленные", "надіслані", "送信済み", "已发送", "보낸편지함",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RawMessage:
    """A message as the server handed it over."""

    uid: int
    data: bytes
    flags: tuple[str, ...]
    received_at: datetime | None
    """INTERNALDATE, UTC."""
    size: int
    """RFC822.SIZE as the server claims; Exchange is often wrong."""


@dataclass(frozen=True, slots=True)
class MailboxState:
    """What EXAMINE said (RFC 9051 6.3.3). A server may leave out each of these."""

    name: str
    uidvalidity: int
    uidnext: int | None
    exists: int


class ImapConnection:
    """One connection of an account. Use it from one task at a time; `close` may be called from any."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._where = f"IMAP {account.imap_host}:{account.imap_port}"
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agentmail-imap")
        self._client: IMAPClient | None = None
        self._mailbox: str | None = None
        self.usable = False

    # -- the life of the connection

    async def open(self) -> None:
        """Connect, negotiate TLS and log in.

        Raises:
            Unreachable, CertificateRejected, AuthenticationFailed, Throttled
        """
        token = await self._token()
        await self._call(lambda: self._connect(token), what="connect and log in", deadline=3 * self._account.timeout)
        self.usable = True

    async def close(self) -> None:
        """Say goodbye and leave, within 2 seconds, whatever state the connection is in."""
        client, self._client = self._client, None
        was_usable, self.usable = self.usable, False
        if client is not None and was_usable:
            try:
                async with asyncio.timeout(2):
                    await asyncio.get_running_loop().run_in_executor(self._worker, client.logout)
            except (TimeoutError, *_FAULTS):
                pass  # it is over either way
        if client is not None:
            _cut(client)
        self._worker.shutdown(wait=False, cancel_futures=True)

    # -- reading

    async def capabilities(self) -> tuple[str, ...]:
        found = await self._call(lambda: self._need().capabilities(), what="CAPABILITY")
        return tuple(sorted(c.decode("ascii", "replace") for c in found))

    async def mailboxes(self) -> dict[str, frozenset[str]]:
        """Name -> attributes, lower case. Names that cannot be selected are left out."""
        rows = await self._call(lambda: self._need().list_folders(), what="LIST")
        found = {}
        for flags, _, name in rows:
            attributes = frozenset(f.decode("ascii", "replace").lower() for f in flags)
            if name and not attributes & {"\\noselect", "\\nonexistent"}:
                found[str(name)] = attributes
        return found

    async def sent_mailbox(self) -> str | None:
        """The Sent mailbox: by SPECIAL-USE (RFC 6154), whose case servers disagree on, else by its name."""
        found = await self.mailboxes()
        marked = next((n for n, attributes in found.items() if "\\sent" in attributes), None)
        if marked is not None:
            return marked
        last_part = {n: re.split(r"[/.]", n)[-1].casefold() for n in found}
        return next((n for want in _SENT_NAMES for n, part in last_part.items() if part == want), None)

    async def examine(self, mailbox: str) -> MailboxState:
        """Open a mailbox for reading. Raises MailboxError when there is none of that name."""
        _check(mailbox)
        self._mailbox = None
        answer = await self._call(lambda: self._need().select_folder(mailbox, readonly=True), what=f"EXAMINE {mailbox}")
        self._mailbox = mailbox
        return MailboxState(
            mailbox, int(answer.get(b"UIDVALIDITY") or 0), answer.get(b"UIDNEXT"), int(answer.get(b"EXISTS") or 0)
        )

    async def uids(self, first: int, last: int) -> list[int]:
        """The uids from `first` to `last` that exist, ascending, searched in windows."""
        found: set[int] = set()
        for start in range(first, last + 1, WINDOW):
            end = min(start + WINDOW - 1, last)
            some = await self._call(lambda span=f"{start}:{end}": self._need().search(["UID", span]), what="UID SEARCH")
            # "n:*" finds the last message even when its uid is lower, and answers come unsorted.
            found.update(int(u) for u in some if first <= int(u) <= last)
        return sorted(found)

    async def uids_from(self, first: int) -> list[int]:
        """The same without knowing the last: for servers that do not say UIDNEXT."""
        some = await self._call(lambda: self._need().search(["UID", f"{first}:*"]), what="UID SEARCH")
        return sorted({int(u) for u in some if int(u) >= first})

    async def sizes(self, uids: Sequence[int]) -> dict[int, int]:
        """RFC822.SIZE of messages, to know what a fetch will cost."""
        rows = await self._fetch(uids, ["RFC822.SIZE"])
        return {uid: int(row[b"RFC822.SIZE"]) for uid, row in rows.items() if b"RFC822.SIZE" in row}

    async def fetch(self, uids: Sequence[int]) -> list[RawMessage]:
        """Whole messages, ascending. What was expunged meanwhile is missing; so is a body that the server keeps back."""
        rows = await self._fetch(uids, ["UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "BODY.PEEK[]"])
        wanted = set(uids)
        found = []
        for uid, row in rows.items():
            body = row.get(b"BODY[]")
            # An unsolicited FETCH carries no size and is keyed by its sequence number: never take it for a message.
            if uid not in wanted or body is None or b"RFC822.SIZE" not in row:
                continue
            at = row.get(b"INTERNALDATE")
            flags = tuple(f.decode("ascii", "replace") for f in row.get(b"FLAGS", ()))
            found.append(
                RawMessage(uid, bytes(body), flags, at.astimezone(UTC) if at else None, int(row[b"RFC822.SIZE"]))
            )
        return sorted(found, key=lambda m: m.uid)

    async def find_message_id(self, message_id: str) -> list[int]:
        """Uids in the open mailbox whose Message-ID header holds this id."""
        _check(message_id)
        if not message_id.isascii() or '"' in message_id or "\\" in message_id:
            raise BadInput(f"{message_id!r} cannot be searched for")
        found = await self._call(
            lambda: self._need().search(["HEADER", "Message-ID", message_id]), what="SEARCH HEADER Message-ID"
        )
        return sorted(int(u) for u in found)

    async def append(self, mailbox: str, raw: bytes, flags: Iterable[str] = ()) -> None:
        """Put a message into a mailbox."""
        _check(mailbox)
        marks = tuple(f.encode("ascii") for f in flags)
        await self._call(
            lambda: self._need().append(mailbox, raw, marks),
            what=f"APPEND {mailbox}",
            deadline=self._transfer(len(raw)),
        )

    # -- inside

    async def _fetch(self, uids: Sequence[int], items: list[str]) -> dict[int, dict[bytes, Any]]:
        found: dict[int, dict[bytes, Any]] = {}
        for some in _commands(uids):
            rows = await self._call(
                lambda some=some: self._need().fetch(some, items), what="UID FETCH", deadline=self._transfer(MAX_BYTES)
            )
            found.update({int(k): v for k, v in rows.items()})
        return found

    def _transfer(self, size: int) -> float:
        """Seconds for something of this size: at least 20 kB a second are expected after the first timeout."""
        return self._account.timeout + size / 20_000

    def _need(self) -> IMAPClient:
        if self._client is None:
            raise OSError("the connection is closed")
        return self._client

    async def _token(self) -> str | None:
        if self._account.token is None:
            return None
        token = self._account.token()
        return await token if inspect.isawaitable(token) else token

    def _connect(self, token: str | None) -> None:
        """In the worker thread."""
        account = self._account
        timeout = SocketTimeout(account.timeout, account.timeout)
        tls = account.imap_security == "tls"
        context = None
        if account.imap_security != "plain":
            context = ssl.create_default_context()
            if account.ca_file is not None:
                context.load_verify_locations(account.ca_file)
        client = IMAPClient(
            account.imap_host, account.imap_port, ssl=tls, ssl_context=context if tls else None, timeout=timeout
        )
        self._client = client
        # At its default imaplib formats every message body for a log that is off, which doubles the cost of a fetch.
        client._imap.debug = 0  # noqa: SLF001
        client.normalise_times = False
        if account.imap_security == "starttls":
            if client._imap.state != "NONAUTH":  # noqa: SLF001 - PREAUTH before TLS: somebody sits in between
                raise OSError("the server greeted with PREAUTH before TLS")
            client.starttls(context)
        user = account.username or account.address
        if token is not None:
            client.oauth2_login(_check(user), token)
            return
        password = account.password.get_secret_value() if account.password is not None else ""
        _check(user)
        if password.isascii() and user.isascii() and not _CONTROL.search(password) and " " not in user:
            client.login(user, password)
        else:
            client.plain_login(user, password)

    async def _call(self, work: Callable[[], T], *, what: str, deadline: float | None = None) -> T:
        """Run `work` in the worker thread; when its time is over, cut the connection under it."""
        limit = deadline if deadline is not None else self._account.timeout * 2
        running = asyncio.get_running_loop().run_in_executor(self._worker, work)
        try:
            async with asyncio.timeout(limit):
                return await asyncio.shield(running)
        except TimeoutError as exc:
            self._abandon(running)
            raise Unreachable(f"{self._where}: no answer to {what} within {limit:.0f} s") from exc
        except asyncio.CancelledError:
            self._abandon(running)
            raise
        except _FAULTS as exc:
            error = _translated(exc, self._where, what, self._account)
            if not isinstance(error, MailboxError | BadInput):
                self._abandon(running)
            raise error from exc

    def _abandon(self, running: asyncio.Future[Any]) -> None:
        """The thread may still be in the call: closing the socket makes it come back; nobody wants its result."""
        self.usable = False
        running.add_done_callback(lambda f: f.cancelled() or f.exception())
        if self._client is not None:
            _cut(self._client)


def _cut(client: IMAPClient) -> None:
    try:
        client.socket().shutdown(socket.SHUT_RDWR)
    except (OSError, AttributeError):
        pass  # it was gone already
    try:
        client.shutdown()
    except (OSError, AttributeError, IMAP4.error):
        pass


def _check(text: str) -> str:
    """Refuse what would begin a command of its own: imapclient sends CR and LF as they are."""
    if _CONTROL.search(text):
        raise BadInput(f"{text!r} contains a control character and cannot be sent to an IMAP server")
    return text


def _commands(uids: Sequence[int]) -> Iterable[list[int]]:
    """Explicit uids, in commands of at most 500 uids and 4 KB."""
    some: list[int] = []
    length = 0
    for uid in uids:
        if len(some) >= MAX_UIDS or length + len(str(uid)) + 1 > MAX_LINE:
            yield some
            some, length = [], 0
        some.append(uid)
        length += len(str(uid)) + 1
    if some:
        yield some


def _translated(exc: BaseException, where: str, what: str, account: Account) -> ServerError | BadInput:
    """What the caller can do about it."""
    if isinstance(exc, BadInput):
        return exc
    text = " ".join(str(exc).split()).strip("b'\"") or type(exc).__name__
    if isinstance(exc, ssl.SSLCertVerificationError):
        return CertificateRejected(
            f"{where}: the certificate does not prove {account.imap_host}: {exc.verify_message}; use the host name that the "
            "certificate is for, or set ca_file if your provider has a CA of its own"
        )
    if isinstance(exc, ssl.SSLError):
        return Unreachable(f"{where}: TLS failed ({text}); is it a TLS port? {_ports(account)}")
    if isinstance(exc, LoginError):
        # A connection that breaks during LOGIN is raised as LoginError too, and is no wrong password.
        if isinstance(exc.__context__, IMAP4.abort | OSError):
            return Unreachable(f"{where}: the connection was lost while logging in ({text})")
        if _PASSING.search(text):
            return Throttled(f"{where}: the server does not let us in now: {text}")
        return AuthenticationFailed(
            f"{where}: login as {account.username or account.address} was refused: {text}; check the user name and the "
            "password (Gmail, Yahoo and iCloud want an app password, Microsoft wants OAuth2)"
        )
    if isinstance(exc, TimeoutError):
        return Unreachable(f"{where}: no answer to {what} within {account.timeout:.0f} s; {_ports(account)}")
    if isinstance(exc, socket.gaierror):
        return Unreachable(f"{where}: there is no host of that name ({exc.strerror}); check imap_host")
    if isinstance(exc, ConnectionRefusedError):
        return Unreachable(f"{where}: nothing listens there; {_ports(account)}")
    if isinstance(exc, IMAP4.abort | OSError | ProtocolError):
        return Unreachable(f"{where}: the connection was lost at {what} ({text})")
    if _PASSING.search(text):
        return Throttled(f"{where}: {what}: {text}")
    return MailboxError(f"{where}: {what} was refused: {text}")


def _ports(account: Account) -> str:
    return (
        f"check imap_host and imap_port (993 with tls, 143 with starttls; now {account.imap_port} with "
        f"{account.imap_security})"
    )
