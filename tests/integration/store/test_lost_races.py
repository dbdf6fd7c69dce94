"""What was there a moment ago is gone, deleted by somebody else: writers on PostgreSQL begin again and hear of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import NoResultFound

from agentmail.errors import NotFound
from agentmail.store import ThreadStore, Tx, editing, reading, subjects
from agentmail.store.subjects import SubjectRule

from ...unit.threads.worlds import US, message


@pytest.fixture
async def store(new_postgresql: str) -> AsyncIterator[ThreadStore]:
    """On SQLite a writer has the store for itself."""
    async with ThreadStore(new_postgresql) as opened:
        await opened.register(US)
        yield opened


def after(monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, event: Callable[[], Awaitable[object]]) -> None:
    """Have something happen just after a step, once."""
    original = getattr(owner, step)

    async def followed(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(owner, step, original)
        found = await original(*arguments, **more)
        await event()
        return found

    monkeypatch.setattr(owner, step, followed)


@pytest.mark.parametrize("verb", ["labels", "assign", "admit"])
async def test_a_thread_that_is_deleted_before_it_is_locked_is_not_found(
    store: ThreadStore, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = (await store.file(message("a"), account=US)).thread
    after(monkeypatch, editing if verb == "labels" else reading, "resolve", lambda: store.delete_thread(thread))
    with pytest.raises(NotFound, match=thread):
        if verb == "labels":
            await store.set_labels(thread, add=["vip"])
        elif verb == "assign":
            await store.assign(thread, "billing")
        else:
            await store.admit(thread, "new@person.example")


async def test_a_thread_of_the_same_subject_that_is_deleted_meanwhile_is_left_alone(
    store: ThreadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await store.file(message("a", subject="Quarterly report"), account=US)
    after(monkeypatch, SubjectRule, "_queue_subjects", lambda: store.delete_thread(old.thread))
    late = message("b", answers=["unseen"], subject="Re: Quarterly report", day=1)
    filed = await store.file(late, account=US)
    assert [m.id for m in (await store.thread(filed.thread)).messages] == [filed.id]


@pytest.mark.parametrize("looks", [["_ANSWERS"], ["_LEAD"], ["_LEAD", "_LEAD"], ["_ATTACHED_TO"]])
async def test_an_answer_of_the_same_subject_that_is_deleted_meanwhile_is_no_candidate(
    store: ThreadStore, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was found, and is gone when its oldest message is looked at, or looked at again, or itself, or is moved."""
    answer = await store.file(message("b", answers=["unseen"], subject="Re: Quarterly report", day=1), account=US)

    async def look(left: list[str]) -> None:
        if left:
            after(monkeypatch, getattr(subjects, left[0]), "run", lambda: look(left[1:]))
        else:
            await store.delete_thread(answer.thread)

    await look(looks)
    filed = await store.file(message("a", subject="Quarterly report"), account=US)
    assert [m.id for m in (await store.thread(filed.thread)).messages] == [filed.id]
    async with store.reading() as tx:
        assert "thread.attached" not in (await tx.execute(text("SELECT kind FROM event"))).scalars().all()


async def test_who_lost_a_race_goes_after_the_others_that_did(store: ThreadStore) -> None:
    """One at a time, and the first attempt of everybody else waits for none of them."""
    losers, at_work, begun = 6, 0, asyncio.Event()
    tries: Counter[int] = Counter()

    async def loses_once(tx: Tx, number: int) -> None:
        nonlocal at_work
        tries[number] += 1
        if tries[number] == 1:
            if len(tries) == losers:
                begun.set()
            await begun.wait()
            raise NoResultFound  # as a row that is gone
        at_work += 1
        assert at_work == 1
        await store.db.run(lambda other: other.execute(text("SELECT 1")))
        at_work -= 1

    async with asyncio.TaskGroup() as group:
        for n in range(losers):
            group.create_task(store.db.run(lambda tx, n=n: loses_once(tx, n)))  # type: ignore[misc]
    assert tries == dict.fromkeys(range(losers), 2)


async def test_who_was_cancelled_does_not_begin_again(store_url: str) -> None:
    """A cut statement may end in another error, such as a lost race: who takes it for one works on for ever."""
    tries = 0
    begun = asyncio.Event()

    async def work(_: Tx) -> None:
        nonlocal tries
        tries += 1
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise NoResultFound from None

    async with ThreadStore(store_url) as store:
        task = asyncio.create_task(store.db.run(work))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
    assert tries == 1


async def test_who_outlived_a_cancellation_begins_again_as_ever(store_url: str) -> None:
    """asyncio counts it for as long as the task lives, whoever caught it."""
    tries = 0

    async def loses_once(_: Tx) -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise NoResultFound
        return "won"

    async def program(store: ThreadStore) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return await store.db.run(loses_once)

    async with ThreadStore(store_url) as store:
        task = asyncio.create_task(program(store))
        await asyncio.sleep(0)
        task.cancel()
        assert "won" == await task
