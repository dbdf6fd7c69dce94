"""Turns a second: claim, read, hand to a handler that does nothing, finish. Beside job queues, on the same PostgreSQL.

    python -m bench.turns [postgresql] [sqlite] [idle] [--url postgresql://…] [--threads 2000] [--rounds 3]

`postgresql`: 8 workers in one process, and 8 processes; procrastinate with concurrency 8 and pgqueuer with batches of
8, which `sh bench/peers.sh queues` installs, do empty jobs in the same run. `sqlite`: 8 processes of 8 workers; the
longest time that a claim or a finish took in any of them, and the share of the process that got least. `idle`: the
same PostgreSQL and SQLite measurement in an empty store and in one with a million threads that want nothing.

A turn is a whole one: the thread is read with its messages, the lease renews itself, the end is fenced. Every run
checks that each thread had one turn. Without --url it starts a private PostgreSQL with the settings of its package
(fsync on).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text

from agentmail import Account, Inbox, ThreadStore, Turn, parse
from agentmail.store import Location, wanting
from agentmail.store.arrivals import Arrival

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".cache" / "peers" / "bin" / "python"
ACCOUNT = Account(address="crew@our.example", password="none", imap_host="127.0.0.1", smtp_host="127.0.0.1")  # type: ignore[arg-type]
US = ACCOUNT.key
WORKERS = 8


# -- a worker, in a process of its own


async def worker(url: str, hands: int) -> None:
    """Say ready, wait for the word, work until nothing is due; print what was done."""
    turns, slowest = 0, 0.0

    async def handler(turn: Turn) -> None:
        nonlocal turns
        turns += 1

    async with ThreadStore(url) as store:
        run, alone = store.db.run, store.db.run_alone

        def timed(call: Any) -> Any:
            async def measured(work: Any) -> Any:
                nonlocal slowest
                began = time.perf_counter()
                try:
                    return await call(work)
                finally:
                    slowest = max(slowest, time.perf_counter() - began)

            return measured

        async with Inbox(ACCOUNT, store=store, agent="crew") as inbox:
            await inbox.run(handler, concurrency=hands, wait=False)  # nothing is due: this is the warming up
            store.db.run, store.db.run_alone = timed(run), timed(alone)  # type: ignore[method-assign]
            slowest = 0.0
            gc.collect()  # as docs/how-to/run-on-many-machines.md says
            gc.freeze()
            print("ready", flush=True)
            while sys.stdin.readline().strip() == "go":
                turns, slowest, cpu = 0, 0.0, time.process_time()
                began = time.monotonic()
                await inbox.run(handler, concurrency=hands, wait=False)
                done = {"turns": turns, "began": began, "ended": time.monotonic(), "slowest": slowest,
                        "cpu": time.process_time() - cpu}  # fmt: skip
                print(json.dumps(done), flush=True)


class Crew:
    """Worker processes that wait for the word."""

    def __init__(self, url: str, processes: int, hands: int) -> None:
        self.workers = [
            subprocess.Popen([sys.executable, "-m", "bench.turns", "--worker", url, str(hands)], cwd=ROOT, text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(processes)
        ]  # fmt: skip
        for w in self.workers:
            assert w.stdout is not None
            assert w.stdout.readline() == "ready\n"

    def go(self) -> list[dict[str, float]]:
        for w in self.workers:
            assert w.stdin is not None
            w.stdin.write("go\n")
            w.stdin.flush()
        return [json.loads(w.stdout.readline()) for w in self.workers if w.stdout is not None]

    def close(self) -> None:
        for w in self.workers:
            assert w.stdin is not None
            w.stdin.close()
            w.wait()
            assert w.stdout is not None
            w.stdout.close()


# -- the store


async def fill(url: str, threads: int) -> None:
    """So many threads of one letter each, as filing writes them."""
    async with ThreadStore(url) as store:
        await store.register(US)
        for start in range(0, threads, 200):
            raws = [letter(n) for n in range(start, min(start + 200, threads))]
            arrivals = [Arrival(parse(raw), raw, Location("INBOX", 1, start + i + 1)) for i, raw in enumerate(raws)]
            batch = store.prepare(arrivals, account=US)
            await store.db.run(lambda tx, batch=batch: store.file_batch(tx, batch, account=US))  # type: ignore[misc]


def letter(number: int) -> bytes:
    return (
        f"From: Person {number} <person{number}@customer.example>\r\nTo: {US}\r\nSubject: Question {number}\r\n"
        f"Message-ID: <q{number}@customer.example>\r\nDate: Fri, 20 Nov 2026 09:00:00 +0000\r\n\r\n"
        f"What is the answer to question {number}?\r\n"
    ).encode()


async def add_idle(url: str, threads: int) -> None:
    """Threads that want nothing, as they are when their turns are done: made of the first one by SQL."""
    async with ThreadStore(url) as store:
        numbers = (
            "generate_series(1, :n) AS g(n)" if not store.db.sqlite
            else "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < :n) SELECT n FROM c) AS g"
        )  # fmt: skip

        async def work(tx: Any) -> None:
            source = (await tx.execute(text("SELECT * FROM thread ORDER BY id LIMIT 1"))).mappings().one()
            first = (await tx.execute(text("SELECT max(id) + 1 FROM thread"))).scalar_one()
            columns = [c for c in source if c != "id"]
            names = ", ".join(columns)
            await tx.execute(
                text(f"INSERT INTO thread (id, {names}) SELECT {first} + g.n, "
                     f"{', '.join('t.' + c for c in columns)} FROM thread t, {numbers} WHERE t.id = :source"),
                {"n": threads, "source": source["id"]},
            )  # fmt: skip
            row = (await tx.execute(text("SELECT * FROM work LIMIT 1"))).mappings().one()
            others = [c for c in row if c not in {"thread", "state"}]
            await tx.execute(
                text(f"INSERT INTO work (thread, state, {', '.join(others)}) SELECT {first} + g.n, 'idle', "
                     f"{', '.join('w.' + c for c in others)} FROM work w, {numbers} WHERE w.thread = :source"),
                {"n": threads, "source": row["thread"]},
            )  # fmt: skip

        await store.db.run(work)
        await store.db.maintain("ANALYZE" if store.db.sqlite else "VACUUM ANALYZE")


async def arm(url: str, threads: int) -> None:
    """Each of the first threads wants attention again."""
    async with ThreadStore(url) as store:
        again = text(
            "UPDATE work SET state = 'ready', done = 0, next_at = thread WHERE thread IN "
            "(SELECT thread FROM work WHERE newest > 0 ORDER BY thread LIMIT :n)"
        )
        await store.db.run(lambda tx: tx.execute(again, {"n": threads}))
        if not store.db.sqlite:
            await store.db.maintain("VACUUM work", "CHECKPOINT")


async def measure(url: str, threads: int, *, processes: int, hands: int, rounds: int) -> dict[str, float]:
    """The median round: turns a second, the slowest claim or finish in ms, the least share of a process."""
    crew = await asyncio.to_thread(Crew, url, processes, hands)
    results = []
    try:
        for _ in range(rounds):
            await arm(url, threads)
            done = await asyncio.to_thread(crew.go)
            assert sum(d["turns"] for d in done) == threads, done
            seconds = max(d["ended"] for d in done) - min(d["began"] for d in done)
            results.append({
                "per_second": threads / seconds, "worst_ms": 1000 * max(d["slowest"] for d in done),
                "least_share": min(d["turns"] for d in done) * processes / threads,
                "cpu_ms": 1000 * sum(d["cpu"] for d in done) / threads,
            })  # fmt: skip
    finally:
        await asyncio.to_thread(crew.close)
    async with ThreadStore(url) as store, store.reading() as tx:
        assert await wanting.counts(tx, US) == {}
    return sorted(results, key=lambda r: r["per_second"])[len(results) // 2]


# -- the measurements


@contextmanager
def postgresql(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    from tests.servers import postgres

    postgres.FAST = ["shared_buffers=128MB", "max_connections=200", "log_min_messages=warning", "timezone=UTC"]
    server = postgres.Postgres()
    server.start()
    try:
        yield server.url()
    finally:
        server.stop()


@contextmanager
def database(server: str) -> Iterator[str]:
    """A new, empty one."""
    name = f"bench{os.getpid()}_{time.monotonic_ns()}"
    subprocess.run(["psql", "-q", server, "-c", f"CREATE DATABASE {name}"], check=True)
    try:
        yield f"{server.rpartition('/')[0]}/{name}"
    finally:
        subprocess.run(["psql", "-q", server, "-c", f"DROP DATABASE {name} WITH (FORCE)"], check=True)


def peer(name: str, server: str, jobs: int, rounds: int) -> float:
    """Jobs a second, the median."""
    rates = []
    for _ in range(rounds):
        with database(server) as url:
            command = [str(PEERS), str(ROOT / "bench" / "queues.py"), name, url, str(jobs), str(WORKERS)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        rates.append(found["jobs"] / found["seconds"])
    return statistics.median(rates)


def show(name: str, found: dict[str, float], note: str = "") -> None:
    print(f"{found['per_second']:8,.0f}/s  {found['cpu_ms']:6.2f} ms CPU  slowest {found['worst_ms']:6.1f} ms  "
          f"least share {found['least_share']:4.0%}  {name}{note}", flush=True)  # fmt: skip


async def on_postgresql(server: str, threads: int, rounds: int) -> None:
    with database(server) as url:
        await fill(url, threads)
        one = await measure(url, threads, processes=1, hands=WORKERS, rounds=rounds)
        show("PostgreSQL, one process with 8 workers", one)
        show("PostgreSQL, 8 processes of 8 workers",
             await measure(url, threads, processes=WORKERS, hands=WORKERS, rounds=rounds))  # fmt: skip
    if not PEERS.exists():
        print("no peers: sh bench/peers.sh queues")
        return
    for name, shape in (("procrastinate", "concurrency 8"), ("pgqueuer", "batches of 8")):
        rate = await asyncio.to_thread(peer, name, server, threads, rounds)
        print(f"{rate:8,.0f}/s  {name}, {shape}, one process; one process of ours: {one['per_second'] / rate:.2f}x")


async def on_sqlite(threads: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{directory}/bench.db"
        await fill(url, threads)
        for processes in (1, WORKERS):
            found = await measure(url, threads, processes=processes, hands=WORKERS, rounds=rounds)
            show(f"SQLite, {processes} process(es) of 8 workers", found)


async def beside_idle(server: str, threads: int, rounds: int, idle: int) -> None:
    with tempfile.TemporaryDirectory() as directory, database(server) as remote:
        for name, url in (("PostgreSQL", remote), ("SQLite", f"sqlite:///{directory}/idle.db")):
            await fill(url, threads)
            empty = await measure(url, threads, processes=1, hands=WORKERS, rounds=rounds)
            show(f"{name}, nothing else in the store", empty)
            await add_idle(url, idle)
            full = await measure(url, threads, processes=1, hands=WORKERS, rounds=rounds)
            ratio = empty["per_second"] / full["per_second"]
            show(f"{name}, {idle:,} idle threads", full, f": {ratio:.2f}x slower")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="postgresql, sqlite, idle; all three when none is named")
    parser.add_argument("--url", help="a PostgreSQL server, by any database of it; its owner may create databases")
    parser.add_argument("--threads", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=int, default=1_000_000)
    given = parser.parse_args()
    what = given.what or ["postgresql", "sqlite", "idle"]
    if unknown := set(what) - {"postgresql", "sqlite", "idle"}:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    if "sqlite" in what:
        await on_sqlite(given.threads, given.rounds)
    if {"postgresql", "idle"} & set(what):
        with postgresql(given.url) as server:
            if "postgresql" in what:
                await on_postgresql(server, given.threads, given.rounds)
            if "idle" in what:
                await beside_idle(server, given.threads, given.rounds, given.idle)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        asyncio.run(worker(sys.argv[2], int(sys.argv[3])))
    else:
        asyncio.run(main())
