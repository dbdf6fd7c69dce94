"""The states of a submission, on both databases, on virtual time."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from agentmail.errors import (
    AlreadyAnswered,
    AuthenticationFailed,
    BadInput,
    Conflict,
    KeyReused,
    NotFound,
    OutcomeUnknown,
    PermanentFailure,
    Refused,
    StoreUnreachable,
    Unreachable,
)
from agentmail.outbox import Sent
from agentmail.policy import Policy
from agentmail.smtp import Outcome, Submitter, Timeouts
from agentmail.store import Tx, attempts, postgres_driver, submissions
from agentmail.store.database import database_now
from agentmail.store.events import EVENT
from agentmail.store.tables.outbox import SUBMISSION
from agentmail.store.unsent import unsent
from tests.waiting import until

from .conftest import Bench
from .scripted import CLOSE, HANG, ScriptedSmtp, with_password

MINUTE = 60.0


async def events(bench: Bench) -> list[str]:
    async with bench.store.reading() as tx:
        rows = await tx.execute(EVENT.select().order_by(EVENT.c.id))
        return [r.kind for r in rows if r.kind.startswith(("submission.", "account."))]


async def test_sent(bench: Bench) -> None:
    mail = bench.mail()
    sent = await bench.box.submit(mail)
    assert "sent" == sent.state
    assert mail.message_id == sent.message_id
    assert mail.raw == bench.server.taken[0][2]
    assert ["submission.queued", "submission.sent"] == await events(bench)
    thread = await bench.store.thread(str(sent.thread))
    assert [mail.message_id] == [m.message_id for m in thread.messages]
    assert [mail.message_id] == bench.shelf.filed
    await bench.box.deliver(sent.id)
    await bench.box.deliver_due()
    assert 1 == len(bench.server.taken)
    assert 1 == len(bench.shelf.filed)


async def test_a_4xx_waits_and_goes_later_with_the_same_bytes(bench: Bench) -> None:
    bench.server.script["rcpt"] = "450 4.2.0 greylisted"
    mail = bench.mail()
    sent = await bench.box.submit(mail)
    assert ("queued", 450) == (sent.state, sent.code)
    assert "greylisted" in sent.error
    assert bench.clock() + timedelta(minutes=5) == sent.next_attempt
    del bench.server.script["rcpt"]
    assert [] == await bench.box.deliver_due()
    await bench.clock.advance(5 * MINUTE)
    assert ["sent"] == [s.state for s in await bench.box.deliver_due()]
    assert [mail.raw] == [body for _, _, body in bench.server.taken]


async def test_attempts_get_rarer_and_end_after_two_days(bench: Bench) -> None:
    bench.server.script["mail"] = "451 4.3.0 later"
    sent = await bench.box.submit(bench.mail())
    waits = []
    while sent.state == "queued":
        assert sent.next_attempt is not None
        waits.append((sent.next_attempt - bench.clock()).total_seconds())
        await bench.clock.advance(waits[-1] + 1)
        await bench.box.deliver_due()
        sent = await bench.box.get(sent.id)
    assert [300, 600, 1200, 2400, 4000, 4000] == [round(w) for w in waits[:6]]
    assert "failed" == sent.state
    assert "expired" in sent.error
    assert "451" in sent.error
    assert 48 * 3600 <= sum(waits) <= 50 * 3600
    assert "submission.failed" in await events(bench)


async def test_a_5xx_fails_and_says_which_row(bench: Bench) -> None:
    bench.server.script["dot"] = "550 5.7.1 content refused"
    with pytest.raises(PermanentFailure, match="content refused") as caught:
        await bench.box.submit(bench.mail())
    assert 550 == caught.value.code
    id_ = str(caught.value.submission)
    assert "failed" == (await bench.box.get(id_)).state
    del bench.server.script["dot"]
    assert "queued" == (await bench.box.retry(id_, by="Bo")).state
    assert "sent" == (await bench.box.deliver(id_)).state


async def test_no_server_keeps_it(bench: Bench) -> None:
    async with ScriptedSmtp() as gone:
        account = gone.account()
    box = bench.outbox(account=account)
    with pytest.raises(Unreachable, match=r"kept as o1"):
        await box.submit(bench.mail())
    await bench.clock.advance(31)
    assert ["sent"] == [s.state for s in await bench.box.deliver_due()]


async def test_a_wrong_password_stops_the_account_until_it_changes(bench: Bench) -> None:
    bench.server.extensions = ("AUTH PLAIN",)
    bench.server.script["auth"] = "535 5.7.8 no"
    wrong = bench.outbox(account=with_password(bench.server.account(), "wrong"))
    with pytest.raises(AuthenticationFailed, match="kept as o1"):
        await wrong.submit(bench.mail())
    tries = bench.server.connections
    for _ in range(5):
        with pytest.raises(AuthenticationFailed, match="kept as"):
            await wrong.submit(bench.mail())
        await bench.clock.advance(3600)
        assert [] == await wrong.deliver_due()
    assert tries == bench.server.connections, "a refused password must not be tried again"
    assert "account.paused" in await events(bench)
    assert [("login", True)] == [(c, "wrong" not in r.replace("wrong: ", "")) for c, r in await wrong.paused()]
    del bench.server.script["auth"]
    right = bench.outbox(account=with_password(bench.server.account(), "right"))
    assert ["sent"] * 6 == [s.state for s in await right.deliver_due()]


async def test_a_refused_token_stops_the_account_until_there_is_another(bench: Bench) -> None:
    """Not for the whole quarter of an hour: the program that gives it may have got a new one long before."""
    token, asked, offered = "old", 0, set[str]()

    def auth(line: str) -> str:
        said = base64.b64decode(line.split()[2]).decode().split("Bearer ")[1].strip("\x01")
        offered.add(said)
        return "235 in" if said == "new" else "535 5.7.8 no"

    def gives() -> str:
        nonlocal asked
        asked += 1
        return token

    bench.server.extensions = ("AUTH XOAUTH2",)
    bench.server.script["auth"] = auth
    box = bench.outbox(account=bench.server.account(token=gives))
    with pytest.raises(AuthenticationFailed, match="kept as o1"):
        await box.submit(bench.mail())
    tries = bench.server.connections
    for _ in range(3):
        await bench.clock.advance(61)
        before = asked
        assert [] == await box.deliver_due()
        assert [] == await box.deliver_due()
        assert asked <= before + 1, "it is not asked again and again"
    assert tries == bench.server.connections
    token = "new"
    other = bench.outbox(account=bench.server.account(token=gives))
    assert ["sent"] == [s.state for s in await other.deliver_due()]
    assert {"old", "new"} == offered
    assert not await box.paused()


async def test_a_daily_limit_pauses_the_account_and_fails_nothing(bench: Bench) -> None:
    bench.server.script["rcpt"] = "550 5.4.5 Daily user sending limit exceeded"
    with pytest.raises(Exception, match="sending limit"):
        await bench.box.submit(bench.mail())
    del bench.server.script["rcpt"]
    later = await bench.box.submit(bench.mail())
    assert "queued" == later.state
    assert "paused" in later.error
    await bench.clock.advance(4 * 3600 + 1)
    assert ["sent", "sent"] == [s.state for s in await bench.box.deliver_due()]


async def test_partly_refused(bench: Bench) -> None:
    def rcpt(line: str) -> str:
        return "550 5.1.1 no" if "bob" in line else "450 4.2.0 later" if "eve" in line else "250 ok"

    bench.server.script["rcpt"] = rcpt
    sent = await bench.box.submit(bench.mail("ana@test.local", "bob@test.local", "eve@test.local"))
    assert ["sent", "failed", "pending"] == [r.state for r in sent.recipients]
    assert "queued" == sent.state
    bench.server.script["rcpt"] = "250 ok"
    await bench.clock.advance(5 * MINUTE)
    await bench.box.deliver_due()
    sent = await bench.box.get(sent.id)
    assert ["sent", "failed", "sent"] == [r.state for r in sent.recipients]
    assert "sent" == sent.state
    assert [["ana@test.local"], ["eve@test.local"]] == [to for _, to, _ in bench.server.taken]


async def test_too_many_recipients_at_once_are_split(bench: Bench) -> None:
    seen: list[str] = []

    def rcpt(line: str) -> str:
        seen.append(line)
        return "452 4.5.3 too many recipients" if len(seen) in {3, 4, 5} else "250 ok"

    bench.server.script["rcpt"] = rcpt
    await bench.box.submit(bench.mail(*(f"p{i}@test.local" for i in range(5))))
    await bench.box.deliver_due()
    assert [2, 3] == [len(to) for _, to, _ in bench.server.taken]


# -- unknown ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [0, 20, 45, 60])
async def test_unknown_is_found_in_sent_however_late_the_copy_comes(bench: Bench, lag: float) -> None:
    bench.server.script["dot"] = CLOSE
    mail = bench.mail()
    sent = await bench.box.submit(mail)
    assert "unknown" == sent.state
    assert "may have been sent" in sent.error
    bench.server.script.clear()
    for second in range(0, 150, 10):
        if second >= lag:
            bench.shelf.sent.add(mail.message_id)
        await bench.box.deliver_due()
        await bench.clock.advance(10)
    assert "sent" == (await bench.box.get(sent.id)).state
    assert 1 == len(bench.server.taken)


async def test_unknown_that_is_nowhere_goes_again_with_the_same_message_id(bench: Bench) -> None:
    bench.server.script["dot"] = HANG
    impatient = bench.outbox(submitter=Submitter(bench.server.account(), timeouts=Timeouts(dot=0.3)))
    sent = await impatient.submit(bench.mail())
    assert "unknown" == sent.state
    bench.server.script.clear()
    start = bench.clock()
    while (await bench.box.get(sent.id)).state != "sent":
        await bench.clock.advance(10)
        await bench.box.deliver_due()
    assert timedelta(seconds=120) <= bench.clock() - start <= timedelta(seconds=180)
    assert 4 <= bench.shelf.asked
    assert bench.server.taken[0][2] == bench.server.taken[1][2]


async def test_at_most_once_waits_for_a_person(bench: Bench) -> None:
    bench.server.script["dot"] = CLOSE
    sent = await bench.box.submit(bench.mail(), at_most_once=True)
    bench.server.script.clear()
    for _ in range(6):
        await bench.clock.advance(60)
        await bench.box.deliver_due()
    assert ("unknown", 1) == ((await bench.box.get(sent.id)).state, len(bench.server.taken))
    with pytest.raises(OutcomeUnknown):
        await bench.box.retry(sent.id)
    assert "sent" == (await bench.box.resolve(sent.id, sent=True, by="Bo")).state
    with pytest.raises(Conflict):
        await bench.box.resolve(sent.id, sent=False, by="Bo")


async def test_resolved_as_not_sent_goes_again(bench: Bench) -> None:
    bench.server.script["dot"] = CLOSE
    sent = await bench.box.submit(bench.mail(), at_most_once=True)
    bench.server.script.clear()
    await bench.box.resolve(sent.id, sent=False, by="Bo")
    assert "sent" == (await bench.box.deliver(sent.id)).state


async def test_without_a_way_to_look_a_person_decides(bench: Bench) -> None:
    box = bench.outbox(evidence=None)
    bench.server.script["dot"] = CLOSE
    sent = await box.submit(bench.mail())
    bench.server.script.clear()
    for _ in range(6):
        await bench.clock.advance(60)
        await box.deliver_due()
    assert ("unknown", 1) == ((await box.get(sent.id)).state, len(bench.server.taken))


async def test_a_mailbox_that_cannot_be_asked_proves_nothing(bench: Bench) -> None:
    bench.server.script["dot"] = CLOSE
    bench.shelf.broken = True
    sent = await bench.box.submit(bench.mail())
    bench.server.script.clear()
    for _ in range(6):
        await bench.clock.advance(60)
        await bench.box.deliver_due()
    assert ("unknown", 1) == ((await bench.box.get(sent.id)).state, len(bench.server.taken))
    bench.shelf.broken = False
    bench.shelf.sent.add(sent.message_id)
    await bench.clock.advance(61)
    await bench.box.deliver_due()
    assert "sent" == (await bench.box.get(sent.id)).state


async def test_a_copy_of_an_earlier_attempt_proves_nothing_about_a_later_one(bench: Bench) -> None:
    """Ana got it, Eve was deferred; the second attempt is lost. Ana's copy lies in Sent and says nothing about Eve."""
    bench.server.script["rcpt"] = lambda line: "450 later" if "eve" in line else "250 ok"
    sent = await bench.box.submit(bench.mail("ana@test.local", "eve@test.local"))
    bench.shelf.sent.add(sent.message_id)
    bench.server.script = {"dot": CLOSE}
    for _ in range(6):
        await bench.clock.advance(60)
        await bench.box.deliver_due()
    sent = await bench.box.get(sent.id)
    assert ("unknown", ["sent", "pending"]) == (sent.state, [r.state for r in sent.recipients])


# -- leases -----------------------------------------------------------------------------------------------------------


async def test_a_worker_that_slept_longer_than_its_lease_does_not_finish(bench: Bench) -> None:
    """Between the marker and the dot an hour passes; another worker takes over. One mail, not two."""
    other = bench.outbox()
    mail = bench.mail()
    submit = bench.box.submitter.submit

    async def slow(raw: bytes, envelope: Any, *, before_body: Any, submission: str | None) -> Any:
        async def pause(refused: Any) -> Any:
            answer = await before_body(refused)
            bench.clock._now += timedelta(hours=1)  # stopped: nothing of ours runs meanwhile
            for _ in range(30):
                await other.deliver_due()
                bench.clock._now += timedelta(seconds=30)
            return answer

        return await submit(raw, envelope, before_body=pause, submission=submission)

    bench.box.submitter.submit = slow  # type: ignore[method-assign]
    sent = await bench.box.submit(mail)
    assert "sent" == sent.state
    assert 1 == len(bench.server.taken)


async def test_the_marker_is_committed_before_the_body_goes(bench: Bench) -> None:
    """While the server has the body and has not answered, another process can read that it may have been sent."""
    seen: list[tuple[str, bool]] = []
    submit = bench.box.submitter.submit

    async def look(raw: bytes, envelope: Any, *, before_body: Any, submission: str | None) -> Any:
        async def read() -> None:
            async with bench.store.reading() as tx:
                row = (await tx.execute(SUBMISSION.select())).one()
            seen.append((row.state, row.marker_at is not None))

        async def around(refused: Any) -> Any:
            await read()
            answer = await before_body(refused)
            await read()
            return answer

        return await submit(raw, envelope, before_body=around, submission=submission)

    bench.box.submitter.submit = look  # type: ignore[method-assign]
    await bench.box.submit(bench.mail())
    assert [("sending", False), ("sending", True)] == seen


async def test_many_workers_send_each_once(bench: Bench) -> None:
    mails = [bench.mail(subject=str(i)) for i in range(30)]
    for mail in mails:
        await bench.store.db.run(lambda tx, m=mail: bench.box.enqueue(tx, m))  # type: ignore[misc]
    workers = [bench.box, *(bench.outbox() for _ in range(3))]
    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(worker.deliver_due())
    assert sorted(m.raw for m in mails) == sorted(body for _, _, body in bench.server.taken)


async def test_cancelled_before_the_body_it_is_free_at_once(bench: Bench) -> None:
    bench.server.script["mail"] = HANG
    task = asyncio.create_task(bench.box.submit(bench.mail()))
    async with asyncio.timeout(5):
        await bench.server.hung.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bench.server.script.clear()
    assert ["sent"] == [s.state for s in await bench.box.deliver_due()]


async def test_a_250_outlives_its_lease(bench: Bench) -> None:
    """Taken over while it waited for the reply: knowing that it was sent still keeps it from being sent again."""
    other = bench.outbox()

    def dot(_: str) -> str:
        bench.clock._now += timedelta(hours=1)
        return "250 2.0.0 queued"

    bench.server.script["dot"] = dot
    task = asyncio.create_task(bench.box.submit(bench.mail()))
    await task
    bench.server.script.clear()
    await bench.clock.advance(3600)
    await other.deliver_due()
    assert 1 == len(bench.server.taken)
    assert "sent" == (await other.list())[0].state


async def test_a_250_that_comes_late_stops_who_is_about_to_send_again(bench: Bench) -> None:
    """Looked for, not found, and taken once more; then the first worker goes on, with the 250 in its hand."""
    await bench.box.queue(bench.mail())
    first = await claimed(bench)
    assert {1} == await marked(bench, first)
    await looked_for_in_vain(bench)
    second = await claimed(bench)
    assert {1} == await told_to_be_sent(bench, first)
    assert set() == await marked(bench, second), "the body would have gone again"
    assert "sent" == (await bench.box.list())[0].state


async def test_a_250_that_comes_too_late_leaves_the_row_to_who_sends_again(bench: Bench) -> None:
    """Its body is on its way: how that ends is for it to say."""
    await bench.box.queue(bench.mail())
    first = await claimed(bench)
    assert {1} == await marked(bench, first)
    await looked_for_in_vain(bench)
    second = await claimed(bench)
    assert {1} == await marked(bench, second)
    assert [set(), {1}] == [await told_to_be_sent(bench, epoch) for epoch in (first, second)]


async def test_a_250_that_comes_after_it_was_canceled_is_told(bench: Bench) -> None:
    """It was looked for in vain and queued, and somebody stopped it: but its first worker had sent it."""
    await bench.box.queue(bench.mail())
    epoch = await claimed(bench)
    assert {1} == await marked(bench, epoch)
    await looked_for_in_vain(bench)
    await bench.box.cancel("o1", by="Bo")
    assert {1} == await told_to_be_sent(bench, epoch)
    assert ("sent", ["sent"]) == ((row := await bench.box.get("o1")).state, [r.state for r in row.recipients])


async def claimed(bench: Bench) -> int:
    """A worker takes the only row; the epoch of its claim."""

    async def work(tx: Tx) -> int:
        now = await database_now(tx)
        [row] = await attempts.claim(tx, bench.box.account.key, now=now, lease=180.0, limit=1)
        return row.epoch

    return await bench.store.db.run(work)


async def marked(bench: Bench, epoch: int) -> set[int]:
    """The rows whose body may go, when that worker asks."""

    async def work(tx: Tx) -> set[int]:
        return await attempts.mark(tx, [(1, epoch)], now=await database_now(tx))

    return await bench.store.db.run(work)


async def looked_for_in_vain(bench: Bench) -> None:
    """It waits for its turn again."""
    changes = {"state": "queued", "marker_at": None, "next_at": 0}
    await bench.store.db.run(lambda tx: submissions.change(tx, 1, states=["sending"], **changes))


async def told_to_be_sent(bench: Bench, epoch: int) -> set[int]:
    """The rows of which that is written, when that worker says so."""
    sent = attempts.Result(1, epoch, "sent", 250, "", "250 ok", whole=True)
    return await bench.store.db.run(lambda tx: attempts.settle(tx, [sent], now=bench.clock().timestamp()))


# -- keys, answers, times ---------------------------------------------------------------------------------------------


async def test_rows_of_the_same_moment_share_a_transaction(bench: Bench) -> None:
    """Each is written as if it were alone: in its thread, refused for itself, and the same key is one submission."""
    box = bench.outbox(Policy(deny=("eve@test.local",)))
    commits: list[int] = []
    enqueue = box._enqueue_in

    async def counted(tx: Any, given: Any) -> Any:
        commits.append(len(given))
        return await enqueue(tx, given)

    box._enqueue_in = counted  # type: ignore[method-assign]
    question = await bench.receive()
    mails = [bench.mail(subject=f"mail {i}") for i in range(20)]
    calls: list[Any] = [box.queue(m) for m in mails]
    calls += [box.queue(bench.mail("eve@test.local")), box.queue(bench.mail(reply_to=question.message_id),
              kind="reply", answers=question)]  # fmt: skip
    same = bench.mail(subject="once")
    calls += [box.queue(same, key="k"), box.queue(same, key="k")]
    *done, refused, answer, first, second = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(refused, Refused)
    assert 20 == len({s.id for s in done} - {answer.id}) == len({s.thread for s in done})
    assert [m.message_id for m in mails] == [s.message_id for s in done]
    assert question.thread == answer.thread
    assert first.id == second.id
    assert len(commits) <= 3, "they were written one by one"
    assert 22 == len(await box.deliver_due())
    assert Counter(body for _, _, body in bench.server.taken).most_common(1)[0][1] == 1


async def test_a_writer_that_is_cancelled_leaves_no_row_of_the_others_out_or_in_twice(bench: Bench) -> None:
    """The first of them writes for all, and is cancelled in its commit, of which nobody knows whether it happened."""
    mails = [bench.mail(subject=f"mail {i}") for i in range(5)]
    run = bench.store.db.run
    writing = asyncio.Event()

    async def cut(work: Any) -> Any:
        if writing.is_set():
            return await run(work)
        await run(work)
        writing.set()
        return await asyncio.Event().wait()

    bench.store.db.run = cut  # type: ignore[method-assign]
    tasks = [asyncio.create_task(bench.box.queue(m)) for m in mails]
    await writing.wait()
    tasks[0].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert [m.message_id for m in mails[1:]] == [s.message_id for s in done[1:] if isinstance(s, Sent)]
    assert sorted(m.message_id for m in mails) == sorted(s.message_id for s in await bench.box.list())


async def test_the_same_key_is_the_same_submission(bench: Bench) -> None:
    first = await bench.box.submit(bench.mail(), key="invoice-7")
    again = await bench.box.submit(bench.mail(), key="invoice-7")
    assert first == again
    assert 1 == len(bench.server.taken)
    with pytest.raises(KeyReused, match="text: was 'hello") as caught:
        await bench.box.submit(bench.mail(text="other"), key="invoice-7")
    assert "o1" in str(caught.value)
    assert "html" not in str(caught.value)  # nobody gave one: it was made of the text
    with pytest.raises(KeyReused, match="recipients"):
        await bench.box.submit(bench.mail("bob@test.local"), key="invoice-7")


@pytest.mark.parametrize("key", ["k" * 501, "a\0b", "a\nb"])
async def test_a_key_that_no_index_holds_is_refused(bench: Bench, key: str) -> None:
    with pytest.raises(BadInput, match="up to 500, all of them printable"):
        await bench.box.submit(bench.mail(), key=key)
    assert [] == await bench.box.list()
    assert "sent" == (await bench.box.submit(bench.mail(), key="ü" * 500)).state


async def test_the_same_key_at_the_same_moment(bench: Bench) -> None:
    boxes = [bench.box, bench.outbox(), bench.outbox(), bench.outbox()]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(box.submit(bench.mail(), key="k")) for box in boxes]
    assert 1 == len({t.result().id for t in tasks})
    assert 1 == len(bench.server.taken)


async def test_one_answer_to_a_message_unless_asked(bench: Bench) -> None:
    question = await bench.receive()

    async def answer(again: bool) -> Any:
        mail = bench.mail(reply_to=question.message_id)
        return await bench.box.submit(mail, kind="reply", answers=question, again=again)

    first = await answer(again=False)
    assert question.thread == first.thread
    with pytest.raises(AlreadyAnswered, match=first.id):
        await answer(again=False)
    assert first.id != (await answer(again=True)).id


async def test_two_that_answer_at_once(bench: Bench) -> None:
    question = await bench.receive()
    boxes = [bench.outbox() for _ in range(4)]
    results = await asyncio.gather(
        *(b.submit(bench.mail(), kind="reply", answers=question, again=False) for b in boxes), return_exceptions=True
    )
    assert 3 == sum(isinstance(r, AlreadyAnswered) for r in results), results
    assert 1 == len(bench.server.taken)


async def test_a_failed_or_canceled_answer_leaves_room(bench: Bench) -> None:
    question = await bench.receive()
    bench.server.script["mail"] = "550 no"
    with pytest.raises(PermanentFailure):
        await bench.box.submit(bench.mail(), kind="reply", answers=question, again=False)
    bench.server.script.clear()
    assert "sent" == (await bench.box.submit(bench.mail(), kind="reply", answers=question, again=False)).state


async def test_send_at(bench: Bench) -> None:
    due = bench.clock() + timedelta(hours=5)
    sent = await bench.box.submit(bench.mail(), send_at=due)
    assert ("queued", due) == (sent.state, sent.next_attempt)
    await bench.clock.advance(5 * 3600 - 1)
    assert [] == await bench.box.deliver_due()
    await bench.clock.advance(2)
    assert ["sent"] == [s.state for s in await bench.box.deliver_due()]
    with pytest.raises(BadInput, match="time zone"):
        await bench.box.submit(bench.mail(), send_at=due.replace(tzinfo=None))


async def test_cancel(bench: Bench) -> None:
    sent = await bench.box.submit(bench.mail(), send_at=bench.clock() + timedelta(hours=1))
    assert "canceled" == (await bench.box.cancel(sent.id, by="Bo")).state
    await bench.clock.advance(7200)
    assert [] == await bench.box.deliver_due()
    assert [] == bench.server.taken
    done = await bench.box.submit(bench.mail())
    with pytest.raises(Conflict, match="sent"):
        await bench.box.cancel(done.id)
    with pytest.raises(NotFound, match="o12"):
        await bench.box.cancel("m1")


# -- approval, pauses -------------------------------------------------------------------------------------------------


async def test_what_a_tool_writes_to_a_stranger_waits_for_a_person(bench: Bench) -> None:
    held = await bench.box.submit(bench.mail("new@elsewhere.test"), origin="tool")
    assert "held" == held.state
    assert "new@elsewhere.test is new" in held.reasons[0]
    assert [] == await bench.box.deliver_due()
    shown = await bench.box.fingerprint(held.id)
    with pytest.raises(Conflict, match="look at it again"):
        await bench.box.approve(held.id, by="Bo", fingerprint="0" * 64)
    approved = await bench.box.approve(held.id, by="Bo", fingerprint=shown)
    assert ("queued", "Bo") == (approved.state, approved.decided_by)
    with pytest.raises(Conflict, match="approved by Bo"):
        await bench.box.approve(held.id, by="Al")
    assert "sent" == (await bench.box.deliver(held.id)).state
    assert "held" != (await bench.box.submit(bench.mail("new@elsewhere.test"), origin="tool")).state


async def test_content_that_changed_under_an_approval_is_refused(bench: Bench) -> None:
    held = await bench.box.submit(bench.mail("new@elsewhere.test"), origin="tool")
    async with bench.store.transaction() as tx:
        await tx.execute(SUBMISSION.update().values(mail_from="evil@test.local"))
    with pytest.raises(Conflict):
        await bench.box.approve(held.id, by="Bo")
    assert [] == await bench.box.deliver_due()


async def test_two_that_approve_at_once(bench: Bench) -> None:
    held = await bench.box.submit(bench.mail("new@elsewhere.test"), origin="tool")
    results = await asyncio.gather(*(bench.box.approve(held.id, by=f"B{i}") for i in range(4)), return_exceptions=True)
    assert 3 == sum(isinstance(r, Conflict) for r in results), results


async def test_deny_and_edit(bench: Bench) -> None:
    question = await bench.receive()
    held = await bench.box.submit(
        bench.mail("new@elsewhere.test"), origin="tool", agent="support", kind="reply", answers=question, key="k"
    )
    denied = await bench.box.deny(held.id, by="Bo", reason="too long")
    assert ("canceled", "denied by Bo: too long") == (denied.state, denied.error)
    held = await bench.box.submit(bench.mail("new@elsewhere.test"), origin="tool", key="k2")
    edited = await bench.box.edit(held.id, bench.mail("new@elsewhere.test", text="shorter"), by="Bo")
    assert ("queued", "k2") == (edited.state, edited.key)
    assert "canceled" == (await bench.box.get(held.id)).state
    await bench.box.deliver_due()
    assert [b"shorter"] == [body.strip().rpartition(b"\r\n\r\n")[2] for _, _, body in bench.server.taken]
    names = await events(bench)
    assert {"submission.denied", "submission.edited"} <= set(names)


async def test_the_kill_switch(bench: Bench) -> None:
    waiting = await bench.box.submit(bench.mail(), send_at=bench.clock() + timedelta(minutes=1))
    await bench.box.pause(by="Bo", reason="it went mad", every=True)
    await bench.clock.advance(3600)
    assert [] == await bench.box.deliver_due()
    stopped = await bench.box.submit(bench.mail())
    assert "paused: it went mad" == stopped.error
    assert [] == bench.server.taken
    assert await bench.box.resume(by="Bo", every=True)
    assert {waiting.id, stopped.id} == {s.id for s in await bench.box.deliver_due()}


async def test_the_kill_switch_stops_what_a_worker_holds_already(bench: Bench) -> None:
    """Claimed, connected, and its body not begun: that is not yet sent, so it does not go."""

    class Slow(Submitter):
        async def submit(self, *given: Any, **how: Any) -> Outcome:
            await bench.box.pause(by="Bo", reason="stop", every=True)
            return await super().submit(*given, **how)

    box = bench.outbox(submitter=Slow(bench.server.account()))
    assert "queued" == (await box.submit(bench.mail())).state
    assert [] == bench.server.taken
    await bench.box.resume(by="Bo", every=True)
    assert ["sent"] == [s.state for s in await bench.box.deliver_due()]


async def test_a_connection_that_the_database_closed_is_not_used_again(bench: Bench) -> None:
    """Short writes go past SQLAlchemy, which would have noticed."""
    if bench.store.db.sqlite:
        return

    async def end(connection: Any) -> None:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(StoreUnreachable):
        await bench.store.db.shortly(lambda _: None, end)
    assert "sent" == (await bench.box.submit(bench.mail())).state


async def test_a_pooled_connection_that_the_database_closed_is_not_used_again(bench: Bench) -> None:
    """PostgreSQL restarted; its connections were in use a moment ago, and nobody asks them again. Mail that was claimed
    stood still for a lease, because its bytes could not be read.
    """
    if bench.store.db.sqlite:
        return
    async with bench.store.reading() as tx:
        used = (await tx.get_raw_connection()).driver_connection
        pid = (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one()

    async def end(connection: Any) -> None:
        await connection.execute(f"SELECT pg_terminate_backend({pid})")

    await bench.store.db.shortly(lambda _: None, end)
    await until(used.is_closed)  # type: ignore[union-attr]
    for _ in range(5):
        async with bench.store.reading() as tx:
            assert 1 == (await tx.execute(text("SELECT 1"))).scalar_one()


async def test_a_connection_that_rested_is_asked_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have ended meanwhile, and a marker that fails costs an attempt."""
    if bench.store.db.sqlite:
        return
    monkeypatch.setattr(postgres_driver, "FRESH", -1.0)
    used: list[int] = []

    async def process(connection: Any) -> None:
        used.append(await connection.fetchval("SELECT pg_backend_pid()"))

    for _ in range(2):
        await bench.store.db.shortly(lambda _: None, process)
    async with bench.store.db.write() as tx:
        await tx.execute(text(f"SELECT pg_terminate_backend({used[-1]})"))
    there = text(f"SELECT 1 FROM pg_stat_activity WHERE pid = {used[-1]}")
    async with asyncio.timeout(60), bench.store.reading() as tx:
        while (await tx.execute(there)).first() is not None:  # it is told to end, and not waited for
            pass
    await bench.store.db.shortly(lambda _: None, process)
    assert used[0] == used[1] != used[2]


async def test_a_grant_is_for_that_address(bench: Bench) -> None:
    await bench.box.grant("friend@elsewhere.test", reason="the user named her")
    assert "sent" == (await bench.box.submit(bench.mail("friend@elsewhere.test"), origin="tool")).state
    assert "held" == (await bench.box.submit(bench.mail("foe@elsewhere.test"), origin="tool")).state


async def test_never_to_the_deny_list_even_approved(bench: Bench) -> None:
    box = bench.outbox(Policy(deny=("@evil.test",)))
    with pytest.raises(Refused, match="deny list"):
        await box.submit(bench.mail("x@evil.test"))
    held = await bench.box.submit(bench.mail("x@evil.test"), origin="tool")
    with pytest.raises(Refused):
        await box.approve(held.id, by="Bo")


# -- bounces, rewriters -----------------------------------------------------------------------------------------------

DSN = """\
From: MAILER-DAEMON@mx.test.local
To: agent@test.local
Subject: Undelivered Mail Returned to Sender
Message-ID: <dsn1@mx.test.local>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

It came back.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.test.local

Final-Recipient: rfc822; {to}
Action: {action}
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 no such user

--b
Content-Type: text/rfc822-headers

Message-ID: {message_id}
Subject: x

--b--
"""


async def bounce(
    bench: Bench, message_id: str, to: str = "ana@test.local", action: str = "failed", status: str = "5.1.1"
) -> None:
    from agentmail.message.parse import parse

    text = DSN.format(message_id=message_id, to=to, action=action).replace("Status: 5.1.1", f"Status: {status}")
    raw = text.replace("\n", "\r\n").encode()
    await bench.store.file(parse(raw), account="agent@test.local", raw=raw)
    await bench.box.deliver_due()


async def test_a_bounce_marks_its_recipient(bench: Bench) -> None:
    sent = await bench.box.submit(bench.mail("ana@test.local", "bob@test.local"))
    await bounce(bench, sent.message_id)
    assert ["bounced", "sent"] == [r.state for r in (await bench.box.get(sent.id)).recipients]
    assert 1 == (await events(bench)).count("submission.bounced")
    await bench.box.deliver_due()
    assert 1 == (await events(bench)).count("submission.bounced")


@pytest.mark.parametrize(
    ("message_id", "to", "action"),
    [("<forged@test.local>", "ana@test.local", "failed"), ("", "other@test.local", "failed"),
     ("", "ana@test.local", "delayed"), ("", "ana@test.local", "delivered")],
)  # fmt: skip
async def test_a_forged_or_harmless_bounce_changes_nothing(bench: Bench, message_id: str, to: str, action: str) -> None:
    sent = await bench.box.submit(bench.mail())
    await bounce(bench, message_id or sent.message_id, to, action)
    assert ["sent"] == [r.state for r in (await bench.box.get(sent.id)).recipients]
    assert "submission.bounced" not in await events(bench)


@pytest.mark.parametrize(("status", "expected"), [("5.1.1", "bounced"), ("4.4.7", "bounced"), ("2.0.0", "sent")])
async def test_a_success_is_no_bounce_whatever_it_is_called(bench: Bench, status: str, expected: str) -> None:
    sent = await bench.box.submit(bench.mail())
    await bounce(bench, sent.message_id, status=status)
    assert [expected] == [r.state for r in (await bench.box.get(sent.id)).recipients]


async def test_a_bounce_after_two_weeks_is_not_believed(bench: Bench) -> None:
    sent = await bench.box.submit(bench.mail())
    await bench.clock.advance(15 * 86_400)
    await bounce(bench, sent.message_id)
    assert ["sent"] == [r.state for r in (await bench.box.get(sent.id)).recipients]


async def test_the_id_of_a_rewriter_finds_the_thread(bench: Bench) -> None:
    """Outlook.com replaces the Message-ID and tells it in its reply; an answer to that id belongs to the thread."""
    bench.server.script["dot"] = "250 2.0.0 OK <AM0PR01@AM0PR02.eurprd01.prod.outlook.com> [Hostname=x]"
    sent = await bench.box.submit(bench.mail())
    answer = await bench.receive(headers="In-Reply-To: <AM0PR01@AM0PR02.eurprd01.prod.outlook.com>\r\n")
    assert sent.thread == answer.thread


async def test_what_was_not_sent_is_marked_in_its_thread(bench: Bench) -> None:
    """A denied or canceled mail stays where it was written, and nobody shall take it for one that went."""
    question = await bench.receive()
    sent = await bench.box.submit(bench.mail("ana@test.local"), kind="reply", answers=question)
    box = bench.outbox(policy=Policy(send="hold"))
    held = [
        await box.submit(bench.mail(reply_to=question.message_id), kind="reply", answers=question, origin="tool")
        for _ in range(3)
    ]
    await box.deny(held[0].id, by="Bo", reason="wrong price")
    await box.cancel(held[1].id, by="Bo")
    thread = await bench.store.thread(str(question.thread))
    assert {
        held[0].message: "canceled: denied by Bo: wrong price", held[1].message: "canceled: canceled by Bo",
        held[2].message: "held",
    } == thread.unsent  # fmt: skip
    assert sent.message not in thread.unsent
    await box.approve(held[2].id, by="Bo")
    await box.deliver(held[2].id)
    assert held[2].message not in (await bench.store.thread(str(question.thread))).unsent


async def test_what_was_denied_waits_for_no_answer(bench: Bench) -> None:
    question = await bench.receive()
    box = bench.outbox(policy=Policy(new_recipients="allow"))
    for _ in range(4):  # max_unanswered is 2
        one = await box.submit(bench.mail(reply_to=question.message_id), kind="reply", answers=question, origin="tool")
        assert "sent" != one.state or one.reasons == ()
        if one.state == "sent":
            continue
        await box.deny(one.id, by="Bo")
    rules = [r for s in await box.list() for r in s.reasons]
    assert all("max_unanswered" in r for r in rules)
    assert 2 == len(rules)


# -- partly sent, lost twice, dated far ahead, deleted -----------------------------------------------------------------


def all_but_bob(line: str) -> str:
    return "450 4.2.0 later" if "bob" in line else "250 2.1.5 ok"


async def test_what_somebody_has_is_not_canceled(bench: Bench) -> None:
    """An agent that reads "canceled" would write to Ana once more."""
    bench.server.script["rcpt"] = all_but_bob
    waiting = await bench.box.submit(bench.mail("ana@test.local", "bob@test.local"))
    assert "queued" == waiting.state
    stopped = await bench.box.cancel(waiting.id, by="Bo")
    assert ("sent", ["sent", "failed"]) == (stopped.state, [r.state for r in stopped.recipients])
    assert "canceled by Bo, after ana@test.local had it" == stopped.error
    async with bench.store.reading() as tx:
        assert {} == await unsent(tx, [int(str(stopped.thread)[1:])])
    await bench.clock.advance(86_400)
    await bench.box.deliver_due()
    assert [["ana@test.local"]] == [to for _, to, _ in bench.server.taken]


async def test_what_somebody_has_does_not_expire_as_failed(bench: Bench) -> None:
    bench.server.script["rcpt"] = all_but_bob
    waiting = await bench.box.submit(bench.mail("ana@test.local", "bob@test.local"))
    await bench.clock.advance(3 * 86_400)
    await bench.box.deliver_due()
    over = await bench.box.get(waiting.id)
    assert ("sent", ["sent", "failed"]) == (over.state, [r.state for r in over.recipients])
    assert over.error.startswith("expired; the last error")
    assert "submission.sent" == (await events(bench))[-1]
    with pytest.raises(Conflict):
        await bench.box.retry(waiting.id)


async def test_lost_again_is_looked_for_as_often_as_the_first_time(bench: Bench) -> None:
    """A person said that it did not go; the next attempt is lost too, and its copy may lag behind as long as any."""
    bench.server.script["dot"] = CLOSE
    lost = await bench.box.submit(bench.mail())
    for _ in range(3):
        await bench.box.deliver_due()
        await bench.clock.advance(31)
    await bench.box.resolve(lost.id, sent=False, by="Bo")
    assert "unknown" == (await bench.box.deliver(lost.id)).state
    taken = len(bench.server.taken)
    await bench.box.deliver_due()
    assert "unknown" == (await bench.box.get(lost.id)).state, "it goes again after one look"
    await bench.clock.advance(31)
    bench.shelf.sent.add(lost.message_id)
    await bench.box.deliver_due()
    assert ("sent", taken) == ((await bench.box.get(lost.id)).state, len(bench.server.taken))


FAR = ["9999-12-31T23:59:59+00:00", "9999-12-31T23:59:59-12:00", "2126-01-01T00:00:00+00:00"]


@pytest.mark.parametrize("when", FAR)
async def test_nothing_is_kept_for_centuries(bench: Bench, when: str) -> None:
    with pytest.raises(BadInput, match="ten years"):
        await bench.box.queue(bench.mail(), send_at=datetime.fromisoformat(when))
    assert [] == await bench.box.list()


async def test_a_key_outlives_what_it_was_used_for(bench: Bench) -> None:
    """Somebody asked to be forgotten; the program that comes back with the key must not write to them again."""
    first = await bench.box.submit(bench.mail(), key="invoice-7")
    await bench.store.delete_thread(str(first.thread))
    with pytest.raises(KeyReused, match="deleted since"):
        await bench.box.submit(bench.mail(), key="invoice-7")
    await bench.box.submit(bench.mail(), key="invoice-8")
    assert 2 == len(bench.server.taken)


async def test_mail_that_is_deleted_while_copies_are_filed_has_none_and_stops_no_worker(bench: Bench) -> None:
    sent = [await bench.box.queue(bench.mail(f"p{n}@test.local", subject=f"x{n}")) for n in range(3)]
    filing = bench.shelf.file_sent

    async def then_forgotten(raw: bytes, message_id: str) -> None:
        await filing(raw, message_id)
        for one in sent:
            if one.message_id != message_id:
                await bench.store.delete_thread(str(one.thread))

    bench.shelf.file_sent = then_forgotten  # type: ignore[method-assign]
    assert [s.state for s in await bench.box.deliver_due()] == ["sent"] * 3
    assert bench.shelf.filed == [sent[0].message_id]
