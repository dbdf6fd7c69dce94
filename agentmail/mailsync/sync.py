"""MailSync: an account's mailboxes into the thread store, and our own mail back into Sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..errors import AuthenticationFailed, MailboxError, NotFound, ServerError, Throttled, Unreachable
from ..imap import IDS, IdleRefused, ImapConnection, Lost, NoSuchMailbox
from ..message.identifiers import find_ids
from ..settings import Account
from ..store import Filed, ThreadStore, Tx, positions
from ..store.events import append_event
from ..store.positions import Connectivity, Position, fingerprint
from . import pacing
from .first import FirstRun
from .mailbox import MailboxPass
from .reading import Pass, Place
from .roles import ROLES, mailbox_for

REOPENED = 40
"""Connections that one pass may use up. Finding one poisonous message among 200 costs 16."""
REIDLE = 540.0
"""Seconds after which an IDLE is ended, whatever the server said (a NAT forgets; RFC 2177 allows 29 min)."""
PARK_AFTER, PARKED = 3, 6 * 3600.0
"""A mailbox that cannot be opened so often in a row is left alone for so many seconds."""


@dataclass(frozen=True, slots=True)
class Health:
    """How an account's receiving side does."""

    account: str
    state: str
    """ok, unreachable, throttled, refused (login; will be tried again), needs_auth (will not)"""
    error: str
    """The last thing that went wrong; empty when nothing is wrong."""
    next_try: datetime | None
    """No connection is made before this."""
    mailboxes: tuple[Position, ...]
    skipped: int
    """Messages on the server that are not in the store, because they could not be fetched or filed."""


def system_clock() -> datetime:
    return datetime.now(UTC)


class MailSync:
    """The receiving side of one account. Building it contacts nobody.

    `mailboxes` are roles (`inbox`, `sent`, `junk`, `archive`, `all`, …) or names. The Sent mailbox is read so that
    what a human answers by hand belongs to the thread too.
    """

    def __init__(
        self, account: Account, store: ThreadStore, *, clock: Callable[[], datetime] | None = None,
        first_run: FirstRun | None = None, mailboxes: Sequence[str] = ("inbox", "sent"),
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:  # fmt: skip
        self.account, self.store = account, store
        self.clock = clock or system_clock
        self.first_run = first_run or FirstRun()
        self.wanted = tuple(mailboxes)
        self.progress = progress
        self._connection: ImapConnection | None = None
        self._roles: dict[str, str | None] | None = None
        """Our word -> the mailbox's name, as this connection's server has them."""
        self._turn = asyncio.Lock()
        self._connecting: set[ImapConnection] = set()
        self._opened = 0
        self._closed = False

    # -- receiving

    async def poll(self, limit: int | None = None, *, epoch: int | None = None, thorough: bool = True) -> list[Filed]:
        """Bring in what is there, mailbox by mailbox; what was filed, oldest first, at most `limit` a mailbox.

        `epoch` is the lease under which the INBOX is read: a position is not written under an old one. Without
        `thorough` a mailbox that looks unchanged is not searched.

        A mailbox that fails does not keep the others waiting; only the INBOX's failure is raised.

        Raises:
            ServerError: nothing of the failing mailbox was lost; the next poll goes on where this one stopped.
        """
        filed: list[Filed] = []
        async with self._turn:
            await self._begin()
            try:
                places = await self._places()
            except Lost:
                places = await self._places()  # an old connection that had died; a new one cannot have
            for place in places:
                fence = epoch if place.role == "inbox" else None
                result = await self._pass(place, limit=limit, epoch=fence, thorough=thorough)
                filed += result.filed
        return filed

    async def poll_one(self, mailbox: str, *, epoch: int | None = None, limit: int | None = None) -> Pass:
        """One pass over one mailbox, fenced by the epoch of its lease. Raises what `poll` raises."""
        async with self._turn:
            await self._begin()
            try:
                places = await self._places()
            except Lost:
                places = await self._places()
            place = next((p for p in places if p.mailbox == mailbox), None) or self._place(mailbox, "other")
            return await self._pass(place, limit=limit, epoch=epoch, thorough=True)

    async def poll_news(self, *, epoch: int | None = None) -> list[Filed] | None:
        """Bring in what the INBOX just got, in two round trips; None when only a whole poll can tell."""
        async with self._turn:
            await self._begin()
            one = MailboxPass(
                self._place(self.account.mailbox, "inbox"), self.store, self.connection, now=self.clock,
                first=self.first_run, epoch=epoch,
            )  # fmt: skip
            result = await one.run_on_news()
            return result.filed if result is not None else None

    async def wait(self, seconds: float, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> bool:
        """Wait for news from the server, at most `seconds`; whether there was some. A poll says what.

        It idles where the server can, and only sleeps where not. `sleep` is the caller's, so that tests need none.

        Raises:
            ServerError: the connection was lost, and what `poll` raises.
        """
        async with self._turn:
            await self._begin()
            connection = await self.connection()
            if not await self.is_current(connection):
                return True
            try:
                await connection.start_idle()
                idles = True
            except IdleRefused:
                idles = False
        if not idles:
            await sleep(seconds)
            return False
        news = False

        async def idle() -> None:
            nonlocal news
            news = await connection.wait_idle(REIDLE)
            timer.cancel()

        try:
            async with asyncio.TaskGroup() as group:
                timer = group.create_task(_slept(sleep, min(seconds, REIDLE)))
                waiting = group.create_task(idle())
                timer.add_done_callback(lambda _: waiting.cancel())
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return await connection.stop_idle() or news

    async def check(self) -> frozenset[str]:
        """Log in, even where a refused login would be waited out, and open the mailbox; the server's capabilities.

        Raises:
            ServerError: what is wrong, and what to do.
        """
        async with self._turn:
            await self._begin()
            if self._connection is None or not self._connection.usable:
                self._connection = await self.open(force=True)
            connection = await self.connection()
            await connection.examine(self.account.mailbox)
            return connection.capabilities

    async def is_current(self, connection: ImapConnection) -> bool:
        """Open the INBOX on this connection; whether all that is there now was seen by the last poll."""
        seen = await connection.examine(self.account.mailbox)
        async with self.store.reading() as tx:
            known = await positions.position(tx, self.account.key, self.account.mailbox)
        if known is None or known.uidvalidity != seen.uidvalidity:
            return False
        if seen.uidnext is None:
            return seen.exists == known.messages
        return seen.uidnext <= known.low + 1 or seen.uidnext == known.uidnext

    async def mailboxes(self) -> list[str]:
        """The names of the mailboxes that `poll` reads."""
        async with self._turn:
            await self._begin()
            return [p.mailbox for p in await self._places()]

    async def _begin(self) -> None:
        if self._closed:
            raise Unreachable("this MailSync is closed")
        await self.store.register(self.account.key, self.account.own_addresses)
        self._opened = 0

    async def _pass(self, place: Place, *, limit: int | None, epoch: int | None, thorough: bool) -> Pass:
        main = place.role == "inbox"
        now = self.clock().timestamp()
        async with self.store.reading() as tx:
            before = await positions.position(tx, self.account.key, place.mailbox)
        if before is not None and before.parked_until > now:
            if main:
                raise MailboxError(
                    f"mailbox {place.mailbox!r} is left alone until "
                    f"{datetime.fromtimestamp(before.parked_until, UTC):%Y-%m-%d %H:%M} UTC: {before.error}"
                )
            return Pass()
        progress = self.progress
        one = MailboxPass(
            place, self.store, self.connection, now=self.clock, first=self.first_run, epoch=epoch, limit=limit,
            thorough=thorough,
            progress=(lambda done, of: progress(place.mailbox, done, of)) if progress is not None else None,
        )  # fmt: skip
        try:
            result = await one.run()
        except Lost:
            # Once more on a new connection: the old one may have been dead for hours before we used it.
            result = await self._second_pass(one, place, before)
        except MailboxError as exc:
            await self._failed(place, before, exc)
            if main:
                raise
            return Pass()
        return result

    async def _second_pass(self, one: MailboxPass, place: Place, before: Position | None) -> Pass:
        try:
            result = await one.run()
        except MailboxError as exc:
            await self._failed(place, before, exc)
            if place.role == "inbox":
                raise
            return one.result
        except Lost as exc:
            if place.role != "inbox":
                await self._failed(place, before, exc)
            raise
        return result

    async def _failed(self, place: Place, before: Position | None, exc: ServerError) -> None:
        """Count it; a mailbox that is listed and cannot be read must not cost a connection at every poll."""
        if before is None or isinstance(exc, Throttled):
            return
        failures = before.failures + 1
        parked = self.clock().timestamp() + PARKED if failures >= PARK_AFTER and place.role != "inbox" else 0.0
        await self.store.db.run(
            lambda tx: positions.save(tx, self.account.key, place.mailbox, uidvalidity=before.uidvalidity,
                                      failures=failures, error=str(exc)[:500], parked_until=parked)
        )  # fmt: skip

    # -- the connection

    async def connection(self) -> ImapConnection:
        """The usable connection, a new one when there is none.

        Raises:
            AuthenticationFailed, Throttled: also without asking the server, while it must not be asked.
            Unreachable, CertificateRejected, ConfigurationError
        """
        if self._connection is not None and self._connection.usable:
            return self._connection
        if self._closed:
            raise Unreachable("this MailSync is closed")
        if self._opened >= REOPENED:
            raise Unreachable(f"IMAP {self.account.imap_host}: the connection was lost {self._opened} times; later")
        self._opened += 1
        self._connection = None
        self._connection = await self.open()
        return self._connection

    async def open(self, *, force: bool = False) -> ImapConnection:
        """A new connection, if the account's state allows one; its end is the caller's."""
        await self.store.open()
        key = self.account.key
        secret = fingerprint(self.store.secret, self._credentials())
        now = self.clock().timestamp()
        async with self.store.reading() as tx:
            known = await positions.connectivity(tx, key)
        refusal = pacing.refusal(known, secret=secret, now=now, account=key)
        if refusal is not None and not force:
            raise refusal
        try:
            connection = await self._login()
        except ServerError as exc:
            after = pacing.after_failure(known, exc, secret=secret, now=now)
            if after != known:
                await self._note(known, after)
            raise
        if known.state != "ok":
            await self._note(known, Connectivity(at=now))
        return connection

    async def _login(self) -> ImapConnection:
        for attempt in (1, 2):
            connection = ImapConnection(self.account)
            self._connecting.add(connection)
            try:
                await connection.connect()
            except BaseException as exc:
                await connection.close()
                renew = getattr(self.account.token, "renew", None)
                if isinstance(exc, AuthenticationFailed) and renew is not None and attempt == 1:
                    await renew()  # the token may have ended before its time: one new one, then it is an error
                    continue
                raise
            finally:
                self._connecting.discard(connection)
            return connection
        raise AssertionError("unreachable")

    def _credentials(self) -> str:
        password = self.account.password
        return "token" if self.account.token is not None or password is None else password.get_secret_value()

    async def _note(self, before: Connectivity, after: Connectivity) -> None:
        async def work(tx: Tx) -> None:
            await positions.save_connectivity(tx, self.account.key, after)
            if before.state != after.state:
                await append_event(tx, f"account.{after.state}", account=self.account.key, at=after.at,
                                   data={"error": after.error} if after.error else None)  # fmt: skip

        await self.store.db.run(work)

    # -- which mailboxes

    async def _places(self) -> list[Place]:
        roles = await self._learn_roles()
        places: dict[str, Place] = {}
        for wanted in self.wanted:
            role = wanted.lower()
            name = self.account.mailbox if role == "inbox" else roles.get(role) if role in ROLES else wanted
            if name is not None and name not in places:
                places[name] = self._place(name, role if role == "inbox" or role in ROLES else "other")
        return list(places.values())

    def _place(self, name: str, role: str) -> Place:
        own = frozenset(a.casefold() for a in self.account.own_addresses)
        return Place(self.account.key, name, role, own, self.account.trusted_authserv)

    async def _learn_roles(self) -> dict[str, str | None]:
        connection = await self.connection()
        if self._roles is None:
            listed = await connection.mailboxes()
            prefix = await connection.prefix()
            self._roles = {role: mailbox_for(role, listed, prefix) for role in ROLES}
        return self._roles

    # -- our own mail, seen from the server

    async def find_sent(self, message_id: str) -> bool:
        """Whether a message with this id lies in Sent, or came back to us as a copy.

        When it does under another Message-ID than ours (some providers write their own), the alias is learned.

        Raises:
            ServerError: it could not be looked for; that is not a no.
        """
        async with self._turn:
            await self._begin()
            return bool(await self._once_more(lambda: self._find_sent(message_id)))

    async def _once_more(self, work: Callable[[], Any]) -> Any:
        try:
            return await work()
        except Lost:
            return await work()

    async def _find_sent(self, message_id: str) -> bool:
        connection = await self.connection()
        roles = await self._learn_roles()
        for name in dict.fromkeys(n for n in (roles["sent"], roles["all"], self.account.mailbox) if n):
            try:
                await connection.examine(name)
            except NoSuchMailbox:
                continue
            found = await connection.find(message_id.strip("<>"))
            if found and await self._really(connection, found, message_id):
                return True
        return False

    async def _really(self, connection: ImapConnection, uids: Sequence[int], message_id: str) -> bool:
        """SEARCH HEADER finds substrings (RFC 9051 6.4.4): read the ids themselves."""
        for uid, one in (await connection.fetch(uids[-50:], IDS)).items():
            ids = find_ids((one.body or b"").partition(b":")[2].decode("utf-8", "replace"), "own").ids
            if message_id in ids and uid:
                return True
        return False

    async def file_sent(self, raw: bytes, message_id: str) -> bool:
        """See to it that one copy lies in Sent; whether we put it there. Nothing to do where the provider does so.

        Raises:
            ServerError: it may or may not be there; calling again finds out.
        """
        if self.account.files_sent:
            return False
        async with self._turn:
            await self._begin()
            return bool(await self._once_more(lambda: self._file_sent(raw, message_id)))

    async def _file_sent(self, raw: bytes, message_id: str) -> bool:
        connection = await self.connection()
        sent = (await self._learn_roles())["sent"]
        if sent is None:
            return False
        await connection.examine(sent)
        if await self._really(connection, await connection.find(message_id.strip("<>")), message_id):
            return False
        await connection.append(sent, raw, [r"\Seen"], self.clock())
        return True

    # -- what agents do, on the server: only when asked

    async def mark(self, message: str, *, add: Collection[str] = (), remove: Collection[str] = ()) -> None:
        """Set or clear flags (`\\Seen`, `\\Flagged`, a keyword) on a stored message, wherever it lies."""
        for mailbox, uids in (await self._where(message)).items():
            async with self._turn:
                connection = await self._for_writing(mailbox)
                await connection.change_flags(uids, add=add, remove=remove)

    async def move(self, message: str, mailbox: str) -> None:
        """Move a stored message out of the INBOX to another mailbox: a role (`archive`, `trash`) or a name."""
        places = await self._where(message)
        uids = places.get(self.account.mailbox)
        if uids is None:
            raise NotFound(f"{message} does not lie in {self.account.mailbox!r} on the server")
        async with self._turn:
            connection = await self._for_writing(self.account.mailbox)
            role = mailbox.lower()
            target = (await self._learn_roles()).get(role) if role in ROLES else mailbox
            if target is None:
                raise NotFound(f"this account has no mailbox for {role!r}")
            await connection.examine(self.account.mailbox, writable=True)
            await connection.move(uids, target)

    async def _where(self, message: str) -> dict[str, list[int]]:
        stored = await self.store.message(message, account=self.account.key)
        async with self.store.reading() as tx:
            places = await positions.places_of(tx, self.account.key, int(str(stored.id)[1:]))
        found: dict[str, list[int]] = {}
        for mailbox, _, uid in places:
            found.setdefault(mailbox, []).append(uid)
        if not found:
            raise NotFound(f"{message} does not lie on the server (any more)")
        return found

    async def _for_writing(self, mailbox: str) -> ImapConnection:
        await self._begin()
        connection = await self.connection()
        seen = await connection.examine(mailbox, writable=True)
        async with self.store.reading() as tx:
            position = await positions.position(tx, self.account.key, mailbox)
        if position is None or position.uidvalidity != seen.uidvalidity:
            raise MailboxError(f"mailbox {mailbox!r} was made anew since it was read; poll first")
        return connection

    # -- state

    async def health(self) -> Health:
        """What is known of this account, by all processes together. Asks the store, not the server."""
        async with self.store.reading() as tx:
            state = await positions.connectivity(tx, self.account.key)
            found = await positions.positions(tx, self.account.key)
            skipped = await positions.skipped(tx, self.account.key)
        error = state.error or next((p.error for p in found if p.error), "")
        until = datetime.fromtimestamp(state.until, UTC) if state.until > self.clock().timestamp() else None
        return Health(self.account.key, state.state, error, until, tuple(found), sum(s["settled"] for s in skipped))

    async def close(self) -> None:
        """Leave the server. Returns within 5 seconds; a poll that is under way raises Unreachable."""
        self._closed = True
        for opening in list(self._connecting):
            opening.kill()
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._turn.locked():
                connection.kill()
            await connection.close()


async def _slept(sleep: Callable[[float], Awaitable[None]], seconds: float) -> None:
    await sleep(seconds)
