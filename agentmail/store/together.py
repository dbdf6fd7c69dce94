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

    What `may_wait` gives up to `patience` seconds for the first that may not: then they share its transaction.

    Trap: when `write` fails, only the caller that ran it hears of it, and the others try for themselves. So a write
    must be harmless when it runs again, as a compare-and-set is.
    """

    def __init__(
        self, write: Callable[[Sequence[T]], Awaitable[Sequence[R]]], *,
        may_wait: Callable[[T], bool] = lambda _: False, patience: float = 0.0,
    ) -> None:  # fmt: skip
        self._write = write
        self._may_wait, self._patience = may_wait, patience
        self._company: asyncio.Future[None] | None = None
        """There as long as all that wait have time."""
        self._writing = False
        self._waiting: list[_Entry[T, R]] = []

    async def __call__(self, item: T) -> R:
        entry: _Entry[T, R] = _Entry(item, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        if self._company is not None and not self._may_wait(item):
            self._end_waiting()
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
        seen = 0
        while len(self._waiting) > seen:  # what comes in the same turn of the loop, or in the one after, comes along
            seen = len(self._waiting)
            await asyncio.sleep(0)
        if self._patience and all(self._may_wait(e.item) for e in self._waiting):
            await self._until_company()
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

    async def _until_company(self) -> None:
        loop = asyncio.get_running_loop()
        self._company = loop.create_future()
        timer = loop.call_later(self._patience, self._end_waiting)
        try:
            await self._company
        finally:
            self._company = None
            timer.cancel()

    def _end_waiting(self) -> None:
        if self._company is not None and not self._company.done():
            self._company.set_result(None)

    def _next(self) -> None:
        """Let one of those that wait write; none is writing when there are none."""
        self._waiting = [e for e in self._waiting if not e.turn.cancelled()]  # whose tasks have not heard of it yet
        self._writing = bool(self._waiting)
        if self._waiting:
            self._waiting[0].turn.set_result(True)


@dataclass(slots=True, eq=False)
class _Entry(Generic[T, R]):
    item: T
    turn: asyncio.Future[bool]
    """True: it is its turn to write. False: it was written."""
    answer: tuple[R] | None = None
