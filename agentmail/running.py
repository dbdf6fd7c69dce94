"""The loop behind `Inbox.run`: as many turns at a time as were asked for, claimed together, and ended together.

It claims as many threads as it has hands free, in one statement, and never more: what is claimed is worked on, so no
lease runs for a turn that waits in a queue, and other processes find what this one has no hands for.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from .errors import StoreError
from .store.changes import Changes
from .store.database import Database
from .turns import Sleep, Turn

logger = logging.getLogger(__name__)

STORE_PAUSE = 2.0
"""Seconds to rest after the store failed."""


class Shift:
    """One call of `Inbox.run`. `take(n)` claims up to n turns; `until_due()` is how many seconds nothing is due."""

    def __init__(
        self,
        handler: Callable[[Turn], Awaitable[object]],
        *,
        take: Callable[[int], Awaitable[Sequence[Turn]]],
        until_due: Callable[[], Awaitable[float]],
        hands: int,
        sleep: Sleep,
    ) -> None:
        self._handler, self._take, self._until_due, self._sleep = handler, take, until_due, sleep
        self._hands = self._free = hands
        self._stopped = False
        self._stir = asyncio.Event()
        """Something happened: a hand came free, the store changed, or a signal came."""

    async def work_off(self) -> None:
        """Until nothing is due and nothing runs, or a signal came."""
        with _signals(self._stop):
            async with asyncio.TaskGroup() as group:
                while not self._stopped:
                    got = await self._claim(group)
                    if self._free == self._hands:
                        return
                    if not got or not self._free:  # what runs may leave more to do
                        await self._stirred()

    async def work_on(self, db: Database) -> None:
        """Until a signal comes, through times in which the store cannot be reached."""
        with _signals(self._stop):
            async with asyncio.TaskGroup() as group:
                while not self._stopped:
                    try:
                        await self._while_connected(group, db)
                    except StoreError as exc:
                        logger.warning("no turns while the store is away: %s", exc)
                        await self._sleep(STORE_PAUSE)

    async def _while_connected(self, group: asyncio.TaskGroup, db: Database) -> None:
        async with Changes(db) as changes:
            listening = group.create_task(self._listen(changes))
            try:
                while not self._stopped and not listening.done():
                    if not await self._claim(group) and self._free:
                        await self._stirred(await self._until_due())
                    elif not self._free:
                        await self._stirred()
            finally:
                listening.cancel()

    async def _listen(self, changes: Changes) -> None:
        """Until the connection is lost; then it takes a new one, and a look at what came meanwhile."""
        with suppress(StoreError):
            while True:
                await changes.wait()
                self._stir.set()
        self._stir.set()

    async def _claim(self, group: asyncio.TaskGroup) -> int:
        """A turn for every free hand, as far as there are any; how many."""
        turns = await self._take(self._free) if self._free else ()
        for turn in turns:
            self._free -= 1
            group.create_task(self._one(turn))
        return len(turns)

    async def _one(self, turn: Turn) -> None:
        try:
            async with turn:
                await self._handler(turn)
        except Exception:
            logger.exception("turn on %s failed; it comes back later", turn.thread.id)
        finally:
            self._free += 1
            self._stir.set()

    async def _stirred(self, timeout: float | None = None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._stir.wait()
        # Turns that end in one transaction end in one turn of the loop: claim for all of them.
        await asyncio.sleep(0)
        self._stir.clear()

    def _stop(self) -> None:
        self._stopped = True
        self._stir.set()


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call `stop`."""
    loop, handled = asyncio.get_running_loop(), []
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            loop.add_signal_handler(number, stop)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
