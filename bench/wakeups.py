"""How long after a commit in another process a coroutine that waits for it runs, and what waiting costs.

    python -m bench.wakeups [--url postgresql://…] [--times 500]

`told`: `Changes.wait()` returns. `answer of 1`, `of 1,000`: `inbox.wait_for_reply()` returns the message that another
process filed, when so many waits are in the process. The writer notes the time when its commit returned to it; both
clocks are the machine's monotonic one, and a time below zero means that the waiter ran before the writer did.
`idle`: the CPU time of a process that waits for ten seconds in which nothing happens.

On a machine that does other work too, `chrt -f 10 python -m bench.wakeups` shows what a quiet one would.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agentmail import Inbox, Policy, ThreadStore, parse, teamwork
from agentmail.store import Location
from agentmail.store.arrivals import Arrival
from agentmail.store.changes import Changes

from .turns import ACCOUNT, US, database, fill, postgresql

ROOT = Path(__file__).parents[1]
OPEN = Policy(replies_per_hour=10**6, replies_per_domain_hour=10**6)


async def writer(url: str) -> None:
    """File an answer for every line; print when its transaction was committed."""
    async with ThreadStore(url) as store:
        await store.register(US)
        print("ready", flush=True)
        number = 0
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            number += 1
            place = f"w{os.getpid()}"
            raw = (
                f"From: P <p@customer.example>\r\nTo: {US}\r\nSubject: Re: x\r\n"
                f"Message-ID: <{place}.{number}@customer.example>\r\nIn-Reply-To: {line}\r\nReferences: {line}\r\n\r\n"
                f"Answer {number}.\r\n"
            ).encode()
            batch = store.prepare([Arrival(parse(raw), raw, Location(place, 1, number))], account=US)
            await store.db.run(lambda tx, batch=batch: store.file_batch(tx, batch, account=US))  # type: ignore[misc]
            print(time.monotonic(), flush=True)


class Writer:
    def __init__(self, url: str) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, "-m", "bench.wakeups", "--writer", url], cwd=ROOT, text=True,
                                        stdin=pipe, stdout=pipe)  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def begin(self, message_id: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(message_id + "\n")
        self.process.stdin.flush()

    async def committed(self) -> float:
        assert self.process.stdout is not None
        return float(await asyncio.to_thread(self.process.stdout.readline))

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


async def told(store: ThreadStore, writer: Writer, times: int) -> list[float]:
    waits = []
    async with Changes(store.db) as changes:
        for _ in range(times):
            while await changes.wait(0.02):
                pass
            writer.begin("<nobody@customer.example>")
            assert await changes.wait(10)
            now = time.monotonic()
            waits.append(now - await writer.committed())
    return waits


async def answered(store: ThreadStore, writer: Writer, times: int, waits: int) -> list[float]:
    """`times` answers, one after the other, while so many wait."""
    took = []
    async with Inbox(ACCOUNT, store=store, agent="crew", policy=OPEN) as inbox:
        await inbox._outbox.pause(by="bench", reason="nothing leaves")
        sent = [(await inbox.send([f"p{n}@customer.example"], f"Question {waits} {n}", f"What of {n}?")).message_id
                for n in range(times + waits - 1)]  # fmt: skip
        others = [asyncio.create_task(inbox.wait_for_reply(m)) for m in sent[times:]]
        for message_id in sent[:times]:
            waiting = asyncio.create_task(inbox.wait_for_reply(message_id))
            await asyncio.sleep(0.1)  # until it sleeps, as waits do
            writer.begin(message_id)
            await waiting
            now = time.monotonic()
            took.append(now - await writer.committed())
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
    return took


async def idle(store: ThreadStore) -> float:
    """Percent of a core."""
    async with Changes(store.db) as changes:
        await changes.wait(0.2)
        cpu, wall = time.process_time(), time.monotonic()
        await changes.wait(10)
        return 100 * (time.process_time() - cpu) / (time.monotonic() - wall)


def show(name: str, waits: list[float]) -> None:
    waits = sorted(1000 * w for w in waits)
    p50, p99 = (waits[min(len(waits) - 1, int(len(waits) * q))] for q in (0.5, 0.99))
    print(f"{name:32} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   longest {waits[-1]:6.2f} ms", flush=True)


async def measure(name: str, url: str, times: int) -> None:
    await fill(url, 1)
    async with ThreadStore(url) as store:
        print(f"{name + ', idle':32} {await idle(store):.3f} % of a core", flush=True)
        hand = await asyncio.to_thread(Writer, url)
        try:
            show(f"{name}, told", await told(store, hand, times))
        finally:
            await asyncio.to_thread(hand.close)
        for waits in (1, 1_000):
            hand = await asyncio.to_thread(Writer, url)
            try:
                show(f"{name}, answer of {waits:,}", await answered(store, hand, times, waits))
            finally:
                await asyncio.to_thread(hand.close)


async def never(*_: object, **__: object) -> None:
    await asyncio.Event().wait()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a PostgreSQL server, by any database of it")
    parser.add_argument("--times", type=int, default=500)
    given = parser.parse_args()
    teamwork.watch = never  # there is no mail server here
    with tempfile.TemporaryDirectory() as directory:
        await measure("SQLite", f"sqlite:///{directory}/wake.db", given.times)
    with postgresql(given.url) as server, database(server) as url:
        await measure("PostgreSQL", url, given.times)


if __name__ == "__main__":
    asyncio.run(writer(sys.argv[2]) if sys.argv[1:2] == ["--writer"] else main())
