"""What an outbox costs that has nothing to do, or may not do it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import event

from agentmail import parse

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


async def looks(asked: list[str], more: int) -> None:
    """Until it has looked so many times more at what is due next."""
    wanted = sum("min(submission.next_at)" in s for s in asked) + more
    while sum("min(submission.next_at)" in s for s in asked) < wanted:
        await asyncio.sleep(0.005)


async def test_a_change_that_brings_nothing_to_do_is_only_read(bench: Bench) -> None:
    await bench.box.submit(bench.mail())
    async with running(bench) as asked:
        await looks(asked, 1)
        await asyncio.sleep(0.1)
        asked.clear()
        await bench.receive()
        filing = len(asked)
        await looks(asked, 1)
        assert len(asked) - filing < 10
        assert not [s for s in asked[filing:] if s.startswith(("INSERT", "UPDATE", "DELETE"))]


async def test_an_account_that_is_paused_is_left_alone(bench: Bench) -> None:
    """What is due and may not go was tried twenty times a second."""
    await bench.box.pause(by="test", reason="nothing leaves")
    await bench.box.submit(bench.mail())
    async with running(bench) as asked:
        await looks(asked, 1)
        await asyncio.sleep(1)
        assert sum("min(submission.next_at)" in s for s in asked) < 8
        await bench.box.resume(by="test")
        while not bench.server.taken:
            await asyncio.sleep(0.01)


async def test_a_bounce_is_taken_when_it_comes(bench: Bench) -> None:
    sent = await bench.box.submit(bench.mail())
    async with running(bench) as asked:
        await looks(asked, 1)
        raw = (
            DSN.format(message_id=sent.message_id, to="ana@test.local", action="failed").replace("\n", "\r\n").encode()
        )
        await bench.store.file(parse(raw), account="agent@test.local", raw=raw)
        while "submission.bounced" not in await events(bench):
            await asyncio.sleep(0.01)
