"""The database fails while mail is under way. What the server said is known, and must not be forgotten for that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from agentmail.errors import StoreBusy, StoreUnreachable
from agentmail.smtp import Outcome
from tests.waiting import PATIENCE, turns, until

from .conftest import Bench


class Away:
    """The next `left` writes of a bench fail before or after they happen."""

    def __init__(self, bench: Bench, *, after: bool = False) -> None:
        self.left = 0
        self.failed = 0
        db = bench.store.db
        for name in ("run", "shortly"):
            self._break(db, name, getattr(db, name), after)

    def _break(self, db: Any, name: str, real: Callable[..., Any], after: bool) -> None:
        async def broken(*given: Any) -> Any:
            if self.left <= 0:
                return await real(*given)
            self.left -= 1
            self.failed += 1
            if after:
                await real(*given)
            raise (StoreBusy if self.failed % 2 else StoreUnreachable)("the store is away")

        setattr(db, name, broken)


class Told:
    """A submitter that ends each mail when the test says so, and counts what it took."""

    connections = 4

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.bodies = asyncio.Semaphore(0)

    async def submit(self, raw: bytes, envelope: Any, *, before_body: Any, submission: str | None) -> Outcome:
        (to,) = envelope.rcpt_to
        may_finish = await before_body({})
        if may_finish is None:
            return Outcome("temporary", "hook", None, "stopped before the body")
        self.bodies.release()
        await self.gates.setdefault(to, asyncio.Event()).wait()
        if not may_finish():
            return Outcome("temporary", "hook", None, "too late")
        self.taken.append(to)
        return Outcome("sent", "dot", 250, "ok")

    async def close(self) -> None: ...


async def through(bench: Bench, task: asyncio.Task[Any], seconds: int = 40) -> Any:
    """The end of a task that rests now and then, for a second on the clock."""

    def rests() -> bool:
        soon = bench.clock() + timedelta(seconds=1)
        return any(due <= soon and not sleeper.done() for due, _, sleeper in bench.clock._sleepers)

    for _ in range(seconds):
        await until(lambda: task.done() or rests())
        if task.done():
            return await task
        await bench.clock.advance(1)
    raise AssertionError(f"it does not end in {seconds} s")


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "its answer"])
async def test_a_250_is_written_when_the_store_is_back(bench: Bench, after: bool) -> None:
    """It was dropped: the mail became unknown, was nowhere in Sent, and went again to people who had it."""
    away = Away(bench, after=after)

    def dot(_: str) -> str:
        away.left = 5
        return "250 2.0.0 queued"

    bench.server.script["dot"] = dot
    sent = await through(bench, asyncio.create_task(bench.box.submit(bench.mail())))
    assert ("sent", 0) == (sent.state, away.left)
    bench.server.script.clear()
    for _ in range(6):
        await bench.clock.advance(60)
        await bench.box.deliver_due()
    assert 1 == len(bench.server.taken)


async def test_one_mail_of_a_batch_that_cannot_be_marked_leaves_the_others_alone(bench: Bench) -> None:
    """They were cancelled with it, some of them after their dot."""
    away, told = Away(bench), Told()
    box = bench.outbox(submitter=told)
    rows = [await box.queue(bench.mail(f"p{n}@test.local")) for n in range(3)]
    submit, begun = told.submit, asyncio.Event()

    async def last_one_late(raw: bytes, envelope: Any, *, before_body: Any, submission: str | None) -> Outcome:
        if envelope.rcpt_to == ("p2@test.local",) and not begun.is_set():
            for _ in range(2):
                await told.bodies.acquire()
            begun.set()
            away.left = 1
        return await submit(raw, envelope, before_body=before_body, submission=submission)

    told.submit = last_one_late  # type: ignore[method-assign]
    task = asyncio.create_task(box.deliver_due())
    await begun.wait()
    await until(lambda: away.failed)
    for gate in ("p0@test.local", "p1@test.local", "p2@test.local"):
        told.gates.setdefault(gate, asyncio.Event()).set()
    await through(bench, task)
    await bench.clock.advance(1)
    await through(bench, asyncio.create_task(box.deliver_due()))
    assert ["sent"] * 3 == [(await box.get(o.id)).state for o in rows]
    assert 3 == len(told.taken) == len(set(told.taken))


async def test_an_attempt_that_breaks_tells_its_error_and_cancels_nobody(bench: Bench) -> None:
    """A TaskGroup of Python 3.11 leaves its task counted as cancelled, and what asked for that count was cancelled."""

    class Broken(Told):
        async def submit(self, *_: Any, **__: Any) -> Outcome:
            raise ZeroDivisionError

    box = bench.outbox(submitter=Broken())
    row = await box.queue(bench.mail())
    with pytest.raises(ZeroDivisionError):
        await box.deliver(row.id)
    with pytest.raises(ZeroDivisionError):
        await box.deliver_due()
    task = asyncio.current_task()
    assert task is not None
    assert 0 == task.cancelling()
    assert "queued" == (await box.get(row.id)).state


async def test_cancelled_between_the_marker_and_the_body_it_is_free_at_once(bench: Bench) -> None:
    """The claim was being written to the disk: no byte of the body had gone, and the mail was called unknown."""
    if not bench.store.db.sqlite:
        return
    row = await bench.box.queue(bench.mail())
    marked = asyncio.Event()
    shortly, durable = bench.store.db.shortly, bench.store.db.durable
    writes = 0

    async def counted(*given: Any) -> Any:
        nonlocal writes
        answer = await shortly(*given)
        writes += 1
        if writes == 2:  # the claim, the marker
            marked.set()
        return answer

    async def never() -> None:
        await asyncio.Event().wait()

    bench.store.db.shortly = counted  # type: ignore[method-assign]
    bench.store.db.durable = never  # type: ignore[method-assign]
    task = asyncio.create_task(bench.box.deliver(row.id))
    async with asyncio.timeout(PATIENCE):
        await marked.wait()
    await turns()  # to where it waits for the disk
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bench.store.db.durable = durable  # type: ignore[method-assign]
    assert "queued" == (await bench.box.get(row.id)).state
    assert ["sent"] == [s.state for s in await bench.box.deliver_due()]
    assert 1 == len(bench.server.taken)
