"""Named cursors: every event at least once, however often the reader dies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from agentmail import Inbox, errors
from agentmail.store import Tx
from agentmail.store.events import append_events
from agentmail.testing import EmbeddedMail

from .test_turns import AGENT, agents


@pytest.fixture
async def mail() -> AsyncIterator[EmbeddedMail]:
    async with EmbeddedMail({AGENT: "demo"}) as server:
        yield server


async def happen(inbox: Inbox, number: int) -> None:
    async def work(tx: Tx) -> None:
        await append_events(tx, [{"kind": "test.happened", "thread": None, "message": None, "account": AGENT,
                                  "data": {"n": n}, "at": None} for n in range(number)])  # fmt: skip

    await inbox.store.db.run(work)


async def test_a_reader_that_dies_gets_again_what_it_did_not_acknowledge(mail: EmbeddedMail, store_url: str) -> None:
    dice = random.Random(7)
    handled: list[int] = []
    async with agents(mail, store_url, "a") as [inbox]:
        await happen(inbox, 40)
        acknowledged = 0
        while acknowledged < 40:  # each round is a process that reads on, handles, and dies somewhere
            async for event in inbox.events(cursor="crm", wait=False):
                assert event.seq in {acknowledged + 1, handled[-1] + 1 if handled else 1}
                handled.append(event.seq)
                if dice.random() < 0.2:
                    break  # handled, and died before it said so
                await event.ack()
                acknowledged = event.seq
        assert sorted(set(handled)) == list(range(1, 41))
        assert len(handled) > 40  # some came twice: at least once
        assert [e async for e in inbox.events(cursor="crm", wait=False)] == []
        assert len([e async for e in inbox.events(cursor="another", wait=False)]) == 40


async def test_a_cursor_never_moves_back_and_waits_for_what_comes(mail: EmbeddedMail, store_url: str) -> None:
    async with agents(mail, store_url, "a", "b") as [inbox, other]:
        await happen(inbox, 5)
        await inbox.acknowledge("crm", 5)
        await inbox.acknowledge("crm", 3)

        async def next_one() -> int:
            async for event in inbox.events(cursor="crm"):
                return event.seq
            raise AssertionError

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            task = group.create_task(next_one())
            await happen(other, 1)
        assert task.result() == 6


async def test_what_means_nothing_is_refused(mail: EmbeddedMail, tmp_path: object) -> None:
    async with agents(mail, f"sqlite:///{tmp_path}/store.db", "a") as [inbox]:
        await happen(inbox, 1)
        for wrong in ({"after": 3, "cursor": "crm"}, {"cursor": ""}, {"cursor": "a\nb"}):
            with pytest.raises(errors.BadInput):
                await anext(inbox.events(**wrong))  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="cursor"):
            await (await anext(inbox.events())).ack()
