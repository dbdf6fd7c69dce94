"""Which process watches which mailbox: leases in the store, renewed for the whole process by one statement."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from weakref import WeakKeyDictionary

from ..store import ThreadStore, Tx, positions
from ..store.database import database_now

LEASE = 60.0
"""Seconds that a mailbox stays with a process that does not speak any more."""


class Leases:
    """The leases of one process on one store. Times are the database's, the one clock that all processes share."""

    def __init__(self, store: ThreadStore, *, lease: float = LEASE, holder: str | None = None) -> None:
        self.store, self.lease = store, lease
        self.holder = holder or secrets.token_hex(8)
        self._held: dict[tuple[str, str], int] = {}
        self._renewed = 0.0
        self._turn = asyncio.Lock()

    async def take(self, account: str, mailbox: str) -> int | None:
        """The epoch under which this process reads the mailbox; None while another one does."""

        async def work(tx: Tx) -> int | None:
            now = await database_now(tx)
            return await positions.take_lease(tx, account, mailbox, self.holder, now=now, lease=self.lease)

        epoch = await self.store.db.run(work)
        if epoch is not None:
            self._held[account, mailbox] = epoch
        return epoch

    async def holds(self, account: str, mailbox: str, monotonic: Callable[[], float]) -> bool:
        """Renew all leases of this process when a third of their time is over; whether this one is among them."""
        async with self._turn:
            if monotonic() - self._renewed >= self.lease / 3:

                async def work(tx: Tx) -> dict[tuple[str, str], int]:
                    return await positions.renew_leases(tx, self.holder, now=await database_now(tx), lease=self.lease)

                self._renewed = monotonic()
                still = await self.store.db.run(work)
                self._held = {k: e for k, e in self._held.items() if still.get(k) == e}
        return (account, mailbox) in self._held

    async def release(self, account: str, mailbox: str) -> None:
        self._held.pop((account, mailbox), None)
        await self.store.db.run(lambda tx: positions.release_lease(tx, account, mailbox, self.holder))


_of_store: WeakKeyDictionary[ThreadStore, Leases] = WeakKeyDictionary()


def leases_of(store: ThreadStore) -> Leases:
    """The leases of this process on that store."""
    if store not in _of_store:
        _of_store[store] = Leases(store)
    return _of_store[store]
