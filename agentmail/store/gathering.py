"""What the store knows of the ids that a batch touches: read once, under lock, onto a board."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, or_, select

from ..threads.placement import Board, Link, atoms_of
from . import holders
from .arrivals import Prepared
from .database import Tx
from .direct import Statement, among, listed, rows
from .holders import chunks
from .subjects import Span
from .tables.threads import APART, LOCATION, MESSAGE, PERSON, THREAD

_NEWS = 10_000
"""Atoms in one statement."""
_FEW_ASKED = 64
"""Atoms that are looked up one by one in each thread; of more, the rows of the threads are read."""


_NAMED = (
    "INSERT INTO ident (account, key, holders) SELECT $1::text, unnest($2::text[]), '[]' ON CONFLICT DO NOTHING"
)
"""PostgreSQL: rows for ids that have none, so that there is something to lock."""


def _locked(query: Select[Any], column: ColumnElement[Any], *, postgres: bool) -> Select[Any]:
    """Rows that stay as they are until the commit, locked in one order. SQLite's BEGIN IMMEDIATE locks everything."""
    return query.order_by(column).with_for_update() if postgres else query


_LEADING = Statement(
    lambda postgres: _locked(
        select(THREAD.c.id, THREAD.c.merged_into, THREAD.c.attached_to).where(
            among(THREAD.c.id, "ids", postgres=postgres)
        ),
        THREAD.c.id, postgres=postgres,
    )
)  # fmt: skip
_KNOWN = Statement(
    lambda postgres: select(PERSON.c.thread, PERSON.c.atom).where(
        among(PERSON.c.thread, "threads", postgres=postgres), among(PERSON.c.atom, "atoms", postgres=postgres)
    )
)
_EVERYBODY = Statement(
    lambda postgres: select(PERSON.c.thread, PERSON.c.atom).where(
        among(PERSON.c.thread, "threads", postgres=postgres)
    )
)


def _same(column: ColumnElement[str]) -> Statement:
    return Statement(
        lambda postgres: select(column, MESSAGE.c.id, MESSAGE.c.thread).where(
            MESSAGE.c.account == bindparam("account"), among(column, "keys", postgres=postgres)
        )
    )


_SAME = {"content": _same(MESSAGE.c.content_key), "own": _same(MESSAGE.c.own_key)}
_ANSWERED = Statement(  # with the account as a condition SQLite would rather go through all of its messages
    lambda postgres: select(MESSAGE.c.id, MESSAGE.c.cluster, MESSAGE.c.account).where(
        among(MESSAGE.c.id, "ids", postgres=postgres)
    )
)
_PLACED = Statement(
    lambda postgres: select(LOCATION.c.uid, MESSAGE.c.id, MESSAGE.c.cluster)
    .join(MESSAGE, MESSAGE.c.id == LOCATION.c.message)
    .where(
        LOCATION.c.account == bindparam("account"), LOCATION.c.mailbox == bindparam("mailbox"),
        LOCATION.c.uidvalidity == bindparam("uidvalidity"), among(LOCATION.c.uid, "uids", postgres=postgres),
    )
)  # fmt: skip


class Gathering:
    """A batch, and everything in the database that its placement depends on.

    Locks, on PostgreSQL: the rows of its ids in sorted order, then those of the threads that hold them, sorted too.
    """

    def __init__(
        self, tx: Tx, account: str, batch: Sequence[Prepared] = (), *, own: Collection[str], now: float
    ) -> None:
        self.tx = tx
        self.account = account
        self.batch = batch
        self.own = own
        self.now = now
        self.postgres = tx.dialect.name == "postgresql"
        self.board = Board(own=frozenset(atom for address in own for atom in atoms_of(address)))
        self.stored = holders.Held()
        """Id key -> its holders as they stand in the database."""
        self.known: dict[int, set[str]] = {}
        """Thread -> the atoms of interest that its rows have."""
        self.redirected: set[int] = set()
        """Threads that were merged into another one before this batch."""
        self.merged: dict[int, int] = {}
        """Thread -> the one it becomes part of by this batch."""
        self.attached: dict[int, int] = {}
        """Cluster -> the thread that the subject rule shows it in."""
        self.refused: list[Link] = []
        """Claims that the guard turned down."""
        self.spans: dict[str, Span] = {}
        """Subject key -> the times of messages that changed their thread."""

    async def _load(self, keys: Collection[str]) -> None:
        """Put what is known of these ids on the board, and lock it."""
        wanted = sorted(k for k in keys if k not in self.stored)
        if not wanted:
            return
        if self.postgres:
            await rows(self.tx, _NAMED, [(self.account, wanted)])
        found = await holders.read(self.tx, self.account, wanted, lock=True)
        threads = {hold.thread for holds in found.values() for hold in holds}
        await self._lock_threads(threads)
        self.stored.in_rows |= found.in_rows
        for key in wanted:
            self.stored[key] = held = found.get(key, frozenset())
            for hold in held:
                if hold.thread in self.known:  # else it was deleted, and its hold is let go when the id is written
                    self.board.hold(key, hold)
        await self._load_people()

    async def _lock_threads(self, threads: Collection[int]) -> None:
        """Lock the rows that these threads lead to, and learn where that is."""
        waiting = {t for t in threads if t not in self.known}
        while waiting:
            further: set[int] = set()
            for some in chunks(sorted(waiting)):
                for thread, winner, attached_to in (await _LEADING.run(self.tx, ids=listed(self.tx, some))).rows:
                    self.known.setdefault(thread, set())
                    if attached_to is not None:
                        self.attached[thread] = attached_to
                    if winner is not None:
                        self.redirected.add(thread)
                        self.board.join(winner, thread)
                        if winner not in self.known:
                            further.add(winner)
            waiting = further

    async def _load_people(self) -> None:
        """Whom the threads on the board know, as far as anybody here asks."""
        if not self.account:
            return
        asked: set[str] = set()
        for p in self.batch:
            asked.update(p.facts.people)
        for holds in self.board.holders.values():
            for hold in holds:
                asked.update(name for a in hold.voucher[1:].split("\n") if a for name in (a, f"~{a}"))
        threads = sorted(
            set(self.known) - self.redirected
        )  # also those that this batch joins: their rows are still there
        for some in chunks(threads):
            values = listed(self.tx, some)
            if len(asked) <= _FEW_ASKED:  # each in each: of a crowd at one id that is their number squared
                people = await _KNOWN.run(self.tx, threads=values, atoms=listed(self.tx, sorted(asked)))
            else:
                people = await _EVERYBODY.run(self.tx, threads=values)
            for thread, atom in people.rows:
                if atom in asked:
                    self.known[thread].add(atom)
                    self.board.know(thread, (atom,))

    async def _known_messages(self) -> list[tuple[int, int] | None]:
        """For each arrival the (message, thread) that it is already, or None."""
        by_key: dict[tuple[str, str], tuple[int, int]] = {}
        contents = sorted({p.row["content_key"] for p in self.batch})
        owns = sorted({p.row["own_key"] for p in self.batch if p.row["own_key"]})
        for name, values in (("content", contents), ("own", owns)):
            for some in chunks(values):
                found = await _SAME[name].run(self.tx, account=self.account, keys=listed(self.tx, some))
                for value, message, thread in found.rows:
                    by_key[name, value] = (message, thread)
        places = await self._known_places()
        return [
            places.get(i)
            or by_key.get(("content", p.row["content_key"]))
            or (by_key.get(("own", p.row["own_key"])) if p.row["own_key"] else None)
            for i, p in enumerate(self.batch)
        ]

    async def _known_places(self) -> dict[int, tuple[int, int]]:
        places: dict[tuple[str, int], dict[int, int]] = {}
        for i, p in enumerate(self.batch):
            if (at := p.arrival.location) is not None:
                places.setdefault((at.mailbox, at.uidvalidity), {})[at.uid] = i
        known: dict[int, tuple[int, int]] = {}
        for (mailbox, uidvalidity), uids in places.items():
            for some in chunks(sorted(uids)):
                found = await _PLACED.run(
                    self.tx, account=self.account, mailbox=mailbox, uidvalidity=uidvalidity, uids=listed(self.tx, some)
                )
                for uid, message, thread in found.rows:
                    known[uids[uid]] = (message, thread)
        return known

    async def _answered(self, fresh: Sequence[int]) -> dict[int, int]:
        """Arrival -> the thread that its caller says it answers in."""
        wanted = {i: self.batch[i].row["answers"] for i in fresh if self.batch[i].row["answers"] is not None}
        if not wanted:
            return {}
        found = await _ANSWERED.run(self.tx, ids=listed(self.tx, sorted(set(wanted.values()))))
        clusters: dict[int, int] = {id_: cluster for id_, cluster, account in found.rows if account == self.account}
        await self._lock_threads(clusters.values())
        await self._load_people()
        for i, message in wanted.items():
            if message not in clusters:
                self.batch[i].row["answers"] = None
        return {i: clusters[message] for i, message in wanted.items() if message in clusters}

    async def _let_in(self, changed: Collection[str]) -> set[str]:
        """Ids by which threads were kept apart that need not be any more: somebody got to know somebody just now."""
        seen: set[str] = set(changed)
        more: set[str] = set()
        while self.account:
            joined = sorted(t for t, w in self._joined().items() for t in (t, w))
            learnt: dict[int, set[str]] = {}
            for thread in self.known:
                if self.board.root(thread) == thread and (atoms := self.board.people[thread] - self.known[thread]):
                    learnt[thread] = atoms
            if not joined and not learnt:
                break
            news = sorted({name for atoms in learnt.values() for atom in atoms for name in (atom, atom.lstrip("~"))})
            here = APART.alias()  # what a thread that learnt somebody holds together with many others
            beside = select(here.c.key).where(
                here.c.account == self.account, here.c.claimant.in_(sorted(learnt)), here.c.target == here.c.claimant
            )
            query = select(APART.c.key).where(
                APART.c.account == self.account,
                or_(
                    APART.c.target.in_(joined), APART.c.claimant.in_(joined),
                    and_(
                        APART.c.atom.in_(news[:_NEWS]),
                        or_(
                            APART.c.target.in_(sorted(learnt)),
                            and_(APART.c.target == APART.c.claimant, APART.c.key.in_(beside)),
                        ),
                    ),
                ),
            )  # fmt: skip
            keys = {key for (key,) in await self.tx.execute(query)} - seen
            for thread in (*joined, *learnt):
                self.board.touch(thread)
            if not keys:
                break
            seen |= keys
            more |= keys
            await self._load(keys)
            self.board.settle(keys)
        return more

    def _joined(self) -> dict[int, int]:
        """Threads of the store that this batch makes part of another one."""
        return {
            t: w for t in sorted(self.known) if (w := self.board.root(t)) != t and t not in self.redirected
        }  # fmt: skip

