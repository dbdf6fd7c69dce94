"""What every part of a pass over a mailbox stands on: who reads what, the connection, the snapshot, the position."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from ..errors import MailboxReset
from ..imap import Fetched, Gmail, ImapConnection, Snapshot, uid_sets
from ..store import Filed, ThreadStore, Tx, positions
from ..store.arrivals import Prepared
from ..store.positions import Position
from .first import FirstRun

if TYPE_CHECKING:
    from .ahead import Ahead

WINDOW = 500
"""Uids below the position that every pass looks at again: servers show messages late and out of order."""
ANSWER = 50_000
"""Uids that one SEARCH may answer with; a bigger mailbox is searched in pieces."""
SLICE = 2**20
"""Bytes of one piece of a message that is too big for a batch."""
PIECES = 2_000
"""Pieces of one message: who gives a few bytes at a time, and never nothing, would keep the mailbox for hours."""
LARGEST = 100 * 2**20
"""A bigger message is skipped, and says so."""
BEFORE_MAIL = 1982
"""No mail is older than RFC 822 (August 1982): an earlier INTERNALDATE is a clock that was not set."""
RECONCILE = 6 * 3600.0
"""Seconds between two comparisons of the whole list of uids."""
SWEEP = 3600.0
"""Seconds for which a mailbox that looks unchanged is believed to be, by who watches it."""
FLAGS_AT_ONCE = 20_000
"""Messages whose flags one FETCH asks for."""
FLAGS_EVERY = 300.0
"""Seconds between two looks at flags on a server without CONDSTORE."""
RESETS, RESET_SPAN, PARKED = 5, 86_400.0, 6 * 3600.0
TRIES = 3
"""Attempts at a message that cannot be fetched, before the mailbox goes on without it; twice that in all."""


@dataclass(frozen=True, slots=True)
class Place:
    """Who reads what, and in whose name."""

    account: str
    mailbox: str
    role: str
    own: frozenset[str]
    trusted: tuple[str, ...]


@dataclass
class Pass:
    """What one pass did."""

    filed: list[Filed] = field(default_factory=list)
    departed: int = 0
    reflagged: int = 0
    skipped: int = 0
    more: bool = False
    """A limit ended it before everything was filed."""


T = TypeVar("T")
Connect = Callable[[], Awaitable[ImapConnection]]


class Reading:
    """One pass over one mailbox. `connect` gives the usable connection, a new one when the last was lost."""

    def __init__(
        self, place: Place, store: ThreadStore, connect: Connect, *, now: Callable[[], datetime], first: FirstRun,
        epoch: int | None = None, under: tuple[str, int] | None = None, limit: int | None = None, thorough: bool = True,
        progress: Callable[[int, int], None] | None = None, known: Position | None = None, ahead: Ahead | None = None,
    ) -> None:  # fmt: skip
        self.under = under
        """The mailbox and the epoch of the lease under which this one is read, where it has no lease of its own."""
        self.known = known
        """The position, where the caller knows it: then it is not read again."""
        self.place, self.store, self.connect = place, store, connect
        self.now, self.first, self.epoch, self.limit, self.progress = now, first, epoch, limit, progress
        self.thorough = thorough
        self.ahead = ahead
        """A child that prepares, where there is one; for much mail at once."""
        self._child: Ahead | None = None
        """It, while it does."""
        self.said: dict[int, Gmail] = {}
        """What Gmail says of the messages of this pass, by uid."""
        self._early: dict[int, tuple[Fetched, Prepared]] = {}
        """What was prepared while it came, by uid, and of what."""
        self.result = Pass()
        self.snapshot: Snapshot
        self.position: Position

    async def _again(self) -> ImapConnection:
        """A new connection to the same mailbox; MailboxReset when it is not the same any more."""
        connection = await self.connect()
        if connection.selected != self.place.mailbox:
            seen = await connection.examine(self.place.mailbox)
            if seen.uidvalidity != self.snapshot.uidvalidity:
                raise MailboxReset(f"mailbox {self.place.mailbox!r} was made anew while it was read; poll again")
        return connection

    async def _position(self) -> Position:
        async with self.store.reading() as tx:
            found = await positions.position(tx, self.place.account, self.place.mailbox)
        return found or Position(self.place.account, self.place.mailbox)

    async def _uids(self, connection: ImapConnection, low: int) -> list[int]:
        """Uids from `low` on, as far as this snapshot can know them."""
        high = self.snapshot.uidnext - 1 if self.snapshot.uidnext else None
        if not self.snapshot.exists or (high is not None and high < low):
            return []
        if self.snapshot.exists <= ANSWER or (high is not None and high - low < ANSWER):
            found = await connection.search_uids(low, high)
            if not found:
                # An answer without a SEARCH line, or empty in a mailbox that is not: ask once more by position.
                found = await connection.search_places(1, min(self.snapshot.exists, ANSWER)) or []
            return [u for u in found if u >= low and (high is None or u <= high)]
        uids: set[int] = set()
        last = self.snapshot.exists
        while last > 0:
            piece = await connection.search_places(max(1, last - ANSWER + 1), last) or []
            uids.update(u for u in piece if u >= low and (high is None or u <= high))
            last -= ANSWER
            if piece and piece[0] < low:
                break
        return sorted(uids)

    async def _facts(self, connection: ImapConnection, uids: Sequence[int]) -> dict[int, Fetched]:
        facts: dict[int, Fetched] = {u: Fetched(u) for u in uids}
        for some in uid_sets(uids):
            facts.update(await connection.fetch(some))
        return facts

    async def _write(self, work: Callable[[Tx], Awaitable[T]]) -> T:
        if self.under is None:
            return await self.store.db.run(work)
        name, epoch = self.under

        async def fenced(tx: Tx) -> T:
            await positions.fence(tx, self.place.account, name, epoch=epoch)
            return await work(tx)

        return await self.store.db.run(fenced)
