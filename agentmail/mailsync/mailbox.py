"""One pass over one mailbox: what is there, what of it is not stored, and everything filed with the position.

```
EXAMINE ─snapshot─▶ same uidvalidity? ─▶ uids of the window − stored = missing ─▶ sizes ─▶ bodies in batches
                                                                                              │
          position = the snapshot's ◀── expunged, flags ◀── each batch filed with `low` in one transaction
```

The snapshot is the one taken before the loop: what arrives during it is found by the next pass.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from ..errors import ServerError
from ..imap import FACTS, WHOLE, Fetched, Gmail, ImapConnection, Snapshot, uid_sets
from ..imap.batches import BATCH, BATCH_BYTES, batches, is_huge
from ..imap.pipeline import Asked, Each
from ..store import Arrival, Filed, Tx, positions
from ..store.arrivals import Prepared
from ..store.positions import Position
from ..unbroken import cancellations, heed_cancellation
from .ahead import FEW, Job
from .arriving import Terms, arrived, prepared
from .beginning import Beginning
from .changes import Changes
from .fetching import Fetching
from .gmail import Labelled
from .reading import RECONCILE, SWEEP, TRIES, WINDOW, Pass

EARLY = 5.0
"""Seconds of one FETCH that may go into preparing: a server hangs up on who does not read."""
TOGETHER, TOGETHER_BYTES = 500, 8 * 2**20
"""Messages and bytes of mail in one transaction, about. With four times as many as a FETCH brings, filing takes a sixth
less.
"""
AT_ONCE = 32 * 2**10
"""Bytes of mail that the event loop itself may parse, which takes it about a millisecond."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A batch that needs only to be filed."""

    bodies: Sequence[Fetched]
    prepared: Sequence[Prepared]
    broken: Sequence[tuple[Arrival, BaseException]]
    said: Mapping[int, Gmail]
    low: int
    """The uid up to which everything is filed with it."""
    planned: int
    """How many messages were asked for."""


@dataclass(frozen=True, slots=True)
class Coming:
    """A batch that came, prepared or with a child that prepares it."""

    bodies: Sequence[Fetched]
    said: Mapping[int, Gmail]
    low: int
    planned: int
    job: Job | None
    ready: Ready | None


def _is_full(batches: Collection[Ready | Coming], messages: int, size: int) -> bool:
    """Whether one more might make it more than so many messages, or bytes of mail."""
    sizes = [len(one.body or b"") for batch in batches for one in batch.bodies]
    return len(sizes) > messages - BATCH or sum(sizes) > size - BATCH_BYTES


def _labels(one: Fetched, said: Mapping[int, Gmail]) -> Sequence[str]:
    return gmail.labels if (gmail := said.get(one.uid)) is not None else ()


def _as_one(batches: Sequence[Ready]) -> Ready:
    return Ready(
        [b for ready in batches for b in ready.bodies], [p for ready in batches for p in ready.prepared],
        [b for ready in batches for b in ready.broken],
        {uid: gmail for ready in batches for uid, gmail in ready.said.items()}, batches[-1].low,
        sum(ready.planned for ready in batches),
    )  # fmt: skip


class MailboxPass(Fetching, Beginning, Changes, Labelled):
    """One pass."""

    async def run(self) -> Pass:
        connection = await self._examine()
        position = await self._position()
        if position.first_at == 0.0:
            position = await self._first_sight(connection)
        elif position.uidvalidity != self.snapshot.uidvalidity:
            position = await self._reset(connection, position)
        elif self.snapshot.uidnext is not None and position.uidnext > self.snapshot.uidnext:
            position = await self._rewound(position, self.snapshot.uidnext)
        elif self.snapshot.modseq is None or self._forgot(position):
            again = await self._given_again(connection, position)
            position = await self._rewound(position, again) if again is not None else position
        if self.first.reach_back and position.floor:
            position = await self._reach_back(connection, position)
        self.position = position
        now = self.now().timestamp()
        quick = not self.thorough and not position.error and now - position.synced_at < SWEEP
        if quick and self._unchanged(position):
            return self.result
        told = connection.tells_who_left and self._changed_since() is not None
        whole = now - position.reconciled_at >= RECONCILE or (self._fewer(position) and not told)
        whole = whole or self._forgot(position)
        low = position.floor + 1 if whole else max(position.floor + 1, position.low + 1 - WINDOW)
        if whole:
            await self._write(lambda tx: positions.give_skipped_another_chance(
                tx, self.place.account, self.place.mailbox, before=2 * TRIES))  # fmt: skip
        there = await self._uids(connection, low)
        missing = await self._missing(there, low)
        if self.limit is not None and len(missing) > self.limit:
            missing, self.result.more = missing[: self.limit], True
        await self._file_all(missing)
        if self.result.more:
            return self.result
        await self._compare(there, low)
        modseq = await self._follow_flags(low)
        await self._finish(there, whole=whole, modseq=modseq)
        return self.result

    async def run_on_news(self) -> Pass | None:
        """Only what the server just told of; None when that is not enough and `run` is due.

        One round trip when few messages came and none is big: then bodies come with the facts.
        """
        connection = await self.connect()
        self.position = position = self.known or await self._position()
        if connection.is_gmail:
            return None  # labels are looked at first
        if connection.selected != self.place.mailbox or not connection.uidvalidity:
            return None
        if position.first_at == 0.0 or position.uidvalidity != connection.uidvalidity:
            return None
        self.snapshot = Snapshot(self.place.mailbox, 0, position.uidvalidity)
        facts = await connection.fetch_news(position.low + 1)
        # Above `low` nothing is stored, except by a process that reads the same mailbox without a lease: filing the
        # same uid again changes nothing, so it is not asked for here.
        new = [facts[u] for u in sorted(facts)]
        if len(new) > BATCH or any(f.size is None for f in new):
            return None
        if new and all(f.body for f in new):
            await self._file(await self._ready(new, new))
        else:
            for batch in batches(new):
                await self._file(await self._ready(await self._bodies(batch), batch))
        if new:
            self.position = replace(position, low=max(position.low, new[-1].uid))
        return self.result

    # -- where we are

    def _unchanged(self, position: Position) -> bool:
        """EXISTS alone would miss one that came while another went."""
        now = self.snapshot
        return (
            now.uidnext is not None
            and (now.uidnext, now.exists, now.modseq) == (position.uidnext, position.messages, position.modseq)
            and position.low >= now.uidnext - 1
        )

    async def _examine(self) -> ImapConnection:
        connection = await self.connect()
        self.snapshot = await connection.examine(self.place.mailbox)
        return connection

    def _fewer(self, position: Position) -> bool:
        """Whether messages must have left: the whole list says which."""
        new = max(0, (self.snapshot.uidnext or position.uidnext) - position.uidnext) if position.uidnext else 0
        return position.messages > 0 and self.snapshot.exists < position.messages + new

    async def _missing(self, there: Sequence[int], low: int) -> list[int]:
        if not there:
            return []
        if not self.snapshot.uidvalidity:
            # Uids that mean nothing tomorrow: read the newest anew, and let their content say which are known.
            return list(there[-WINDOW:])
        async with self.store.reading() as tx:
            known = await positions.known_uids(
                tx, self.place.account, self.place.mailbox, self.snapshot.uidvalidity, low, there[-1]
            )
        return [u for u in there if u not in known]

    # -- fetching

    async def _file_all(self, missing: Sequence[int]) -> None:
        """File one batch after the other, in the order of their uids; several in one transaction where many come.

        The server sends the next one meanwhile, into the socket's buffer. To read and parse that at the same time would
        take longer: each statement of SQLite would wait 5 ms for the thread that parses. Where a child prepares, some
        batches are with it while those before them are filed.
        """
        held: deque[Coming] = deque()
        done = 0
        child = self._child = self.ahead if self.place.role != "sent" and len(missing) > FEW else None
        twice = 1 if child is None else 2

        async def file_some() -> None:
            """What is ready of the first ones, in one transaction; at least one of them."""
            nonlocal done
            some = [await self._prepared(held.popleft())]
            while held and not _is_full(some, TOGETHER, TOGETHER_BYTES) and self._is_prepared(held[0]):
                some.append(await self._prepared(held.popleft()))
            await self._file(_as_one(some))
            done += sum(ready.planned for ready in some)
            if self.progress is not None:
                self.progress(done, len(missing))

        asked = cancellations()
        try:
            async with aclosing(self._incoming(missing)) as incoming:
                async for coming in incoming:
                    held.append(coming)
                    while _is_full(held, twice * TOGETHER, twice * TOGETHER_BYTES):
                        await file_some()
            while held:
                await file_some()
        except ServerError:  # what came is kept, or a connection that is cut again and again would never get further
            heed_cancellation(asked)
            while held:
                await file_some()
            raise
        finally:
            self._child = None
            for coming in held:
                if coming.job is not None and child is not None:
                    child.drop(coming.job)

    async def _incoming(self, missing: Sequence[int]) -> AsyncGenerator[Coming]:
        """The missing messages in batches, parsed, or on their way to be. Each command is sent before the one in front
        of it is answered.
        """
        pieces = list(uid_sets(missing))
        for n, piece in enumerate(pieces):
            connection = await self._again()
            if not (wanted := await self._known_elsewhere(connection, piece)):
                continue
            await self._within_the_day(connection)
            facts = await self._facts(connection, wanted)
            # Gmail is asked for its ids first, which of the next piece are wanted.
            further = [Asked(tuple(p), FACTS) for p in pieces[n + 1 : n + 2] if not connection.is_gmail]
            planned = list(batches([facts[u] for u in wanted]))
            for batch, after in zip_longest(planned, planned[1:]):
                if after is None:
                    then = further[0] if further else None
                else:
                    then = Asked(tuple(f.uid for f in after), WHOLE) if not is_huge(after) else None
                bodies = await self._bodies(batch, then)
                job = self._child.take(bodies, self.said, self._terms()) if self._child is not None else None
                ready = await self._ready(bodies, batch) if job is None else None
                yield Coming(bodies, self.said, batch[-1].uid, len(batch), job, ready)

    def _each(self) -> Each | None:
        """Prepares messages in the thread that reads them. What fails or takes too long is left to `_ready`."""
        if self._child is not None and self._child.at_work:
            return None
        early, spent, terms = self._early, 0.0, self._terms()

        def prepare(one: Fetched) -> None:
            nonlocal spent
            if one.body and spent < EARLY and None not in (one.size, one.received_at, one.flags):
                began = time.monotonic()
                with suppress(Exception):
                    early[one.uid] = one, prepared(one, _labels(one, self.said), terms)
                spent += time.monotonic() - began

        return prepare

    async def _ready(self, bodies: Sequence[Fetched], planned: Sequence[Fetched]) -> Ready:
        """Parse, which is most of the work."""
        # A message or two are prepared sooner than a thread takes over.
        few = sum(len(b.body or b"") for b in bodies if b.uid not in self._early) <= AT_ONCE
        ready, broken = self._prepare(bodies, self.said) if few else await asyncio.to_thread(
            self._prepare, bodies, self.said)  # fmt: skip
        self._early.clear()
        return Ready(bodies, ready, broken, self.said, planned[-1].uid, len(planned))

    def _is_prepared(self, coming: Coming) -> bool:
        return coming.job is None or self._child is None or self._child.is_done(coming.job)

    async def _prepared(self, coming: Coming) -> Ready:
        """What came, when it is ready to be filed."""
        if coming.ready is not None:
            return coming.ready
        assert coming.job is not None
        assert self._child is not None
        try:
            ready = await self._child.rows(coming.job)
        except BaseException:
            self._child.drop(coming.job)
            raise
        done = [one for one in ready if one is not None]
        broken: Sequence[tuple[Arrival, BaseException]] = ()
        if len(done) < len(ready):
            done, broken = await asyncio.to_thread(self._prepare, coming.bodies, coming.said, ready)
        return Ready(coming.bodies, done, broken, coming.said, coming.low, coming.planned)

    # -- filing

    async def _file(self, ready: Ready) -> None:
        place, uidvalidity = self.place, self.snapshot.uidvalidity
        bodies, prepared, broken = ready.bodies, ready.prepared, ready.broken

        async def work(tx: Tx) -> list[Filed]:
            filed = await self._filed(tx, prepared)
            for arrival, exc in broken:
                filed.append(await self.store.put_aside(tx, arrival, exc, account=place.account))
            uids = [b.uid for b in bodies]
            placed = dict(zip(self._order(prepared, broken), filed, strict=True))
            await self._note_gmail(tx, bodies, ready.said, placed)
            if uidvalidity:
                await positions.unskip(tx, place.account, place.mailbox, uidvalidity, uids)
            aside = [u for u, f in zip(self._order(prepared, broken), filed, strict=True) if f.id.startswith("q")]
            for uid in aside:
                await positions.skip(tx, place.account, place.mailbox, uidvalidity, uid, reason="put aside",
                                     tries=1, at=self.now().timestamp())  # fmt: skip
            # A position that was not read just now is compared with the row that it stands for.
            history = None if self.known is None else self.known.history
            await positions.advance(tx, place.account, place.mailbox, uidvalidity=uidvalidity, low=ready.low,
                                    epoch=self.epoch, history=history)  # fmt: skip
            return filed

        self.result.filed += await self._write(work)

    async def _filed(self, tx: Tx, prepared: Sequence[Prepared]) -> list[Filed]:
        """Filed, or recognised as mail of our own that the provider gave another Message-ID."""
        known: dict[int, Filed] = {}
        if self.place.role == "sent":
            for i, one in enumerate(prepared):
                if (filed := await self.store.recognise(tx, one, account=self.place.account)) is not None:
                    known[i] = filed
        others = [one for i, one in enumerate(prepared) if i not in known]
        filed_now = iter(await self.store.file_batch(tx, others, account=self.place.account) if others else [])
        return [known[i] if i in known else next(filed_now) for i in range(len(prepared))]

    @staticmethod
    def _order(prepared: Sequence[Prepared], broken: Sequence[tuple[Arrival, BaseException]]) -> list[int]:
        arrivals = [p.arrival for p in prepared] + [a for a, _ in broken]
        return [a.location.uid if a.location is not None else 0 for a in arrivals]

    def _prepare(
        self, bodies: Sequence[Fetched], said: Mapping[int, Gmail], ready: Sequence[Prepared | None] = ()
    ) -> tuple[list[Prepared], list[tuple[Arrival, BaseException]]]:
        """Parse and prepare, in a thread: it is the most expensive part, and the loop has others to serve.

        `ready` is what was prepared already, message by message.
        """
        terms = self._terms()
        done: list[Prepared] = []
        broken: list[tuple[Arrival, BaseException]] = []
        for one, there in zip_longest(bodies, ready):
            of, early = self._early.pop(one.uid, (None, None))
            if (known := there if there is not None else early if of == one else None) is not None:
                done.append(known)
                continue
            arrival = arrived(one, _labels(one, said), terms)
            try:
                done += self.store.prepare([arrival], account=self.place.account)
            except (ValueError, OverflowError) as exc:
                broken.append((arrival, exc))
        return done, broken

    def _terms(self) -> Terms:
        position = self.position
        return Terms(
            self.place, self.snapshot.uidvalidity, position.history, position.first_at, self.first.fresh_within,
            self.now(), self.store.own_addresses(self.place.account), self.store.secret,
        )  # fmt: skip

    async def _finish(self, there: Sequence[int], *, whole: bool, modseq: int | None) -> None:
        place, snapshot, now = self.place, self.snapshot, self.now().timestamp()
        top = (snapshot.uidnext or (there[-1] + 1 if there else self.position.low + 1)) - 1
        values: dict[str, Any] = {
            "low": max(top, self.position.floor), "uidnext": snapshot.uidnext or 0, "modseq": modseq,
            "messages": snapshot.exists, "synced_at": now, "failures": 0, "error": "",
        }  # fmt: skip
        if whole:
            values["reconciled_at"] = now
        await self._write(lambda tx: positions.save(tx, place.account, place.mailbox, epoch=self.epoch,
                                                    uidvalidity=snapshot.uidvalidity, **values))  # fmt: skip
