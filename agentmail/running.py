"""The loop behind `Inbox.run`: as many turns at a time as were asked for, claimed together, and ended together.

It claims for all free hands in one statement. Where turns are so short that the claim would be most of the work, it
claims some ahead: as many as will be begun within a tenth of a second, going by how long the last ones took. What was
claimed ahead and is not begun within a second is given back, so no lease runs long for a turn that waits in a queue,
and other processes find what this one has no hands for.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from .errors import BadInput, StoreError
from .store.changes import Changes
from .store.database import Database
from .turns import Sleep, Turn
from .unbroken import TaskGroup, cancellations, heed_cancellation, unbroken

logger = logging.getLogger(__name__)

AHEAD = 0.1
"""Seconds of work that are claimed ahead."""
MOST_AHEAD = 64
"""Turns that are claimed ahead at the most."""
PATIENCE = 1.0
"""Seconds after which what was claimed ahead is given back."""

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
        if hands < 1:
            raise BadInput(f"concurrency is {hands}: at least 1 turn at a time")
        self._handler, self._take, self._until_due, self._sleep = handler, take, until_due, sleep
        self._hands = self._free = hands
        self._ahead: deque[Turn] = deque()
        """Claimed, and not begun."""
        self._called: set[Turn] = set()
        """Given to a task that has not begun either: when it is cancelled before, it never does."""
        self._taken_at = 0.0
        self._took = AHEAD * MOST_AHEAD
        """How many seconds a turn takes, of late."""
        self._ending = 0
        """Turns whose handler is done and whose end is being written."""
        self._stopped = False
        self._stir = asyncio.Event()
        """Something happened: a hand came free, the store changed, or a signal came."""

    async def work_off(self) -> None:
        """Until nothing is due and nothing runs, or a signal came."""
        with _signals(self._stop):
            try:
                async with TaskGroup() as group:
                    while not self._stopped:
                        got = await self._claim(group)
                        if self._free == self._hands and not self._ending:
                            return
                        if not got or not self._free:  # what runs may leave more to do
                            await self._stirred()
                    await self._put_back()  # before those that run are waited for
            finally:
                await unbroken(self._put_all_back())

    async def work_on(self, db: Database) -> None:
        """Until a signal comes, through times in which the store cannot be reached."""
        asked = cancellations()
        with _signals(self._stop):
            try:
                async with TaskGroup() as group:
                    while not self._stopped:
                        try:
                            await self._while_connected(group, db)
                            await self._put_back()
                        except StoreError as exc:
                            logger.warning("no turns while the store is away: %s", exc)
                            heed_cancellation(asked)
                            await self._sleep(STORE_PAUSE)
            finally:
                await unbroken(self._put_all_back())

    async def _while_connected(self, group: TaskGroup, db: Database) -> None:
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

    async def _claim(self, group: TaskGroup) -> int:
        """A turn for every free hand, as far as there are any; how many."""
        before = self._free
        if self._free and not self._ahead and self._ending <= MOST_AHEAD:
            self._ahead.extend(await self._take(self._free + self._how_many_ahead()))
            self._taken_at = self._now()
        while self._free and self._ahead:
            self._free -= 1
            turn = self._ahead.popleft()
            self._called.add(turn)
            group.create_task(self._one(turn))
        return before - self._free

    def _how_many_ahead(self) -> int:
        return min(MOST_AHEAD, int(self._hands * AHEAD / max(self._took, 0.001)))

    async def _put_back(self) -> None:
        """Others may have what this process claimed and did not begin."""
        while self._ahead:
            await self._ahead.popleft().put_back()

    async def _put_all_back(self) -> None:
        """The same when no task runs any more."""
        self._ahead.extend(self._called)
        await self._put_back()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _one(self, turn: Turn) -> None:
        self._called.discard(turn)
        began, busy = self._now(), True
        try:
            async with turn:
                done = self._handler(turn)
                if not inspect.isawaitable(done):  # its work is done, but for what it did not wait for
                    raise TypeError(f"the handler of run() must be async: it returned {type(done).__name__}")
                await done
                # The rest is the store's work: the hand is free, and the turns that end now end in one transaction.
                busy = False
                self._let_go(began)
        except Exception:
            logger.exception("turn on %s failed; it comes back later", turn.thread.id)
        finally:
            if busy:
                self._let_go(began)
            self._ending -= 1
            self._stir.set()

    def _let_go(self, began: float) -> None:
        self._took += (self._now() - began - self._took) / 8
        self._free += 1
        self._ending += 1
        self._stir.set()

    async def _stirred(self, timeout: float | None = None) -> None:
        if self._ahead:
            timeout = max(0.0, self._taken_at + PATIENCE - self._now())
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._stir.wait()
        # Hands that come free in the same turn of the loop get their turns together.
        await asyncio.sleep(0)
        self._stir.clear()
        if self._ahead and not self._free and self._now() - self._taken_at >= PATIENCE:
            await self._put_back()

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
