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
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from ..errors import MailboxError, MailboxReset
from ..imap import IDS, WHOLE, Fetched, ImapConnection, Lost, Snapshot, uid_sets
from ..message.identifiers import find_ids, is_ours
from ..message.parse import parse
from ..store import Arrival, Filed, Location, ThreadStore, Tx, positions
from ..store.arrivals import Prepared
from ..store.events import append_event
from ..store.positions import Position
from .first import FirstRun

WINDOW = 500
"""Uids below the position that every pass looks at again: servers show messages late and out of order."""
ANSWER = 50_000
"""Uids that one SEARCH may answer with; a bigger mailbox is searched in pieces."""
BATCH, BATCH_BYTES = 200, 2 * 2**20
"""Messages and bytes of mail that one FETCH asks for."""
SLICE = 2**20
"""Bytes of one piece of a message that is too big for a batch."""
LARGEST = 100 * 2**20
"""A bigger message is skipped, and says so."""
RECONCILE = 6 * 3600.0
"""Seconds between two comparisons of the whole list of uids."""
SWEEP = 3600.0
"""Seconds for which a mailbox that looks unchanged is believed to be, by who watches it."""
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


class MailboxPass:
    """One pass. `connect` gives the usable connection, a new one when the last was lost."""

    def __init__(
        self, place: Place, store: ThreadStore, connect: Connect, *, now: Callable[[], datetime], first: FirstRun,
        epoch: int | None = None, limit: int | None = None, thorough: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:  # fmt: skip
        self.place, self.store, self.connect = place, store, connect
        self.now, self.first, self.epoch, self.limit, self.progress = now, first, epoch, limit, progress
        self.thorough = thorough
        self.result = Pass()
        self.snapshot: Snapshot
        self.position: Position

    async def run(self) -> Pass:
        connection = await self._examine()
        position = await self._position()
        if position.first_at == 0.0:
            position = await self._first_sight(connection)
        elif position.uidvalidity != self.snapshot.uidvalidity:
            position = await self._reset(connection, position)
        elif self.snapshot.uidnext is not None and position.uidnext > self.snapshot.uidnext:
            position = await self._rewound(position)
        self.position = position
        now = self.now().timestamp()
        if not self.thorough and now - position.synced_at < SWEEP and self._unchanged(position):
            return self.result
        whole = now - position.reconciled_at >= RECONCILE or self._fewer(position)
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
        """Only what the server just told of, in two round trips; None when that is not enough and `run` is due."""
        connection = await self.connect()
        self.position = position = await self._position()
        if connection.selected != self.place.mailbox or not connection.uidvalidity:
            return None
        if position.first_at == 0.0 or position.uidvalidity != connection.uidvalidity:
            return None
        self.snapshot = Snapshot(self.place.mailbox, 0, position.uidvalidity)
        facts = await connection.fetch_from(position.low + 1)
        # Above `low` nothing is stored, except by a process that reads the same mailbox without a lease: filing the
        # same uid again changes nothing, so it is not asked for here.
        new = [facts[u] for u in sorted(facts)]
        if len(new) > BATCH or any(f.size is None for f in new):
            return None
        for batch in _batches(new):
            await self._file(await self._bodies(batch), low=batch[-1].uid)
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

    async def _first_sight(self, connection: ImapConnection) -> Position:
        """Decide once what of the present mail is history, and what of that is worth reading."""
        snapshot, first = self.snapshot, self.first
        uids = await self._uids(connection, 1) if snapshot.exists else []
        top = max(uids[-1] if uids else 0, (snapshot.uidnext or 1) - 1)
        floor = 0
        if first.everything_is_new:
            top = 0
        elif first.since is not None:
            recent = await connection.search_since(first.since) or []
            floor = recent[0] - 1 if recent else top
        elif first.history is not None and len(uids) > first.history:
            floor = uids[-first.history - 1]
        now = self.now().timestamp()
        new = Position(
            self.place.account, self.place.mailbox, uidvalidity=snapshot.uidvalidity, floor=floor, history=top,
            low=floor, uidnext=0, first_at=now, reconciled_at=now,
        )  # fmt: skip
        await self._write(lambda tx: positions.begin(tx, new))
        return await self._position()

    async def _reset(self, connection: ImapConnection, old: Position) -> Position:
        """UIDVALIDITY changed: every known uid means nothing. What is there again is recognised, not announced."""
        place, snapshot = self.place, self.snapshot
        now = self.now().timestamp()
        resets = [at for at in old.resets if at > now - RESET_SPAN] + [now]
        parked = now + PARKED if len(resets) > RESETS else 0.0
        uids = await self._uids(connection, 1)
        known = await self._recognised(connection, uids, old)
        unknown = [u for u in uids if u not in known]
        # What was left on the server stays there; mail that came since the last look is news.
        facts = await self._facts(connection, unknown)
        border = old.synced_at - 3600.0
        older = [u for u in unknown if (at := facts[u].received_at) is not None and at.timestamp() < border]
        history = max(older, default=0)
        floor = history if old.floor else 0

        async def work(tx: Tx) -> None:
            await positions.locate(tx, place.account, place.mailbox, snapshot.uidvalidity, known)
            await positions.save(
                tx, place.account, place.mailbox, uidvalidity=old.uidvalidity, epoch=self.epoch, low=floor, uidnext=0,
                floor=floor, history=history, modseq=None, messages=0, resets=resets, parked_until=parked,
                reconciled_at=now, new_uidvalidity=snapshot.uidvalidity,
                error="UIDVALIDITY changes again and again" if parked else "",
            )  # fmt: skip
            await append_event(tx, "mailbox.reset", account=place.account, at=now,
                               data={"mailbox": place.mailbox, "recognised": len(known)})  # fmt: skip

        await self._write(work)
        return await self._position()

    async def _recognised(
        self, connection: ImapConnection, uids: Sequence[int], old: Position
    ) -> dict[int, tuple[int, tuple[str, ...]]]:
        """Uid -> (stored message, flags), where Message-ID and size leave no doubt. Others are fetched and compared."""
        async with self.store.reading() as tx:
            copies = await positions.copies(tx, self.place.account, self.place.mailbox, old.uidvalidity)
        here: dict[tuple[str, int], list[tuple[int, tuple[str, ...]]]] = {}
        if copies:
            for some in uid_sets(uids, most=BATCH):
                for uid, one in (await connection.fetch(some, IDS)).items():
                    ids = find_ids((one.body or b"").partition(b":")[2].decode("utf-8", "replace"), "own").ids
                    here.setdefault((ids[0] if ids else "", one.size or 0), []).append((uid, one.flags or ()))
        return {
            places[0][0]: (copies[key][0], places[0][1])
            for key, places in here.items()
            if key[0] and len(places) == 1 and len(copies.get(key, ())) == 1
        }

    async def _rewound(self, position: Position) -> Position:
        """UIDNEXT went back under the same uidvalidity: its numbers from there on were given to other messages."""
        place, uidnext = self.place, self.snapshot.uidnext or 1

        async def work(tx: Tx) -> None:
            await positions.forget_from(tx, place.account, place.mailbox, position.uidvalidity, uidnext)
            await positions.save(
                tx, place.account, place.mailbox, uidvalidity=position.uidvalidity, epoch=self.epoch,
                low=min(position.low, uidnext - 1), uidnext=uidnext, floor=min(position.floor, uidnext - 1),
                history=min(position.history, uidnext - 1), modseq=None,
            )  # fmt: skip

        await self._write(work)
        return await self._position()

    def _fewer(self, position: Position) -> bool:
        """Whether messages must have left: the whole list says which."""
        new = max(0, (self.snapshot.uidnext or position.uidnext) - position.uidnext) if position.uidnext else 0
        return position.messages > 0 and self.snapshot.exists < position.messages + new

    # -- what is there

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

    async def _facts(self, connection: ImapConnection, uids: Sequence[int]) -> dict[int, Fetched]:
        facts: dict[int, Fetched] = {u: Fetched(u) for u in uids}
        for some in uid_sets(uids):
            facts.update(await connection.fetch(some))
        return facts

    # -- fetching

    async def _file_all(self, missing: Sequence[int]) -> None:
        """Fetch one batch while the one before is parsed and filed; file them in the order of their uids."""
        done = 0
        for piece in uid_sets(missing):
            facts = await self._facts(await self._again(), piece)
            batches = list(_batches([facts[u] for u in piece]))
            ahead: asyncio.Task[list[Fetched]] | None = None
            try:
                async with asyncio.TaskGroup() as group:
                    for i, batch in enumerate(batches):
                        bodies = await ahead if ahead is not None else await self._bodies(batch)
                        ahead = group.create_task(self._bodies(batches[i + 1])) if i + 1 < len(batches) else None
                        await self._file(bodies, low=batch[-1].uid)
                        done += len(batch)
                        if self.progress is not None:
                            self.progress(done, len(missing))
            except BaseExceptionGroup as failed:  # one thing at a time goes wrong here: the first says what
                raise failed.exceptions[0] from None

    async def _bodies(self, batch: Sequence[Fetched]) -> list[Fetched]:
        """The batch with bodies, without those that are not there any more and those that cannot be had."""
        if len(batch) == 1 and (batch[0].size or 0) > BATCH_BYTES:
            return await self._huge(batch[0])
        uids = [f.uid for f in batch]
        connection = await self._again()
        try:
            found = await connection.fetch(uids, WHOLE, expected=sum(f.size or 0 for f in batch))
        except (Lost, MailboxError) as exc:
            return await self._one_is_poison(batch, exc)
        whole: list[Fetched] = []
        for before in batch:
            one = found.get(before.uid)
            if one is None and before.size is None:
                continue  # it left between SEARCH and FETCH
            if one is None or one.body is None:
                if len(batch) > 1:
                    whole += await self._bodies([before])
                elif before.uid in await self._still_there(before.uid):
                    await self._skip(before.uid, "the server lists it and does not give it")
            elif not one.body and (before.size or one.size):
                if await self._skip(before.uid, "the server says its body is empty", keep=True):
                    whole.append(_filled(one, before))
            else:
                whole.append(_filled(one, before))
        return whole

    async def _still_there(self, uid: int) -> list[int]:
        return await (await self._again()).search_uids(uid, uid) or []

    async def _one_is_poison(self, batch: Sequence[Fetched], exc: Exception) -> list[Fetched]:
        """A fetch ended the connection, or was refused. Find the message that does it, and go on without it."""
        if len(batch) > 1:
            half = len(batch) // 2
            return [*await self._bodies(batch[:half]), *await self._bodies(batch[half:])]
        # That a new connection can be had shows that it is this message and not the network.
        await self._again()
        if not await self._skip(batch[0].uid, str(exc)):
            return await self._bodies(batch)
        return []

    async def _huge(self, one: Fetched) -> list[Fetched]:
        """A message in pieces, so that neither side holds more than it must; after a lost connection it goes on."""
        size = one.size or 0
        if size > LARGEST:
            await self._skip(one.uid, f"{size} bytes are more than {LARGEST}", at_once=True)
            return []
        parts: list[bytes] = []
        offset = lost = 0
        while True:
            connection = await self._again()
            try:
                part = await connection.fetch_slice(one.uid, offset, SLICE)
            except (Lost, MailboxError) as exc:
                lost += 1
                if lost >= TRIES:
                    await self._skip(one.uid, str(exc), at_once=True)
                    return []
                continue
            if part is None:
                return []  # expunged half way: what we have is not a message
            parts.append(part)
            offset += len(part)
            if len(part) < SLICE or offset > LARGEST:
                break
        return [Fetched(one.uid, one.size, one.received_at, one.flags, b"".join(parts))]

    async def _skip(self, uid: int, reason: str, *, at_once: bool = False, keep: bool = False) -> bool:
        """Count an attempt; whether it was the last. `keep`: the caller files what there is then."""
        place, now = self.place, self.now().timestamp()

        async def work(tx: Tx) -> bool:
            settled = await positions.skip(
                tx, place.account, place.mailbox, self.snapshot.uidvalidity, uid, reason=reason,
                tries=1 if at_once else 2 if keep else TRIES, at=now,
            )  # fmt: skip
            if settled and not keep:
                await append_event(tx, "message.skipped", account=place.account, at=now,
                                   data={"mailbox": place.mailbox, "uid": uid, "reason": reason[:300]})  # fmt: skip
            return settled

        settled = await self._write(work)
        self.result.skipped += settled and not keep
        return settled

    # -- filing

    async def _file(self, bodies: Sequence[Fetched], *, low: int) -> None:
        place, uidvalidity = self.place, self.snapshot.uidvalidity
        prepared, broken = await asyncio.to_thread(self._prepare, bodies)

        async def work(tx: Tx) -> list[Filed]:
            filed = await self.store.file_batch(tx, prepared, account=place.account) if prepared else []
            for arrival, exc in broken:
                filed.append(await self.store.put_aside(tx, arrival, exc, account=place.account))
            uids = [b.uid for b in bodies]
            if uidvalidity:
                await positions.unskip(tx, place.account, place.mailbox, uidvalidity, uids)
            aside = [u for u, f in zip(self._order(prepared, broken), filed, strict=True) if f.id.startswith("q")]
            for uid in aside:
                await positions.skip(tx, place.account, place.mailbox, uidvalidity, uid, reason="put aside",
                                     tries=1, at=self.now().timestamp())  # fmt: skip
            await positions.advance(tx, place.account, place.mailbox, uidvalidity=uidvalidity, low=low,
                                    epoch=self.epoch)  # fmt: skip
            return filed

        self.result.filed += await self._write(work)

    @staticmethod
    def _order(prepared: Sequence[Prepared], broken: Sequence[tuple[Arrival, BaseException]]) -> list[int]:
        arrivals = [p.arrival for p in prepared] + [a for a, _ in broken]
        return [a.location.uid if a.location is not None else 0 for a in arrivals]

    def _prepare(self, bodies: Sequence[Fetched]) -> tuple[list[Prepared], list[tuple[Arrival, BaseException]]]:
        """Parse and prepare, in a thread: it is the most expensive part, and the loop has others to serve."""
        prepared: list[Prepared] = []
        broken: list[tuple[Arrival, BaseException]] = []
        for one in bodies:
            arrival = self._arrival(one)
            try:
                prepared += self.store.prepare([arrival], account=self.place.account)
            except (ValueError, OverflowError) as exc:
                broken.append((arrival, exc))
        return prepared, broken

    def _arrival(self, one: Fetched) -> Arrival:
        place = self.place
        raw = one.body or b""
        received_at = one.received_at or self.now().astimezone(UTC)
        message = parse(raw, received_at=received_at, trusted_authserv=place.trusted)
        outgoing = place.role == "sent"
        if outgoing and not is_ours(message.message_id, self.store.secret):
            # Written by hand to ourselves: its other copy is in the INBOX, and it is meant to be read.
            outgoing = not any(a.key in place.own for a in message.recipients)
        location = Location(place.mailbox, self.snapshot.uidvalidity, one.uid) if self.snapshot.uidvalidity else None
        flags = tuple(f for f in one.flags or () if f != "\\Recent")
        return Arrival(message, raw, location, flags=flags, fresh=self._fresh(one, flags), outgoing=outgoing)

    def _fresh(self, one: Fetched, flags: Sequence[str]) -> bool:
        position = self.position
        if one.uid > position.history:
            return True
        if one.received_at is None or "\\Seen" in flags or self.place.role != "inbox":
            return False
        return one.received_at.timestamp() >= position.first_at - self.first.fresh_within

    # -- what changed otherwise

    async def _compare(self, there: Sequence[int], low: int) -> None:
        """Note what left the mailbox, and what came back into sight."""
        place, uidvalidity = self.place, self.snapshot.uidvalidity
        if not uidvalidity:
            return
        high = self.snapshot.uidnext - 1 if self.snapshot.uidnext else max(there, default=0)
        shown = set(there)
        async with self.store.reading() as tx:
            known = await positions.known_uids(tx, place.account, place.mailbox, uidvalidity, low, high)
            gone_before = await positions.departed_uids(tx, place.account, place.mailbox, uidvalidity, low)
        gone = known - shown - gone_before
        back = gone_before & shown
        if gone and not there and self.snapshot.exists:
            return  # it shows nothing at all of what it says it has
        if gone or back:
            now = self.now().timestamp()

            async def work(tx: Tx) -> None:
                await positions.depart(tx, place.account, place.mailbox, uidvalidity, gone, at=now)
                await positions.come_back(tx, place.account, place.mailbox, uidvalidity, back)

            await self._write(work)
            self.result.departed += len(gone)

    async def _follow_flags(self, low: int) -> int | None:
        """Flags that changed since the last pass; the modseq up to which that is known."""
        place, position, snapshot = self.place, self.position, self.snapshot
        if not snapshot.uidvalidity or not snapshot.exists:
            return snapshot.modseq
        now = self.now().timestamp()
        since = None
        if snapshot.modseq is not None:
            if position.modseq == snapshot.modseq:
                return snapshot.modseq
            # A lower one than ours means that the server forgot: then nothing is known to be unchanged (RFC 7162).
            if position.modseq is not None and position.modseq < snapshot.modseq:
                since = position.modseq
        elif position.synced_at and int(now / FLAGS_EVERY) == int(position.synced_at / FLAGS_EVERY):
            return None
        if not position.synced_at:
            return snapshot.modseq  # everything was fetched with its flags just now
        connection = await self._again()
        found = await connection.flags(position.floor + 1 if since is not None else low, since=since)
        flags = {uid: one.flags for uid, one in found.items() if one.flags is not None}
        changed = await self._write(
            lambda tx: positions.save_flags(tx, place.account, place.mailbox, snapshot.uidvalidity, flags)
        )
        self.result.reflagged += len(changed)
        return snapshot.modseq

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

    async def _write(self, work: Callable[[Tx], Awaitable[T]]) -> T:
        return await self.store.db.run(work)


def _filled(one: Fetched, before: Fetched) -> Fetched:
    return Fetched(one.uid, one.size or before.size, one.received_at or before.received_at,
                   one.flags if one.flags is not None else before.flags, one.body)  # fmt: skip


def _batches(facts: Iterable[Fetched]) -> Iterable[list[Fetched]]:
    """In order, each small enough for one command; a big message alone."""
    batch: list[Fetched] = []
    size = 0
    for one in facts:
        if batch and (len(batch) >= BATCH or size + (one.size or 0) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.size or 0
    if batch:
        yield batch
