"""What happens to a thread while somebody holds it: reminders, people, merges, hand-offs. None may be forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest

from agentmail import Inbox, ThreadStore, errors, teamwork
from agentmail.store import Location, claims, timers, wanting
from agentmail.store.arrivals import Arrival
from agentmail.testing import EmbeddedMail, ManualClock

from .test_turns import AGENT, ANA, due, letter

US = AGENT


@pytest.fixture
async def mail() -> AsyncIterator[EmbeddedMail]:
    async with EmbeddedMail({AGENT: "demo", ANA: "demo"}) as server:
        yield server


@asynccontextmanager
async def on(mail: EmbeddedMail, store_url: str, clock: ManualClock, agent: str = "a") -> AsyncIterator[Inbox]:
    async with (
        ThreadStore(store_url, clock=clock) as store,
        Inbox(mail.account(AGENT), store=store, agent=agent, clock=clock, sleep=clock.sleep) as inbox,
    ):
        yield inbox


async def test_a_reminder_that_is_due_during_a_turn_comes_after_it(
    mail: EmbeddedMail, store_url: str, clock: ManualClock
) -> None:
    async with on(mail, store_url, clock) as inbox:
        await mail.deliver(AGENT, letter(1))
        await inbox.sync()
        [turn] = await due(inbox)
        async with turn:
            await turn.remind(after=timedelta(seconds=30), note="look again")
            await clock.advance(40)
            assert await due(inbox) == []  # it is held; the reminder is due now
        [turn] = await due(inbox)
        async with turn:
            assert (turn.reason, turn.note, turn.new) == ("reminder", "look again", ())
        assert await due(inbox) == []


@pytest.mark.parametrize("ending", ["well", "by an error", "never"])
async def test_a_reminder_that_is_due_during_the_turn_of_another_one_replaces_it_only_when_that_ends_well(
    mail: EmbeddedMail, store_url: str, clock: ManualClock, ending: str
) -> None:
    async with on(mail, store_url, clock) as inbox:
        await mail.deliver(AGENT, letter(1))
        await inbox.sync()
        [turn] = await due(inbox)
        async with turn:
            await turn.remind(after=timedelta(seconds=30), note="first")
            await turn.remind(after=timedelta(seconds=60), note="second")
        await clock.advance(40)
        [turn] = await due(inbox)
        assert turn.note == "first"
        if ending == "never":
            await clock.advance(400)  # the second is due, and then the lease ends
        else:
            with suppress(RuntimeError):
                async with turn:
                    await clock.advance(40)
                    assert await due(inbox) == []
                    if ending == "by an error":
                        raise RuntimeError
            await clock.advance(60)
        inbox._look_at_timers = 0.0
        [turn] = await due(inbox)
        assert turn.note == ("second" if ending == "well" else "first; second")


async def test_a_reminder_that_is_due_during_a_turn_goes_along_with_a_hand_off(
    mail: EmbeddedMail, store_url: str, clock: ManualClock
) -> None:
    async with on(mail, store_url, clock) as inbox:
        await mail.deliver(AGENT, letter(1))
        await inbox.sync()
        [turn] = await due(inbox)
        async with turn:
            await turn.remind(after=timedelta(seconds=30), note="look again")
            await clock.advance(40)
            assert await due(inbox) == []
            await turn.hand_off("billing", "yours")
        [turn] = await due(inbox, "billing")
        assert turn.reason == "handoff"
        assert "look again" in turn.note


async def test_what_a_reminder_brings_may_be_answered_again(
    mail: EmbeddedMail, store_url: str, clock: ManualClock
) -> None:
    """The key of an answer is that of its turn: another turn on the same message does not get the first answer back."""
    async with on(mail, store_url, clock) as inbox:
        await mail.deliver(AGENT, letter(1))
        await inbox.sync()
        [turn] = await due(inbox)
        async with turn:
            first = await turn.reply("We are at it.")
            await turn.remind(after=timedelta(days=1))
        await clock.advance(timedelta(days=1, seconds=1))
        [turn] = await due(inbox)
        async with turn:
            with pytest.raises(errors.AlreadyAnswered):
                await turn.reply("Here it is.")
            second = await turn.reply("Here it is, at last.", again=True)
        assert first.id != second.id
        assert len(await mail.messages(ANA)) == 2


async def test_after_a_hand_off_the_other_agent_is_told_that_there_is_an_answer(
    mail: EmbeddedMail, store_url: str, clock: ManualClock
) -> None:
    async with on(mail, store_url, clock) as inbox:
        await mail.deliver(AGENT, letter(1))
        await inbox.sync()
        [turn] = await due(inbox)
        async with turn:
            await turn.reply("Billing will write to you.")
            await turn.hand_off("billing")
        [turn] = await due(inbox, "billing")
        async with turn:
            with pytest.raises(errors.AlreadyAnswered):
                await turn.reply("Your invoice.")
            await turn.reply("Your invoice, attached.", again=True)
        assert len(await mail.messages(ANA)) == 2


async def test_a_person_who_answers_by_hand_ends_the_turn_of_an_agent(
    mail: EmbeddedMail, store_url: str, clock: ManualClock
) -> None:
    async with on(mail, store_url, clock) as inbox:
        await mail.deliver(AGENT, letter(1))
        await inbox.sync()
        [turn] = await due(inbox)
        with pytest.raises(errors.StaleTurn, match="by hand"):
            async with turn:
                by_hand = (
                    f"From: {AGENT}\r\nTo: {ANA}\r\nSubject: Re: Kick-off\r\nMessage-ID: <hand@demo.local>\r\n"
                    "In-Reply-To: <1@demo.local>\r\nReferences: <1@demo.local>\r\n\r\nI do this one myself.\r\n"
                )
                await mail.deliver(AGENT, by_hand.encode(), mailbox="Sent")
                await inbox.sync()
                await turn.reply("Written at the same time.")
        assert await mail.messages(ANA) == []
        assert await due(inbox) == []


async def test_merging_into_a_held_thread_forgets_nothing(
    mail: EmbeddedMail, store_url: str, clock: ManualClock
) -> None:
    """Its holder has not seen what came in by the merge, though it is older than what it has seen."""
    async with on(mail, store_url, clock) as inbox:
        for number in (1, 2):
            await mail.deliver(AGENT, letter(number, f"Subject {number}"))
        await inbox.sync()
        store, (older, newer) = inbox.store, [t.thread.id for t in await due(inbox)]
        # The first one is given back, the second one is held.
        await clock.advance(timedelta(minutes=6))
        turn = await inbox.claim(newer)
        joined = int(newer[1:])
        await store.db.run(lambda tx: wanting.merge(tx, joined, [int(older[1:])]))
        with pytest.raises(errors.StaleTurn):
            async with turn:
                pass
        [again] = await due(inbox)
        assert (again.thread.id, again._claim.done) == (newer, 0)


@pytest.mark.parametrize("also", ["", "kept"])
async def test_a_merge_keeps_what_a_reminder_said(
    mail: EmbeddedMail, store_url: str, clock: ManualClock, also: str
) -> None:
    """The thread that stays may be idle, or have a reminder of its own that is due."""
    async with on(mail, store_url, clock) as inbox:
        for number in (1, 2):
            await mail.deliver(AGENT, letter(number, f"Subject {number}"))
        await inbox.sync()
        store, threads = inbox.store, []
        for turn, note in zip(await due(inbox), (also, "gone"), strict=True):
            threads.append(int(turn.thread.id[1:]))
            async with turn:
                if note:
                    await turn.remind(after=timedelta(seconds=30), note=note)
        await clock.advance(40)
        await store.db.run(lambda tx: timers.wake_due(tx, account=AGENT))
        await store.db.run(lambda tx: wanting.merge(tx, threads[0], threads[1:]))
        [turn] = await due(inbox)
        assert (turn.reason, turn.note) == ("reminder", "; ".join(filter(None, (also, "gone"))))


async def test_a_stuck_thread_that_was_claimed_by_hand_does_not_vanish(
    mail: EmbeddedMail, store_url: str, clock: ManualClock
) -> None:
    async with on(mail, store_url, clock) as inbox:
        await mail.deliver(AGENT, letter(1))
        await inbox.sync()
        for _ in range(claims.MAX_ATTEMPTS):  # its holders vanish
            [turn] = await due(inbox)
            await clock.advance(timedelta(hours=1))
        assert await due(inbox) == []
        async with inbox.store.reading() as tx:
            assert await wanting.counts(tx, US) == {"stuck": 1}
            assert await wanting.next_at(tx, account=US, agents=["a", ""]) is None  # nobody spins on it
        turn = await inbox.claim(turn.thread.id)
        await inbox.store.db.run(lambda tx: claims.give_back(tx, turn._claim, at_once=True))
        [turn] = await due(inbox)
        async with turn:
            pass
        async with inbox.store.reading() as tx:
            assert await wanting.counts(tx, US) == {}


async def test_after_an_hour_is_an_hour_by_the_stores_clock(mail: EmbeddedMail, store_url: str) -> None:
    store_clock, own_clock = ManualClock(), ManualClock()
    await own_clock.advance(timedelta(hours=-3))  # this machine is late
    async with (
        ThreadStore(store_url, clock=store_clock) as store,
        Inbox(mail.account(AGENT), store=store, agent="a", clock=own_clock, sleep=own_clock.sleep) as inbox,
    ):
        await mail.deliver(AGENT, letter(1))
        await inbox.sync()
        [turn] = await due(inbox)
        async with turn:
            await turn.remind(after=timedelta(hours=1))
        assert await due(inbox) == []
        await store_clock.advance(timedelta(hours=1, seconds=1))
        [turn] = await due(inbox)
        async with turn:
            assert turn.reason == "reminder"


async def test_a_store_that_is_away_ends_no_inbox(
    mail: EmbeddedMail, store_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What receives in the background goes on when the store is back."""
    watched: list[str] = []
    back = asyncio.Event()

    async def watch(*_: object, **__: object) -> None:
        watched.append("")
        if len(watched) == 1:
            raise ExceptionGroup("of a task group", [errors.StoreUnreachable("the store is away")])
        back.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(teamwork, "watch", watch)
    async with on(mail, store_url, clock) as inbox:
        inbox._attend()
        while not back.is_set():
            await clock.advance(1)
            await asyncio.sleep(0)


async def test_history_and_our_own_copies_ask_for_nothing(store_url: str) -> None:
    from agentmail import parse

    async with ThreadStore(store_url) as store:
        await store.register(US)
        for fresh, outgoing, uid in ((False, False, 1), (True, True, 2)):
            raw = letter(uid)
            arrival = Arrival(parse(raw), raw, Location("INBOX", 1, uid), fresh=fresh, outgoing=outgoing)
            prepared = store.prepare([arrival], account=US)
            await store.db.run(lambda tx, p=prepared: store.file_batch(tx, p, account=US))  # type: ignore[misc]
        async with store.reading() as tx:
            assert await wanting.counts(tx, US) == {}
