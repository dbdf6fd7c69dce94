"""Reminders and follow-ups: kept once, by anybody, unless somebody answers before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from agentmail import Inbox, Policy, ThreadStore, errors
from agentmail.store import timers
from agentmail.testing import EmbeddedMail, ManualClock

from .day import bounce
from .test_attention import on
from .test_turns import AGENT, ANA, due, letter

DAY = timedelta(days=1)
OOO = "Auto-Submitted: auto-replied\r\n"


@pytest.fixture
async def mail() -> AsyncIterator[EmbeddedMail]:
    async with EmbeddedMail({AGENT: "demo", ANA: "demo"}) as server:
        yield server


async def asked(mail: EmbeddedMail, inbox: Inbox) -> tuple[str, str]:
    """Ana wrote, and was answered in a turn that promised to follow up; the thread, and our Message-ID."""
    await mail.deliver(AGENT, letter(1))
    await inbox.sync()
    [turn] = await due(inbox)
    async with turn:
        sent = await turn.reply("Would Tuesday at ten suit you?")
        assert await turn.follow_up("Did my question reach you?", after=2 * DAY)
    return turn.thread.id, sent.message_id


async def test_a_follow_up_goes_once_at_its_time_whoever_looks(
    mail: EmbeddedMail, store_url: str, clock: ManualClock
) -> None:
    async with on(mail, store_url, clock) as inbox, on(mail, store_url, clock) as other:
        thread, message_id = await asked(mail, inbox)
        await clock.advance(2 * DAY - timedelta(minutes=1))
        await inbox.sync()
        assert len(await mail.messages(ANA)) == 1
        await clock.advance(timedelta(minutes=2))
        await asyncio.gather(inbox.sync(), other.sync(), due(inbox), due(other))
        _, second = await mail.messages(ANA)
        assert b"Did my question reach you?" in second
        assert f"In-Reply-To: {message_id}".encode() in second
        assert len((await inbox.thread(thread)).messages) == 3
        assert await inbox.reminders(thread) == []
        await clock.advance(9 * DAY)
        await inbox.sync()
        assert len(await mail.messages(ANA)) == 2


@pytest.mark.parametrize(("extra", "sent"), [("", 1), (OOO, 2), ("List-Id: <a.demo.local>\r\n", 2)], ids=str)
async def test_an_answer_cancels_it_and_an_out_of_office_message_does_not(
    mail: EmbeddedMail, sqlite_url: str, clock: ManualClock, extra: str, sent: int
) -> None:
    async with on(mail, sqlite_url, clock) as inbox:
        thread, message_id = await asked(mail, inbox)
        await inbox.remind(thread, after=DAY, note="look")
        await mail.deliver(AGENT, letter(2, answers=message_id, extra=extra))
        await inbox.sync()
        assert (await inbox.reminders(thread) == []) is (sent == 1)
        await clock.advance(3 * DAY)
        await inbox.sync()
        assert len(await mail.messages(ANA)) == sent


async def test_what_came_back_is_not_followed_up(mail: EmbeddedMail, store_url: str, clock: ManualClock) -> None:
    """There is nobody to remind; the agent decides what to do."""
    async with on(mail, store_url, clock) as inbox:
        thread, _ = await asked(mail, inbox)
        [question] = await mail.messages(ANA)
        await mail.deliver(AGENT, bounce(question, ANA, "back", to=AGENT))
        await inbox.sync()
        [turn] = await due(inbox)
        async with turn:
            assert turn.reason == "bounce"
        [sent] = await inbox.outbox()
        assert [r.state for r in sent.recipients] == ["bounced"]
        await clock.advance(3 * DAY)
        await inbox.sync()
        [turn] = await due(inbox)
        assert (turn.thread.id, turn.reason) == (thread, "reminder")
        assert "did not go either (bounced)" in turn.note
        assert len(await mail.messages(ANA)) == 1


async def test_an_answer_that_nobody_has_fetched_yet_is_found_first(
    mail: EmbeddedMail, sqlite_url: str, clock: ManualClock
) -> None:
    async with on(mail, sqlite_url, clock) as inbox:
        _, message_id = await asked(mail, inbox)
        await mail.deliver(AGENT, letter(2, answers=message_id))
        await clock.advance(3 * DAY)
        [turn] = await due(inbox)  # looks for turns, not for mail: it has to look before it sends
        assert [m.message_id for m in turn.new] == ["<2@demo.local>"]
        assert len(await mail.messages(ANA)) == 1


async def test_an_answer_that_is_filed_while_it_is_being_sent_stops_it(
    mail: EmbeddedMail, store_url: str, clock: ManualClock
) -> None:
    """Between the look and the transaction that sends: the answer's filing has deleted the row."""
    async with on(mail, store_url, clock) as inbox:
        _, message_id = await asked(mail, inbox)
        await clock.advance(3 * DAY)
        async with inbox.store.reading() as tx:
            [one] = await timers.due_follow_ups(tx, account=AGENT)
        last = await inbox.message(message_id)
        ours = {"html": None, "reply_all": True, "cc": (), "attachments": (), "quote": False}
        outgoing = await inbox._compose_reply(last, one.text, **ours)  # type: ignore[arg-type]
        await mail.deliver(AGENT, letter(2, answers=message_id))
        await inbox._sync.poll()
        assert await inbox.store.db.run(lambda tx: inbox._send(tx, one, last, outgoing)) is None
        assert await inbox.outbox("queued") == []


async def test_what_a_person_sends_by_hand_takes_its_place(
    mail: EmbeddedMail, sqlite_url: str, clock: ManualClock
) -> None:
    async with on(mail, sqlite_url, clock) as inbox:
        thread, message_id = await asked(mail, inbox)
        await inbox.remind(thread, after=DAY, note="a reminder stays")
        by_hand = (
            f"From: {AGENT}\r\nTo: {ANA}\r\nSubject: Re: Kick-off\r\nMessage-ID: <hand@demo.local>\r\n"
            f"In-Reply-To: {message_id}\r\nReferences: <1@demo.local> {message_id}\r\n\r\nI called you.\r\n"
        )
        await mail.deliver(AGENT, by_hand.encode(), mailbox="Sent")
        await inbox.sync()
        assert [r.kind for r in await inbox.reminders(thread)] == ["reminder"]


async def test_a_turn_that_runs_again_promises_once(mail: EmbeddedMail, store_url: str, clock: ManualClock) -> None:
    async with on(mail, store_url, clock) as inbox:
        await mail.deliver(AGENT, letter(1))
        await inbox.sync()
        for text in ("As it was worded first.", "As it was worded last."):
            [turn] = await due(inbox)
            try:
                async with turn:
                    await turn.reply("Would Tuesday suit you?")
                    await turn.thread.follow_up(text, after=DAY)
                    await turn.thread.remind(after=DAY, note=text)
                    if "first" in text:
                        raise LookupError("the model is out")
            except LookupError:
                await clock.advance(11)
        found = await inbox.reminders(turn.thread.id)
        assert [(r.kind, r.text + r.note) for r in found] == [
            ("follow-up", "As it was worded last."), ("reminder", "As it was worded last."),
        ]  # fmt: skip
        await clock.advance(2 * DAY)
        await inbox.sync()
        assert len(await mail.messages(ANA)) == 2


async def test_it_is_refused_where_it_means_nothing(mail: EmbeddedMail, sqlite_url: str, clock: ManualClock) -> None:
    async with on(mail, sqlite_url, clock) as inbox:
        await mail.deliver(AGENT, letter(1))
        await inbox.sync()
        [thread] = await inbox.threads()
        with pytest.raises(errors.BadInput, match="nothing was sent"):
            await thread.follow_up("Well?", after=DAY)
        with pytest.raises(errors.BadInput, match="time zone"):
            await thread.remind(at=datetime(2026, 1, 6, 9, 0))
        with pytest.raises(errors.BadInput, match="either"):
            await thread.remind()
        sent = await inbox.reply("m1", "Yes.")
        await mail.deliver(AGENT, letter(2, answers=sent.message_id))
        await inbox.sync()
        assert not await thread.follow_up("Well?", after=DAY)  # she answered already
        with pytest.raises(RuntimeError, match="open Inbox"):
            await (await inbox.store.thread(thread.id)).remind(after=DAY)


async def test_it_waits_while_an_agent_is_at_the_thread(
    mail: EmbeddedMail, sqlite_url: str, clock: ManualClock
) -> None:
    async with on(mail, sqlite_url, clock) as inbox:
        thread, _ = await asked(mail, inbox)
        await clock.advance(2 * DAY + timedelta(seconds=1))
        async with inbox.claim(thread) as turn:
            await inbox.sync()
            assert len(await mail.messages(ANA)) == 1
            await turn.write_note("calling her")
        await clock.advance(120)
        await inbox.sync()
        assert len(await mail.messages(ANA)) == 2


async def test_what_the_policy_refuses_comes_back_to_the_agent(
    mail: EmbeddedMail, sqlite_url: str, clock: ManualClock
) -> None:
    async with on(mail, sqlite_url, clock) as inbox:
        await asked(mail, inbox)
    await clock.advance(3 * DAY)
    async with (
        ThreadStore(sqlite_url, clock=clock) as store,
        Inbox(
            mail.account(AGENT), store=store, agent="a", clock=clock, sleep=clock.sleep, policy=Policy(deny=(ANA,))
        ) as inbox,
    ):
        [turn] = await due(inbox)
        assert turn.reason == "reminder"
        assert "the follow-up was not sent" in turn.note
        assert len(await mail.messages(ANA)) == 1


async def test_it_waits_until_the_mailbox_can_be_read(mail: EmbeddedMail, sqlite_url: str, clock: ManualClock) -> None:
    async with on(mail, sqlite_url, clock) as inbox:
        thread, _ = await asked(mail, inbox)
        await clock.advance(3 * DAY)

        async def away(*_: object, **__: object) -> None:
            raise errors.Unreachable("no route to host")

        poll, inbox._sync.poll = inbox._sync.poll, away  # type: ignore[method-assign,assignment]
        assert await due(inbox) == []
        assert len(await mail.messages(ANA)) == 1
        inbox._sync.poll = poll  # type: ignore[method-assign]
        await clock.advance(61)
        assert await due(inbox) == []
        assert len(await mail.messages(ANA)) == 2
        assert await inbox.reminders(thread) == []


async def test_an_inbox_that_only_watches_keeps_promises(
    mail: EmbeddedMail, sqlite_url: str, clock: ManualClock
) -> None:
    async with on(mail, sqlite_url, clock) as inbox:
        await asked(mail, inbox)
        await clock.advance(2 * DAY + timedelta(seconds=1))
        seen = await inbox.last_event()
        async with asyncio.timeout(120):
            async for event in inbox.watch(after=seen):
                if event.kind == "submission.sent":
                    break
        assert len(await mail.messages(ANA)) == 2


async def test_reminders_can_be_forgotten(mail: EmbeddedMail, sqlite_url: str, clock: ManualClock) -> None:
    async with on(mail, sqlite_url, clock) as inbox:
        thread, _ = await asked(mail, inbox)
        await inbox.remind(thread, at=clock() + DAY, key="once")
        await inbox.remind(thread, at=clock() + DAY, key="once")
        assert await inbox.cancel_reminders(thread) == 2
        await clock.advance(9 * DAY)
        assert await due(inbox) == []
