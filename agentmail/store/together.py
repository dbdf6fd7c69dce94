"""Writes that come while one is under way share the next transaction: a commit costs the same for one and for many."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """`await together(item)` is the answer to that item; `write` gets all that wait, and answers each in order.

    The first that comes writes; who comes meanwhile waits, and one of them writes for all of them next.

    Trap: when `write` fails, only the caller that ran it hears of it, and the others try for themselves. So a write
    must be harmless when it runs again, as a compare-and-set is.
    """

    def __init__(self, write: Callable[[Sequence[T]], Awaitable[Sequence[R]]]) -> None:
        self._write = write
        self._writing = False
        self._waiting: list[_Entry[T, R]] = []

    async def __call__(self, item: T) -> R:
        entry: _Entry[T, R] = _Entry(item, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        mine = not self._writing
        self._writing = True
        try:
            if mine or await entry.turn:
                mine = True
                await self._write_all(entry)
        finally:
            if entry in self._waiting:  # cancelled: nobody asks any more
                self._waiting.remove(entry)
            if mine or (entry.turn.done() and not entry.turn.cancelled() and entry.turn.result()):
                self._next()
        assert entry.answer is not None
        return entry.answer[0]

    async def _write_all(self, mine: _Entry[T, R]) -> None:
        await asyncio.sleep(0)  # what ends in the same turn of the loop comes along
        batch, self._waiting = self._waiting, []
        try:
            answers = await self._write([e.item for e in batch])
        except BaseException:
            self._waiting = [e for e in batch if e is not mine and not e.turn.done()] + self._waiting
            raise
        for e, answer in zip(batch, answers, strict=True):
            e.answer = (answer,)
            if e is not mine and not e.turn.done():
                e.turn.set_result(False)

    def _next(self) -> None:
        """Let one of those that wait write; none is writing when there are none."""
        self._writing = bool(self._waiting)
        if self._waiting:
            self._waiting[0].turn.set_result(True)


@dataclass(slots=True, eq=False)
class _Entry(Generic[T, R]):
    item: T
    turn: asyncio.Future[bool]
    """True: it is its turn to write. False: it was written."""
    answer: tuple[R] | None = None
