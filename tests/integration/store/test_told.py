"""Whoever waits is told of what changes a thread, and the attention that threads need goes along when they join."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from agentmail.store import ThreadStore, claims
from agentmail.store.changes import Changes
from agentmail.store.database import Tx

from ...unit.threads.worlds import US, message

EVE = "eve@evil.example"
RENAMED = "<renamed@provider.example>"


async def _due(store: ThreadStore) -> list[str]:
    async def claimed(tx: Tx) -> list[claims.Claim]:
        return await claims.claim_due(tx, account=US, agents=["", "a"], agent="a", lease=60, limit=5)

    return [f"t{c.thread}" for c in await store.db.run(claimed)]


WRITERS: dict[str, Callable[[ThreadStore], Awaitable[Any]]] = {
    "admit": lambda s: s.admit("t1", EVE),
    "alias": lambda s: s.db.run(lambda tx: s.alias(tx, "m1", RENAMED)),
    "set_status": lambda s: s.set_status("t1", "done"),
    "set_labels": lambda s: s.set_labels("t1", add=["vip"]),
    "add_note": lambda s: s.add_note("t1", "call her"),
    "put_data": lambda s: s.put_data("t1", {"order": 42}),
    "settle": lambda s: s.settle("t1"),
    "assign": lambda s: s.assign("t1", "billing"),
    "delete_thread": lambda s: s.delete_thread("t1"),
    "forget": lambda s: s.forget(EVE),
}


@pytest.mark.parametrize("writer", WRITERS)
async def test_a_change_of_a_thread_is_told(store: ThreadStore, writer: str) -> None:
    await store.file(message("a"), account=US)
    await store.file(message("x", EVE, answers=["a"]), account=US)
    async with Changes(store.db) as changes:
        await WRITERS[writer](store)
        assert await changes.wait(20)


@pytest.mark.parametrize("writer", ["admit", "alias"])
async def test_attention_goes_along_when_threads_join_without_new_mail(store: ThreadStore, writer: str) -> None:
    """Else the turn of the thread that is gone would come as a second turn of the thread that took it in."""
    home = await store.file(message("a"), account=US)
    kept = await store.file(
        message("x", EVE, answers=["a"]) if writer == "admit" else message("x", answers=[RENAMED]), account=US
    )
    assert kept.thread != home.thread
    await WRITERS[writer](store)
    assert (await store.thread(kept.thread)).id == home.thread

    assert await _due(store) == [home.thread]


async def test_attention_goes_along_when_a_subject_shows_one_thread_in_another(store: ThreadStore) -> None:
    """The answer came first and asked for attention by itself; then came what it answers. One thread, one holder."""
    answer = await store.file(message("r", in_reply_to=["unknown"], subject="Re: Invoice 42", day=1), account=US)
    first = await store.file(message("a"), account=US)
    assert (await store.thread(answer.thread)).id == first.thread != answer.thread
    assert await _due(store) == [first.thread]
    # A second thread that it could mean takes the join back, and nobody has looked at the answer.
    other = await store.file(message("b", day=0.5), account=US)
    assert (await store.thread(answer.thread)).id == answer.thread
    assert sorted(await _due(store)) == sorted([answer.thread, other.thread])


async def test_what_was_shown_in_a_thread_that_is_deleted_still_asks_for_attention(store: ThreadStore) -> None:
    bob = "bob@gmail.com"
    first = await store.file(message("a", bob, cc=["ana@customer.example"]), account=US)
    answer = await store.file(message("r", in_reply_to=["unknown"], subject="Re: Invoice 42", day=1), account=US)
    assert answer.thread == first.thread
    await store.forget(bob)
    [alone] = await store.threads()
    assert await _due(store) == [alone.id]
