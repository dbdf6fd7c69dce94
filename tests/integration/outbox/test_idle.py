"""What an outbox costs that has nothing to do, or may not do it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import event

from agentmail import ThreadStore, parse
from agentmail.store.changes import POLL, Changes
from tests.waiting import until

from .conftest import Bench
from .test_life import DSN, events


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[list[str]]:
    """The outbox runs; what it asks the database."""
    asked: list[str] = []

    def keep(_: object, __: object, statement: str, *___: object) -> None:
        asked.append(statement)

    event.listen(bench.store.db.engine.sync_engine, "before_cursor_execute", keep)
    task = asyncio.create_task(bench.box.run())
    yield asked
    event.remove(bench.store.db.engine.sync_engine, "before_cursor_execute", keep)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def rests() -> AsyncIterator[list[float]]:
    """For how many seconds it goes to rest, each time, unless something changes."""
    pauses: list[float] = []

    async def wait(self: Changes, timeout: float = POLL) -> bool:
        pauses.append(timeout)
        return await waited(self, timeout)

    waited = Changes.wait
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Changes, "wait", wait)
        yield pauses


def looks(asked: list[str]) -> int:
    """How many times it looked at what is due next."""
    return sum("min(submission.next_at)" in s for s in asked)


async def more_than(asked: list[str], before: int) -> None:
    """Until it has looked once more."""
    await until(lambda: looks(asked) > before)


async def test_a_change_that_brings_nothing_to_do_is_only_read(bench: Bench) -> None:
    await bench.box.submit(bench.mail())
    async with ThreadStore(bench.store.url) as another, rests() as pauses, running(bench) as asked:
        await until(lambda: pauses)  # the whole round at its start is over
        asked.clear()
        raw = b"From: ana@test.local\r\nTo: agent@test.local\r\nMessage-ID: <a@test.local>\r\n\r\nhello?\r\n"
        await another.file(parse(raw), account="agent@test.local", raw=raw)
        await more_than(asked, 0)
        assert len(asked) < 10
        assert not [s for s in asked if s.startswith(("INSERT", "UPDATE", "DELETE"))]


async def test_an_account_that_is_paused_is_left_alone(bench: Bench) -> None:
    """What is due and may not go was tried twenty times a second."""
    await bench.box.pause(by="test", reason="nothing leaves")
    await bench.box.submit(bench.mail())
    async with rests() as pauses, running(bench):
        await until(lambda: pauses)
        assert min(pauses) > 1
        await bench.box.resume(by="test")
        await until(lambda: bench.server.taken)


async def test_a_bounce_is_taken_when_it_comes(bench: Bench) -> None:
    sent = await bench.box.submit(bench.mail())
    async with running(bench) as asked:
        await more_than(asked, 0)
        raw = (
            DSN.format(message_id=sent.message_id, to="ana@test.local", action="failed").replace("\n", "\r\n").encode()
        )
        await bench.store.file(parse(raw), account="agent@test.local", raw=raw)
        while "submission.bounced" not in await events(bench):
            await asyncio.sleep(0.01)
