"""At most three connections an account, whatever number of processes work for it (Gmail allows 15 of all clients).

Slot 1 is for who watches. Slot 2 stays with who took it. Slot 3 is a revolving door: who came in by it leaves after one
call, so that any number of processes get their turn.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from weakref import WeakKeyDictionary

from ..errors import StoreError
from ..store import ThreadStore, Tx, connections
from ..store.database import database_now

SLOTS = 3
"""Connections of an account at a time."""
LEASE = 180.0
"""Seconds for which a connection is kept for a process that says nothing. On one machine the death of a process is seen
at once."""


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; None when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _machine() -> str:
    """This boot of this machine and this space of process numbers; empty where that cannot be known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def new_holder() -> str:
    """A name for one connection of this process, by which others on this machine see whether it still lives."""
    return f"{_machine()} {os.getpid()} {_started(os.getpid()) or ''} {secrets.token_hex(8)}"


def is_dead(holder: str) -> bool:
    """Whether the process behind a name is certainly gone. Of another machine nobody can say."""
    machine, _, rest = holder.partition(" ")
    words = rest.split(" ")
    if not machine or machine != _machine() or len(words) != 3 or not words[0].isdigit():
        return False
    return _started(int(words[0])) != words[1]


class Slots:
    """The connections of this process on one store, renewed by one statement."""

    def __init__(self, store: ThreadStore) -> None:
        self.store = store
        self._held: set[str] = set()
        self._renewed = 0.0

    async def take(self, account: str, *, watches: bool) -> tuple[str, int] | None:
        """`(holder, number)` of a connection that may be made now; None when all are in use."""
        holder = new_holder()
        order = range(1 if watches else 2, SLOTS + 1)

        async def work(tx: Tx) -> int | None:
            now = await database_now(tx)
            return await connections.take_slot(tx, account, order, holder, now=now, lease=LEASE, dead=is_dead)

        number = await self.store.db.run(work)
        if number is None:
            return None
        self._held.add(holder)
        return holder, number

    async def keeps(self, holder: str, monotonic: Callable[[], float]) -> bool:
        """Renew all of this process when a third of their time is over; whether this one is among them."""
        if monotonic() - self._renewed >= LEASE / 3 and self._held:
            self._renewed, held = monotonic(), set(self._held)

            async def work(tx: Tx) -> set[str]:
                return await connections.renew_slots(tx, held, now=await database_now(tx), lease=LEASE)

            self._held -= held - await self.store.db.run(work)
        return holder in self._held

    async def free(self, account: str, holder: str) -> None:
        """Give it back; when that cannot be written now, the lease ends by itself."""
        self._held.discard(holder)
        if self.store.is_open:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(2.0):
                    await self.store.db.run(lambda tx: connections.free_slot(tx, account, holder))


_of_store: WeakKeyDictionary[ThreadStore, Slots] = WeakKeyDictionary()


def slots_of(store: ThreadStore) -> Slots:
    """The connections of this process on that store."""
    if store not in _of_store:
        _of_store[store] = Slots(store)
    return _of_store[store]
