"""A world for histories of chance: two accounts, three workers, a server with moods, a mailbox that lags behind, a
database that goes away, people who decide; and what really happened, apart from what the outbox says.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from agentmail.errors import AgentMailError, Conflict, KeyReused, StoreError, StoreUnreachable, Unreachable
from agentmail.message.identifiers import make_message_id
from agentmail.message.models import Envelope, Outgoing
from agentmail.message.parse import parse
from agentmail.outbox import Outbox, Sent
from agentmail.smtp import Outcome, Submitter, Timeouts
from agentmail.store import ThreadStore
from agentmail.store.events import EVENT
from agentmail.testing import ManualClock

from .scripted import CLOSE, RESET, ScriptedSmtp
from .test_life import DSN

ACCOUNTS = ("agent@test.local", "other@test.local")
FINAL = {"sent", "failed", "canceled"}


@dataclass
class Mail:
    """What was asked for, and what is known of it from outside."""

    outgoing: Outgoing
    account: str
    id: str
    key: str | None = None
    text: str = ""
    once: bool = False
    lag: float | None = 0.0
    """Seconds until the provider's copy is to be seen; None: it keeps none."""
    doubted: bool = False
    """It was told to be unknown, or its worker died: then a second copy may be the honest answer."""
    deleted: bool = False
    edits: str | None = None


@dataclass
class Oracle:
    """What the server really took, by Message-ID: each recipient, and when by the time that really passed."""

    taken: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    since: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


class World:
    def __init__(self, store: ThreadStore, server: ScriptedSmtp, clock: ManualClock, seed: int) -> None:
        self.store, self.server, self.clock = store, server, clock
        self.chance = random.Random(seed)
        self.story: list[str] = []
        self.oracle = Oracle()
        self.mails: dict[str, Mail] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.copies: set[str] = set()
        self.paused: set[str] = set()
        self.lifted = 0
        self.passed = 0.0
        self.moody = True
        self.depth = 0
        self.people = 0
        self.failing = 0
        self.fails_after = False
        self._break_store()
        server.script = {
            "mail": self._mail, "rcpt": self._rcpt, "data": self._data, "dot": self._dot,
        }  # fmt: skip
        self.workers = {a: [self._worker(a) for _ in range(3)] for a in ACCOUNTS}

    # -- what is broken

    def _break_store(self) -> None:
        db: Any = self.store.db
        for name in ("run", "shortly"):
            setattr(db, name, self._sometimes(getattr(db, name)))

    def _sometimes(self, real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def broken(*given: Any) -> Any:
            if self.failing <= 0:
                return await real(*given)
            self.failing -= 1
            if self.fails_after:
                await real(*given)
            raise StoreUnreachable("the store is away")

        return broken

    def _mood(self, usual: str, *others: str, often: float = 0.12) -> str:
        return self.chance.choice(others) if self.moody and self.chance.random() < often else usual

    def _mail(self, _: str) -> str:
        return self._mood("250 ok", "451 4.3.0 later", "550 5.7.1 no", "421 4.3.2 bye", CLOSE, "503 5.5.1 what",
                          "452 4.3.1 full", "550 5.4.5 Daily user sending limit exceeded", often=0.15)  # fmt: skip

    def _rcpt(self, _: str) -> str:
        return self._mood("250 ok", "450 4.2.0 later", "550 5.1.1 nobody", "452 4.5.3 too many", RESET, often=0.2)

    def _data(self, _: str) -> str:
        return self._mood("354 go on", "451 4.3.0 later", "554 5.6.0 no", CLOSE)

    def _dot(self, _: str) -> str:
        """The server decides what becomes of what it just read, and whether we hear of it."""
        _, recipients, body = self.server.taken[-1]
        moods = ("451 4.3.0 later", "554 5.7.1 spam", CLOSE, "lost", "lost", "lost")
        said = self._mood("250 2.0.0 queued", *moods, often=0.45)
        message_id = next(h.partition(": ")[2] for h in body.decode().split("\r\n") if h.startswith("Message-ID:"))
        self.story.append(f"      the server answers {said} to {message_id} for {recipients}")
        if said in {"250 2.0.0 queued", "lost"}:
            self.oracle.taken[message_id].update(recipients)
            self.oracle.since.setdefault(message_id, self.passed)
            mail = next((m for m in self.mails.values() if m.outgoing.message_id == message_id), None)
            if mail is not None and body != mail.outgoing.raw:
                self.oracle.wrong.append(f"{mail.id} went with other bytes")
        return CLOSE if said == "lost" else said

    # -- time

    async def sleep(self, seconds: float) -> None:
        if seconds > 5:
            await self.clock.sleep(seconds)
        else:  # a pause before another try: nobody needs to wait for it
            await self.forward(seconds)

    async def forward(self, seconds: float) -> None:
        self.passed += seconds
        await self.clock.advance(seconds)

    def stopped_for(self, seconds: float) -> None:
        """Nothing of ours runs meanwhile: no lease is renewed."""
        self.passed += seconds
        self.clock._now += timedelta(seconds=seconds)

    # -- the receiving side

    async def find_sent(self, message_id: str) -> bool:
        if self.moody and self.chance.random() < 0.1:
            raise Unreachable("no IMAP server")
        mail = next((m for m in self.mails.values() if m.outgoing.message_id == message_id), None)
        since = self.oracle.since.get(message_id)
        kept = mail is not None and mail.lag is not None and since is not None and since + mail.lag <= self.passed
        return kept or message_id in self.copies

    async def file_sent(self, raw: bytes, message_id: str) -> None:
        if self.moody and self.chance.random() < 0.1:
            raise Unreachable("no IMAP server")
        if message_id in self.copies:
            self.oracle.wrong.append(f"{message_id} was filed twice")
        self.copies.add(message_id)

    # -- workers

    def _worker(self, address: str) -> Outbox:
        account = self.server.account(address=address)
        inner = Submitter(account, connections=1, timeouts=Timeouts())
        return Outbox(
            account, self.store, _Meddled(self, inner, address), evidence=self, clock=self.clock,
            monotonic=lambda: self.passed, sleep=self.sleep, jitter=lambda: 0.5,
        )  # fmt: skip

    async def close(self) -> None:
        self.failing = 0
        for worker in [w for some in self.workers.values() for w in some]:
            await worker.close()

    def _some_worker(self, account: str) -> Outbox:
        return self.chance.choice(self.workers[account])

    # -- what happens

    async def step(self) -> None:
        deeds: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (10, self.write), (3, self.write_again), (16, self.work), (5, self.wait), (2, self.cancel), (2, self.retry),
            (3, self.decide), (1, self.resolve), (2, self.pause), (4, self.resume), (2, self.bounce), (1, self.forge),
            (1, self.step_back), (1, self.forget), (2, self.store_leaves),
        ]  # fmt: skip
        weights, what = zip(*deeds, strict=True)
        deed = self.chance.choices(what, weights)[0]
        await self._do(deed)

    async def _do(self, deed: Callable[[], Awaitable[None]]) -> None:
        self.story.append(f"{'   ' * self.depth}{deed.__name__} at {self.clock():%d %H:%M:%S}")
        self.depth += 1
        try:
            await deed()
        except (AgentMailError, Unreachable) as exc:
            self.story.append(f"{'   ' * self.depth}{type(exc).__name__}: {str(exc)[:150]}")
        finally:
            self.depth -= 1

    async def meanwhile(self) -> None:
        """What others do at any moment of an attempt."""
        while self.moody and self.depth < 3 and self.chance.random() < 0.25:
            deeds = (self.work, self.cancel, self.pause, self.resume, self.decide, self.resolve, self.freeze,
                     self.retry, self.forget, self.store_leaves, self.bounce, self.write_again)  # fmt: skip
            await self._do(self.chance.choice(deeds))

    async def freeze(self) -> None:
        self.stopped_for(self.chance.choice([30.0, 170.0, 200.0, 4000.0]))

    def _outgoing(self, account: str, to: tuple[str, ...], text: str) -> Outgoing:
        message_id = make_message_id("test.local", secret=self.store.secret)
        raw = (
            f"From: {account}\r\nTo: {', '.join(to)}\r\nSubject: {text}\r\nDate: Mon, 05 Jan 2026 09:00:00 +0000\r\n"
            f"Message-ID: {message_id}\r\n\r\n{text}\r\n"
        )
        return Outgoing(raw=raw.encode(), envelope=Envelope(mail_from=account, rcpt_to=to), message_id=message_id)

    async def write(self) -> None:
        account = self.chance.choice(ACCOUNTS)
        self.people += 1
        to = tuple(f"p{self.people}{x}@else.test" for x in "abc"[: self.chance.choice([1, 2, 3, 3])])
        key = f"k{self.people}" if self.chance.random() < 0.4 else None
        text = f"mail {self.people}"
        outgoing = self._outgoing(account, to, text)
        once = self.chance.random() < 0.4
        how: dict[str, Any] = {"key": key, "at_most_once": once}
        if self.chance.random() < 0.25:
            how["origin"] = "tool"
        if self.chance.random() < 0.2:
            how["send_at"] = self.clock() + timedelta(seconds=self.chance.choice([60, 4000, 100_000]))
        lag = self.chance.choice([0.0, 20.0, 60.0, None, None])
        try:
            sent = await self._some_worker(account).queue(outgoing, **how)
        except StoreError:  # it may be there: a program asks again under its key, or looks
            self.failing = 0
            found = [s for s in await self._some_worker(account).list(limit=500) if s.message_id == outgoing.message_id]
            if not found:
                return
            sent = found[0]
        self._keep(Mail(outgoing, account, sent.id, key, text, once, lag))
        self.story.append(f"{'   ' * self.depth}{sent.id} {sent.state} to {to} key={key} once={once} lag={lag}")

    def _keep(self, mail: Mail) -> None:
        self.mails[mail.id] = mail
        if mail.key is not None:
            self.keys[mail.account, mail.key] = mail.id

    async def write_again(self) -> None:
        if not self.keys:
            return
        (account, key), id_ = self.chance.choice(sorted(self.keys.items()))
        mail = self.mails[id_]
        asked = self.mails[mail.edits] if mail.edits else mail
        to = asked.outgoing.envelope.rcpt_to
        other = self.chance.choice(["", "", "text", "people"])
        text, people = (asked.text + " more" if other == "text" else asked.text), to
        if other == "people":
            people = (*to, "third@else.test")
        try:
            sent = await self._some_worker(account).queue(self._outgoing(account, people, text), key=key)
        except KeyReused:
            if not other and not mail.deleted:
                self.oracle.wrong.append(f"the key {key} of {id_} was refused for the same content")
            return
        if sent.id != id_ or other:
            self.oracle.wrong.append(f"the key {key} of {id_} gave {sent.id} ({other or 'same content'})")

    async def work(self) -> None:
        account = self.chance.choice(ACCOUNTS)
        worker = self._some_worker(account)
        waiting = [m for m in self.mails.values() if m.account == account and not m.deleted]
        if waiting and self.chance.random() < 0.4:
            await worker.deliver(self.chance.choice(waiting).id)
        else:
            await worker.deliver_due()

    async def wait(self) -> None:
        await self.forward(self.chance.choice([1.0, 31.0, 31.0, 61.0, 190.0, 400.0, 5000.0, 90_000.0]))

    async def step_back(self) -> None:
        self.clock._now -= timedelta(seconds=self.chance.choice([5.0, 60.0, 3600.0]))

    async def store_leaves(self) -> None:
        self.failing, self.fails_after = self.chance.choice([1, 2, 5]), self.chance.random() < 0.5

    def _any(self) -> Mail | None:
        there = [m for m in self.mails.values() if not m.deleted]
        return self.chance.choice(there) if there else None

    async def cancel(self) -> None:
        if (mail := self._any()) is not None:
            await self._some_worker(mail.account).cancel(mail.id, by="Bo")

    async def retry(self) -> None:
        if (mail := self._any()) is not None:
            await self._some_worker(mail.account).retry(mail.id, by="Bo")

    async def decide(self) -> None:
        held = [s for a in ACCOUNTS for s in await self.workers[a][0].list("held")]
        if not held:
            return
        sent = self.chance.choice(held)
        mail = self.mails.get(sent.id)
        if mail is None:  # another one is writing it just now
            return
        worker, what = self._some_worker(mail.account), self.chance.choice(["approve", "deny", "edit"])
        if what == "approve":
            await worker.approve(mail.id, by="Bo", fingerprint=await worker.fingerprint(mail.id))
            try:
                await worker.approve(mail.id, by="Al")
                self.oracle.wrong.append(f"{mail.id} was approved twice")
            except (Conflict, StoreError):
                pass
        elif what == "deny":
            await worker.deny(mail.id, by="Bo")
        else:
            text = mail.text + " edited"
            outgoing = self._outgoing(mail.account, mail.outgoing.envelope.rcpt_to, text)
            try:
                edited = await worker.edit(mail.id, outgoing, by="Bo")
            except StoreError:
                self.failing = 0
                found = [s for s in await worker.list(limit=500) if s.message_id == outgoing.message_id]
                if not found:
                    return
                edited = found[0]
            self._keep(Mail(outgoing, mail.account, edited.id, mail.key, text, mail.once, mail.lag,
                            edits=mail.edits or mail.id))  # fmt: skip

    async def resolve(self) -> None:
        """A person who knows."""
        unknown = [s for a in ACCOUNTS for s in await self.workers[a][0].list("unknown")]
        if unknown:
            sent = self.chance.choice(unknown)
            await self._resolve(sent)

    async def _resolve(self, sent: Sent) -> None:
        mail = self.mails[sent.id]
        mail.doubted = True
        had = self.oracle.taken[sent.message_id]
        waiting = [r.address for r in sent.recipients if r.state == "pending" and r.code is None]
        await self._some_worker(mail.account).resolve(sent.id, sent=any(had[a] for a in waiting), by="Bo")

    async def pause(self) -> None:
        every, account = self.chance.random() < 0.4, self.chance.choice(ACCOUNTS)
        worker = self._some_worker(account)
        before = self.lifted
        await worker.pause(by="Bo", reason="stop", every=every)
        if self.lifted == before:  # else somebody lifted it, perhaps, before we heard that it stands
            self.paused.add("*" if every else account)

    async def resume(self) -> None:
        every, account = self.chance.random() < 0.5, self.chance.choice(ACCOUNTS)
        try:
            self._lifts("*" if every else account)  # from here on it may go
            await self._some_worker(account).resume(by="Bo", every=every)
        finally:
            self._lifts("*" if every else account)

    def _lifts(self, what: str) -> None:
        self.paused.discard(what)
        self.lifted += 1

    async def bounce(self) -> None:
        went = [
            (m, a) for m in self.mails.values() for a, n in self.oracle.taken[m.outgoing.message_id].items()
            if n and not m.deleted
        ]  # fmt: skip
        if went:
            mail, address = self.chance.choice(went)
            await self._comes(mail.account, mail.outgoing.message_id, address)

    async def forge(self) -> None:
        """About a mail of ours, by somebody who saw its id, for somebody else; and about one that never was."""
        if (mail := self._any()) is not None:
            await self._comes(mail.account, mail.outgoing.message_id, "third@else.test")
            await self._comes(mail.account, "<never.was@test.local>", mail.outgoing.envelope.rcpt_to[0])

    async def _comes(self, account: str, message_id: str, about: str) -> None:
        self.people += 1
        text = DSN.format(message_id=message_id, to=about, action="failed").replace("agent@test.local", account)
        text = text.replace("<dsn@", f"<dsn{self.people}@")
        raw = text.replace("\n", "\r\n").encode()
        await self.store.file(parse(raw), account=account, raw=raw)

    async def forget(self) -> None:
        if (mail := self._any()) is None:
            return
        sent = await self._some_worker(mail.account).get(mail.id)
        if sent.thread is None:
            return
        try:
            await self.store.delete_thread(sent.thread)
        except StoreError:
            self.failing = 0
            left = {s.id for s in await self._some_worker(mail.account).list(limit=500)}
            if mail.id in left:
                return
        mail.deleted = True
        if sent.state not in FINAL:
            self.oracle.wrong.append(f"{mail.id} was deleted while it was {sent.state}")

    # -- the end

    async def settle(self) -> None:
        """All is well again: everything must come to its end by itself, but for what waits for a person."""
        self.story.append("-- all is well again")
        self.moody, self.failing = False, 0
        for account in ACCOUNTS:
            worker = self.workers[account][0]
            await worker.resume(by="Bo")
            await worker.resume(by="Bo", every=True)
        self.paused.clear()
        for round_ in range(60):
            for account in ACCOUNTS:
                worker = self.workers[account][round_ % 3]
                for held in await worker.list("held", limit=500):
                    await worker.approve(held.id, by="Bo")
                for sent in await worker.list("unknown", limit=500):
                    if sent.next_attempt is None:
                        await self._resolve(sent)
                await worker.deliver_due(limit=500)
            if all(s.state in FINAL for s in await self._all()):
                return
            await self.forward([31.0, 61.0, 200.0, 700.0, 4500.0, 20_000.0][min(round_ // 6, 5)])

    async def _all(self) -> list[Sent]:
        return [s for a in ACCOUNTS for s in await self.workers[a][0].list(limit=1_000)]

    async def judge(self) -> None:
        wrong = self.oracle.wrong
        rows = await self._all()
        there = {s.id for s in rows}
        wrong += [f"{m.id} is gone" for m in self.mails.values() if not m.deleted and m.id not in there]
        wrong += [f"nobody asked for {s.id}" for s in rows if s.id not in self.mails]
        log = await self._log()
        for sent in rows:
            if (mail := self.mails.get(sent.id)) is not None:
                wrong += [f"{sent.id} ({sent.state}): {what}" for what in self._wrong_with(sent, mail, log[sent.id])]
        assert not wrong, "\n".join(wrong)

    async def _log(self) -> dict[str, list[str]]:
        log: dict[str, list[str]] = defaultdict(list)
        async with self.store.reading() as tx:
            for row in await tx.execute(EVENT.select().order_by(EVENT.c.id)):
                if row.kind.startswith("submission."):
                    log[row.data["id"]].append(row.kind.partition(".")[2])
        return log

    def _wrong_with(self, sent: Sent, mail: Mail, log: list[str]) -> list[str]:
        wrong = []
        taken = self.oracle.taken[sent.message_id]
        doubted = mail.doubted or "unknown" in log
        if sent.state not in FINAL:
            wrong.append("it did not end")
        for r in sent.recipients:
            times, went = taken[r.address], r.state in {"sent", "bounced"}
            if sent.state == "sent" and r.state == "pending":
                wrong.append(f"{r.address} waits for nothing")
            if sent.state == "failed" and r.state != "failed" and not doubted:
                wrong.append(f"{r.address} is {r.state}")
            if went and not times:
                wrong.append(f"{r.address} is {r.state}, and never got it")
            if not went and times and not doubted:
                wrong.append(f"{r.address} is {r.state}, and got it")
            if times > 1 and (mail.once or not doubted or mail.lag is not None):
                wrong.append(f"{r.address} got it {times} times; once={mail.once} lag={mail.lag} log={log}")
        if log[:1] not in (["queued"], ["held"]) or log.count("queued") + log.count("held") != 1:
            wrong.append(f"its log begins wrong: {log}")
        if log.count("sent") > 1:
            wrong.append(f"it was sent twice, by its log: {log}")
        ended = {"sent": {"sent", "resolved", "canceled"}, "failed": {"failed"},
                 "canceled": {"canceled", "denied", "edited"}}.get(sent.state, set())  # fmt: skip
        last = [e for e in log if e not in {"bounced", "held", "queued", "approved"}]
        if not last or last[-1] not in ended:
            wrong.append(f"its log ends wrong: {log}")
        if Counter(log)["bounced"] > len(sent.recipients):
            wrong.append(f"it bounced more often than it has recipients: {log}")
        return wrong


class _Meddled:
    """A submitter in whose every step somebody may do something, or who dies there."""

    def __init__(self, world: World, inner: Submitter, account: str) -> None:
        self.world, self.inner, self.account, self.connections = world, inner, account, 1

    async def submit(
        self, raw: bytes, envelope: Envelope, *, before_body: Any = None, submission: str | None = None
    ) -> Outcome:
        world, mail = self.world, self.world.mails.get(str(submission))
        await world.meanwhile()
        if world.moody and world.chance.random() < 0.05:
            raise Unreachable("no server")

        async def around(refused: Any) -> Any:
            await world.meanwhile()
            may_finish = await before_body(refused)
            stopped = world.paused & {"*", self.account}
            if may_finish is not None and stopped:
                world.oracle.wrong.append(f"{submission} begins while {stopped} is paused")
            await world.meanwhile()
            if may_finish is not None and self._dies(mail, "in the body of"):
                raise asyncio.CancelledError
            return may_finish

        outcome = await self.inner.submit(raw, envelope, before_body=around, submission=submission)
        if outcome.state == "unknown" and mail is not None:
            mail.doubted = True
        await world.meanwhile()
        if outcome.state in {"sent", "unknown"} and self._dies(mail, "after the reply to"):
            raise asyncio.CancelledError
        return outcome

    def _dies(self, mail: Mail | None, where: str) -> bool:
        if mail is None or not self.world.moody or self.world.chance.random() > 0.06:
            return False
        mail.doubted = True
        self.world.story.append(f"      a worker dies {where} {mail.id}")
        return True

    async def close(self) -> None:
        await self.inner.close()
