"""Random histories of a server, of several processes that read it, and of what goes wrong between them.

Whatever happened: when it has been quiet for a while, the store says what the server says, each message is stored
once, and what came was told once. A failure names its seed, and `AGENTMAIL_TEST_HISTORY=seed` plays it again, as far
as the races of its processes go the same way.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import Counter
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import text

from agentmail.errors import AgentMailError, AuthenticationFailed
from agentmail.mailsync import FirstRun, Leases, MailSync, Pace, watch
from agentmail.store import ThreadStore
from agentmail.store.positions import LostLease
from agentmail.testing.clock import START, ManualClock

from .conftest import mail
from .shifting import ALL, CONDSTORE, QRESYNC, Box, Copy, Mail, Session, Shifting, Traits

HISTORIES = int(os.environ.get("AGENTMAIL_TEST_HISTORIES", "400"))
"""Of the long form, on each kind of database."""
SEEDS = [int(n) for n in os.environ.get("AGENTMAIL_TEST_HISTORY", "1 2").split()]
SHORT, LONG = 12, 25
"""Steps of a history."""
COMMANDS = 400
"""More than that in one call is going round in circles."""
ONCE = ("NO [UNAVAILABLE] later", "NO [LIMIT] too many", "NO [INUSE] busy", "NO [SERVERBUG] sorry", "NO no", "BAD what",
        "BAD Request is throttled. Suggested Backoff Time: 5000 milliseconds", "NO [OVERQUOTA] full",
        "NO [EXPUNGEISSUED] gone", "half [EXPUNGEISSUED] gone", "half no", "cut", "cut", "cut", "bye", "flood",
        "flood")  # fmt: skip
AT_LOGIN = ("NO [UNAVAILABLE] later", "NO [AUTHENTICATIONFAILED] wrong", "NO [LIMIT] too many", "cut", "bye")


class History:
    """One server, one store, three processes, and what must be true in the end."""

    def __init__(self, seed: int, store: ThreadStore) -> None:
        self.random = random = Random(seed)
        self.store, self.clock, self.step = store, ManualClock(), 0
        traits = Traits(
            capabilities=frozenset(
                random.choice([set[str](), set[str](), CONDSTORE, QRESYNC])
                | {one for one in ("SPECIAL-USE", "NAMESPACE") if random.random() < 0.5}
            ),
            says_uidnext=random.random() < 0.85,
            says_validity=random.random() < 0.92,
            search=random.choice(["plain", "plain", "unsorted", "lines", "silent"]),
            chatty=random.random() < 0.4,
            torn=random.random() < 0.3,
            gmail=random.random() < 0.2,
        )
        plain = not traits.gmail and "CONDSTORE" not in traits.capabilities and traits.says_uidnext
        traits.reuses = plain and random.random() < 0.4
        self.rewinds = plain and (traits.reuses or random.random() < 0.3)
        """Uids are given again, without any other sign: only a Message-ID tells then."""
        self.server = Shifting(traits, random)
        self.traits = traits
        self.mails: list[Mail] = []
        self.maybe: set[Mail] = set()
        """What may have been news or not, by when exactly it was seen."""
        self.quiet: set[Mail] = set()
        """What need not be told, but stored."""
        self.first: dict[str, int] = {}
        """The step in which a mailbox was seen first."""
        self.passwords = 0
        self.trouble = random.choice([0.0, 0.0, 0.02, 0.06])
        self.restless = random.choice([0.0, 0.0, 0.02, 0.1])
        self.run = random.choice([
            FirstRun(), FirstRun(history=None), FirstRun(history=0), FirstRun(history=3),
            FirstRun(since=self.clock() - timedelta(days=3)), FirstRun(history=None, everything_is_new=True),
        ])  # fmt: skip
        self.wanted = ("all", "inbox", "sent") if traits.gmail and random.random() < 0.5 else ("inbox", "sent")
        self.syncs: list[MailSync] = []
        self.leases = [Leases(store, holder=f"process {n}") for n in range(2)]
        self.nested = False
        self.log: list[str] = []

    # -- what the world does

    def new_mail(self, *, days_ago: float = 0.0) -> Mail:
        number = len(self.mails) + 1
        kind, same = self.random.random(), self.random.choice(self.mails or [None])  # type: ignore[list-item]
        raw = mail(number)
        if kind < 0.08 and not self.rewinds:
            raw = raw.replace(f"Message-ID: <{number}@example.org>\r\n".encode(), b"")
        elif kind < 0.16 and same is not None and not self.rewinds:
            raw = raw.replace(f"<{number}@".encode(), f"<{same.number}@".encode())
        elif kind < 0.2:
            raw += b"x" * 60 + (b"\r\n" + b"y" * 70) * self.random.choice([10, 2_500, 32_000])
        made = Mail(number, raw, self.clock() - timedelta(days=days_ago), self.step)
        if self.random.random() < 0.03:
            made.empty = 1
        self.mails.append(made)
        return made

    def arrive(self, box: Box, made: Mail) -> None:
        flags = [flag for flag in ("\\Seen", "\\Flagged", "urgent") if self.random.random() < 0.2]
        box.add(made, flags)
        if self.traits.gmail and box.name != ALL:
            made.labels = {"INBOX": '"\\\\Inbox"'}.get(box.name, '"\\\\Sent"')
            self.server.boxes[ALL].add(made, flags)

    def change(self) -> None:
        """One thing that somebody else does to the mail."""
        random = self.random
        box = random.choice([self.server.boxes["INBOX"], *self.server.boxes.values()])
        uid = random.choice(sorted(box.copies)) if box.copies else 0
        what = random.random()
        if what < 0.45 or not uid:
            made = self.new_mail()
            self.arrive(box, made)
            self.log.append(f"{self.step}: {made.number} comes to {box.name}")
        elif what < 0.6:
            made = box.remove(uid, counts_from_what_is_there=self.traits.reuses).mail
            self.log.append(f"{self.step}: {made.number} leaves {box.name} {uid}")
        elif what < 0.78:
            box.flag(uid, random.sample(["\\Seen", "\\Flagged", "\\Answered", "work", "$Label1"], random.randrange(4)))
        elif what < 0.86 and not self.traits.gmail:
            other = random.choice(list(self.server.boxes.values()))
            copy = box.copies[uid]
            if random.random() < 0.7:
                box.remove(uid, counts_from_what_is_there=self.traits.reuses)
            other.add(copy.mail, copy.flags)
            self.maybe.add(copy.mail)
            self.log.append(f"{self.step}: {copy.mail.number} goes from {box.name} {uid} to {other.name}")
        elif what < 0.90 and self.traits.says_validity and not self.traits.gmail:
            self.renumber(box)
        elif what < 0.93 and not self.traits.reuses:
            box.next += random.choice([1, 1000, 100_000])
        elif what < 0.95 and (others := box.before.keys() - {box.validity}) and self.traits.says_validity:
            validity = random.choice(sorted(others))
            self.maybe |= set(box.before[validity][1].values())
            box.restore(validity)
            self.log.append(f"{self.step}: {box.name} is restored to {validity}")
        elif what < 0.97 and self.rewinds:
            for last in sorted(box.copies)[-random.randrange(1, 4) :]:
                box.remove(last)
            box.next = max(box.copies, default=0) + 1
            self.log.append(f"{self.step}: {box.name} is rewound to {box.next}")
        else:
            box.copies[uid].hidden = True

    def renumber(self, box: Box) -> None:
        """Another uidvalidity: higher, lower, or one that was there before and means something else."""
        copies = [box.copies[uid] for uid in sorted(box.copies)]
        if self.random.random() < 0.3 and not self.traits.gmail:
            copies.append(Copy(self.new_mail()))
        validity = self.random.choice([box.validity + 1, max(1, box.validity - 1), 4_000_000_000, *box.before])
        if validity != box.validity:
            # Old mail that was moved here meanwhile may have a higher uid now: then only what nobody read in the INBOX
            # is known to be new.
            self.quiet |= {copy.mail for copy in copies if box.name != "INBOX" or "\\Seen" in copy.flags}
            box.reset(validity, copies)
            self.log.append(f"{self.step}: {box.name} is made anew under {validity}")

    def fault(self, word: str) -> str:
        random = self.random
        if random.random() >= self.trouble or word == "LOGOUT":
            return ""
        if word in {"GREETING", "CAPABILITY"}:
            said = random.choice(["bye", "cut"])
        else:
            said = random.choice(AT_LOGIN if word == "LOGIN" else ONCE)
        self.log.append(f"{self.step}: {said} to {word}")
        return said

    async def meanwhile(self, session: Session, word: str) -> None:
        """The world does not wait for a pass to end, and neither do other processes."""
        if self.nested or word in {"LOGIN", "CAPABILITY", "LOGOUT"} or self.random.random() >= self.restless:
            return
        if self.random.random() < 0.7:
            self.change()
        elif word in {"SEARCH", "FETCH"}:
            self.nested = True
            self.log.append(f"{self.step}: another process during {word}")
            try:
                await self.call(self.syncs[2])
            finally:
                self.nested = False

    # -- what we do

    def process(self) -> MailSync:
        account = self.server.account(timeout=60.0, password=f"secret {self.passwords}")
        return MailSync(account, self.store, clock=self.clock, first_run=self.run, mailboxes=self.wanted)

    async def call(self, sync: MailSync, **given: Any) -> None:
        before = len(self.server.heard)
        try:
            async with asyncio.timeout(120):
                await sync.poll(**given)
        except AuthenticationFailed as exc:
            self.log.append(f"{self.step}: {exc}")
            if "not tried again" in str(exc):
                self.passwords += 1
                await self.start_anew()
        except (AgentMailError, LostLease) as exc:
            self.log.append(f"{self.step}: {type(exc).__name__} {exc}")
        said = len(self.server.heard) - before
        assert said < COMMANDS, f"{said} commands in one call"

    async def start_anew(self) -> None:
        """Processes end and begin again."""
        old, self.syncs = self.syncs, [self.process() for _ in range(3)]
        self.syncs[0].watches = True
        for sync in old:
            await sync.close()

    async def pass_over(self) -> None:
        """One or two processes look."""
        random, number = self.random, self.random.randrange(2)
        sync, given = self.syncs[number], {"thorough": random.random() < 0.6}
        if random.random() < 0.1:
            given["limit"] = random.randrange(1, 5)
        if random.random() < 0.3:
            key, inbox = sync.account.key, sync.account.mailbox
            if random.random() < 0.4:  # a process that was stopped beyond its lease
                async with self.store.db.write() as tx:
                    await tx.execute(text("UPDATE mailbox SET lease_until = 0"))
            epoch = await self.leases[number].take(key, inbox)
            stale = self.leases[number]._held.get((key, inbox))
            if epoch is not None or stale is not None:
                await self.call(sync, epoch=epoch if epoch is not None else stale, **given)
        elif random.random() < 0.15:
            async with asyncio.TaskGroup() as group:
                for one in self.syncs[:2]:
                    group.create_task(self.call(one, **given))
        else:
            await self.call(sync, **given)

    async def live(self, steps: int) -> None:
        random = self.random
        for box in self.server.boxes.values():
            if self.traits.gmail and box.name == ALL:
                continue
            for _ in range(random.choice([0, 1, 5, 12])):
                self.arrive(box, self.new_mail(days_ago=random.choice([0.001, 1, 3, 30, 300])))
        self.server.fault, self.server.meanwhile = self.fault, self.meanwhile
        async with self.server:
            await self.start_anew()
            for self.step in range(1, steps + 1):
                for _ in range(random.choice([0, 0, 1, 2, 5])):
                    self.change()
                await self.pass_over()
                await self.look()
                await self.clock.advance(random.choice([1, 30, 120, 400, 4_000, 30_000]))
                if random.random() < 0.1:
                    await self.start_anew()
            await self.settle()
            await self.compare()
            for sync in self.syncs:
                await sync.close()

    async def settle(self) -> None:
        """A quiet day: nothing fails, nothing changes."""
        self.trouble = self.restless = 0.0
        self.passwords += 1
        await self.start_anew()
        for box in self.server.boxes.values():
            for copy in box.copies.values():
                copy.hidden, copy.mail.empty = False, 0
        for hours in (25, 7, 7):
            await self.clock.advance(3600 * hours)
            await self.call(self.syncs[0])
        before = len(self.server.heard)
        await self.call(self.syncs[0])
        bodies = [command for command in self.server.heard[before:] if "BODY.PEEK[]" in command]
        assert not self.traits.says_validity or not bodies, "it fetches again what it has"

    # -- what must be true

    async def stored(self) -> dict[int, int]:
        """Stored message -> the number of its mail; -1 for one without a body."""
        found = await self.rows("SELECT message, substr(data, 1, 200) FROM raw")
        return {message: int(n[1]) if (n := re.search(rb"Subject: number (\d+)", bytes(data))) else -message
                for message, data in found}  # fmt: skip

    async def rows(self, sql: str) -> list[Any]:
        async with self.store.db.read() as tx:
            return [tuple(row) for row in await tx.execute(text(sql))]

    async def look(self) -> None:
        """What holds at any moment."""
        assert self.server.most <= 3
        told = Counter(await self.rows("SELECT message FROM event WHERE kind = 'message.filed'"))
        assert not told or max(told.values()) == 1, "told twice"
        stored = Counter((await self.stored()).values())
        assert not stored or max(stored.values()) == 1, f"stored twice: {stored.most_common(2)}"
        for (name,) in await self.rows("SELECT name FROM mailbox WHERE first_at > 0"):
            self.first.setdefault(name, self.step)

    async def compare(self) -> None:
        await self.look()
        numbers = await self.stored()
        stored = {number: message for message, number in numbers.items()}
        told = {message for (message,) in await self.rows("SELECT message FROM event WHERE kind = 'message.filed'")}
        names = {"inbox": "INBOX", "sent": self.server.sent.name, "all": ALL}
        for name in (names[one] for one in self.wanted):
            await self.compare_box(self.server.boxes[name], numbers, told)
        if not self.run.everything_is_new:
            for one in self.mails:
                old = one.step == 0 and one.at < self.clock() - timedelta(hours=12) and one not in self.maybe
                early = (START - one.at).total_seconds() > 1_000
                if old and early and (message := stored.get(one.number)):
                    assert message not in told, f"{one.number} was there before, and was told as new"

    async def compare_box(self, box: Box, numbers: dict[int, int], told: set[int]) -> None:
        [(validity, floor, low, error)] = await self.rows(
            f"SELECT uidvalidity, floor, low, error FROM mailbox WHERE name = '{box.name}'")  # fmt: skip
        assert not error
        stored = {number: message for message, number in numbers.items()}
        for uid, copy in box.copies.items():
            one = copy.mail
            if self.rewinds and uid <= floor:
                continue  # the number of a message that was left on the server: nothing is known that could differ
            if one.step > self.first[box.name] and one not in self.maybe:
                assert one.number in stored, f"{one.number} in {box.name} is lost"
                assert one in self.quiet or stored[one.number] in told, f"{one.number} in {box.name} was never told"
        if not self.traits.says_validity:
            return
        assert validity == box.validity
        here = {uid: (copy.mail.number, sorted(copy.flags))
                for uid, copy in box.copies.items() if uid > floor}  # fmt: skip
        rows = await self.rows(
            f"""SELECT l.uid, l.message, l.flags FROM location l
            WHERE l.mailbox = '{box.name}' AND l.uidvalidity = {validity} AND l.uid > {floor} AND NOT EXISTS (
                SELECT 1 FROM departed d WHERE d.account = l.account AND d.mailbox = l.mailbox
                AND d.uidvalidity = l.uidvalidity AND d.uid = l.uid)"""
        )
        ours = {uid: (numbers[message], sorted(_list(flags))) for uid, message, flags in rows}
        differ = {uid: (here.get(uid), ours.get(uid)) for uid in here | ours if here.get(uid) != ours.get(uid)}
        assert not differ, f"{box.name}: (server, store) by uid {differ}"
        assert low <= max(box.next - 1, max(box.copies, default=0))


def _list(flags: Any) -> list[str]:
    return list(json.loads(flags) if isinstance(flags, str) else flags)


async def _play(seed: int, url: str, steps: int = LONG) -> None:
    store = ThreadStore(url)
    await store.open()
    history = History(seed, store)
    try:
        await history.live(steps)
    except BaseException as exc:
        shown = "\n".join(history.log[-80:])
        exc.add_note(f"AGENTMAIL_TEST_HISTORY={seed}\n{history.traits}\n{history.run}\n{shown}")
        raise
    finally:
        for sync in history.syncs:
            await sync.close()
        await store.close()


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_history_ends_with_what_the_server_has(store_url: str, seed: int) -> None:
    await _play(seed, store_url, SHORT)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1_000, 1_000 + HISTORIES))
async def test_many_histories_end_with_what_the_server_has(store_url: str, seed: int) -> None:
    await _play(seed, store_url)


@pytest.mark.parametrize("left", [0, 2], ids=["the last is another", "the last is gone"])
async def test_s5_a_backup_of_a_mailbox_under_its_own_uidvalidity_hides_nothing(store_url: str, left: int) -> None:
    """Its uids mean other messages now, and UIDNEXT has grown beyond ours again: only HIGHESTMODSEQ went back."""
    mails = [Mail(n, mail(n), START, 0) for n in range(1, 10)]
    server = Shifting(Traits(capabilities=CONDSTORE), Random(1))
    box = server.boxes["INBOX"]
    async with server, ThreadStore(store_url) as store:
        sync = MailSync(server.account(timeout=60.0), store, clock=lambda: START, first_run=FirstRun(history=None),
                        mailboxes=("inbox",))  # fmt: skip
        for one in mails[:5]:
            box.add(one)
        for _ in range(20):
            box.flag(2, ["\\Flagged"])
        await sync.poll()
        box.copies = {uid: box.copies[uid] for uid in (1, 2)}
        box.next, box.modseq = 3, 3
        for one in mails[5:]:
            box.add(one)  # 3, 4, 5, 6
        for uid in range(6 - left, 6):
            box.remove(uid)
        await sync.poll()
        async with store.reading() as tx:
            said = "SELECT l.uid, m.message_id FROM location l JOIN message m ON m.id = l.message ORDER BY l.uid"
            rows = [tuple(row) for row in await tx.exec_driver_sql(said)]
        assert [(uid, f"<{copy.mail.number}@example.org>") for uid, copy in sorted(box.copies.items())] == rows
        await sync.close()


STORMS = ["LOGIN NO [AUTHENTICATIONFAILED] wrong", "LOGIN bye", "LIST NO [THROTTLED] slow down", "EXAMINE cut",
          "FETCH NO [LIMIT] too much"]  # fmt: skip


async def _watch_for(store: ThreadStore, storm: str, hours: float) -> Shifting:
    """What a server hears from a watch in so many hours in which one thing always fails."""
    word, _, fault = storm.partition(" ")
    server, now = Shifting(Traits(), Random(1)), 0.0
    for n in range(1, 6):
        server.boxes["INBOX"].add(Mail(n, mail(n), START, 0))
    server.fault = lambda said: fault if said == word else ""
    over = asyncio.Event()

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        await asyncio.sleep(0)
        if now >= hours * 3600:
            over.set()
            await asyncio.Event().wait()

    async with server:
        account = server.account(timeout=60.0)
        sync = MailSync(account, store, clock=lambda: START + timedelta(seconds=now), first_run=FirstRun(history=None))
        pace, leases = Pace(sleep=sleep, monotonic=lambda: now), Leases(store, lease=3_600.0)
        watching = asyncio.ensure_future(watch(sync, leases=leases, pace=pace))
        try:
            async with asyncio.timeout(120):
                await over.wait()
            assert not watching.done()
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            await sync.close()
            await store.close()
    return server


@pytest.mark.parametrize("storm", STORMS)
async def test_a_server_that_always_fails_is_asked_now_and_then(sqlite_url: str, storm: str) -> None:
    """No login storm, no busy loop, and a wrong password is tried three times."""
    server = await _watch_for(ThreadStore(sqlite_url), storm, hours=3.0)
    assert 3 == server.words["LOGIN"] if "AUTHENTICATIONFAILED" in storm else server.connections <= 3 * 65
    assert len(server.heard) <= 3 * 200
    assert 1 == server.most
