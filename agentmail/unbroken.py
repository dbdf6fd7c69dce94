"""Work that a cancellation does not cut in two: it is seen to its end, undone if need be, and then the caller is
cancelled. Else nobody would know what a cut transaction left behind, and a claim that nobody holds lasts a lease.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")


def cancellations() -> int:
    """How often this task was asked to end, and has not."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def heed_cancellation(beyond: int = 0) -> None:
    """Be cancelled now if that was asked for. A loop that goes on after an error calls it first.

    What is cancelled may fail at that moment, and then its error is raised instead: a connection that was cut in its
    cleaning up, a TaskGroup that tells of a child's failure alone. Who takes such an error for any other forgets the
    cancellation, works on, and is waited for without an end.

    Args:
        beyond: What `cancellations` counted before, in a task that is not ours: the caller may have outlived some.
    """
    if cancellations() > beyond:
        raise asyncio.CancelledError


if sys.version_info >= (3, 13):
    TaskGroup = asyncio.TaskGroup  # noqa: TID251
else:

    class TaskGroup(asyncio.TaskGroup):  # noqa: TID251
        """As of Python 3.13: before, a child that failed while its group was being left counted as a cancellation of
        the task around it, for as long as that lived (python/cpython#116720).
        """

        _parent_cancel_requested: bool

        async def __aexit__(
            self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
        ) -> None:
            uncounted = self._parent_cancel_requested
            task = asyncio.current_task()
            try:
                await super().__aexit__(kind, exc, trace)
            finally:
                if self._parent_cancel_requested and not uncounted and task is not None:
                    task.uncancel()


PATIENCE = 2.0
"""Seconds that a cancelled caller waits for the end. A store that is away ends no program late."""


async def unbroken(work: Awaitable[T], undo: Callable[[T], Awaitable[object]] | None = None) -> T:
    """Await `work`; when the caller is cancelled meanwhile, wait for its end, undo what it did, and be cancelled then.

    A second cancellation, and one that has to wait for longer than `PATIENCE`, cuts it all the same.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.cancelled():
            await _end(task, undo)
        raise


async def _end(task: asyncio.Future[T], undo: Callable[[T], Awaitable[object]] | None) -> None:
    async def rest() -> None:
        done = await task
        if undo is not None:
            await undo(done)

    ending = asyncio.ensure_future(rest())
    try:
        await asyncio.wait({ending}, timeout=PATIENCE)
    finally:
        ending.cancel()  # and with it the task that it waits for
        await asyncio.wait({ending}, timeout=PATIENCE)
        if ending.done() and not ending.cancelled():
            ending.exception()  # the caller is cancelled, and hears of nothing else
