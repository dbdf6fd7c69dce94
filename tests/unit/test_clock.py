"""The manual clock wakes each sleeper at its own moment, in order, and waits for nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from agentmail.testing import ManualClock


async def test_sleepers_wake_in_order_at_their_own_time() -> None:
    clock = ManualClock()
    start, woken = clock(), []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            woken.append((name, (clock() - start).total_seconds()))

    async with asyncio.TaskGroup() as group:
        group.create_task(sleeper("a", 10, 10))
        group.create_task(sleeper("b", 15))
        group.create_task(sleeper("never in between", 3600))
        await asyncio.sleep(0)
        await clock.advance(9.5)
        assert woken == []
        await clock.advance(timedelta(seconds=20))
        assert woken == [("a", 10), ("b", 15), ("a", 20)]
        assert clock() == start + timedelta(seconds=29.5)
        await clock.advance(3600)


async def test_who_gave_up_sleeping_does_not_disturb() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(5))
    await asyncio.sleep(0)
    task.cancel()
    await clock.advance(10)
    assert task.cancelled()
