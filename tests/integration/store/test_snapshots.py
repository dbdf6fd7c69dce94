"""A reader sees the store as it stood at one moment, whatever is written while it reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from agentmail.store import ThreadStore, pages, reading, search

from ...unit.threads.worlds import US, message

Between = Callable[..., None]


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Between:
    """Have something happen just before a step of a reader, once."""

    def arrange(module: Any, step: str, event: Callable[[], Awaitable[object]]) -> None:
        original = getattr(module, step)

        async def disturbed(*arguments: Any, **more: Any) -> Any:
            monkeypatch.setattr(module, step, original)
            await event()
            return await original(*arguments, **more)

        monkeypatch.setattr(module, step, disturbed)

    return arrange


async def test_a_thread_that_is_merged_while_it_is_read_has_its_messages(store: ThreadStore, between: Between) -> None:
    await store.file(message("a"), account=US)
    late = await store.file(message("b", subject="Other"), account=US)
    link = message("c", answers=["a", "b"], day=1)
    between(reading, "_messages_by_thread", lambda: store.file(link, account=US))
    thread = await store.thread(late.thread)
    assert [m.message_id for m in thread.messages] == ["<b@id.example>"]
    assert len((await store.thread(late.thread)).messages) == 3


async def test_ancestors_are_found_while_their_thread_moves(store: ThreadStore, between: Between) -> None:
    await store.file(message("a"), account=US)
    await store.file(message("b", subject="Other"), account=US)
    answer = await store.file(message("b2", answers=["b"], subject="Other", day=1), account=US)
    link = message("c", answers=["a", "b"], day=2)
    between(reading, "messages_of", lambda: store.file(link, account=US))
    assert [m.message_id for m in await store.ancestors(answer.id)] == ["<b@id.example>"]


async def test_a_hit_that_is_deleted_while_the_page_is_read_is_still_on_it(
    store: ThreadStore, between: Between
) -> None:
    filed = await store.file(message("a", text="the invoice"), account=US)
    between(search, "_hits", lambda: store.delete_thread(filed.thread))
    assert [hit.id for hit in await store.search("invoice")] == [filed.id]
    assert await store.search("invoice") == []


async def test_a_message_that_is_deleted_while_the_page_is_read_is_still_on_it(
    store: ThreadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    filed = await store.file(message("a"), account=US)
    original = pages._newest

    async def then_gone(*arguments: Any) -> list[int]:
        found = await original(*arguments)
        await store.delete_thread(filed.thread)
        return found

    monkeypatch.setattr(pages, "_newest", then_gone)
    assert [m.id for m in await store.messages()] == [filed.id]
    monkeypatch.undo()
    assert await store.messages() == []
