"""A cancellation may come at any step: what was claimed comes back at once, and what was finished stays so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any

import pytest
from sqlalchemy import func, select, update

from agentmail import Inbox, ThreadStore, Turn, teamwork
from agentmail.errors import StaleTurn
from agentmail.store import claims
from agentmail.store.database import Tx
from agentmail.unbroken import unbroken

from .crew import ACCOUNT, OPEN
from .test_crew import fill

Act = Callable[[Inbox], Coroutine[Any, Any, None]]
THREADS = 3


@pytest.fixture
async def inbox(store_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Inbox]:
    async def forever(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(teamwork, "watch", forever)
    async with ThreadStore(store_url) as store, Inbox(ACCOUNT, store=store, agent="crew", policy=OPEN) as inbox:
        await fill(store, THREADS)
        yield inbox


async def take_one(inbox: Inbox) -> None:
    async for turn in inbox.turns(wait=False):
        async with turn:
            await asyncio.sleep(0)
        return


async def decide_something(inbox: Inbox) -> None:
    async for turn in inbox.turns(wait=False):
        async with turn:
            turn.data["seen"] = True
            await turn.hand_off("other")
        return


async def fail(inbox: Inbox) -> None:
    async for turn in inbox.turns(wait=False):
        async with turn:
            raise ZeroDivisionError


async def claim_one(inbox: Inbox) -> None:
    async with inbox.claim("t1", timeout=None):
        await asyncio.sleep(0)


async def run_off(inbox: Inbox) -> None:
    await inbox.run(handle, concurrency=2, wait=False)


async def run_on(inbox: Inbox) -> None:
    await inbox.run(handle, concurrency=2)


async def handle(turn: Turn) -> None:
    await asyncio.sleep(0)


async def in_state(inbox: Inbox, state: str) -> int:
    async with inbox.store.reading() as tx:
        query = select(func.count()).select_from(claims.work).where(claims.work.c.state == state)
        return int((await tx.execute(query)).scalar_one())


async def all_ready(tx: Tx) -> None:
    """As if nobody had come yet."""
    fresh = {"state": "ready", "agent": "", "attempt": 0, "next_at": 0.0, "done": 0, "reason": "message"}
    await tx.execute(update(claims.work).values(epoch=claims.work.c.epoch + 1, **fresh))


ACTS = (take_one, decide_something, fail, claim_one, run_off, run_on)


@pytest.mark.parametrize("act", ACTS)
async def test_nothing_stays_claimed_when_it_is_cancelled(inbox: Inbox, act: Act) -> None:
    await cancel_it(inbox, act, range(1, 80, 13))


@pytest.mark.soak
@pytest.mark.parametrize("act", ACTS)
async def test_nothing_stays_claimed_whenever_it_is_cancelled(inbox: Inbox, act: Act) -> None:
    await cancel_it(inbox, act, range(200))


async def cancel_it(inbox: Inbox, act: Act, when: Iterable[int]) -> None:
    before = asyncio.all_tasks()
    for steps in when:
        await inbox.store.db.run(all_ready)
        task = asyncio.create_task(act(inbox))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert await in_state(inbox, "claimed") == 0, f"cancelled after {steps} steps"
        if act is not fail:
            assert await in_state(inbox, "ready") + await in_state(inbox, "idle") == THREADS
        ours = {t for t in asyncio.all_tasks() - before if "_attending" not in repr(t.get_coro())}
        assert not {t for t in ours if t.get_coro().__qualname__.startswith(("unbroken", "_end", "Turn"))}  # type: ignore[union-attr]
        if not task.cancelled() and steps > 20:
            break


async def test_leaving_the_inbox_gives_back_what_is_in_hand(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what nobody entered; and who is still at it afterwards is told, without a connection of their own."""
    on, off = asyncio.Event(), asyncio.Event()

    async def at_work(inbox: Inbox) -> None:
        async with inbox.claim("t1") as turn:
            on.set()
            await off.wait()
            await turn.write_note("too late")

    async with ThreadStore(store_url) as store:
        await fill(store, THREADS)
        inbox = Inbox(ACCOUNT, store=store_url, agent="crew", policy=OPEN)
        async with inbox:
            task = asyncio.create_task(at_work(inbox))
            await on.wait()
            not_entered = await anext(inbox.turns(wait=False))
            assert not_entered.thread.id == "t2"
            async with inbox.claim("t3"):
                pass
        assert inbox.store.db._engine is None
        off.set()
        with pytest.raises(StaleTurn):
            await task
        assert inbox.store.db._engine is None
        async with store.reading() as tx:
            rows = (await tx.execute(select(claims.work.c.thread, claims.work.c.state))).all()
    assert {row.thread: row.state for row in rows} == {1: "ready", 2: "ready", 3: "idle"}


async def test_what_is_cut_is_undone_and_the_caller_is_cancelled() -> None:
    going, undone = asyncio.Event(), []

    async def work() -> str:
        await going.wait()
        return "claimed"

    async def undo(what: str) -> None:
        undone.append(what)

    task = asyncio.create_task(unbroken(work(), undo))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    going.set()
    await asyncio.wait([task])
    assert task.cancelled()
    assert undone == ["claimed"]


@pytest.mark.parametrize("ends", ["by patience", "by a second cancellation"])
async def test_work_that_does_not_end_is_cut(ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if ends == "by patience":
        monkeypatch.setattr("agentmail.unbroken.PATIENCE", 0.01)
    cut: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut.append("cut")
            raise

    task = asyncio.create_task(unbroken(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    if ends != "by patience":
        task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert cut == ["cut"]


async def test_what_fails_while_the_caller_is_cancelled_says_nothing_more() -> None:
    going = asyncio.Event()

    async def work() -> None:
        await going.wait()
        raise ZeroDivisionError

    def asked() -> Awaitable[None]:
        return unbroken(work())

    task = asyncio.ensure_future(asked())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    going.set()
    await asyncio.wait([task])
    assert task.cancelled()
