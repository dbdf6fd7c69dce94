"""What changed without new mail: who left, who came back into sight, and flags."""

from __future__ import annotations

from collections.abc import Sequence

from ..store import Tx, positions
from .reading import FLAGS_EVERY, Reading


class Changes(Reading):
    """The part of a pass that follows what others did to the mailbox."""

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
