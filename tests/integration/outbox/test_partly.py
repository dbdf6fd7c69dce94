"""Several recipients, each with a fate of its own: what is said of each must be true, however the attempt ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentmail.errors import PermanentFailure
from tests.waiting import until

from .conftest import Bench
from .scripted import CLOSE

WHO = ("ana@test.local", "bob@test.local", "eve@test.local")


def by_name(line: str) -> str:
    return "550 5.1.1 no" if "bob" in line else "450 4.2.0 later" if "eve" in line else "250 2.1.5 ok"


def states(sent: object) -> list[str]:
    return [r.state for r in sent.recipients]  # type: ignore[attr-defined]


async def wait(bench: Bench, times: int = 6) -> None:
    for _ in range(times):
        await bench.clock.advance(60)
        await bench.box.deliver_due()


async def test_who_was_refused_before_the_connection_was_lost_did_not_get_it(bench: Bench) -> None:
    """Found in Sent proves that it went to those who were taken: Bob was refused, and Eve is still to get it."""
    bench.server.script = {"rcpt": by_name, "dot": CLOSE}
    lost = await bench.box.submit(bench.mail(*WHO))
    assert ("unknown", ["pending", "failed", "pending"]) == (lost.state, states(lost))
    bench.shelf.sent.add(lost.message_id)
    bench.server.script.clear()
    await bench.box.deliver_due()
    found = await bench.box.get(lost.id)
    assert ["sent", "failed", "sent"] == states(found)
    assert "sent" == found.state
    assert [["ana@test.local"], ["eve@test.local"]] == [to for _, to, _ in bench.server.taken]


async def test_who_was_deferred_before_the_connection_was_lost_waits_when_it_is_found(bench: Bench) -> None:
    bench.server.script = {"rcpt": by_name, "dot": CLOSE}
    lost = await bench.box.submit(bench.mail(*WHO))
    bench.shelf.sent.add(lost.message_id)
    bench.server.script = {"rcpt": by_name}
    await bench.box.deliver_due()
    waiting = await bench.box.get(lost.id)
    assert ("queued", ["sent", "failed", "pending"]) == (waiting.state, states(waiting))
    assert waiting.next_attempt is not None


async def dies_behind_the_dot(bench: Bench, id_: str) -> None:
    """The server has it, and nothing of that is written: the worker is gone at that moment."""
    box = bench.outbox()

    async def never(_: Any) -> None:
        await asyncio.Event().wait()

    box._end = never  # type: ignore[method-assign]
    before = len(bench.server.taken)
    task = asyncio.create_task(box.deliver(id_))
    await until(lambda: len(bench.server.taken) > before)
    task.cancel()
    await asyncio.wait([task])
    await bench.clock.advance(181)


async def test_a_worker_that_dies_leaves_word_of_who_was_refused(bench: Bench) -> None:
    """Bob was refused and Eve deferred when it died behind the dot: what lies in Sent is no proof that they got it."""
    bench.server.script = {"rcpt": by_name}
    queued = await bench.box.queue(bench.mail(*WHO))
    await dies_behind_the_dot(bench, queued.id)
    bench.shelf.sent.add(queued.message_id)
    await bench.box.deliver_due()
    waiting = await bench.box.get(queued.id)
    assert ("queued", ["sent", "failed", "pending"]) == (waiting.state, states(waiting))
    bench.server.script.clear()
    await bench.clock.advance(601)
    await bench.box.deliver_due()
    done = await bench.box.get(queued.id)
    assert ("sent", ["sent", "failed", "sent"]) == (done.state, states(done))
    assert [["ana@test.local"], ["eve@test.local"]] == [to for _, to, _ in bench.server.taken]


async def test_who_was_deferred_once_may_get_it_from_a_worker_that_dies(bench: Bench) -> None:
    """What an earlier attempt was told of Eve says nothing about this one, which was told nothing."""
    bench.server.script = {"rcpt": by_name}
    waiting = await bench.box.submit(bench.mail(*WHO))
    assert ("queued", ["sent", "failed", "pending"]) == (waiting.state, states(waiting))
    bench.server.script.clear()
    await bench.clock.advance(301)
    await dies_behind_the_dot(bench, waiting.id)
    bench.shelf.sent.add(waiting.message_id)
    await bench.box.deliver_due()
    doubted = await bench.box.get(waiting.id)
    assert ("unknown", "pending") == (doubted.state, states(doubted)[2])
    await bench.box.resolve(waiting.id, sent=True, by="Bo")
    done = await bench.box.get(waiting.id)
    assert ("sent", ["sent", "failed", "sent"]) == (done.state, states(done))


@pytest.mark.parametrize("sent", [True, False])
async def test_a_person_resolves_for_those_who_were_taken(bench: Bench, sent: bool) -> None:
    bench.server.script = {"rcpt": by_name, "dot": CLOSE}
    lost = await bench.box.submit(bench.mail(*WHO), at_most_once=True)
    bench.server.script.clear()
    await bench.box.resolve(lost.id, sent=sent, by="Bo")
    await bench.box.deliver_due()
    done = await bench.box.get(lost.id)
    assert ("sent", ["sent", "failed", "sent"]) == (done.state, states(done))
    assert (["eve@test.local"] if sent else ["ana@test.local", "eve@test.local"]) == bench.server.taken[-1][1]


async def test_nowhere_to_be_found_it_goes_to_all_but_the_refused(bench: Bench) -> None:
    bench.server.script = {"rcpt": by_name, "dot": CLOSE}
    lost = await bench.box.submit(bench.mail(*WHO))
    bench.server.script = {"dot": CLOSE}
    await wait(bench, 4)
    assert [["ana@test.local"], ["ana@test.local", "eve@test.local"]] == [to for _, to, _ in bench.server.taken]
    # Lost again, but this time Eve was taken too.
    bench.shelf.sent.add(lost.message_id)
    bench.server.script.clear()
    await wait(bench, 1)
    done = await bench.box.get(lost.id)
    assert ("sent", ["sent", "failed", "sent"], 2) == (done.state, states(done), len(bench.server.taken))


async def test_a_mail_that_is_refused_waits_for_nobody(bench: Bench) -> None:
    """Eve was deferred, and then the content is refused: she will not get it, and nobody may believe that she waits."""
    bench.server.script = {"rcpt": by_name, "dot": "550 5.7.1 content refused"}
    with pytest.raises(PermanentFailure) as caught:
        await bench.box.submit(bench.mail(*WHO))
    refused = await bench.box.get(str(caught.value.submission))
    assert ("failed", ["failed"] * 3) == (refused.state, states(refused))


async def test_who_was_deferred_to_the_end_was_not_sent_to(bench: Bench) -> None:
    """Ana has it, Bob and Eve wait. Then the server refuses the content while Eve is deferred again."""
    bench.server.script["rcpt"] = lambda line: "250 ok" if "ana" in line else "450 4.2.0 later"
    waiting = await bench.box.submit(bench.mail(*WHO))
    assert ("queued", ["sent", "pending", "pending"]) == (waiting.state, states(waiting))
    bench.server.script = {
        "rcpt": lambda line: "250 ok" if "bob" in line else "450 4.2.0 later", "dot": "550 5.7.1 refused",
    }  # fmt: skip
    await bench.clock.advance(301)
    await bench.box.deliver_due()
    over = await bench.box.get(waiting.id)
    assert ("sent", ["sent", "failed", "failed"]) == (over.state, states(over))


async def test_what_a_person_found_to_be_sent_has_a_time_and_a_copy(bench: Bench) -> None:
    bench.server.script["dot"] = CLOSE
    lost = await bench.box.submit(bench.mail(), at_most_once=True)
    resolved = await bench.box.resolve(lost.id, sent=True, by="Bo")
    assert bench.clock() == resolved.sent_at
    await bench.box.deliver_due()
    assert [lost.message_id] == bench.shelf.filed
