"""Why a thread comes back, end to end: a decision, an RSVP, a bounce, a person; and that nobody starves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest

from agentmail import Inbox, Policy, ThreadStore, errors
from agentmail.message.parse import parse
from agentmail.store import Arrival
from agentmail.testing import EmbeddedMail, ManualClock, Person
from tests.acceptance.command import agentmail, environment

from .test_attention import on
from .test_turns import AGENT, ANA, agents, due, letter

OTHER = "other@demo.local"


@pytest.fixture
async def mail() -> AsyncIterator[EmbeddedMail]:
    async with EmbeddedMail({AGENT: "demo", ANA: "demo", OTHER: "demo"}) as server:
        yield server


@pytest.mark.parametrize("decision", ["approved", "denied"])
async def test_a_decision_comes_back_to_the_agent_that_asked(
    mail: EmbeddedMail, store_url: str, clock: ManualClock, decision: str
) -> None:
    async with (
        ThreadStore(store_url, clock=clock) as store,
        Inbox(
            mail.account(AGENT), store=store, agent="a", clock=clock, sleep=clock.sleep,
            policy=Policy(send="hold", programs="checked"),
        ) as inbox,
    ):  # fmt: skip
        await mail.deliver(AGENT, letter(1))
        await inbox.sync()
        [turn] = await due(inbox)
        async with turn:
            held = await turn.reply("We give you half of it back.")
            assert held.state == "held"
        assert await due(inbox) == []
        if decision == "approved":
            assert (await inbox.approve(held.id, by="petra")).state == "sent"
        else:
            await inbox.deny(held.id, by="petra", reason="a quarter, not half")
        [turn] = await due(inbox)
        async with turn:
            assert turn.reason == "approval"
            assert turn.note.startswith(f"{held.id} was {decision} by petra")
            assert turn.note in turn.prompt()
            if decision == "denied":
                assert turn.note.endswith("a quarter, not half")
                assert "NOT SENT, canceled: denied by petra: a quarter, not half" in turn.prompt()
                again = await turn.reply("We give you a quarter of it back.")  # a denied answer is none
                assert again.id != held.id
        assert await due(inbox) == []
        assert len(await mail.messages(ANA)) == (decision == "approved")


def rsvp(answer: str, method: str = "REPLY", *, message_id: str) -> bytes:
    """What a calendar sends, as Gmail builds it: text and text/calendar side by side."""
    note = EmailMessage()
    note["From"], note["To"], note["Subject"] = f"Ana Ruiz <{ANA}>", AGENT, f"{answer.title()}: Kick-off"
    note["Message-ID"], note["Date"] = message_id, "Sat, 21 Nov 2026 10:00:00 +0100"
    note["In-Reply-To"] = note["References"] = "<1@demo.local>"
    note.set_content(f"Ana Ruiz has {answer.lower()} this invitation.")
    calendar = "\r\n".join(
        ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//x//y//EN", f"METHOD:{method}", "BEGIN:VEVENT", "UID:kick-off@us",
         "SEQUENCE:0", "DTSTAMP:20261121T090000Z", "DTSTART:20261201T090000Z", "DTEND:20261201T100000Z",
         f"ORGANIZER:mailto:{AGENT}", f"ATTENDEE;PARTSTAT={answer.upper()}:mailto:{ANA}", "END:VEVENT",
         "END:VCALENDAR", ""]
    )  # fmt: skip
    note.add_alternative(calendar, subtype="calendar", params={"method": method})
    return note.as_bytes()


async def test_an_answer_to_an_invitation_says_so(mail: EmbeddedMail, sqlite_url: str, clock: ManualClock) -> None:
    async with on(mail, sqlite_url, clock) as inbox:
        await mail.deliver(AGENT, letter(1))
        await inbox.sync()
        [turn] = await due(inbox)
        async with turn:
            await turn.reply("I have sent you an invitation.")
            await turn.remind(after=timedelta(days=1))
        for answer, method, number in (("ACCEPTED", "REPLY", 2), ("DECLINED", "COUNTER", 3)):
            await mail.deliver(AGENT, rsvp(answer, method, message_id=f"<{number}@demo.local>"))
            await inbox.sync()
            [turn] = await due(inbox)
            async with turn:
                assert turn.reason == "rsvp"
                invitation = turn.new[-1].invitation
                assert invitation is not None
                assert [(a.email, a.answer) for a in invitation.attendees] == [(ANA, answer.lower())]
        assert await inbox.reminders(turn.thread.id) == []  # a person answered


def bounce(of: str) -> bytes:
    """A delivery report (RFC 3464), with the headers of what failed."""
    return (
        f"Return-Path: <>\r\nFrom: MAILER-DAEMON@demo.local\r\nTo: {AGENT}\r\nSubject: Undelivered Mail\r\n"
        "Message-ID: <dsn@demo.local>\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain\r\n\r\nNobody of that name lives here.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; demo.local\r\n\r\n"
        f"Final-Recipient: rfc822; {ANA}\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n"
        f"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nFrom: {AGENT}\r\nTo: {ANA}\r\nMessage-ID: {of}\r\n\r\n"
        "--b--\r\n"
    ).encode()


async def test_a_bounce_says_so_and_stops_neither_reminder_nor_agent(
    mail: EmbeddedMail, sqlite_url: str, clock: ManualClock
) -> None:
    async with on(mail, sqlite_url, clock) as inbox:
        sent = await inbox.send([ANA], "Kick-off", "Would Tuesday suit you?")
        await inbox.remind(str(sent.thread), after=timedelta(days=1))
        await mail.deliver(AGENT, bounce(sent.message_id))
        await inbox.sync()
        [turn] = await due(inbox)
        async with turn:
            assert (turn.reason, turn.thread.id) == ("bounce", sent.thread)
            assert turn.new[-1].bounce is not None
            assert turn.new[-1].bounce.message_id == sent.message_id
            assert "reason: bounce" in turn.prompt()
        with pytest.raises(errors.Bounced, match=r"5\.1\.1"):
            await sent.wait_for_reply(timeout=300)
        assert len(await inbox.reminders(turn.thread.id)) == 1


async def test_a_thread_for_people_is_listed_and_answered_from_any_mail_client(
    mail: EmbeddedMail, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    env = environment(mail.account(AGENT), store=store)
    async with agents(mail, store, "a") as [inbox]:
        await mail.deliver(AGENT, Person(ANA, "Ana Ruiz").write(AGENT, "Refund", "I want to talk to a person."))
        await inbox.sync()
        [turn] = await due(inbox)
        async with turn:
            await turn.hand_off("human", note="she is angry")
        assert await due(inbox) == []

        listed = (await agentmail("threads", "--assigned", "human", "--json", "--all", env=env, cwd=tmp_path)).rows
        assert [(t["id"], t["assigned"], t["attention"]) for t in listed] == [(turn.thread.id, "human", "ready")]
        assert [n["text"] for n in (await inbox.thread(turn.thread.id)).notes] == ["she is angry"]

        # Petra opens the account's mailbox in her mail client, answers there, and the client files a copy in Sent.
        petra = Person(AGENT, "Petra", client="thunderbird")
        by_hand = petra.reply((await mail.messages(AGENT))[0], "Of course. I will call you at noon.")
        await mail.deliver(AGENT, by_hand, mailbox="Sent")
        await inbox.sync()
        thread = await inbox.thread(turn.thread.id)
        assert [m.outgoing for m in thread.messages] == [False, True]
        assert (thread.assigned, thread.attention) == ("human", "idle")
        assert await inbox.threads(assigned="human") == []

        # Ana writes again: it is Petra's thread now, until she gives it back.
        await mail.deliver(AGENT, Person(ANA, "Ana Ruiz").reply(by_hand, "Thank you! And the invoice?"))
        await inbox.sync()
        assert await due(inbox) == []
        done = await agentmail("assign", thread.id, "a", "--note", "send her the invoice", env=env, cwd=tmp_path)
        assert done.code == 0, done.err
        [turn] = await due(inbox)
        async with turn:
            assert (turn.reason, turn.note, len(turn.new)) == ("handoff", "send her the invoice", 1)
            assert turn.prompt().count("send her the invoice") == 1
            await turn.reply("Here it is.")
        assert len(await mail.messages(ANA)) == 1


async def test_an_answer_from_the_command_counts_as_a_persons(mail: EmbeddedMail, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    async with agents(mail, store, "a") as [inbox]:
        await mail.deliver(AGENT, letter(1))
        await inbox.sync()
        env = environment(mail.account(AGENT), store=store)
        done = await agentmail("reply", "t1", "--text", "I do this one myself.", env=env, cwd=tmp_path)
        assert done.code == 0, done.err
        assert await due(inbox) == []


async def test_what_is_stuck_is_listed_and_can_be_given_to_somebody(
    mail: EmbeddedMail, tmp_path: Path, clock: ManualClock
) -> None:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    async with on(mail, store, clock) as inbox:
        await mail.deliver(AGENT, letter(1))
        await inbox.sync()
        for _ in range(5):
            [turn] = await due(inbox)
            with pytest.raises(LookupError):
                async with turn:
                    raise LookupError("the model is out")
            await clock.advance(timedelta(hours=1))
        assert await due(inbox) == []
        [told] = [e async for e in inbox.events(wait=False) if e.kind == "thread.stuck"]
        assert (told.thread, told.data) == (turn.thread.id, {"error": "LookupError: the model is out"})
        [stuck] = await inbox.threads(stuck=True)
        assert (stuck.id, stuck.attention) == (turn.thread.id, "stuck")
        await inbox.assign(stuck.id, "a")
        [turn] = await due(inbox)
        assert turn.attempt == 1
        assert await inbox.threads(stuck=True) == []


async def test_an_account_with_a_thousand_threads_does_not_starve_another(
    mail: EmbeddedMail, store_url: str, clock: ManualClock
) -> None:
    """One store, two accounts, one agent name: whoever asks for an account gets that account's threads, at once."""
    async with ThreadStore(store_url, clock=clock) as store:
        for account in (AGENT, OTHER):
            await store.register(account)

        async def flood(tx: object) -> None:
            many = [Arrival(parse(letter(n, f"Subject {n}")), fresh=True) for n in range(1_000)]
            await store.file_batch(tx, store.prepare(many, account=AGENT), account=AGENT)  # type: ignore[arg-type]

        await store.db.run(flood)
        await clock.advance(1)
        await store.file(parse(letter(5_000, "The only one", to=OTHER)), account=OTHER)
        async with (
            Inbox(mail.account(AGENT), store=store, agent="a", clock=clock) as busy,
            Inbox(mail.account(OTHER), store=store, agent="a", clock=clock) as calm,
        ):
            assert (await anext(busy.turns(wait=False))).thread.account == AGENT
            [only] = await due(calm)  # not behind the thousand that are older
            assert only.thread.subject == "The only one"
            async with only:
                pass
            assert await due(calm) == []
