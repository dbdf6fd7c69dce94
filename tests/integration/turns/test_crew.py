"""Workers that crash, oversleep their leases and have wrong clocks: every thread gets one answer, and no more."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import func, select

from agentmail import ThreadStore, parse
from agentmail.store import Location, claims
from agentmail.store.arrivals import Arrival
from agentmail.store.tables.outbox import SUBMISSION
from agentmail.store.tables.threads import MESSAGE, THREAD

from .crew import ACCOUNT, MARK

ROOT = Path(__file__).parents[3]
US = ACCOUNT.key


def letter(number: int) -> bytes:
    return (
        f"From: Person {number} <person{number}@customer{number % 50}.example>\r\nTo: {US}\r\n"
        f"Subject: Question {number}\r\nMessage-ID: <q{number}@customer.example>\r\n"
        f"Date: Fri, 20 Nov 2026 09:00:00 +0000\r\n\r\nWhat is the answer to question {number}?\r\n"
    ).encode()


async def fill(store: ThreadStore, threads: int) -> None:
    """So many letters of as many people, and the outbox paused: what is answered stays to be counted."""
    from agentmail.outbox import Outbox
    from agentmail.smtp import Submitter

    await store.register(US)
    for start in range(0, threads, 100):
        raws = [letter(n) for n in range(start, min(start + 100, threads))]
        batch = store.prepare(
            [Arrival(parse(raw), raw, Location("INBOX", 1, start + i + 1)) for i, raw in enumerate(raws)], account=US
        )
        await store.db.run(lambda tx, batch=batch: store.file_batch(tx, batch, account=US))  # type: ignore[misc]
    await Outbox(ACCOUNT, store, Submitter(ACCOUNT)).pause(by="test", reason="nothing leaves")


async def run_crew(url: str, directory: Path, *, workers: int, lease: float, seed: int, deadline: float) -> None:
    crew = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.integration.turns.crew", url, str(directory), str(workers),
         str(lease), str(seed)],
        cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        _, errors = await asyncio.to_thread(crew.communicate, timeout=deadline)
    finally:
        if crew.poll() is None:
            os.killpg(crew.pid, signal.SIGKILL)
            crew.communicate()
    assert crew.returncode == 0, errors[-4000:]


async def judge(store: ThreadStore, directory: Path, threads: int) -> Counter[str]:
    """Every thread answered exactly once; nothing of a sleeper; nobody left waiting. What befell the turns."""
    async with store.reading() as tx:
        answers = dict(
            (await tx.execute(select(SUBMISSION.c.answers, func.count()).group_by(SUBMISSION.c.answers))).all()
        )
        incoming = set((await tx.execute(select(MESSAGE.c.id).where(~MESSAGE.c.outgoing))).scalars())
        written = (await tx.execute(select(func.count()).where(MESSAGE.c.outgoing))).scalar_one()
        by_state = select(claims.work.c.state, func.count()).group_by(claims.work.c.state)
        states = dict((await tx.execute(by_state)).all())
        unfinished = select(func.count()).where(claims.work.c.done != claims.work.c.newest)
        assert (await tx.execute(unfinished)).scalar_one() == 0
        assert (await tx.execute(select(func.count()).select_from(claims.timer))).scalar_one() == 0
        kept = (await tx.execute(select(THREAD.c.notes, THREAD.c.labels, THREAD.c.data))).all()
    assert answers == dict.fromkeys(incoming, 1)
    assert len(incoming) == written == threads
    assert states == {"idle": threads}
    assert [row for row in kept if MARK in str(row)] == []
    log = [json.loads(line) for line in (directory / "log").read_text().splitlines()]
    what = Counter(str(line["what"]) for line in log)
    assert [w for w in what if w.startswith("wrote")] == []
    assert what["told"] == what["sleep"]
    return what


async def test_every_thread_gets_one_answer_whoever_falls(store_url: str, tmp_path: Path) -> None:
    threads = 40
    async with ThreadStore(store_url) as store:
        await fill(store, threads)
        await run_crew(store_url, tmp_path, workers=4, lease=0, seed=7, deadline=300)
        what = await judge(store, tmp_path, threads)
        assert what["die"] > 2
        assert what["sleep"] > 2


@pytest.mark.soak
@pytest.mark.parametrize("lease", [0, 10], ids=["leases-ended", "leases-waited-for"])
async def test_a_thousand_threads_and_eight_workers(store_url: str, tmp_path: Path, lease: float) -> None:
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    async with ThreadStore(store_url) as store:
        await fill(store, 1_000)
        await run_crew(store_url, tmp_path, workers=8, lease=lease, seed=seed, deadline=1_800)
        print(await judge(store, tmp_path, 1_000))
