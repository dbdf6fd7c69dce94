"""MailSync: an account's mailboxes into the thread store, and our own mail back into Sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from ..errors import MailboxError, ServerError, Throttled
from ..imap import IdleRefused, ImapConnection, Lost
from ..store import Filed, positions
from ..store.positions import LostLease, Position
from ..unbroken import TaskGroup, cancellations, heed_cancellation
from .acting import Acting
from .looking import Looking
from .mailbox import MailboxPass
from .reading import Pass, Place
from .roles import ROLES
from .sent import SentCopies
from .slots import LEASE as SLOT_LEASE

REIDLE = 540.0
"""Seconds after which an IDLE is ended, whatever the server said (a NAT forgets; RFC 2177 allows 29 min)."""
PARK_AFTER, PARKED = 3, 6 * 3600.0
"""A mailbox that cannot be opened so often in a row is left alone for so many seconds."""


@dataclass(frozen=True, slots=True)
class Health:
    """How an account's receiving side does."""

    account: str
    state: str
    """ok, unreachable, throttled, unserved (let in, and every command fails), refused (login; will be tried again),
    needs_auth (will not)"""
    error: str
    """The last thing that went wrong; empty when nothing is wrong."""
    next_try: datetime | None
    """No connection is made before this."""
    mailboxes: tuple[Position, ...]
    skipped: int
    """Messages on the server that are not in the store, because they could not be fetched or filed."""


class MailSync(SentCopies, Acting, Looking):
    """The receiving side of one account. Building it contacts nobody.

    `mailboxes` are roles (`inbox`, `sent`, `junk`, `archive`, `all`, …) or names. The Sent mailbox is read so that
    what a human answers by hand belongs to the thread too.
    """

    # -- receiving

    async def poll(self, limit: int | None = None, *, epoch: int | None = None, thorough: bool = True) -> list[Filed]:
        """Bring in what is there, mailbox by mailbox; what was filed, oldest first, at most `limit` a mailbox.

        `epoch` is the lease of the INBOX, under which all of the account's mailboxes are read: nothing is written under
        an old one. Without `thorough` a mailbox that looks unchanged is not searched.

        A mailbox that fails does not keep the others waiting; only the INBOX's failure is raised.

        Raises:
            ServerError: nothing of the failing mailbox was lost; the next poll goes on where this one stopped.
        """
        filed: list[Filed] = []
        async with self._session():
            places = await self._found_places()
            for place in places:
                result = await self._watched_pass(place, limit=limit, epoch=epoch, thorough=thorough)
                filed += result.filed
        return filed

    async def poll_one(self, mailbox: str, *, epoch: int | None = None, limit: int | None = None) -> Pass:
        """One pass over one mailbox, fenced by the epoch of its lease. Raises what `poll` raises."""
        async with self._session():
            places = await self._found_places()
            place = next((p for p in places if p.mailbox == mailbox), None) or self._place(mailbox, "other")
            return await self._watched_pass(place, limit=limit, epoch=epoch, thorough=True, own=True)

    async def poll_news(self, *, epoch: int | None = None) -> list[Filed] | None:
        """Bring in what the INBOX just got, in two round trips; None when only a whole poll can tell."""
        async with self._session():
            known, self._known = self._known, None
            one = MailboxPass(
                self._place(self.account.mailbox, "inbox"), self.store, self.connection, now=self.clock,
                first=self.first_run, epoch=epoch, known=known,
            )  # fmt: skip
            result = await one.run_on_news()
            if result is None:
                return None
            self._known = one.position
            return result.filed

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
                await self._leave_the_door()
                return True
            try:
                await connection.start_idle()
                idles = True
            except IdleRefused:
                idles = False
        if not idles:
            await self._leave_the_door()
            await sleep(seconds)
            return False
        news = False

        async def idle() -> None:
            nonlocal news
            news = await connection.wait_idle(REIDLE)
            timer.cancel()

        asked = cancellations()
        try:
            async with TaskGroup() as group:
                timer = group.create_task(_slept(sleep, min(seconds, REIDLE)))
                waiting = group.create_task(idle())
                keeping = group.create_task(self._keep_while_idle())
                timer.add_done_callback(lambda _: (waiting.cancel(), keeping.cancel()))
            return await connection.stop_idle() or news
        except BaseExceptionGroup as failed:
            heed_cancellation(asked)
            raise failed.exceptions[0] from None
        finally:
            await self._leave_the_door()

    async def _keep_while_idle(self) -> None:
        while True:
            await asyncio.sleep(SLOT_LEASE / 3)
            await self.keep_slot()

    async def check(self) -> frozenset[str]:
        """Log in, even where a refused login would be waited out, and open the mailbox; the server's capabilities.

        Raises:
            ServerError: what is wrong, and what to do.
        """
        async with self._session():
            if self._connection is None or not self._connection.usable:
                await self._opened_anew(force=True)
            connection = await self.connection()
            await connection.examine(self.account.mailbox)
            await self._served()
            return connection.capabilities

    async def is_current(self, connection: ImapConnection) -> bool:
        """Open the INBOX on this connection; whether all that is there now was seen by the last poll."""
        seen = await connection.examine(self.account.mailbox)
        async with self.store.reading() as tx:
            known = await positions.position(tx, self.account.key, self.account.mailbox)
        self._known = known
        if known is None or known.uidvalidity != seen.uidvalidity:
            return False
        if seen.uidnext is None:
            return seen.exists == known.messages
        return seen.uidnext <= known.low + 1 or seen.uidnext == known.uidnext

    async def mailboxes(self) -> list[str]:
        """The names of the mailboxes that `poll` reads."""
        async with self._session():
            return [p.mailbox for p in await self._places()]

    async def _watched_pass(
        self, place: Place, *, limit: int | None, epoch: int | None, thorough: bool, own: bool = False
    ) -> Pass:
        """A pass, and what it tells about the server. `own`: `epoch` is that of the mailbox's own lease."""
        result = await self._pass(place, limit=limit, epoch=epoch, thorough=thorough, own=own)
        await self._served()
        return result

    async def _pass(
        self, place: Place, *, limit: int | None, epoch: int | None, thorough: bool, own: bool = False
    ) -> Pass:
        main = place.role == "inbox"
        own = own or main or epoch is None
        if main:
            self._known = None
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
            place, self.store, self.connection, now=self.clock, first=self.first_run, epoch=epoch if own else None,
            under=None if own or epoch is None else (self.account.mailbox, epoch), limit=limit, thorough=thorough,
            ahead=self.ahead,
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
            await self._failed(place, before, exc)
            raise
        return result

    async def _failed(self, place: Place, before: Position | None, exc: ServerError) -> None:
        """Count it; a mailbox that is listed and cannot be read must not cost a connection at every poll."""
        if before is None:
            async with self.store.reading() as tx:
                before = await positions.position(tx, self.account.key, place.mailbox)
        if before is None or isinstance(exc, Throttled) or exc is self._unopened:
            return
        failures, parked = before.failures + 1, before.parked_until
        if failures >= PARK_AFTER and place.role != "inbox":
            parked = self.clock().timestamp() + PARKED
        with suppress(LostLease):  # another process found it made anew meanwhile: then that is what is known of it
            await self.store.db.run(
                lambda tx: positions.save(tx, self.account.key, place.mailbox, uidvalidity=before.uidvalidity,
                                          failures=failures, error=str(exc)[:500], parked_until=parked)
            )  # fmt: skip

    # -- which mailboxes

    async def _found_places(self) -> list[Place]:
        """What `poll` reads; a server that does not let that be found out is noted as one that fails in a pass."""
        try:
            try:
                return await self._places()
            except Lost:
                return await self._places()  # an old connection that had died; a new one cannot have
        except ServerError as exc:
            if exc is not self._unopened:
                await self._failed(self._place(self.account.mailbox, "inbox"), None, exc)
            raise

    async def _places(self) -> list[Place]:
        roles = await self._learn_roles()
        places: dict[str, Place] = {}
        # The INBOX first: what came to it is news, also where the first look at another mailbox calls it history.
        for wanted in sorted(self.wanted, key=lambda one: one.lower() != "inbox"):
            role = wanted.lower()
            name = self.account.mailbox if role == "inbox" else roles.get(role) if role in ROLES else wanted
            if name is not None and name not in places:
                places[name] = self._place(name, role if role == "inbox" or role in ROLES else "other")
        return list(places.values())

    def _place(self, name: str, role: str) -> Place:
        own = self.account.own_addresses
        return Place(self.account.key, name, role, own, self.account.trusted_authserv)

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


async def _slept(sleep: Callable[[float], Awaitable[None]], seconds: float) -> None:
    await sleep(seconds)
