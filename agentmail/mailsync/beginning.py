"""A mailbox that is new to us: at first sight, under another uidvalidity, or with uids that are given again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from ..imap import IDS, ImapConnection, uid_sets
from ..imap.batches import BATCH
from ..message.identifiers import find_ids
from ..store import Tx, positions
from ..store.events import append_event
from ..store.positions import Position
from .reading import PARKED, RESET_SPAN, RESETS, WINDOW, Reading


class Beginning(Reading):
    """The part of a pass that finds out what earlier uids still mean."""

    async def _first_sight(self, connection: ImapConnection) -> Position:
        """Decide once what of the present mail is history, and what of that is worth reading."""
        snapshot, first = self.snapshot, self.first
        uids = await self._uids(connection, 1) if snapshot.exists else []
        top = max(uids[-1] if uids else 0, (snapshot.uidnext or 1) - 1)
        floor = 0
        if first.everything_is_new:
            top = 0
        else:
            floor = await self._floor(connection, uids, top)
        now = self.now().timestamp()
        new = Position(
            self.place.account, self.place.mailbox, uidvalidity=snapshot.uidvalidity, floor=floor, history=top,
            low=floor, uidnext=0, first_at=now, reconciled_at=now,
        )  # fmt: skip
        left = sum(u <= floor for u in uids)
        data = {"mailbox": self.place.mailbox, "messages": snapshot.exists, "left": left}

        async def work(tx: Tx) -> None:
            await positions.begin(tx, new)
            if left:
                await append_event(tx, "mailbox.first", account=self.place.account, at=now, data=data)

        await self._write(work)
        return await self._position()

    async def _floor(self, connection: ImapConnection, uids: Sequence[int], top: int) -> int:
        """The uid up to which the mail that is there stays on the server."""
        first = self.first
        if first.since is not None:
            recent = await connection.search_since(first.since) or []
            return recent[0] - 1 if recent else top
        if first.history is None or len(uids) <= first.history:
            return 0
        floor = uids[-first.history - 1] if first.history else uids[-1]
        # Whoever sends more mail than that and then starts the agent means all of it: what came just now and nobody has
        # read is news, however much it is.
        day = datetime.fromtimestamp(self.now().timestamp() - first.fresh_within, UTC) - timedelta(days=1)
        unread = [u for u in await connection.search_since(day, unread=True) or [] if u <= floor]
        if unread and self.place.role == "inbox":
            facts = await self._facts(connection, unread)
            border = self.now().timestamp() - first.fresh_within
            fresh = [u for u in unread if (at := facts[u].received_at) is not None and at.timestamp() >= border]
            floor = min(fresh, default=floor + 1) - 1
        return floor

    async def _reach_back(self, connection: ImapConnection, old: Position) -> Position:
        """File as history what an earlier first sight left on the server, as far as is asked for now."""
        uids = await self._uids(connection, 1)
        floor = await self._floor(connection, uids, old.history)
        if floor >= old.floor:
            return old
        await self._write(lambda tx: positions.save(
            tx, self.place.account, self.place.mailbox, uidvalidity=old.uidvalidity, epoch=self.epoch, floor=floor,
            reconciled_at=0.0))  # fmt: skip
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
        seen = old.synced_at or old.first_at
        older = {u for u in unknown if (at := facts[u].received_at) is not None and at.timestamp() < seen - 3600.0}
        history = max(older, default=0)
        # Only below all news: the order may be another one now, and nothing up to the floor is ever read.
        news = min((u for u in unknown if u not in older), default=history + 1)
        floor = max((u for u in older if u < news), default=0) if old.floor else 0

        async def work(tx: Tx) -> None:
            # Where a server comes back to an old uidvalidity, its uids may mean something else than they did then.
            await positions.forget_from(tx, place.account, place.mailbox, snapshot.uidvalidity, 0)
            await positions.locate(tx, place.account, place.mailbox, snapshot.uidvalidity, known)
            await positions.save(
                tx, place.account, place.mailbox, uidvalidity=old.uidvalidity, epoch=self.epoch, low=floor, uidnext=0,
                floor=floor, history=history, modseq=None, messages=0, resets=resets, parked_until=parked,
                first_at=seen, reconciled_at=now, new_uidvalidity=snapshot.uidvalidity,
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

    async def _given_again(self, connection: ImapConnection, position: Position) -> int | None:
        """The first uid that means another message now, under the same uidvalidity; None when none does.

        Servers that count from what is there (uidnext = highest + 1) give the uid of a deleted message to the next one.
        Between two looks that shows nowhere in the counters; but then the highest uid that we know has changed, so one
        Message-ID tells. Servers with CONDSTORE keep their books too well for that, and are not asked, but for one that
        has forgotten: a mailbox that was restored from a backup.
        """
        place = self.place
        if not self.snapshot.uidvalidity or not self.snapshot.exists:
            return None
        forgot, first, below = self._forgot(position), None, 2**32
        while True:
            async with self.store.reading() as tx:
                ids = await positions.known_ids(
                    tx, place.account, place.mailbox, position.uidvalidity, below=below, most=WINDOW
                )
            if not ids:
                return first
            if not forgot and first is None:
                _, others = await self._compared(connection, {max(ids): ids[max(ids)]})
                if not others:
                    return None
            same, others = await self._compared(connection, ids)
            first, below = min(others, default=first), min(ids)
            if same and not others:
                return first

    def _forgot(self, position: Position) -> bool:
        """HIGHESTMODSEQ went back: what the server says of changes since then is nothing (RFC 7162 3.1.2)."""
        now = self.snapshot.modseq
        return now is not None and position.modseq is not None and now < position.modseq

    async def _compared(
        self, connection: ImapConnection, ids: Mapping[int, Collection[str]]
    ) -> tuple[list[int], list[int]]:
        """Which of these uids show one of the Message-IDs that are stored for them, and which show another."""
        same: list[int] = []
        others: list[int] = []
        for some in uid_sets(sorted(ids), most=BATCH):
            for uid, one in (await connection.fetch(some, IDS)).items():
                shown = find_ids((one.body or b"").partition(b":")[2].decode("utf-8", "replace"), "own").ids
                if shown and uid in ids:
                    (same if set(shown) & set(ids[uid]) else others).append(uid)
        return same, others

    async def _rewound(self, position: Position, uidnext: int) -> Position:
        """Under the same uidvalidity, the numbers from `uidnext` on are given to other messages: they mean nothing."""
        place = self.place

        async def work(tx: Tx) -> None:
            await positions.forget_from(tx, place.account, place.mailbox, position.uidvalidity, uidnext)
            await positions.save(
                tx, place.account, place.mailbox, uidvalidity=position.uidvalidity, epoch=self.epoch,
                low=min(position.low, uidnext - 1), uidnext=0, floor=min(position.floor, uidnext - 1),
                history=min(position.history, uidnext - 1), modseq=position.modseq if self._forgot(position) else None,
            )  # fmt: skip

        await self._write(work)
        return await self._position()
