"""Bounces by the address they come to (VERP), from a script and from a real Postfix; copies to ourselves."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event as sql_event

from agentmail import Attachment, Inbox, Policy
from agentmail.errors import Conflict
from agentmail.message.parse import parse
from agentmail.outbox import Sent
from agentmail.settings import Account
from agentmail.smtp import Outcome, Submitter
from agentmail.store import submissions

from .conftest import Bench
from .scripted import CLOSE
from .test_life import DSN, bounce, events

SAYS_NOTHING = """\
From: MAILER-DAEMON@mx.test.local
To: {to}
Subject: Undelivered mail
Message-ID: <dsn2@mx.test.local>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

It came back.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.test.local

--b--
"""
ABOUT_ANA = DSN.replace("To: agent@test.local", "To: {return_path}").replace("Message-ID: {message_id}\n", "")
AWAY = (
    "From: ana@test.local\nTo: {to}\nSubject: away\nAuto-Submitted: auto-replied\nMessage-ID: <away@x.test>\n\nAway.\n"
)


async def comes(bench: Bench, raw: str) -> None:
    data = raw.replace("\n", "\r\n").encode()
    await bench.store.file(parse(data), account="agent@test.local", raw=data)
    await bench.box.deliver_due()


@pytest.fixture
def plus(bench: Bench) -> Bench:
    bench.box = bench.outbox(account=bench.server.account(plus_addressing=True))
    return bench


async def states(bench: Bench, sent: Sent) -> list[str]:
    return [r.state for r in (await bench.box.get(sent.id)).recipients]


async def test_each_mail_has_an_envelope_sender_of_its_own(plus: Bench) -> None:
    for _ in range(2):
        await plus.box.submit(plus.mail())
    first, second = (mail_from for mail_from, _, _ in plus.server.taken)
    assert first != second
    assert all(a.startswith("agent+b=") and a.endswith("@test.local") for a in (first, second))
    assert b"+b=" not in plus.server.taken[0][2]  # the mail itself says nothing of it


async def test_a_bounce_is_matched_by_the_address_it_comes_to(plus: Bench) -> None:
    sent = await plus.box.submit(plus.mail("ana@test.local", "bob@test.local"))
    path = plus.server.taken[0][0]
    await comes(plus, ABOUT_ANA.format(return_path=path.upper(), to="ana@test.local", action="failed"))
    assert ["bounced", "sent"] == await states(plus, sent)
    assert 1 == (await events(plus)).count("submission.bounced")


@pytest.mark.parametrize(
    ("people", "expected"), [(["ana@test.local"], "bounced"), (["ana@test.local", "b@x.test"], "sent")]
)
async def test_a_bounce_that_names_nobody_is_about_the_only_recipient(
    plus: Bench, people: list[str], expected: str
) -> None:
    sent = await plus.box.submit(plus.mail(*people))
    await comes(plus, SAYS_NOTHING.format(to=plus.server.taken[0][0]))
    assert expected == (await states(plus, sent))[0]


@pytest.mark.parametrize("who", ["another tag", "another account", "not ours", "no bounce"])
async def test_a_forged_or_harmless_one_changes_nothing(plus: Bench, who: str) -> None:
    sent = await plus.box.submit(plus.mail())
    path = plus.server.taken[0][0]
    tag = path.partition("+b=")[2].partition("@")[0]
    wrong = {
        "another tag": path.replace(tag, "a" * 16), "another account": path.replace("agent+", "other+"),
        "not ours": f"agent+b={tag}@elsewhere.test", "no bounce": path,
    }[who]  # fmt: skip
    text = AWAY if who == "no bounce" else SAYS_NOTHING
    await comes(plus, text.format(to=wrong))
    if who != "no bounce":
        await comes(plus, ABOUT_ANA.format(return_path=wrong, to="ana@test.local", action="failed"))
    assert ["sent"] == await states(plus, sent)
    assert "submission.bounced" not in await events(plus)


@pytest.mark.parametrize("local", ["a" * 46, "agent+more"])
async def test_only_where_there_is_room(bench: Bench, local: str) -> None:
    """64 octets are the limit (RFC 5321 4.5.3.1.1); an address with a plus of its own takes another."""
    account = bench.server.account(address=f"{local}@test.local", plus_addressing=True)
    box = bench.outbox(account=account)
    mail = bench.mail()
    await box.submit(
        mail.model_copy(update={"envelope": mail.envelope.model_copy(update={"mail_from": account.address})})
    )
    used = bench.server.taken[0][0].rpartition("@")[0]
    assert len(used) <= 64
    assert (used == local) == (local[0] == "a" and len(local) == 46)


async def test_a_copy_to_ourselves_is_proof(bench: Bench) -> None:
    """A setting of the account. The server files nothing in Sent, and the reply to the dot is lost."""
    box = bench.outbox(account=bench.server.account(self_copy=True), evidence=None)
    bench.server.script["dot"] = CLOSE
    mail = bench.mail()
    sent = await box.submit(mail)
    assert "unknown" == sent.state
    assert ["ana@test.local", "agent@test.local"] == [r.address for r in sent.recipients]
    assert b"agent@test.local" not in mail.raw.partition(b"To: ")[2].partition(b"\r\n")[0]
    from agentmail.store import Location  # the copy arrives, and the receiving side files it

    copy = parse(mail.raw)
    await bench.store.file(copy, account="agent@test.local", raw=mail.raw, location=Location("INBOX", 1, 7))
    await bench.clock.advance(1)
    await box.deliver_due()
    assert "sent" == (await box.get(sent.id)).state
    assert 1 == len(bench.server.taken)


@pytest.mark.parametrize("plus_addressing", [True, False])
async def test_a_real_bounce_marks_its_recipient(mail_account: Account, tmp_path: Path, plus_addressing: bool) -> None:
    """Postfix cannot deliver it and says so by mail; the agents hear of it as an event."""
    account = mail_account.model_copy(update={"plus_addressing": plus_addressing})
    async with Inbox(account, store=f"sqlite:///{tmp_path / 'b.db'}") as inbox:
        await inbox.sync()
        sent = await inbox.send(["nobody@test.local"], "hello", "is anybody there?")
        assert "sent" == sent.state
        async with asyncio.timeout(120):
            while "bounced" not in {r.state for r in (await inbox.submission(sent.id)).recipients}:
                await inbox.sync()
                await asyncio.sleep(0.05)
        (one,) = (await inbox.submission(sent.id)).recipients
        assert "5.1.1" in one.text
        kinds = [e.kind async for e in _events(inbox)]
        assert 1 == kinds.count("submission.bounced")


async def _events(inbox: Inbox):  # type: ignore[no-untyped-def]
    async for event in inbox.events(after=0):
        yield event
        if event.kind == "submission.bounced":
            return


async def test_a_person_edits_what_is_held(mail_account: Account, dovecot: Any, tmp_path: Path) -> None:
    """The people, the thread and the attachments stay; the words are the person's, and only those go."""
    file = Attachment(name="a.txt", content_type="text/plain", content=b"1,2,3")
    policy = Policy(send="hold", programs="checked", footer="By a machine.")
    ana = dovecot.new_user("ana")
    async with Inbox(mail_account, store=f"sqlite:///{tmp_path / 'b.db'}", policy=policy) as inbox:
        await inbox.sync()
        held = await inbox.send([ana], "hello", "half price", bcc=["full452@test.local"], attachments=[file])
        assert "held" == held.state
        new = await inbox.edit(held.id, "full price", by="petra")
        assert new.message_id != held.message_id
        assert [ana, "full452@test.local"] == [r.address for r in new.recipients]
        assert "petra" == new.decided_by
        assert "canceled" == (await inbox.submission(held.id)).state
        with pytest.raises(Conflict):
            await inbox.edit(held.id, "again", by="petra")
        with pytest.raises(Conflict):
            await inbox.approve(held.id, by="petra")
        message = parse(await inbox.submission_raw(new.id))
        assert "full price\n\nBy a machine." == message.text.strip()
        assert [b"1,2,3"] == [a.content for a in message.attachments]
        assert "hello" == message.subject
        answer = await inbox.reply(str(held.message), "and one more thing")
        assert "held" == answer.state
        edited = await inbox.edit(answer.id, "nothing more", by="petra")
        assert edited.thread == answer.thread
        assert (held.message_id,) == parse(await inbox.submission_raw(edited.id)).in_reply_to


async def test_an_edit_keeps_what_is_quoted_or_forwarded(mail_account: Account, tmp_path: Path) -> None:
    """Only the person's words change. Nothing of this reaches a server: all of it is for tomorrow."""
    policy = Policy(programs="checked", new_recipients="hold", send="hold")
    raw = (
        f"From: Ana <ana@else.test>\r\nTo: {mail_account.address}\r\nSubject: offer\r\nMessage-ID: <q@else.test>\r\n"
        "Date: Mon, 05 Jan 2026 09:00:00 +0000\r\n\r\nThe price is 100.\r\n"
    ).encode()
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    async with Inbox(mail_account, store=f"sqlite:///{tmp_path / 'b.db'}", policy=policy) as inbox:
        question = (await inbox.store.file(parse(raw), account=mail_account.key, raw=raw)).id
        for quote in (True, False):
            held = await inbox.reply(question, "first words", quote=quote, send_at=tomorrow)
            shown = await inbox.fingerprint(held.id)
            edited = await inbox.edit(held.id, "second words", by="petra")
            assert ("queued", tomorrow) == (edited.state, edited.next_attempt)
            text = parse(await inbox.submission_raw(edited.id)).text
            assert quote == ("> The price is 100." in text)
            assert "second words" in text
            assert "first words" not in text
            assert shown != await inbox.fingerprint(edited.id)
            with pytest.raises(Conflict):
                await inbox.approve(held.id, by="bo", fingerprint=shown)
        with_quote = text + "\n\nOn Mon, Jan 5, 2026 at 9:00 AM Ana <ana@else.test> wrote:\n> only this line\n"
        held = await inbox.reply(question, "first words", quote=True, send_at=tomorrow)
        edited = await inbox.edit(held.id, with_quote, by="petra")
        assert 1 == parse(await inbox.submission_raw(edited.id)).text.count("wrote:"), "the person kept a part of it"
        sent_on = await inbox.forward(question, [mail_account.address], "look")
        edited = await inbox.edit(sent_on.id, "look at the price", by="petra")
        message = parse(await inbox.submission_raw(edited.id))
        assert "look at the price" in message.text
        assert "The price is 100." in message.text
        assert "Fwd: offer" == message.subject
        assert () == message.in_reply_to


async def test_an_edit_that_is_held_again_is_approved_as_it_is_now(bench: Bench) -> None:
    """The caps against loops count for a person's words too; who saw the old ones approves nothing."""
    box = bench.outbox(Policy(per_thread_day=1))
    question = await bench.receive()
    assert "sent" == (await box.submit(bench.mail(), kind="reply", answers=question)).state
    held = await box.submit(bench.mail(text="one"), kind="reply", answers=question)
    assert "held" == held.state
    seen = await box.fingerprint(held.id)
    again = await box.edit(held.id, bench.mail(text="two"), by="petra")
    assert "held" == again.state
    for id_ in (held.id, again.id):
        with pytest.raises(Conflict):
            await box.approve(id_, by="bo", fingerprint=seen)
    assert "queued" == (await box.approve(again.id, by="bo", fingerprint=await box.fingerprint(again.id))).state


async def test_a_bounce_is_looked_up_and_not_searched_for(bench: Bench) -> None:
    """By an index of its own, on both databases: constant in the size of the store."""
    ran: list[tuple[str, Any]] = []
    engine = bench.store.db.engine.sync_engine

    def note(_: Any, __: Any, sql: str, values: Any, *___: Any) -> None:
        ran.append((sql, values))

    async with bench.store.reading() as tx:
        sql_event.listen(engine, "before_cursor_execute", note)
        try:
            await submissions.sent_from(tx, "agent@test.local", ["agent+b=abcdefghijklmnop@test.local"], since=0.0)
            await submissions.sent_under(tx, "agent@test.local", ["<rewritten@provider.test>"], since=0.0)
        finally:
            sql_event.remove(engine, "before_cursor_execute", note)
    by_path, by_id = (one for one in ran if one[0].startswith("SELECT"))
    async with bench.store.db.write() as tx:
        driver: Any = (await tx.get_raw_connection()).driver_connection
        plans = []
        for sql, values in (by_path, by_id):
            if bench.store.db.sqlite:
                rows = driver._conn.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
                plans.append("\n".join(r[3] for r in rows))
            else:
                await driver.execute("SET LOCAL enable_seqscan = off")  # an empty table is read as a whole otherwise
                plans.append("\n".join(r[0] for r in await driver.fetch(f"EXPLAIN {sql}", *values)))
    if bench.store.db.sqlite:  # PostgreSQL has nothing to choose by in an empty table
        assert "submission_return_tag" in plans[0], plans[0]
        assert "submission_message_id" in plans[1], plans[1]
    for plan in plans:
        assert not re.search("SCAN (alias|submission)|Seq Scan", plan), plan


async def test_a_bounce_that_is_faster_than_the_reply_is_not_forgotten(bench: Bench) -> None:
    """It lies in the mailbox before the 250 is written, or while the lease of a worker that died runs on."""
    mail = bench.mail("ana@test.local", "bob@test.local")
    other = bench.outbox()

    class Fast(Submitter):
        async def submit(self, *given: Any, **how: Any) -> Outcome:
            outcome = await super().submit(*given, **how)
            await bounce(bench, mail.message_id)
            await other.deliver_due()
            return outcome

    box = bench.outbox(submitter=Fast(bench.server.account()))
    sent = await box.submit(mail)
    assert "sent" == sent.state
    for _ in range(2):
        await other.deliver_due()
    assert ["bounced", "sent"] == [r.state for r in (await bench.box.get(sent.id)).recipients]
    assert 1 == (await events(bench)).count("submission.bounced")


async def test_a_bounce_proves_what_a_worker_sent_that_died(bench: Bench) -> None:
    """It came while the dead worker's lease still ran; looked at then only, the mail would go to everybody again."""
    mail = bench.mail("ana@test.local", "bob@test.local")

    class Dies(Submitter):
        async def submit(self, *given: Any, **how: Any) -> Outcome:
            await super().submit(*given, **how)
            raise asyncio.CancelledError  # nothing is written any more

    box = bench.outbox(submitter=Dies(bench.server.account()))
    row = await box.queue(mail)
    assert "sending" == (await box.deliver(row.id)).state
    await bounce(bench, mail.message_id)
    for _ in range(10):
        await bench.box.deliver_due()
        await bench.clock.advance(60)
    done = await bench.box.get(row.id)
    assert ("sent", ["bounced", "sent"]) == (done.state, [r.state for r in done.recipients])
    assert 1 == len(bench.server.taken)
