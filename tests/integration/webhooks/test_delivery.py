"""Every event to every endpoint: signed, in order, at least once, by one process at a time."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks

from agentmail import ThreadStore
from agentmail.settings import Webhook
from agentmail.store import Tx, log, webhooks
from agentmail.store.changes import Changes
from agentmail.store.events import append_events
from agentmail.testing import ManualClock
from agentmail.webhooks import Webhooks
from agentmail.webhooks.delivery import LEASE, WRONG

from .endpoint import OK, Endpoint, Request

OLD, NEW = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + "Tm8gc2VjcmV0IGhhcyBiZWVuIGhhcm1lZCBoZXJl"
US = "agent@demo.local"


def said(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()


async def happen(store: ThreadStore, *kinds: str, account: str | None = US, **data: object) -> None:
    async def work(tx: Tx) -> None:
        await append_events(tx, [{"kind": kind, "thread": None, "message": None, "account": account, "data": data,
                                  "at": None} for kind in kinds])  # fmt: skip

    await store.open()
    await store.db.run(work)


@asynccontextmanager
async def telling(
    url: str, clock: ManualClock, endpoint: Endpoint, **given: object
) -> AsyncIterator[tuple[ThreadStore, Webhooks]]:
    """A store, and the webhooks of one process on it, which has been started before anything happens."""
    hook = Webhook(**({"url": endpoint.url, "secrets": (NEW, OLD), "allow_private": True} | given))  # type: ignore[arg-type]
    async with ThreadStore(url, clock=clock) as store:
        hooks = Webhooks(store, [hook], account=US, clock=clock, jitter=lambda: 0.5)
        await hooks.deliver_due()
        yield store, hooks


def told(requests: list[Request]) -> list[str]:
    return [json.loads(r.body)["type"] for r in requests]


async def test_what_happens_arrives_in_order_and_signed_by_every_secret(store_url: str, clock: ManualClock) -> None:
    async with Endpoint() as endpoint, ThreadStore(store_url, clock=clock) as early:
        await happen(early, "message.filed")  # history: from before the endpoint was known
        async with telling(store_url, clock, endpoint, events=("message.*", "thread.note")) as (store, hooks):
            await happen(store, "message.filed", "submission.sent", "thread.note", "webhook.dropped")
            await happen(store, "message.filed", account="other@demo.local")
            await happen(store, "message.filed", n=2)
            await hooks.deliver_due()
        assert told(endpoint.requests) == ["message.filed", "thread.note", "message.filed"]
        last = endpoint.requests[-1]
        assert json.loads(last.body)["data"] == {"n": 2, "seq": 7, "account": US, "thread": None, "message": None}
        assert len({r.headers["webhook-id"] for r in endpoint.requests}) == 3
        assert int(last.headers["webhook-timestamp"]) == int(clock().timestamp())
        for secret in (OLD, NEW):
            verify(secret, last)
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            verify("whsec_" + "QW5vdGhlciBzZWNyZXQgdGhhdCBub2JvZHkga25vd3M=", last)
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            verify(NEW, last._replace(body=last.body + b" "))


def verify(secret: str, request: Request) -> None:
    """As a receiver does it, by the reference library; only its clock is ours."""

    class AtThatTime(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("standardwebhooks.webhooks.datetime", AtThatTime)
        standardwebhooks.Webhook(secret).verify(request.body, request.headers)


async def test_what_is_not_taken_is_tried_again_under_the_same_id(sqlite_url: str, clock: ManualClock) -> None:
    async with (
        Endpoint(said("500 Oops"), said("503 Busy", "Retry-After: 900"), OK) as endpoint,
        telling(sqlite_url, clock, endpoint) as (store, hooks),
    ):
        await happen(store, "a.first", "b.second")
        assert await hooks.deliver_due() == pytest.approx(5.0)
        assert list((await hooks.errors()).values()) == ["the endpoint answered 500"]
        assert await hooks.deliver_due() == pytest.approx(5.0)  # too early: nothing is sent
        await clock.advance(6)
        assert await hooks.deliver_due() == pytest.approx(900.0)  # what the endpoint asks for, if it is longer
        await clock.advance(901)
        await hooks.deliver_due()
        assert told(endpoint.requests) == ["a.first", "a.first", "a.first", "b.second"]
        ids = [r.headers["webhook-id"] for r in endpoint.requests]
        assert ids[0] == ids[1] == ids[2] != ids[3]
        assert len({r.headers["webhook-timestamp"] for r in endpoint.requests[:3]}) == 3
        assert list((await hooks.errors()).values()) == [""]


async def test_what_the_endpoint_calls_wrong_does_not_block_the_rest(sqlite_url: str, clock: ManualClock) -> None:
    def picky(request: Request) -> bytes:
        return said("400 Bad") if b"poison" in request.body else OK

    async with Endpoint(picky) as endpoint, telling(sqlite_url, clock, endpoint) as (store, hooks):
        await happen(store, "poison.event", "good.event")
        for _ in range(WRONG):
            await clock.advance(min(await hooks.deliver_due(), 3600.0) + 1)
        assert told(endpoint.requests) == ["poison.event"] * WRONG + ["good.event"]
        [dropped] = [e for e in await log.published(store.db, 0) if e.kind == "webhook.dropped"]
        assert (dropped.data or {})["error"] == "the endpoint answered 400"


async def test_an_endpoint_that_is_gone_is_left_alone_until_a_restart(tmp_path: object, clock: ManualClock) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    async with Endpoint(said("410 Gone"), OK) as endpoint, telling(url, clock, endpoint) as (store, hooks):
        await happen(store, "a.first")
        for _ in range(5):
            await hooks.deliver_due()
            await clock.advance(timedelta(days=1))
        assert len(endpoint.requests) == 1
        async with telling(url, clock, endpoint):
            assert told(endpoint.requests) == ["a.first", "a.first"]


async def test_two_processes_tell_once_and_one_that_vanishes_is_replaced(store_url: str, clock: ManualClock) -> None:
    async with (
        Endpoint() as endpoint,
        telling(store_url, clock, endpoint) as (store, first),
        telling(store_url, clock, endpoint) as (_, second),
    ):
        await happen(store, *(f"event.n{n}" for n in range(20)))
        await asyncio.gather(first.deliver_due(), second.deliver_due())
        assert told(endpoint.requests) == [f"event.n{n}" for n in range(20)]
        await happen(store, "event.last")
        if await second.deliver_due() == LEASE / 2:  # the first one has it, and is heard of no more
            await clock.advance(LEASE + 1)
            await second.deliver_due()
        assert told(endpoint.requests)[-1] == "event.last"
        assert len(endpoint.requests) == 21


async def test_a_process_that_slept_moves_nothing(store_url: str, clock: ManualClock) -> None:
    async with ThreadStore(store_url, clock=clock) as store:
        await happen(store, "a.first")
        await log.published(store.db, 0)
        await store.db.run(lambda tx: webhooks.introduce(tx, "x"))
        old = await store.db.run(lambda tx: webhooks.take(tx, "x", "one", lease=60, again=False))
        await clock.advance(61)
        await store.db.run(lambda tx: webhooks.introduce(tx, "x"))
        new = await store.db.run(lambda tx: webhooks.take(tx, "x", "two", lease=60, again=False))
        assert old is not None
        assert new is not None
        assert not await store.db.run(lambda tx: webhooks.moved(tx, old.at(9), lease=60))
        await store.db.run(lambda tx: webhooks.failed(tx, old.at(9), attempts=3, next_at=1e9, error="", gone=True))
        assert await store.db.run(lambda tx: webhooks.moved(tx, new.at(1), lease=60, error="")) is True
        async with store.reading() as tx:
            assert await log.read_cursor(tx, "webhook x") == 1


async def test_an_idle_endpoint_and_a_failing_one_write_nothing(tmp_path: object, clock: ManualClock) -> None:
    """A write wakes everybody who listens, this process too: it would never rest again."""
    async with (
        Endpoint(OK, said("500 Oops")) as endpoint,
        telling(f"sqlite:///{tmp_path}/store.db", clock, endpoint) as (store, hooks),
    ):
        await happen(store, "a.first")
        await hooks.deliver_due()
        async with Changes(store.db) as changes:
            await hooks.deliver_due()
            assert not await changes.wait(0)
        await happen(store, "b.second")
        await hooks.deliver_due()
        async with Changes(store.db) as changes:
            await hooks.deliver_due()
            assert not await changes.wait(0)


async def test_running_it_tells_at_once_and_leaves_its_lease(store_url: str, clock: ManualClock) -> None:
    async with Endpoint() as endpoint, telling(store_url, clock, endpoint) as (store, hooks):
        running = asyncio.create_task(hooks.run())
        await happen(store, "a.first")
        await endpoint.expect(lambda r: told(r) == ["a.first"])
        running.cancel()
        await asyncio.wait([running])
        async with telling(store_url, clock, endpoint) as (_, other):
            await happen(store, "b.second")
            await other.deliver_due()
        assert told(endpoint.requests)[-1] == "b.second"  # though no time has passed


async def test_a_busy_store_delays_no_end(sqlite_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmail.webhooks.delivery.RELEASE", 0.05)
    async with Endpoint() as endpoint, telling(sqlite_url, clock, endpoint) as (store, hooks):
        running = asyncio.create_task(hooks.run())
        await happen(store, "a.first")
        await endpoint.expect(lambda r: told(r) == ["a.first"])
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as another:
            another.execute("BEGIN IMMEDIATE")
            running.cancel()
            done, _ = await asyncio.wait([running], timeout=8)  # SQLite waits 10 s, and there are 8 attempts
            another.execute("ROLLBACK")
        assert done
        assert running.cancelled()
