"""How often a task was cancelled is what others asked of it, whatever became of the groups that it left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from agentmail.unbroken import TaskGroup, cancellations, heed_cancellation


class Broken(Exception):
    pass


async def breaks(after: int = 1) -> None:
    for _ in range(after):
        await asyncio.sleep(0)
    raise Broken


async def waits() -> None:
    await asyncio.Event().wait()


async def while_it_is_left() -> None:
    async with TaskGroup() as group:
        group.create_task(breaks())


async def two_while_it_is_left() -> None:
    async with TaskGroup() as group:
        group.create_task(breaks())
        group.create_task(breaks())
        group.create_task(waits())


async def while_it_works() -> None:
    async with TaskGroup() as group:
        group.create_task(breaks())
        await waits()


async def the_body_too() -> None:
    async with TaskGroup() as group:
        group.create_task(breaks())
        raise Broken


async def inside_another() -> None:
    async with TaskGroup() as outer:
        outer.create_task(waits())
        async with TaskGroup() as inner:
            inner.create_task(breaks())


async def around_another() -> None:
    async with TaskGroup() as outer:
        outer.create_task(breaks())
        async with TaskGroup() as inner:
            inner.create_task(waits())


FAILING = [while_it_is_left, two_while_it_is_left, while_it_works, the_body_too, inside_another, around_another]


@pytest.mark.parametrize("leave", FAILING)
async def test_a_child_that_fails_cancels_nobody_for_good(leave: Callable[[], Awaitable[None]]) -> None:
    with pytest.raises(ExceptionGroup):
        await leave()
    assert 0 == cancellations()
    heed_cancellation()
    await asyncio.sleep(0)


@pytest.mark.parametrize("leave", FAILING)
@pytest.mark.parametrize("steps", range(6))
async def test_a_cancellation_is_heard_of_beside_a_failure(leave: Callable[[], Awaitable[None]], steps: int) -> None:
    """Whether the failure or the cancellation is raised: it was asked for, once, and who looks finds it."""

    async def program() -> None:
        try:
            await leave()
        except* Broken:
            pass
        heed_cancellation()
        await waits()

    task = asyncio.create_task(program())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    assert done
    assert task.cancelled()


async def test_a_caller_that_outlived_a_cancellation_is_not_cancelled_again() -> None:
    async def program() -> str:
        try:
            await waits()
        except asyncio.CancelledError:
            pass
        before = cancellations()
        heed_cancellation(before)
        with pytest.raises(asyncio.CancelledError):
            heed_cancellation()
        return "lives"

    task = asyncio.create_task(program())
    await asyncio.sleep(0)
    task.cancel()
    assert "lives" == await task
