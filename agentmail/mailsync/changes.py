"""What changed without new mail: who left, who came back into sight, and flags."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from ..imap import Fetched, uid_sets, within
from ..store import Tx, positions
from .gmail import Labelled
from .reading import FLAGS_AT_ONCE, FLAGS_EVERY

CHANGES_AT_ONCE = 100_000
"""Messages about whose changes one FETCH asks."""

T = TypeVar("T")


class Changes(Labelled):
    """The part of a pass that follows what others did to the mailbox."""

    async def _note(self, work: Callable[[Tx], Awaitable[T]]) -> T:
        """Write what was seen, unless another process watches the mailbox by now: it has seen something newer."""

        async def fenced(tx: Tx) -> T:
            if self.epoch is not None:
                await positions.fence(tx, self.place.account, self.place.mailbox, epoch=self.epoch)
            return await work(tx)

        return await self._write(fenced)

    async def _compare(self, there: Sequence[int], low: int) -> None:
        """Note what left the mailbox, and what came back into sight."""
        place, uidvalidity = self.place, self.snapshot.uidvalidity
        if not uidvalidity:
            return
        high = self.snapshot.uidnext - 1 if self.snapshot.uidnext else max([self.position.low, *there[-1:]])
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

            await self._note(work)
            self.result.departed += len(gone)

    async def _follow_flags(self, low: int) -> int | None:
        """Flags that changed since the last pass; the modseq up to which that is known."""
        place, position, snapshot = self.place, self.position, self.snapshot
        if not snapshot.uidvalidity or not snapshot.exists:
            return snapshot.modseq
        now = self.now().timestamp()
        if snapshot.modseq is not None and position.modseq == snapshot.modseq:
            return snapshot.modseq
        if not position.synced_at:
            return snapshot.modseq  # everything was fetched with its flags just now
        since = self._changed_since()
        if since is not None:
            for first, last in await self._pieces(position.floor + 1):
                found, gone = await (await self._again()).changes(first, since, last)
                await self._save_flags(found)
                await self._follow_labels(found)
                await self._vanished(gone, below=low)
            return snapshot.modseq
        if position.modseq is not None:
            # It is lower than ours, or not said any more (NOMODSEQ): the server forgot, and nothing is known to be
            # unchanged (RFC 7162 3.1.2).
            low = position.floor + 1
        elif snapshot.modseq is None and int(now / FLAGS_EVERY) == int(position.synced_at / FLAGS_EVERY):
            return None
        async with self.store.reading() as tx:
            known = sorted(await positions.known_uids(
                tx, place.account, place.mailbox, snapshot.uidvalidity, low, 2**32))  # fmt: skip
        for start in range(0, len(known), FLAGS_AT_ONCE):
            some = known[start : start + FLAGS_AT_ONCE]
            found = await (await self._again()).flags(some[0], some[-1])
            await self._save_flags(found)
            await self._follow_labels(found)
        return snapshot.modseq

    async def _pieces(self, low: int) -> list[tuple[int, int | None]]:
        """From `low` to the end, in pieces of so many messages that an answer about all of each can be held."""
        if self.snapshot.exists <= CHANGES_AT_ONCE:
            return [(low, None)]
        place = self.place
        async with self.store.reading() as tx:
            known = sorted(await positions.known_uids(
                tx, place.account, place.mailbox, self.snapshot.uidvalidity, low, 2**32))  # fmt: skip
        ends = known[CHANGES_AT_ONCE - 1 :: CHANGES_AT_ONCE]
        return list(zip([low, *(end + 1 for end in ends)], [*ends, None], strict=True))

    def _changed_since(self) -> int | None:
        """The modseq after which the server can say what changed; None when it cannot."""
        before, now = self.position.modseq, self.snapshot.modseq
        return before if before is not None and now is not None and before < now else None

    async def _save_flags(self, found: Mapping[int, Fetched]) -> None:
        place = self.place
        flags = {uid: one.flags for uid, one in found.items() if one.flags is not None}
        changed = await self._note(
            lambda tx: positions.save_flags(tx, place.account, place.mailbox, self.snapshot.uidvalidity, flags)
        )
        self.result.reflagged += len(changed)

    async def _vanished(self, ranges: Sequence[tuple[int, int]], *, below: int) -> None:
        """What QRESYNC says has left, where the window did not look. It names candidates; a search convicts them."""
        place, uidvalidity = self.place, self.snapshot.uidvalidity
        low = max(self.position.floor + 1, ranges[0][0]) if ranges else below
        high = min(below - 1, ranges[-1][1]) if ranges else 0
        if low > high:
            return
        async with self.store.reading() as tx:
            known = await positions.known_uids(tx, place.account, place.mailbox, uidvalidity, low, high)
            known -= await positions.departed_uids(tx, place.account, place.mailbox, uidvalidity, low)
        gone = set(within(known, ranges))
        for some in uid_sets(sorted(gone)):
            gone -= set(await (await self._again()).search_set(some))
        if gone:
            now = self.now().timestamp()
            await self._note(lambda tx: positions.depart(tx, place.account, place.mailbox, uidvalidity, gone, at=now))
            self.result.departed += len(gone)
