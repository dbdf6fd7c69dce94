"""Bodies: in batches, in pieces when they are huge, and around the ones that no server gives."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import MailboxError
from ..imap import WHOLE, Fetched, Lost
from ..imap.batches import is_huge
from ..imap.pipeline import Asked, Each
from ..store import Tx, positions
from ..store.events import append_event
from .reading import LARGEST, PIECES, SLICE, TRIES, Reading


class Fetching(Reading):
    """The part of a pass that fetches."""

    async def _bodies(self, batch: Sequence[Fetched], then: Asked | None = None) -> list[Fetched]:
        """The batch with bodies, without those that are not there any more and those that cannot be had.

        `then` is what will be asked for next, which the server may begin to send.
        """
        if is_huge(batch):
            return await self._huge(batch[0])
        uids = [f.uid for f in batch]
        connection = await self._again()
        try:
            found = await connection.fetch(uids, WHOLE, expected=sum(f.size or 0 for f in batch), then=then,
                                           each=self._each())  # fmt: skip
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

    def _each(self) -> Each | None:
        """What is done with a message while the next one comes."""
        return None

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
            if not part and offset < size // 2 and lost + 1 < TRIES:
                lost += 1  # nothing is there for once; a size that is wrong is never so wrong
            elif not part or (len(part) < SLICE and offset >= size) or offset > LARGEST:
                break  # a part that is shorter than it was asked for is not the end yet
            elif len(parts) >= PIECES:
                await self._skip(one.uid, f"the server gives it {offset // len(parts)} bytes at a time", at_once=True)
                return []
        if not offset and not await self._skip(one.uid, "the server says its body is empty", keep=True):
            return []
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


def _filled(one: Fetched, before: Fetched) -> Fetched:
    return Fetched(one.uid, one.size or before.size, one.received_at or before.received_at,
                   one.flags if one.flags is not None else before.flags, one.body)  # fmt: skip
