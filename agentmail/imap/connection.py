"""One IMAP connection as coroutines: one IMAPClient, one worker thread of its own, a deadline for every call.

A thread cannot be cancelled. When a call's time is over the loop shuts the socket down, which ends the thread's read
at once; the connection is then of no further use, and says so. While it idles it has no thread at all.
"""

from __future__ import annotations

import asyncio
import imaplib
import inspect
import os
import socket
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TypeVar

from ..errors import (
    AuthenticationFailed,
    BadInput,
    ConfigurationError,
    MailboxError,
    Unreachable,
)
from ..settings import Account
from . import idle, translate
from .answers import Fetched, mailbox_name, search_answer, vanished_answer, written
from .idle import Idle
from .opening import checked, log_in, opened
from .pipeline import Asked, Refused, fetched
from .wire import QUIET, Client, Wire

T = TypeVar("T")

FACTS = "(UID FLAGS INTERNALDATE RFC822.SIZE)"
WHOLE = "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"
DATES = "(UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (DATE)])"
SMALL, FEW = 128 * 2**10, 8
"""Bytes and number of messages up to which news are fetched whole at once."""
NEWS = f"(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[]<0.{SMALL}>)"
IDS = "(UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
CLOSING = 2.0
"""Seconds for LOGOUT, and for a thread to notice that its socket is gone."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A mailbox as EXAMINE showed it. What a server leaves out is None; uidvalidity is then 0."""

    mailbox: str
    exists: int
    uidvalidity: int
    uidnext: int | None = None
    modseq: int | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A mailbox as LIST showed it."""

    name: str
    attributes: frozenset[str]
    """Lower case, with the backslash: `\\sent`, `\\noselect`."""
    delimiter: str


class ImapConnection:
    """A connection to the account's IMAP server. Building it does nothing; `connect` opens it, once.

    Calls are made one after the other, whoever makes them. After `Unreachable` it is closed for good.
    """

    def __init__(self, account: Account) -> None:
        self.account = account
        self.where = f"{account.imap_host}:{account.imap_port}"
        self.timeout = account.timeout
        self.capabilities: frozenset[str] = frozenset()
        self.exists: int | None = None
        """How many messages the server said there are, where nothing has made us unsure of it."""
        self.arrived: int | None = None
        """How many came while it idled the last time; None when that is not known."""
        self.selected: str | None = None
        """The mailbox that EXAMINE or SELECT opened last."""
        self.uidvalidity = 0
        """Of that mailbox; 0 when the server did not say."""
        self.tells_who_left = False
        """QRESYNC is on: `changes` says which messages left."""
        self._client: Client | None = None
        self._wire: Wire | None = None
        self._socket: socket.socket | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._turn = asyncio.Lock()
        self._idle: Idle | None = None
        self._closed = False
        self._stopped = False

    @property
    def usable(self) -> bool:
        return self._client is not None and not self._closed

    @property
    def received(self) -> int:
        """Bytes that came from the server."""
        return self._wire.received if self._wire is not None else 0

    # -- opening and closing

    async def connect(self) -> None:
        """Connect, secure, log in. TLS is verified always; STARTTLS that is not offered is an error, not a downgrade.

        Raises:
            Unreachable, CertificateRejected, AuthenticationFailed, Throttled, ConfigurationError
        """
        if self._client is not None or self._closed:
            raise RuntimeError("an ImapConnection is used once")
        account = self.account
        user = checked(account.username or account.address, "the user name")
        token: str | None = None
        if account.token is not None:
            given = account.token()
            token = checked(await given if inspect.isawaitable(given) else given, "the access token")
        elif account.password is None:
            raise ConfigurationError("no password and no token: set AGENTMAIL_PASSWORD, or log in with OAuth2")
        password = account.password.get_secret_value() if account.password is not None else ""

        def work() -> Client:
            return opened(account, timeout=self.timeout, seen=self._opened, made=self._made)

        def login(client: Client) -> None:
            log_in(client, user, password, token)

        # Connect and login each get the time-out for a step of theirs; the whole has a deadline too.
        client: Client = await self._call(work, "connecting", deadline=self.timeout)
        self._client = client
        await self._call(lambda: login(client), "logging in", deadline=self.timeout, logging_in=True)
        found = await self._call(client.capabilities, "asking for capabilities")
        self.capabilities = frozenset(c.decode("ascii", "replace").upper() for c in found)
        # Without it EXAMINE does not say HIGHESTMODSEQ (RFC 7162 3.1), by which flag changes are found. QRESYNC implies
        # CONDSTORE, and lets a FETCH tell who left (RFC 7162 3.2.6).
        best = next((c for c in ("QRESYNC", "CONDSTORE") if {"ENABLE", c} <= self.capabilities), None)
        if best is not None:
            on = await self._call(lambda: client.enable(best), f"enabling {best}")
            self.tells_who_left = best == "QRESYNC" and b"QRESYNC" in on

    def _made(self, wire: Wire) -> None:
        self._wire = wire

    def _opened(self, sock: socket.socket) -> None:
        sock.settimeout(self.timeout)
        self._socket = sock
        if self._stopped:
            self._shut()

    async def close(self) -> None:
        """Say goodbye if there is time for it, and end. Leaves no thread and no socket."""
        if self._closed:
            return
        busy = self._turn.locked()
        if self._idle is not None or busy or self._client is None:
            await self._finish()
            return
        try:
            client = self._client
            await self._call(client.logout, "leaving", deadline=CLOSING)
        except (Unreachable, MailboxError, AuthenticationFailed):
            pass  # it is over either way
        finally:
            await self._finish()

    def kill(self) -> None:
        """End it now, from any place in the loop. A call that is under way raises Unreachable."""
        self._stopped = True
        self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            try:
                # The base class's: SSLSocket's own first forgets its TLS state, under the feet of the reading thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                pass

    async def _finish(self) -> None:
        self._closed = True
        if self._idle is not None:
            self._idle.release()
            self._idle = None
        self.kill()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown(wait=False, cancel_futures=True)
            await _ended(worker)
        if self._wire is not None:
            for end in (self._wire.stream.close, self._wire.sock.close):
                try:
                    end()
                except (OSError, ValueError):
                    pass
        elif self._socket is not None:
            self._socket.close()
        self._client = None

    # -- the one way through

    async def _call(
        self, work: Callable[[], T], doing: str, *, deadline: float | None = None, budget: int = QUIET,
        logging_in: bool = False,
    ) -> T:  # fmt: skip
        async with self._turn:
            if self._idle is not None:
                await self._leave_idle()
            return await self._call_now(work, doing, deadline or self.timeout, budget, logging_in=logging_in)

    async def _call_now(
        self, work: Callable[[], T], doing: str, deadline: float, budget: int, *, logging_in: bool = False
    ) -> T:
        if self._closed or self._stopped:
            raise translate.Lost(f"IMAP {self.where}: the connection is closed")
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="agentmail-imap")
        if self._wire is not None:
            self._wire.budget = budget
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._worker, work)
        late = False

        def over() -> None:
            nonlocal late
            late = True
            self.kill()

        timer = loop.call_later(deadline, over)
        try:
            # Waiting, not awaiting: a cancelled caller must not leave the thread at work on our socket.
            await asyncio.wait([future], timeout=deadline + CLOSING)
        except asyncio.CancelledError:
            self.kill()
            await asyncio.wait([future], timeout=CLOSING)
            await self._finish()
            _forget(future)
            raise
        finally:
            timer.cancel()
        if not future.done():  # the resolver has no deadline of its own, and a thread in it cannot be woken
            future.add_done_callback(_forget)
            await self._finish()
            raise Unreachable(f"IMAP {self.where}: no answer within {deadline:g} s while {doing}")
        exc = future.exception()
        if exc is None:
            return future.result()
        if late:
            await self._finish()
            raise translate.Lost(f"IMAP {self.where}: no complete answer within {deadline:g} s while {doing}") from exc
        error = translate.translated(exc, self.where, doing, logging_in=logging_in)
        if translate.is_dead(exc) or translate.is_dead(error):
            await self._finish()
        raise error from exc

    # -- mailboxes

    async def mailboxes(self) -> list[Listed]:
        """All of them, with their attributes. Entries without a name, or with one that nobody can say, are left out."""
        client = self._ready()

        def work() -> Sequence[tuple[Sequence[bytes], bytes | None, bytes | None]]:
            client.folder_encode = False  # one name that is no UTF-7 would end the whole list
            try:
                return client.list_folders()  # type: ignore[no-any-return]
            finally:
                client.folder_encode = True

        listed = []
        for flags, delimiter, name in await self._call(work, "listing mailboxes"):
            text = mailbox_name(name)
            if text is not None:
                attributes = frozenset(f.decode("ascii", "replace").lower() for f in flags)
                listed.append(Listed(text, attributes, (delimiter or b"").decode("ascii", "replace")))
        return listed

    async def prefix(self) -> str:
        """What personal mailboxes are below: `INBOX.` on some servers, else nothing."""
        client = self._ready()
        if "NAMESPACE" not in self.capabilities:
            return ""
        try:
            spaces = await self._call(client.namespace, "asking for namespaces")
        except MailboxError:
            return ""
        return str(spaces.personal[0][0] or "") if spaces.personal else ""

    async def examine(self, mailbox: str, *, writable: bool = False) -> Snapshot:
        """Open a mailbox, read-only unless asked: reading then cannot set `\\Seen`."""
        client = self._ready()
        checked(mailbox, "the mailbox name")
        answer = await self._call(lambda: client.select_folder(mailbox, readonly=not writable), f"opening {mailbox!r}")
        self.selected = mailbox
        if self._wire is not None:
            self._wire.untagged_responses.pop("EXISTS", None)  # the snapshot has it; what comes later is news

        def number(key: bytes) -> int | None:
            value = answer.get(key)
            value = value[0] if isinstance(value, list | tuple) and value else value
            return int(value) if isinstance(value, int | bytes) and str(int(value)).isdigit() else None

        self.exists = number(b"EXISTS")
        self.uidvalidity = number(b"UIDVALIDITY") or 0
        return Snapshot(mailbox, number(b"EXISTS") or 0, self.uidvalidity, number(b"UIDNEXT") or None,
                        number(b"HIGHESTMODSEQ"))  # fmt: skip

    # -- searching

    async def search_uids(self, low: int, high: int | None = None) -> list[int] | None:
        """Uids from `low` to `high` (or the end), sorted; None when the server answered without a SEARCH line."""
        return await self._search(f"UID {low}:{high if high is not None else '*'}", low, high)

    async def search_set(self, uids: Sequence[int]) -> list[int]:
        """Which of these sorted uids (at most 500, 4 KB) are there."""
        return await self._search(f"UID {written(uids)}", 1, None) or []

    async def search_since(self, day: date, *, unread: bool = False) -> list[int] | None:
        """Uids of messages that the server took in on this day or later, by its own calendar."""
        what = "UNSEEN SINCE" if unread else "SINCE"
        return await self._search(f"{what} {day.day}-{MONTHS[day.month - 1]}-{day.year}", 1, None)

    async def search_sent(self, since: date, before: date) -> list[int]:
        """Uids of messages whose Date header lies on one of these days."""
        days = (f"{day.day}-{MONTHS[day.month - 1]}-{day.year}" for day in (since, before))
        return await self._search("SENTSINCE {} SENTBEFORE {}".format(*days), 1, None) or []

    async def search_places(self, first: int, last: int) -> list[int] | None:
        """The uids of messages number `first` to `last`: how to read a big mailbox in bounded answers."""
        return await self._search(f"{first}:{last}", 1, None)

    async def find(self, message_id: str) -> list[int]:
        """Uids of messages in the open mailbox whose Message-ID holds this text."""
        checked(message_id, "the Message-ID")
        if not message_id.isascii():
            raise BadInput("a Message-ID that is not ASCII cannot be searched for")
        quoted = '"' + message_id.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return await self._search(f"HEADER Message-ID {quoted}", 1, None) or []

    async def _search(self, criteria: str, low: int, high: int | None) -> list[int] | None:
        self._ready()

        def work() -> list[int] | None:
            wire = self._wire
            assert wire is not None
            wire.untagged_responses.pop("SEARCH", None)
            kind, data = wire.uid("SEARCH", criteria)
            if kind != "OK":
                raise imaplib.IMAP4.error(_text(data))
            return search_answer(data, at_least=low, at_most=high)

        return await self._call(work, "searching")

    # -- fetching

    async def fetch(
        self, uids: Sequence[int], items: str = FACTS, *, expected: int = 0, then: Asked | None = None
    ) -> dict[int, Fetched]:
        """Fetch for sorted uids (at most 500, 4 KB). `expected` bytes of mail may come, and a share more.

        What came before a NO is returned; the caller asks for the rest again, alone. `then` is asked for in advance:
        its answer is on its way while this one is used. Any other command than the fetch for it throws it away.
        """
        self._ready()
        if not uids:
            return {}
        asked = Asked(tuple(uids), items)

        # RFC822.SIZE is a claim: honest servers are wrong by a quarter at most.
        budget = QUIET + expected + expected // 4
        return await self._call(lambda: self._fetched(asked, then), f"fetching {len(uids)} messages", budget=budget,
                                deadline=self.timeout + expected / 20_000)  # fmt: skip

    def _fetched(self, asked: Asked, then: Asked | None = None) -> dict[int, Fetched]:
        assert self._wire is not None
        try:
            return fetched(self._wire, asked, then)
        except Refused as exc:
            if exc.found and asked.low is None:
                return exc.found
            raise imaplib.IMAP4.error(str(exc)) from exc

    async def fetch_news(self, low: int) -> dict[int, Fetched]:
        """What came while we idled, from uid `low` on: SEARCH and FETCH in one round trip.

        With bodies when few messages came; one that is bigger than `SMALL` has none, and is to be fetched.
        """
        self._ready()

        def work() -> dict[int, Fetched]:
            # Known only now, behind the answer to DONE.
            few = self.arrived is not None and self.arrived <= FEW
            found = self._from(low, NEWS if few else FACTS)
            return {u: f if f.body is None or len(f.body) < SMALL else replace(f, body=None) for u, f in found.items()}

        return await self._call(work, "looking for new mail", budget=QUIET + FEW * SMALL)

    async def fetch_slice(self, uid: int, offset: int, length: int) -> bytes | None:
        """Part of one message's bytes; None when it is not there any more."""
        found = await self.fetch([uid], f"(UID BODY.PEEK[]<{offset}.{length}>)", expected=length)
        return found[uid].body if uid in found else None

    @property
    def is_gmail(self) -> bool:
        """Its messages have labels, and ids of Gmail's own."""
        return "X-GM-EXT-1" in self.capabilities

    @property
    def _flag_items(self) -> str:
        return "(UID FLAGS X-GM-MSGID X-GM-LABELS)" if self.is_gmail else "(UID FLAGS)"

    async def fetch_labels(self, uids: Sequence[int]) -> dict[int, Fetched]:
        """Gmail's ids and labels for sorted uids (at most 500, 4 KB)."""
        return await self.fetch(uids, "(UID X-GM-MSGID X-GM-THRID X-GM-LABELS)")

    async def flags(self, low: int, high: int | None = None) -> dict[int, Fetched]:
        """Flags of everything from uid `low` to `high` (or the end)."""
        return await self._fetch_on(low, self._flag_items, "following flags", 4 * QUIET, high=high)

    async def changes(self, low: int, since: int) -> tuple[dict[int, Fetched], list[tuple[int, int]]]:
        """What changed after that modseq from uid `low` on: flags (RFC 7162 3.1.4), and who left, as ranges.

        Nobody is said to have left where QRESYNC is not on.
        """
        items = f"{self._flag_items} (CHANGEDSINCE {since}{' VANISHED' if self.tells_who_left else ''})"
        if self._wire is not None:
            self._wire.untagged_responses.pop("VANISHED", None)
        found = await self._fetch_on(low, items, "following changes", 4 * QUIET)
        gone = self._wire.untagged_responses.pop("VANISHED", []) if self._wire is not None else []
        return found, vanished_answer([line for line in gone if isinstance(line, bytes)])

    async def _fetch_on(
        self, low: int, items: str, doing: str, budget: int, *, high: int | None = None
    ) -> dict[int, Fetched]:
        self._ready()

        return await self._call(lambda: self._from(low, items, high), doing, budget=budget)

    def _from(self, low: int, items: str, high: int | None = None) -> dict[int, Fetched]:
        if self._wire is not None:
            self._wire.untagged_responses.pop("EXISTS", None)  # this command sees what was announced before it
        return {u: f for u, f in self._fetched(Asked((), items, low=low, high=high)).items() if u >= low}

    # -- writing, only when asked

    async def append(self, mailbox: str, raw: bytes, flags: Collection[str] = (), at: datetime | None = None) -> None:
        """Put a message into a mailbox. Lost on the way it may lie there all the same: look before trying again."""
        client = self._ready()
        checked(mailbox, "the mailbox name")
        for flag in flags:
            _keyword(flag)
        await self._call(lambda: client.append(mailbox, raw, list(flags), at), f"filing into {mailbox!r}",
                         deadline=self.timeout + len(raw) / 20_000)  # fmt: skip

    async def change_flags(
        self, uids: Sequence[int], *, add: Collection[str] = (), remove: Collection[str] = ()
    ) -> None:
        """Set and clear flags in the mailbox that is open for writing."""
        client = self._ready()
        for flag in (*add, *remove):
            _keyword(flag)
        if add and uids:
            await self._call(lambda: client.add_flags(list(uids), list(add), silent=True), "setting flags")
        if remove and uids:
            await self._call(lambda: client.remove_flags(list(uids), list(remove), silent=True), "clearing flags")

    async def change_labels(
        self, uids: Sequence[int], *, add: Collection[str] = (), remove: Collection[str] = ()
    ) -> None:
        """Put on and take off Gmail's labels in the mailbox that is open for writing."""
        client = self._ready()
        for label in (*add, *remove):
            checked(label, "the label")
        if add and uids:
            await self._call(lambda: client.add_gmail_labels(list(uids), list(add), silent=True), "putting on labels")
        if remove and uids:
            await self._call(lambda: client.remove_gmail_labels(list(uids), list(remove), silent=True),
                             "taking off labels")  # fmt: skip

    async def move(self, uids: Sequence[int], mailbox: str) -> None:
        """MOVE, or COPY + \\Deleted + UID EXPUNGE where MOVE is not offered (RFC 6851 3.3)."""
        client = self._ready()
        checked(mailbox, "the mailbox name")
        if not uids:
            return
        if "MOVE" in self.capabilities:
            await self._call(lambda: client.move(list(uids), mailbox), f"moving to {mailbox!r}")
            return
        await self._call(lambda: client.copy(list(uids), mailbox), f"copying to {mailbox!r}")
        await self._call(lambda: client.add_flags(list(uids), [r"\Deleted"], silent=True), "setting flags")
        if "UIDPLUS" in self.capabilities:  # a plain EXPUNGE would take what others marked
            await self._call(lambda: client.uid_expunge(list(uids)), "expunging")

    async def noop(self) -> None:
        """Ask for a sign of life."""
        client = self._ready()
        await self._call(client.noop, "asking for a sign of life")

    # -- waiting

    async def start_idle(self) -> bool:
        """Begin to idle; whether there is news already. False for ever after when the server will not (poll then).

        Raises:
            IdleRefused: it was not offered, or refused.
        """
        self._ready()
        if "IDLE" not in self.capabilities:
            raise translate.IdleRefused(f"IMAP {self.where}: IDLE is not offered")
        async with self._turn:
            wire = self._wire
            assert wire is not None
            begun = await self._call_now(lambda: idle.begin(wire), "starting to idle", self.timeout, QUIET)
            tag, at_hand, news = begun
            self._idle = Idle(wire, tag, at_hand, where=self.where, exists=None if news else self.exists)
            self._idle.news |= news
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.shutdown(wait=False)  # it has nothing to do: the thread ends now
            return self._idle.news

    async def wait_idle(self, timeout: float) -> bool:
        """Wait while idling, at most `timeout` seconds; whether there is news. Raises Unreachable."""
        self._ready()
        if self._idle is None:
            return True  # somebody needed the connection; only they know what they saw
        try:
            return await self._idle.wait(timeout)
        except Unreachable:
            await self._finish()
            raise

    def wake(self) -> None:
        """End `wait_idle` as if there were news."""
        if self._idle is not None:
            self._idle.wake()

    async def stop_idle(self) -> bool:
        """End IDLE; whether there was news that nobody was told of."""
        async with self._turn:
            return await self._leave_idle() if self._idle is not None else False

    async def _leave_idle(self) -> bool:
        assert self._idle is not None
        try:
            news = await self._idle.finish(min(self.timeout, 10.0))
        except BaseException:
            await self._finish()
            raise
        self.exists, self.arrived = self._idle.exists, self._idle.arrived
        self._idle = None
        assert self._wire is not None
        self._wire.tagged_commands.clear()
        self._wire.sock.settimeout(self.timeout)
        return news

    def _ready(self) -> Client:
        if self._client is None or self._closed:
            raise translate.Lost(f"IMAP {self.where}: the connection is closed")
        return self._client


async def _ended(worker: ThreadPoolExecutor) -> None:
    """Wait for its thread, but not for one that hangs in the resolver, where nothing reaches it."""
    loop = asyncio.get_running_loop()
    end = loop.time() + CLOSING
    while any(thread.is_alive() for thread in worker._threads) and loop.time() < end:  # noqa: SLF001, ASYNC110
        await asyncio.sleep(0.001)


def _text(data: Sequence[object]) -> str:
    return " ".join(d.decode("ascii", "replace") for d in data if isinstance(d, bytes)) or "refused without a reason"


def _keyword(flag: str) -> str:
    checked(flag, "the flag")
    bare = flag.removeprefix("\\")
    if not bare or not bare.isascii() or any(c in '(){ %*"\\]' for c in bare) or os.sep == bare:
        raise BadInput(f"{flag!r} is not a flag that IMAP can carry (RFC 9051 9, flag-keyword)")
    return flag


def _forget(future: asyncio.Future[T]) -> None:
    """Take note of an exception that nobody waits for any more."""
    if future.done() and not future.cancelled():
        future.exception()
