"""Rows are claimed while the ones before are on their way, and no connection waits for that, or for a slow server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest

from agentmail.delivery import AHEAD, CLAIM
from agentmail.errors import StoreUnreachable
from agentmail.outbox import Outbox
from agentmail.smtp import Submitter
from tests.waiting import PATIENCE, until

from .conftest import Bench

CONNECTIONS = 2
BATCH = CONNECTIONS * CLAIM


async def queued(bench: Bench, number: int, connections: int = CONNECTIONS) -> None:
    """An outbox of few connections and much patience, with these mails."""
    bench.box = bench.outbox(submitter=Submitter(bench.server.account(), connections=connections))
    await asyncio.gather(*(bench.box.queue(bench.mail(text=f"number {i}")) for i in range(number)))


async def test_one_that_hangs_holds_up_no_other(bench: Bench) -> None:
    """The server thinks about the first mail until all the others have gone, more than are claimed at once."""
    number = 2 * BATCH + 5
    await queued(bench, number)
    taken, say = bench.server.taken, bench.server._say

    async def slow(writer: Any, step: str, *more: Any) -> bool:
        if step == "dot" and len(taken) == 1:
            await until(lambda: len(taken) == number)
        return await say(writer, step, *more)

    bench.server._say = slow  # type: ignore[method-assign]
    done = await bench.box.deliver_due(limit=number)
    assert ["sent"] * number == [sent.state for sent in done]
    assert number == len({body for _, _, body in taken}) == len(taken)


async def test_no_more_are_held_than_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    claim, held = Outbox._claim, list[int]()

    async def counted(self: Outbox, **how: Any) -> Any:
        rows, stopped = await claim(self, **how)
        states = [s.state for s in await bench.box.list("sending", limit=1000)]
        held.append(len(states))
        return rows, stopped

    monkeypatch.setattr(Outbox, "_claim", counted)
    await queued(bench, 3 * BATCH)
    done = await bench.box.deliver_due(limit=3 * BATCH)
    assert 3 * BATCH == len(done)
    assert BATCH < max(held), "the next were claimed after the last of these"
    assert max(held) <= BATCH + (AHEAD + 2) * CONNECTIONS  # without a marker, on their way, and just being written


@contextmanager
def failing_the_second_time(name: str) -> Iterator[None]:
    """A method of the outbox finds no store when it is called for the second time."""
    real, calls = getattr(Outbox, name), count(1)

    async def failing(self: Outbox, *given: Any, **how: Any) -> Any:
        if next(calls) == 2:
            raise StoreUnreachable("gone")
        return await real(self, *given, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Outbox, name, failing)
        yield


async def test_a_claim_that_fails_ends_no_mail_that_is_on_its_way(bench: Bench) -> None:
    await queued(bench, BATCH + 3)
    with failing_the_second_time("_claim"), pytest.raises(StoreUnreachable, match="gone"):
        await bench.box.deliver_due(limit=1000)
    states = [sent.state for sent in await bench.box.list(limit=1000)]
    assert (BATCH, 3) == (states.count("sent"), states.count("queued"))
    assert 3 == len(await bench.box.deliver_due())
    assert BATCH + 3 == len(bench.server.taken)


async def test_a_batch_that_fails_ends_no_mail_of_another(bench: Bench) -> None:
    await queued(bench, BATCH + 3)
    with failing_the_second_time("_work"), pytest.raises(StoreUnreachable, match="gone"):
        await bench.box.deliver_due(limit=1000)
    states = [sent.state for sent in await bench.box.list(limit=1000)]
    assert (BATCH, 3) == (states.count("sent"), states.count("sending"))


async def test_cancelling_ends_what_was_claimed_ahead_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has not begun is free at once."""
    claim, ahead = Outbox._claim, asyncio.Event()

    async def told(self: Outbox, **how: Any) -> Any:
        rows = await claim(self, **how)
        if len(bench.server.taken):
            ahead.set()
            await asyncio.sleep(0)
        return rows

    monkeypatch.setattr(Outbox, "_claim", told)
    await queued(bench, 3 * BATCH)
    task = asyncio.create_task(bench.box.deliver_due(limit=1000))
    async with asyncio.timeout(PATIENCE):
        await ahead.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    states = [sent.state for sent in await bench.box.list(limit=1000)]
    assert states.count("sent") + states.count("queued") + states.count("sending") == 3 * BATCH
    monkeypatch.undo()
    await bench.clock.advance(200)
    for _ in range(8):
        await bench.box.deliver_due(limit=1000)
        await bench.clock.advance(60)
    assert all(body.count(b"number") == 1 for _, _, body in bench.server.taken)
    assert {"sent"} == {sent.state for sent in await bench.box.list(limit=1000)}


async def test_a_limit_that_is_met_at_the_dot_stops_the_mail_behind(bench: Bench) -> None:
    """Its commands are on their way by then, and its marker is asked for with the end of the one before."""
    bench.server.script["dot"] = "450 4.7.1 sending rate exceeded"
    await queued(bench, 3, connections=1)
    await bench.box.deliver_due()
    assert 1 == len(bench.server.taken)
    assert {"queued"} == {sent.state for sent in await bench.box.list()}
