"""The loop of `run`: what it claims ahead, what it gives back, and what a claim costs in a large store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from agentmail import Inbox, ThreadStore, Turn, parse, running
from agentmail.errors import BadInput, StaleTurn
from agentmail.store import Location, changes, receipts, wanting
from agentmail.store.arrivals import Arrival
from agentmail.store.changes import Changes
from agentmail.store.together import Together
from tests.waiting import turns

from .crew import ACCOUNT, OPEN
from .test_crew import US, fill, letter

LEASE = timedelta(minutes=5)


async def counts(store: ThreadStore) -> dict[str, int]:
    async with store.reading() as tx:
        return await wanting.counts(tx, US)


async def test_long_turns_claim_nothing_ahead(store_url: str) -> None:
    """A model takes its time: then a process holds as many threads as it has hands."""
    held: list[int] = []
    async with ThreadStore(store_url) as store, Inbox(ACCOUNT, store=store, agent="crew", policy=OPEN) as inbox:
        await fill(store, 12)

        async def handler(turn: Turn) -> None:
            held.append((await counts(store))["claimed"])

        await inbox.run(handler, concurrency=3, wait=False)
        assert len(held) == 12
        assert held[0] == 3


async def test_what_means_nothing_is_refused_before_anything_is_claimed(sqlite_url: str) -> None:
    async def handler(turn: Turn) -> None:
        raise AssertionError("there is no hand")

    async with ThreadStore(sqlite_url) as store, Inbox(ACCOUNT, store=store, agent="crew", policy=OPEN) as inbox:
        await fill(store, 1)
        with pytest.raises(BadInput, match="concurrency is 0"):
            await inbox.run(handler, concurrency=0, wait=False)
        with pytest.raises(BadInput, match=r"give a Message or its id .*, not NoneType"):
            await inbox.reply(None, "x")  # type: ignore[arg-type]
        with pytest.raises(BadInput, match="limit is -1"):
            await store.db.run(lambda tx: receipts.take_new(tx, account=US, agent="crew", limit=-1, now=0.0))
        assert "claimed" not in await counts(store)


async def test_a_handler_that_is_not_async_is_told_so(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its turn fails, which else would look like a trouble of the mail in it."""
    async with ThreadStore(sqlite_url) as store, Inbox(ACCOUNT, store=store, agent="crew", policy=OPEN) as inbox:
        await fill(store, 1)
        await inbox.run(lambda turn: None, wait=False)  # type: ignore[arg-type, return-value]
        assert "the handler of run() must be async: it returned NoneType" in caplog.text


async def test_what_was_claimed_ahead_is_given_back_when_turns_become_long(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "PATIENCE", 0.0)
    gate, begun = asyncio.Event(), asyncio.Event()
    async with ThreadStore(store_url) as store, Inbox(ACCOUNT, store=store, agent="crew", policy=OPEN) as inbox:
        await fill(store, 10)

        async def handler(turn: Turn) -> None:
            begun.set()
            await gate.wait()

        shift = running.Shift(
            handler, take=lambda hands: inbox._next_turns("crew", LEASE, limit=hands), until_due=never, hands=2,
            sleep=asyncio.sleep,
        )  # fmt: skip
        shift._took = 0.001  # the last turns were short
        working = asyncio.create_task(shift.work_off())
        await begun.wait()
        while (await counts(store))["claimed"] > 2:  # all ten were claimed; eight go back
            await asyncio.sleep(0.01)
        async with store.reading() as tx:
            attempts = (await tx.execute(text("SELECT DISTINCT attempt FROM work WHERE state = 'ready'"))).scalars()
            assert set(attempts) == {0}  # it counts as no attempt
        gate.set()
        await working
        assert await counts(store) == {}


async def never() -> float:
    return 3600.0


async def test_a_turn_that_was_lost_is_no_obstacle_to_those_that_end_with_it(store_url: str) -> None:
    async with ThreadStore(store_url) as store, Inbox(ACCOUNT, store=store, agent="crew", policy=OPEN) as inbox:
        await fill(store, 3)
        first, second, third = await inbox._next_turns("crew", LEASE, limit=3)
        await store.db.run(lambda tx: tx.execute(text("UPDATE work SET epoch = epoch + 1 WHERE thread = 2")))
        ends = await asyncio.gather(
            *(store.finish_turn(turn._claim) for turn in (first, second, third)), return_exceptions=True
        )
        assert [type(end) for end in ends] == [type(None), StaleTurn, type(None)]
        assert await counts(store) == {"claimed": 1}


async def test_who_is_cancelled_with_the_writer_leaves_the_others_their_turn() -> None:
    """A cancelled group ends all at once: the one whose turn it would be has gone when the writer goes."""
    gate = asyncio.Event()

    async def write(items: Sequence[int]) -> list[int]:
        await gate.wait()
        return [10 * i for i in items]

    together = Together(write)
    tasks = [asyncio.create_task(together(1))]
    await turns()
    tasks += [asyncio.create_task(together(i)) for i in (2, 3, 4)]
    await turns()
    for gone in tasks[:2]:
        gone.cancel()
    gate.set()
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert [type(end) for end in ends[:2]] == [asyncio.CancelledError] * 2
    assert ends[2:] == [30, 40]


async def test_writes_that_come_meanwhile_share_the_next_one() -> None:
    batches: list[list[int]] = []
    gate = asyncio.Event()

    async def write(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        await gate.wait()
        if items == [2]:
            raise OSError("once")
        return [10 * i for i in items]

    together = Together(write)
    first = asyncio.create_task(together(1))
    while not batches:
        await asyncio.sleep(0)
    later = [asyncio.create_task(together(i)) for i in (2, 3, 4)]
    await asyncio.sleep(0)
    later[0].cancel()  # whose turn it would be to write next
    gate.set()
    assert await first == 10
    assert [await t for t in later[1:]] == [30, 40]
    assert batches == [[1], [3, 4]]
    with pytest.raises(OSError, match="once"):
        await together(2)
    assert await together(5) == 50  # a write that failed leaves nobody behind


async def test_what_has_time_waits_for_what_has_none() -> None:
    batches: list[list[int]] = []

    async def write(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        return list(items)

    together = Together(write, may_wait=lambda i: i > 9, patience=60.0)
    patient = [asyncio.create_task(together(i)) for i in (10, 11)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert batches == []
    patient[0].cancel()  # who would have written
    await asyncio.sleep(0)
    assert await together(1) == 1
    assert await patient[1] == 11
    assert batches == [[11, 1]]
    assert await Together(write, may_wait=lambda _: True, patience=0.001)(12) == 12  # nobody came


async def test_what_a_claim_reads_does_not_grow_with_the_store(store_url: str) -> None:
    """By the plan, and not by a clock: no table is read from end to end."""
    async with ThreadStore(store_url) as store, Inbox(ACCOUNT, store=store, agent="crew", policy=OPEN) as inbox:
        await fill(store, 4)
        await idle(store, 3_000)
        run: list[tuple[str, Any]] = []

        @event.listens_for(store.db.engine.sync_engine, "before_cursor_execute")
        def _keep(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
            run.append((statement, parameters))

        turns = await inbox._next_turns("crew", LEASE, limit=2)
        assert len(turns) == 2
        for turn in turns:
            await store.finish_turn(turn._claim)
        await inbox._until_due("crew")
        assert len(run) < 25
        event.remove(store.db.engine.sync_engine, "before_cursor_execute", _keep)
        for statement, parameters in run:
            if not statement.lstrip().upper().startswith(("SELECT", "UPDATE", "WITH")) or "FROM" not in statement:
                continue
            plan = await explained(store, statement, parameters)
            for table in ("work", "thread", "message"):
                assert f"SCAN {table}" not in plan, f"{statement}\n{plan}"
                assert f"Seq Scan on {table} " not in plan, f"{statement}\n{plan}"


async def explained(store: ThreadStore, statement: str, parameters: Any) -> str:
    async with store.reading() as tx:
        prefix = "EXPLAIN QUERY PLAN " if store.db.sqlite else "EXPLAIN "
        found = await tx.exec_driver_sql(prefix + statement, parameters)
        return "\n".join(str(row[-1]) for row in found)


async def idle(store: ThreadStore, threads: int) -> None:
    """Threads that want nothing, each with a message."""
    for start in range(0, threads, 500):
        raws = [letter(10_000 + n) for n in range(start, start + 500)]
        arrivals = [
            Arrival(parse(raw), raw, Location("Old", 1, start + i + 1), fresh=False) for i, raw in enumerate(raws)
        ]
        batch = store.prepare(arrivals, account=US)
        await store.db.run(lambda tx, batch=batch: store.file_batch(tx, batch, account=US))  # type: ignore[misc]
    wanting = text(
        "INSERT INTO work (thread, account, agent, state, reason, note, next_at, attempt, epoch, newest, seen, done, "
        "round, woken, error) SELECT id, account, 'crew', 'idle', 'message', '', 0, 0, 1, 1, 1, 1, 1, 0, '' "
        "FROM thread WHERE id NOT IN (SELECT thread FROM work)"
    )
    await store.db.run(lambda tx: tx.execute(wanting))
    await store.db.maintain("ANALYZE")


async def test_changes_are_told_with_and_without_the_kernels_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ThreadStore(f"sqlite:///{tmp_path / 'store.db'}") as store:
        for help_ in (True, False):
            if not help_:
                monkeypatch.setattr(changes, "watch", lambda *_: None)
            async with Changes(store.db) as listening:
                assert not await listening.wait(0.05)
                waiting = asyncio.create_task(listening.wait(60))
                await asyncio.sleep(0)
                await store.register(f"somebody{help_}@our.example")
                assert await waiting
                assert not await listening.wait(0.05)
