"""When nothing may leave for a while: a limit, a refused login, the kill switch; and how each of them ends."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from agentmail.errors import AuthenticationFailed, Throttled
from agentmail.smtp import Submitter
from agentmail.store.events import EVENT

from .conftest import Bench
from .scripted import with_password
from .test_life import events


async def test_going_too_fast_rests_the_account_for_a_minute(bench: Bench) -> None:
    """A service that takes one mail a second says so each second."""
    bench.server.script["dot"] = "454 Throttling failure: Maximum sending rate exceeded."
    with pytest.raises(Throttled):
        await bench.box.submit(bench.mail())
    bench.server.script.clear()
    await bench.clock.advance(30)
    assert [] == await bench.box.deliver_due()
    await bench.clock.advance(31)
    assert ["sent"] == [s.state for s in await bench.box.deliver_due()]


async def test_a_limit_that_the_second_recipient_met_fails_nobody(bench: Bench) -> None:
    limit = "550 5.4.5 Daily user sending limit exceeded"
    bench.server.script["rcpt"] = lambda line: limit if "bob" in line else "250 2.1.5 ok"
    sent = await bench.box.submit(bench.mail("ana@test.local", "bob@test.local"))  # Throttled says: nothing was sent
    bench.server.script.clear()
    assert ("queued", ["sent", "pending"]) == (sent.state, [r.state for r in sent.recipients])
    assert "sent to the others" in sent.error
    assert "paused: the sending limit" in (await bench.box.submit(bench.mail())).error
    await bench.clock.advance(4 * 3600 + 1)
    assert ["sent", "sent"] == [s.state for s in await bench.box.deliver_due()]
    assert ["ana@test.local"] == bench.server.taken[0][1]
    assert [["ana@test.local"], ["bob@test.local"]] == sorted(to for _, to, _ in bench.server.taken[1:])


@pytest.mark.parametrize("every", [False, True])
async def test_a_pause_stops_the_time_that_mail_has(bench: Bench, every: bool) -> None:
    """Somebody pulls the switch on Friday and lets go on Monday: nothing is lost."""
    waiting = await bench.box.submit(bench.mail(), send_at=bench.clock() + timedelta(minutes=1))
    await bench.box.pause(by="Bo", reason="it went mad", every=every)
    for _ in range(4):
        await bench.clock.advance(86_400)
        await bench.box.deliver_due()
    assert "queued" == (await bench.box.get(waiting.id)).state
    await bench.box.resume(by="Bo", every=every)
    bench.server.script["mail"] = "451 4.3.0 later"
    await bench.box.deliver_due()
    assert ("queued", 451) == ((again := await bench.box.get(waiting.id)).state, again.code)
    bench.server.script.clear()
    await bench.clock.advance(300)
    assert ["sent"] == [s.state for s in await bench.box.deliver_due()]


async def test_a_password_may_take_a_week_to_change(bench: Bench) -> None:
    bench.server.extensions = ("AUTH PLAIN",)
    bench.server.script["auth"] = "535 5.7.8 no"
    wrong = bench.outbox(account=with_password(bench.server.account(), "wrong"))
    with pytest.raises(AuthenticationFailed):
        await wrong.submit(bench.mail())
    for _ in range(7):
        await bench.clock.advance(86_400)
        await wrong.deliver_due()
    bench.server.script.clear()
    right = bench.outbox(account=with_password(bench.server.account(), "right"))
    assert ["sent"] == [s.state for s in await right.deliver_due()]
    assert "account.resumed" in await events(bench)


async def test_resuming_what_was_not_paused_is_no_event(bench: Bench) -> None:
    assert not await bench.box.resume(by="Bo")
    assert "account.resumed" not in await events(bench)
    await bench.box.pause(by="Bo", reason="x")
    assert await bench.box.resume(by="Bo")
    assert 1 == (await events(bench)).count("account.resumed")


@pytest.mark.parametrize(("said", "error"), [("535 5.7.8 no", "refused the login"), ("454 4.7.0 Too many", "Too many")])
async def test_a_refused_login_is_tried_once_however_much_waits(bench: Bench, said: str, error: str) -> None:
    """Each mail of a batch dialled for itself: 32 wrong passwords at once, and the account is locked."""
    bench.server.extensions = ("AUTH PLAIN",)
    bench.server.script["auth"] = said
    box = bench.outbox(account=with_password(bench.server.account(), "wrong"))
    for _ in range(20):
        await box.queue(bench.mail())
    await box.deliver_due()
    assert 1 == sum(c.startswith("AUTH") for c in bench.server.commands)
    waiting = await box.list()
    assert {"queued"} == {s.state for s in waiting}
    assert all(error in s.error for s in waiting)
    bench.server.script.clear()
    right = bench.outbox(account=with_password(bench.server.account(), "right"))
    await bench.clock.advance(40)
    assert 20 == len([s for s in await right.deliver_due() if s.state == "sent"])


async def test_outlook_gets_three_connections(bench: Bench) -> None:
    """It takes no more from a mailbox, and says so to the fourth."""
    account = bench.server.account().model_copy(update={"smtp_host": "smtp.office365.com"})
    assert (3, 4) == (Submitter(account).connections, Submitter(bench.server.account()).connections)


async def test_a_password_that_is_revoked_is_tried_by_no_more_than_are_at_it(bench: Bench) -> None:
    bench.server.extensions = ("AUTH PLAIN",)
    account = with_password(bench.server.account())
    box = bench.outbox(account=account, submitter=Submitter(account, keep=-1.0))
    await box.submit(bench.mail())
    bench.server.script["auth"] = "535 5.7.8 no"
    for _ in range(20):
        await box.queue(bench.mail())
    before = len(bench.server.commands)
    await box.deliver_due()
    assert 1 <= sum(c.startswith("AUTH") for c in bench.server.commands[before:]) <= 4
    assert 20 == len(await box.list("queued"))


# -- a pause that ends by itself --------------------------------------------------------------------------------------


async def resumed(bench: Bench) -> list[tuple[str | None, str | None]]:
    async with bench.store.reading() as tx:
        rows = (await tx.execute(EVENT.select().where(EVENT.c.kind == "account.resumed"))).all()
    return [(r.account, r.data.get("cause")) for r in rows]


async def test_the_end_of_a_limit_is_told_once(bench: Bench) -> None:
    """Who follows the log saw the account stop, and would wait for ever."""
    bench.server.script["dot"] = "454 Throttling failure: Maximum sending rate exceeded."
    with pytest.raises(Throttled):
        await bench.box.submit(bench.mail())
    bench.server.script.clear()
    await bench.box.deliver_due()
    assert [] == await resumed(bench)
    await bench.clock.advance(61)
    await asyncio.gather(*(bench.outbox().deliver_due() for _ in range(3)))
    assert [("agent@test.local", "limit")] == await resumed(bench)


@pytest.mark.parametrize("every", [False, True])
async def test_after_a_pause_with_an_end_mail_is_tried_and_not_expired(bench: Bench, every: bool) -> None:
    waiting = await bench.box.submit(bench.mail(), send_at=bench.clock() + timedelta(minutes=1))
    account = bench.server.account()
    end = bench.clock() + timedelta(days=4)
    if every:
        await bench.box.pause(by="Bo", reason="a holiday", until=end, every=True)
    else:
        await bench.box.pause(by="Bo", reason="a holiday", until=end)
    bench.server.script["mail"] = "451 4.3.0 later"
    await bench.clock.advance(4 * 86_400 + 1)
    await bench.box.deliver_due()
    assert ("queued", 451) == ((tried := await bench.box.get(waiting.id)).state, tried.code)
    bench.server.script.clear()
    await bench.clock.advance(301)
    assert ["sent"] == [s.state for s in await bench.box.deliver_due()]
    assert [("*" if every else account.key, "operator")] == await resumed(bench)


async def test_a_token_may_take_three_days_to_renew(bench: Bench) -> None:
    bench.server.extensions = ("AUTH XOAUTH2",)
    bench.server.script["auth"] = "535 5.7.8 no"
    token = "old"
    box = bench.outbox(account=bench.server.account(token=lambda: token))
    waiting = await box.queue(bench.mail())
    for _ in range(3 * 24):
        await box.deliver_due()
        await bench.clock.advance(3601)
    assert "queued" == (await box.get(waiting.id)).state
    bench.server.script.clear()
    token = "new"
    await box.deliver_due()
    await bench.clock.advance(61)
    await box.deliver_due()
    assert "sent" == (await box.get(waiting.id)).state


async def test_mail_that_meets_a_limit_at_each_attempt_ends_all_the_same(bench: Bench) -> None:
    """It may be at fault itself, and would stop the account for ever."""
    bench.server.script["mail"] = "550 5.4.5 Daily user sending limit exceeded"
    at_fault = await bench.box.queue(bench.mail())
    for _ in range(3 * 6):
        await bench.box.deliver_due()
        await bench.clock.advance(4 * 3600 + 10)
    assert "failed" == (await bench.box.get(at_fault.id)).state


async def test_a_limit_that_outlasts_two_days_fails_nobody_who_had_no_attempt(bench: Bench) -> None:
    bench.server.script["mail"] = "550 5.4.5 Daily user sending limit exceeded"
    await bench.box.queue(bench.mail())
    await bench.box.deliver_due()
    behind = await bench.box.queue(bench.mail())
    await bench.clock.advance(2 * 86_400 + 4 * 3600)  # nobody was there to try it
    bench.server.script.clear()
    await bench.box.deliver_due()
    assert "sent" == (await bench.box.get(behind.id)).state
