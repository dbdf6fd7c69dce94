"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
"""A Monday morning."""


class ManualClock:
    """`clock()` is the time; `await clock.sleep(s)` waits until `advance` has passed it. Nothing really waits."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._count = 0

    def __call__(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        due = self._now + timedelta(seconds=max(0.0, seconds))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (due, self._count, future))
        await future

    async def advance(self, by: timedelta | float) -> None:
        """Move on, waking each sleeper at its own moment and letting it run before the next one."""
        end = self._now + (by if isinstance(by, timedelta) else timedelta(seconds=by))
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self._now = max(self._now, due)
            if not future.done():
                future.set_result(None)
            for _ in range(5):  # the woken task, and those it wakes
                await asyncio.sleep(0)
        self._now = end
