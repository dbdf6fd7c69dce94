"""`agentmail threads --json` reads many threads together, as it would read each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event
from typer.testing import CliRunner

from agentmail.cli import mail
from agentmail.cli.commands import load
from agentmail.store import ThreadStore

from ...unit.threads.worlds import US, message

ANA = "ana@customer.example"


@contextmanager
def statements() -> Iterator[list[str]]:
    """What any database is asked meanwhile."""
    asked: list[str] = []

    def keep(_: object, __: object, statement: str, *___: object) -> None:
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", keep)
    yield asked
    event.remove(Engine, "before_cursor_execute", keep)


async def fill(url: str, threads: int) -> list[dict[str, object]]:
    """Threads of a question and an answer; as each is shown by itself, newest first."""
    async with ThreadStore(url) as store:
        for n in range(threads):
            await store.file(message(f"q{n}", ANA, subject=f"Case {n}", day=n), account=US)
            await store.file(message(f"a{n}", US, [ANA], answers=[f"q{n}"], subject=f"Re: Case {n}", day=n), account=US)
        page = await store.threads(limit=1_000)
        return [mail.thread_shape(await store.thread(t.id)) for t in page]


def test_many_threads_cost_few_statements(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "TOGETHER", 10)
    expected = asyncio.run(fill(store_url, 25))
    with statements() as asked:
        done = CliRunner().invoke(load(), ["threads", "--json", "--all", "--store", store_url])
    assert done.exit_code == 0, done.output
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected
    assert len([s for s in asked if s.lstrip().startswith("SELECT message.id, message.thread, message.parsed")]) == 3


async def test_a_thread_that_went_into_another_meanwhile_is_shown_where_it_is(store_url: str) -> None:
    await fill(store_url, 2)
    async with ThreadStore(store_url) as store:
        page = await store.threads()
        joined = await store.file(message("b", ANA, answers=["q0", "q1"], subject="Both cases", day=3), account=US)
        found = [thread.id async for thread in mail.whole(store, page)]
    assert found == [joined.thread] * 2
