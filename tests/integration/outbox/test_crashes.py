"""kill -9 between every two states, with a real Postfix and a real Dovecot: nothing lost, nothing sent twice."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from agentmail.message.identifiers import make_message_id
from agentmail.message.models import Envelope, Outgoing
from agentmail.message.parse import parse
from agentmail.outbox import LOOKS, Outbox, Sent
from agentmail.smtp import Submitter
from agentmail.store import ThreadStore

from .worker import POINTS, Imap, Job, run

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([run.__module__])

MAYBE_SENT = {"marked", "half the body", "dot", "accepted"}
REALLY_SENT = {"dot", "accepted", "committed", "appended"}


class Street:
    """A sender and a recipient on the real servers, and what reached the recipient."""

    def __init__(self, postfix: Any, url: str) -> None:
        self.postfix = postfix
        self.dovecot = postfix.dovecot
        self.sender, self.recipient = self.dovecot.new_user("sender"), self.dovecot.new_user("recipient")
        self.job = Job(
            url=url, address=self.sender, password="secret", ca=str(self.dovecot.ca), imap=self.dovecot.imaps,
            smtp=postfix.smtps,
        )  # fmt: skip

    def start(self, job: Job, ready: Any = None) -> BaseProcess:
        process = processes.Process(target=run, args=(job, ready), daemon=True)
        process.start()
        return process

    def mail(self, store: ThreadStore, number: int = 0) -> Outgoing:
        message_id = make_message_id("test.local", secret=store.secret)
        raw = (
            f"From: {self.sender}\r\nTo: {self.recipient}\r\nSubject: {number}\r\nMessage-ID: {message_id}\r\n"
            f"Date: Mon, 05 Jan 2026 09:00:00 +0000\r\n\r\n{'hello ' * 400}\r\n"
        )
        envelope = Envelope(mail_from=self.sender, rcpt_to=(self.recipient,))
        return Outgoing(raw=raw.encode(), envelope=envelope, message_id=message_id)

    def queue_is_empty(self) -> bool:
        spool = Path(self.postfix.directory) / "spool"
        return not any(
            p.is_file() for q in ("maildrop", "incoming", "active", "deferred") for p in (spool / q).rglob("*")
        )

    def settle(self) -> None:
        """Until Postfix has delivered everything it took."""
        end = time.monotonic() + 120
        while not self.queue_is_empty():
            assert time.monotonic() < end, "Postfix still holds mail"
            time.sleep(0.02)

    def arrived(self) -> Counter[str]:
        self.settle()
        return Counter(parse(raw).message_id for raw in self.dovecot.messages(self.recipient))


@pytest.fixture
def street(postfix: Any, store_url: str) -> Iterator[Street]:
    return Street(postfix, store_url)


def enqueue(street: Street, count: int, **how: Any) -> list[Outgoing]:
    async def work() -> list[Outgoing]:
        account = street.job.account()
        async with ThreadStore(street.job.url) as store:
            box = Outbox(account, store, Submitter(account), self_copy=True)
            mails = [street.mail(store, i) for i in range(count)]
            for mail in mails:
                await store.db.run(lambda tx, m=mail: box.enqueue(tx, m, **how))  # type: ignore[misc]
        return mails

    return asyncio.run(work())


def recover(street: Street, *, evidence: bool, lag: float = 0.0) -> str:
    """What a healthy worker does in the next minutes, on a clock that runs ahead; the state in the end.

    `lag`: the seconds after which the copy in the mailbox can be seen.
    """

    async def work() -> str:
        start = datetime.now(UTC)
        ahead = timedelta(seconds=200)  # past the lease of the dead

        class Late(Imap):
            async def find_sent(self, message_id: str) -> bool:
                seen = (ahead.total_seconds() - 200) >= lag
                return await super().find_sent(message_id) if seen else False

        account = street.job.account()
        async with ThreadStore(street.job.url, clock=lambda: start + ahead) as store:
            box = Outbox(
                account, store, Submitter(account), evidence=Late(street.job) if evidence else None, looks=LOOKS,
                self_copy=True,
            )  # fmt: skip
            for _ in range(20):
                await box.deliver_due()
                state = (await box.list())[0].state
                if state == "sent":
                    await box.deliver_due()  # the copy in Sent
                    break
                ahead += timedelta(seconds=15)
            await box.close()
        return state

    return asyncio.run(work())


def kills() -> Iterator[Any]:
    """54 of them. `make test` runs the default policy, and on the second database where the two differ most: what is
    found there depends on the marker and on the reply, and not on how far a worker came before.
    """
    for database, policy, point in product(
        ("sqlite", "postgresql"), ("evidence", "at most once", "no evidence"), POINTS
    ):
        soak = policy != "evidence" or (database != "sqlite" and point not in {"marked", "dot", "accepted"})
        yield pytest.param(database, policy, point, marks=[pytest.mark.soak] if soak else [])


@pytest.mark.parametrize(("store_url", "policy", "point"), list(kills()), indirect=["store_url"])
def test_killed_at(street: Street, point: str, policy: str) -> None:
    """One kill -9, then a healthy worker. Under the default: exactly one mail, whatever the point."""
    (mail,) = enqueue(street, 1, at_most_once=policy == "at most once")
    looks = policy != "no evidence" or point in {"committed", "appended"}
    process = street.start(replace(street.job, point=point, evidence=looks))
    process.join(120)
    assert -signal.SIGKILL == process.exitcode
    sent = street.arrived()[mail.message_id]
    assert int(point in REALLY_SENT) == sent, "the kill was not where it should be"
    lag = random.Random(point + policy).choice([0.0, 20.0, 60.0])
    state = recover(street, evidence=policy != "no evidence", lag=lag)
    arrived = street.arrived()[mail.message_id]
    if policy == "evidence" or point not in MAYBE_SENT or (policy == "at most once" and sent):
        assert ("sent", 1) == (state, arrived)
    else:
        assert ("unknown", sent) == (state, arrived)
    if policy == "evidence":
        copies = Counter(parse(raw).message_id for raw in street.dovecot.messages(street.sender, "Sent"))
        assert 1 == copies[mail.message_id]


@pytest.mark.parametrize("point", ["marked", pytest.param("half the body", marks=pytest.mark.soak)])
def test_stopped_for_longer_than_its_lease(street: Street, point: str) -> None:
    """SIGSTOP between the marker and the dot; another worker sends; then the sleeper wakes. One mail."""
    (mail,) = enqueue(street, 1)
    process = street.start(replace(street.job, point=point, signal=signal.SIGSTOP, lease=1.0))
    assert process.pid is not None
    wait_until_stopped(process.pid)
    time.sleep(1.2)  # the sleeper's own clock is the real one
    assert "sent" == recover(street, evidence=True)
    os.kill(process.pid, signal.SIGCONT)
    process.join(120)
    assert 0 == process.exitcode
    assert {mail.message_id: 1} == street.arrived()


def wait_until_stopped(pid: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return
        time.sleep(0.02)
    raise AssertionError("it never came to the point")


@pytest.mark.soak
def test_random_kills_of_two_workers(street: Street) -> None:
    """400 messages, two workers whose clocks are wrong, 150 kills on each database: all arrive, each once.

    `AGENTMAIL_TEST_SEED` repeats a run as far as time allows; `AGENTMAIL_TEST_KILLS` asks for more.
    """
    seed = int(os.environ.get("AGENTMAIL_TEST_SEED", "0")) or random.SystemRandom().randrange(2**32)
    wanted = int(os.environ.get("AGENTMAIL_TEST_KILLS", "150"))
    dice = random.Random(seed)
    mails = enqueue(street, 400)
    job = replace(street.job, for_ever=True, lease=1.0)

    def begin() -> tuple[BaseProcess, Any]:
        ready = processes.Event()
        return street.start(replace(job, skew=dice.uniform(-5, 60)), ready), ready

    workers = [begin(), begin()]
    kills = at_work = 0
    end = time.monotonic() + 400
    try:
        while kills < wanted and time.monotonic() < end:
            process, ready = workers[kills % 2]
            assert ready.wait(20), "a worker does not start"
            time.sleep(dice.uniform(0.0, 0.4))
            at_work += bool(asyncio.run(still_open(street)))
            process.kill()
            process.join(10)
            workers[kills % 2] = begin()
            kills += 1
        # What is still under way is not lost; on a busy machine the last of it takes its time.
        end = time.monotonic() + 600
        while time.monotonic() < end and asyncio.run(still_open(street)):
            time.sleep(0.2)
    finally:
        for process, _ in workers:
            process.kill()
            process.join(10)
    arrived = street.arrived()
    lost = [m.message_id for m in mails if not arrived[m.message_id]]
    twice = [i for i, n in arrived.items() if n > 1]
    print(f"seed={seed} kills={kills} at_work={at_work} lost={len(lost)} twice={len(twice)}")
    assert not (lost or twice), f"seed {seed}, {kills} kills: {len(lost)} lost, {len(twice)} twice"


async def still_open(street: Street) -> list[Sent]:
    account = street.job.account()
    async with ThreadStore(street.job.url) as store:
        box = Outbox(account, store, Submitter(account))
        return await box.list("queued", "sending", "unknown", "held", "failed", limit=500)
