"""A day in the life of an inbox on the virtual clock, drawn from a seed: people who write, answer, are away and answer
by hand; mail that comes back; agents that answer, ask to be reminded, hand over, fail, are killed and oversleep.

One task runs at a time, from one sleep to the next, so a seed gives the same day again.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select, text

from agentmail import Account, Inbox, Policy, Route, ThreadStore, Turn, parse
from agentmail.errors import AlreadyAnswered, StaleThread, StaleTurn
from agentmail.message.models import Envelope, Message
from agentmail.smtp import Outcome
from agentmail.store import Location, claims, log, submissions
from agentmail.store.arrivals import Arrival
from agentmail.store.reading import resolve
from agentmail.testing import ManualClock
from agentmail.testing.people import Person

US = "desk@our.example"
ACCOUNT = Account(address=US, password="secret", imap_host="127.0.0.1", smtp_host="127.0.0.1")  # type: ignore[arg-type]
MANY = 10**6
OPEN = Policy(
    per_thread_10_minutes=MANY, per_thread_day=MANY, per_person_day=MANY, per_person_day_approved=MANY,
    replies_per_hour=MANY, replies_per_domain_hour=MANY, same_again=MANY, max_unanswered=MANY,
)  # fmt: skip
ROUTES = (Route(agent="billing", subject="invoice"), Route(agent="support"))
CREW = ("support", "support", "billing")
LEASE = timedelta(minutes=10)
CLIENTS = ("gmail", "outlook", "apple", "ios", "thunderbird", "mutt")
WORDS = ("harbour", "offer", "Tuesday", "colleague", "training", "delivery", "contract", "garden", "ticket", "window")


class Violation(AssertionError):
    """Something that must never be so."""


class Boom(Exception):
    """A handler that fails."""


@dataclass
class Reminder:
    thread: str
    due: float
    note: str
    key: str = ""


class Wire:
    """The submission server of the day: mostly it takes the mail, sometimes it says later."""

    connections = 1

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.taken: list[tuple[str, bytes]] = []

    async def submit(self, raw: bytes, envelope: Envelope, *, before_body: Any, submission: Any = None) -> Outcome:
        if self.rng.random() < 0.05:
            return Outcome("temporary", "mail", 451, "4.3.0 try again later")
        if await before_body({}) is None:
            return Outcome("temporary", "hook", None, "stopped before the body")
        self.taken += [(to, raw) for to in envelope.rcpt_to]
        return Outcome("sent", "dot", 250, "2.0.0 taken")

    async def close(self) -> None: ...


class Day:
    def __init__(self, store: ThreadStore, clock: ManualClock, seed: int) -> None:
        self.store, self.clock, self.seed = store, clock, seed
        self.rng = random.Random(seed)
        self.people = [Person(f"p{i}@customer{i}.example", f"Person {i}", client=c) for i, c in enumerate(CLIENTS)]
        self.desk = Person(US, "The desk", client="thunderbird")
        self.bounced = False
        self.wire = Wire(random.Random(f"{seed} wire"))
        self.crew = [self.inbox(name) for name in CREW]
        self.turns: dict[asyncio.Task[None], tuple[int, Turn]] = {}
        """What is being worked on, by which of the crew."""
        self.later: list[tuple[float, int, Callable[[], Awaitable[None]]]] = []
        """What people will do."""
        self.count = 0
        self.reminders: list[Reminder] = []
        self.again: set[str] = set()
        """Messages to which somebody wrote a second answer on purpose."""
        self.by_hand: dict[int, int] = {}
        """Message -> how many answers it had when a person answered it."""
        self.log = 0
        self.seen: list[log.Event] = []
        self.tally: dict[str, int] = {}

    def inbox(self, name: str) -> Inbox:
        inbox = Inbox(ACCOUNT, store=self.store, agent=name, policy=OPEN, routes=ROUTES, clock=self.clock,
                      sleep=self.clock.sleep)  # fmt: skip
        inbox._outbox.submitter = self.wire
        inbox._outbox.evidence = None
        return inbox

    def say(self, what: str) -> None:
        self.tally[what] = self.tally.get(what, 0) + 1

    @property
    def now(self) -> float:
        return self.clock().timestamp()

    async def run(self, minutes: int) -> dict[str, int]:
        await self.store.register(US)
        for minute in range(minutes):
            try:
                await self.minute()
            except Violation as exc:
                raise Violation(f"seed {self.seed}, minute {minute} of {minutes}: {exc}") from exc
        for task in self.turns:
            task.cancel()
        await asyncio.gather(*self.turns, return_exceptions=True)
        return self.tally

    async def minute(self) -> None:
        await self.people_act()
        await self.crew_acts()
        for _ in range(20):  # until nobody finds anything to do
            if not await self.poll():
                break
        await self.check()
        await self.send_what_is_due()
        self.read_mail()
        await self.advance(60)

    async def send_what_is_due(self) -> None:
        """As the outbox does while it runs: it reads whether anything is due, and writes when something is."""
        async with self.store.reading() as tx:
            due = await submissions.next_due(tx, US)
        if self.bounced or (due is not None and due <= self.now):
            await self.crew[0]._outbox.deliver_due()
        self.bounced = False

    # -- time

    async def advance(self, seconds: float) -> None:
        """Wake each sleeper at its moment, and let it come to rest before the next one."""
        end = self.clock() + timedelta(seconds=seconds)
        sleepers = self.clock._sleepers
        while sleepers and sleepers[0][0] <= end:
            due, _, future = heapq.heappop(sleepers)
            self.clock._now = max(self.clock(), due)
            if not future.done():
                future.set_result(None)
                await self.rest()
        self.clock._now = end

    async def rest(self) -> None:
        """Until every task waits for the clock."""
        await asyncio.sleep(0)
        while len(asyncio.all_tasks()) - 1 > sum(not future.done() for _, _, future in self.clock._sleepers):
            await asyncio.sleep(0.0002)

    # -- people

    async def people_act(self) -> None:
        rng = self.rng
        while self.later and self.later[0][0] <= self.now:
            await heapq.heappop(self.later)[2]()
        if rng.random() < 0.06:
            person = rng.choice(self.people)
            about = rng.choice(("Invoice", "Question", "Offer", "Trip"))
            raw = person.write(
                US, f"{about} {rng.randrange(10**6)}", self.words(), now=self.clock(), token=self.token()
            )
            await self.arrives(raw)
            if rng.random() < 0.3:  # a burst
                await self.arrives(person.reply(parse(raw), self.words(), now=self.clock(), token=self.token()))
            self.say("letters")
        if rng.random() < 0.02:
            await self.somebody_answers_by_hand(None)

    def words(self) -> str:
        return " ".join(self.rng.choices(WORDS, k=12)) + f" {self.rng.getrandbits(32):x}"

    def token(self) -> bytes:
        return self.rng.randbytes(16)

    def schedule(self, minutes: float, act: Callable[[], Awaitable[None]]) -> None:
        self.count += 1
        heapq.heappush(self.later, (self.now + 60 * minutes, self.count, act))

    def read_mail(self) -> None:
        """What was sent reaches people, or comes back; they will answer, or a machine of theirs does."""
        for to, raw in self.wire.taken:
            person = next((p for p in self.people if p.address == to), None)
            kind = self.rng.choices(("answer", "away", "bounce", "silence"), (50, 12, 6, 32))[0]
            delay = self.rng.expovariate(1 / 90) if kind == "answer" else self.rng.uniform(0, 3)
            if person is None or kind == "silence":
                continue
            self.say(kind)
            self.schedule(delay, lambda p=person, r=raw, k=kind: self.comes_back(p, r, k))  # type: ignore[misc]
        self.wire.taken = []

    async def comes_back(self, person: Person, sent: bytes, kind: str) -> None:
        if kind == "bounce":
            await self.arrives(bounce(sent, person.address, self.token().hex()))
            self.bounced = True
            return
        raw = person.reply(sent, self.words(), now=self.clock(), token=self.token())
        await self.arrives(raw if kind == "answer" else b"Auto-Submitted: auto-replied\r\n" + raw)

    async def arrives(self, raw: bytes, *, mailbox: str = "INBOX") -> str:
        self.count += 1
        message = parse(raw, received_at=self.clock())
        arrival = Arrival(message, raw, Location(mailbox, 1, self.count), outgoing=mailbox == "Sent")
        batch, waiting = self.store.prepare([arrival], account=US), await self.timers()
        [filed] = await self.store.db.run(lambda tx: self.store.file_batch(tx, batch, account=US))
        if mailbox == "INBOX" and message.automated is None:  # it cancels what should have reminded of its thread
            await self.settled(filed.thread, [r for r in self.reminders if r.note in waiting])
        return filed.thread

    async def somebody_answers_by_hand(self, thread: str | None) -> None:
        async with self.store.reading() as tx:
            if thread is None:
                rows = (await tx.execute(select(claims.work.c.thread).where(claims.work.c.state != "idle"))).scalars()
                found = sorted(rows)
                if not found:
                    return
                thread = f"t{self.rng.choice(found)}"
        known = await self.store.thread(thread)
        incoming = [m for m in known.messages if not m.outgoing]
        if not incoming:
            return
        self.say("by hand")
        raw = self.desk.reply(incoming[-1], self.words(), now=self.clock(), token=self.token())
        await self.arrives(raw, mailbox="Sent")
        answers = await self.answers()
        self.by_hand.update({int(str(m.id)[1:]): answers.get(int(str(m.id)[1:]), 0) for m in incoming})
        waiting = await self.timers()
        await self.settled(known.id, [r for r in self.reminders if r.note not in waiting])

    async def settled(self, thread: str, reminders: list[Reminder]) -> None:
        """Those of this thread need not come any more."""
        where = await self.where(thread)
        gone = [r for r in reminders if await self.where(r.thread) == where]
        self.reminders = [r for r in self.reminders if r not in gone]

    async def timers(self) -> set[str]:
        async with self.store.reading() as tx:
            return {r.note for r in await tx.execute(select(claims.timer.c.note))}

    # -- the crew

    async def crew_acts(self) -> None:
        """Now and then one of them is killed with all that it holds, or stopped as a service manager does."""
        for number in range(len(CREW)):
            fate = self.rng.choices(("", "killed", "stopped"), (1000, 6, 3))[0]
            if not fate:
                continue
            self.say(fate)
            for task, (holder, turn) in list(self.turns.items()):
                if holder == number and not task.done():
                    if fate == "killed":  # a process that is gone writes nothing
                        turn._give_back = turn._finish = nothing  # type: ignore[method-assign]
                    task.cancel()
                    await asyncio.wait([task])
            self.crew[number] = self.inbox(CREW[number])

    async def poll(self) -> bool:
        found = False
        for number, inbox in enumerate(self.crew):
            inbox._look_at_timers = 0.0  # more than a second has passed, on the clock that counts here
            async for turn in inbox.turns(wait=False, lease=LEASE):
                found = True
                task = asyncio.create_task(self.work(turn))
                self.turns[task] = (number, turn)
                await self.rest()
        for task in [t for t in self.turns if t.done()]:
            del self.turns[task]
            if not task.cancelled() and (error := task.exception()) is not None:
                raise Violation(f"a turn ended with {error!r}") from error
        return found

    async def work(self, turn: Turn) -> None:
        rng = random.Random(f"{self.seed} {turn.thread.id} {turn._claim.epoch}")
        self.say(f"turn {turn.reason}")
        for reminder in [r for r in self.reminders if r.note in turn.note]:
            self.reminders.remove(reminder)
            if reminder.due > self.now:
                raise Violation(f"{reminder} came too early")
        fate = rng.choices(("good", "fails", "sleeps"), (90, 5, 5))[0] if turn.attempt < 3 else "good"
        try:
            async with turn:
                if fate == "sleeps":
                    assert turn._renewal is not None
                    turn._renewal.cancel()
                    await self.clock.sleep(LEASE.total_seconds() + rng.uniform(1, 1200))
                else:
                    await self.clock.sleep(rng.choice((0.0, rng.uniform(0, 120), rng.uniform(0, 1500))))
                if fate == "fails":
                    raise Boom
                await self.effects(turn, rng)
                if fate == "sleeps":
                    raise Violation(f"a holder of {turn.thread.id} whose lease ended could write")
                await self.clock.sleep(rng.choice((0.0, rng.uniform(0, 60))))
        except (StaleTurn, Boom) as exc:
            self.say(type(exc).__name__)

    async def effects(self, turn: Turn, rng: random.Random) -> None:
        await turn.write_note("looked at it")
        newest = next((m for m in reversed(turn.thread.messages) if not m.outgoing), None)
        act = rng.choices(("answer", "remind", "hand over", "close", "nothing"), (60, 15, 12, 5, 8))[0]
        if newest is None or newest.automated is not None:
            act = "nothing" if act == "answer" else act
        if act == "answer":
            assert newest is not None
            await self.answer(turn, newest, rng)
        if act == "remind" or (act == "answer" and rng.random() < 0.4):
            await self.remind(turn, rng)
        if act == "hand over":
            other = rng.choice([n for n in ("support", "billing", "human") if n != turn.agent])
            if other == "human":
                thread = turn.thread.id
                self.schedule(rng.uniform(15, 240), lambda: self.somebody_answers_by_hand(thread))
            await turn.hand_off(other, "over to you")
        if act == "close":
            await turn.close()

    async def answer(self, turn: Turn, newest: Message, rng: random.Random) -> None:
        words = " ".join(rng.choices(WORDS, k=9)) + f" {rng.getrandbits(32):x}"
        # A reminder and a hand-off bring what may have an answer; whoever writes another one says so.
        again = turn.reason in {"reminder", "handoff"}
        if again:
            self.again.add(str(newest.id))
        try:
            await turn.reply(words, again=again)
            self.say("answered")
        except (StaleThread, AlreadyAnswered) as exc:
            self.say(type(exc).__name__)

    async def remind(self, turn: Turn, rng: random.Random) -> None:
        self.count += 1
        reminder = Reminder(turn.thread.id, 0.0, f"#{self.count}#")
        delay = rng.choice((rng.uniform(1, 30), rng.uniform(1, 600)))
        reminder.due = self.now + 60 * delay
        await turn.remind(after=timedelta(minutes=delay), note=reminder.note)
        # A turn that was killed after this, and runs again, sets the same reminder again and not a second one.
        reminder.key = f"{turn.thread.id} {turn._claim.round} {turn._promises}"
        self.reminders = [r for r in self.reminders if r.key != reminder.key] + [reminder]
        self.say("reminders")

    # -- what must hold

    async def check(self) -> None:
        async with self.store.reading() as tx:
            rows = (await tx.execute(select(claims.work))).all()
            lost = text(
                "SELECT m.id FROM message m LEFT JOIN work w ON w.thread = m.thread WHERE NOT m.outgoing AND "
                "(w.thread IS NULL OR w.newest < m.id OR (m.id > w.done AND w.state = 'idle'))"
            )
            if forgotten := (await tx.execute(lost)).scalars().all():
                raise Violation(f"nobody will look at message(s) {forgotten}")
        for row in rows:
            if row.state in {"ready", "claimed"} and row.next_at <= self.now and row.agent != "human":
                raise Violation(f"due and not taken: {row}")
            if row.state == "stuck" and row.attempt < claims.MAX_ATTEMPTS:
                raise Violation(f"stuck without having been tried: {row}")
        for message, count in (await self.answers()).items():
            allowed = self.by_hand.get(message, 1)
            if count > max(allowed, 0) and f"m{message}" not in self.again:
                raise Violation(f"m{message} has {count} answers (and by hand: {message in self.by_hand})")
        timers = await self.timers()
        waiting = "\n".join(row.note for row in rows if row.state != "idle")
        for reminder in self.reminders:
            held = any(reminder.note in turn.note for _, turn in self.turns.values())
            if reminder.note not in timers and reminder.note not in waiting and not held:
                raise Violation(f"lost: {reminder}")
            if reminder.note in timers and reminder.due <= self.now:
                raise Violation(f"late: {reminder}")
        await self.check_log()

    async def answers(self) -> dict[int, int]:
        async with self.store.reading() as tx:
            found = text("SELECT answers, count(*) FROM submission WHERE answers IS NOT NULL GROUP BY answers")
            return {int(message): int(count) for message, count in await tx.execute(found)}

    async def check_log(self) -> None:
        for event in await self.crew[0]._published(self.log):
            if event.seq != self.log + 1:
                raise Violation(f"the log goes from {self.log} to {event.seq}")
            self.log = event.seq
            self.seen.append(event)
        filed = [e.message for e in self.seen if e.kind == "message.filed"]
        async with self.store.reading() as tx:
            there = sorted((await tx.execute(text("SELECT id FROM message"))).scalars())
        if filed != [f"m{n}" for n in there]:
            raise Violation(f"{len(there)} messages, and the log tells of {len(filed)}")

    async def where(self, thread: str) -> str:
        async with self.store.reading() as tx:
            return f"t{await resolve(tx, thread)}"


async def nothing(*_: object, **__: object) -> None:
    """What a process writes that was killed."""


def bounce(sent: bytes, address: str, token: str, *, to: str = US) -> bytes:
    """A delivery status notification for a mail of ours (RFC 3464)."""
    message_id = parse(sent).message_id
    return (
        f"From: MAILER-DAEMON@customer.example\r\nTo: {to}\r\nSubject: Undelivered Mail Returned to Sender\r\n"
        f"Message-ID: <{token}@customer.example>\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nYour mail could not be delivered.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.customer.example\r\n\r\n"
        f"Final-Recipient: rfc822; {address}\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n\r\n"
        f"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {message_id}\r\nFrom: {to}\r\n\r\n--b--\r\n"
    ).encode()
