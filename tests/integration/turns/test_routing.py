"""Routes of one's own may fail, hang and know nothing: what they do not decide stands in nobody's way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agentmail import Inbox, Message, Route, ThreadStore, Turn, dispatching
from agentmail.routing import Choice

from .crew import ACCOUNT, OPEN
from .test_crew import fill


@asynccontextmanager
async def desk(store_url: str, *routes: Route | Choice, threads: int = 3) -> AsyncIterator[Inbox]:
    async with ThreadStore(store_url) as store:
        await fill(store, threads)
        async with Inbox(ACCOUNT, store=store, agent="crew", policy=OPEN, routes=routes) as inbox:
            yield inbox


async def handled(inbox: Inbox) -> list[str]:
    done: list[str] = []

    async def handle(turn: Turn) -> None:
        done.append(turn.thread.id)

    await inbox.run(handle, wait=False)
    return done


def fails(message: Message) -> str | None:
    if message.subject == "Question 0":
        raise ZeroDivisionError("a fault of the route")
    return None


async def hangs(message: Message) -> str | None:
    if message.subject == "Question 0":
        await asyncio.Event().wait()
    return None


def names_nobody(message: Message) -> str | None:
    return 42 if message.subject == "Question 0" else None  # type: ignore[return-value]


@pytest.mark.parametrize("route", [fails, hangs, names_nobody])
async def test_a_route_that_fails_keeps_only_its_own_thread_waiting(
    store_url: str, route: Choice, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dispatching, "PATIENCE", 0.05)
    async with desk(store_url, route, Route(agent="crew")) as inbox:
        with caplog.at_level(logging.ERROR):
            assert await handled(inbox) == ["t2", "t3"]
        assert "t1 has no agent" in caplog.text
        assert [t.id for t in await inbox.threads() if not t.assigned] == ["t1"]
        assert await handled(inbox) == []  # it is not asked again at once
        inbox.routes = [Route(agent="crew")]
        inbox._dispatcher._undecided = dict.fromkeys(inbox._dispatcher._undecided, 0.0)  # a while has passed
        assert await handled(inbox) == ["t1"]


async def test_those_whom_no_route_fits_stand_in_nobodys_way_and_are_asked_once(store_url: str) -> None:
    asked: list[str] = []

    def last_one(message: Message) -> str | None:
        asked.append(message.subject)
        return "crew" if message.subject == "Question 69" else None

    async with desk(store_url, last_one, threads=70) as inbox:
        assert await handled(inbox) == ["t70"]
        assert sorted(asked) == sorted(f"Question {n}" for n in range(70))
        asked.clear()
        assert await handled(inbox) == []
        assert asked == []
        await inbox.store.set_labels("t7", add=["vip"])
        assert await handled(inbox) == []
        assert asked == ["Question 6"]  # a label may have been what it waited for
