"""What the store costs as it grows: filing a batch, opening a thread, a page of threads, a search.

    python -m bench store [--messages 1000000] [--url sqlite:///x.db | postgresql://…]

What is timed is filing alone, in CPU time of this process (SQLite) or wall time (PostgreSQL), and reading as a caller
waits for it. Messages of 2.7 KB on average, in threads of 4 on average.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from agentmail.archive.ahead import Batch, Terms, prepare_batch
from agentmail.archive.reading import Found
from agentmail.store import ThreadStore
from agentmail.store.arrivals import Prepared

from .corpus import generate, one_thread

BATCH = 500
BASE = 20_000
QUERIES = ("{a}", "{a} {b}", '"{a} {b}"', "{a} -{b}", "from:{p}", "subject:{a}", "{a} before:2016-01-01", "{s}*")


def _batches(messages: int, terms: Terms) -> Iterator[Batch]:
    """A million messages out of 20,000: each round gives them ids, dates, contents and a word of their own.

    Generating and parsing a million would take longer than filing them, and is not what is measured.
    """
    base: list[Prepared] = []
    source = generate(min(messages, BASE), seed=7, small=True)
    while some := list(islice(source, BATCH)):
        base += prepare_batch([Found("", m.raw) for m in some], terms).arrivals  # type: ignore[arg-type]
    span = base[-1].row["at"] - base[0].row["at"]
    for n in range(messages // len(base)):
        for start in range(0, len(base), BATCH):
            yield Batch([_again(p, n, n * span) for p in base[start : start + BATCH]])


def _again(one: Prepared, n: int, later: float) -> Prepared:
    if not n:
        return one
    row = {**one.row, "at": one.row["at"] + later, "content_key": f"{n:04x}{one.row['content_key'][4:]}"}
    row["message_id"] = f"<{n}.{row['message_id'][1:]}"
    row["message_id_key"] = f"<{n}.{row['message_id_key'][1:]}"
    holds = {f"<{n}.{key[1:]}": hold for key, hold in one.facts.holds.items()}
    words = replace(one.words, body=f"{one.words.body} {row['content_key'][:12]}")
    return replace(one, row=row, facts=replace(one.facts, holds=holds), words=words)


async def scale(messages: int, url: str) -> None:
    marks = [n for n in (10_000, 100_000, 1_000_000) if n <= messages]
    async with ThreadStore(url) as store:
        clock = time.process_time if store.db.sqlite else time.perf_counter
        costs: list[float] = []
        words = _Words()
        filed = 0
        first = 0.0
        print("  messages  filing µs  ratio  thread p95 ms  page p95 ms  search p95 ms")
        terms = Terms("", frozenset(), store.secret)
        for batch in _batches(messages, terms):
            started = clock()
            await store.db.run(lambda tx, b=batch: store.file_batch(tx, b.arrivals, account=None))
            costs.append((clock() - started) / len(batch.arrivals) * 1e6)
            filed += len(batch.arrivals)
            if len(words.seen) < 400:
                words.learn(batch)
            if marks and filed >= marks[0]:
                # The mean of the last batches: a checkpoint or a merge of the index falls into some of them only.
                last = costs[-max(10, len(costs) // 10) :]
                cost = statistics.mean(last)
                first = first or cost
                reads = await _read_times(store, words, filed)
                print(f"{filed:>10,} {cost:>10.0f} {cost / first:>6.2f} {reads[0]:>14.2f} {reads[1]:>12.2f} "
                      f"{reads[2]:>14.2f}", flush=True)  # fmt: skip
                marks.pop(0)
        found = await store.size()
        print(f"{found.database_bytes / filed:,.0f} bytes of database for each message; {found.accounts}")


class _Words:
    """Words that the messages hold: queries of them find something."""

    def __init__(self) -> None:
        self.rng = random.Random(3)
        self.seen: list[str] = []
        self.pairs: list[tuple[str, str]] = []
        self.people: list[str] = []

    def learn(self, batch: Batch) -> None:
        for one in batch.arrivals[:40]:
            words = one.words.body.split()  # type: ignore[union-attr]
            at = self.rng.randrange(max(1, len(words) - 2))
            if len(words) > at + 1:
                self.seen.append(words[at])
                self.pairs.append((words[at], words[at + 1]))
                self.people.append(one.words.sender.split()[0])  # type: ignore[union-attr]

    def query(self) -> str:
        a, b = self.rng.choice(self.pairs)
        return self.rng.choice(QUERIES).format(a=a, b=b, p=self.rng.choice(self.people), s=a[:3])


async def _read_times(store: ThreadStore, words: _Words, filed: int) -> tuple[float, float, float]:
    rng = random.Random(5)
    threads, pages, searches = [], [], []
    for _ in range(200):
        message = await store.message(f"m{rng.randint(1, filed)}")
        started = time.perf_counter()
        await store.thread(str(message.thread))
        threads.append(time.perf_counter() - started)
        started = time.perf_counter()
        await store.threads(limit=20, after=message.thread)
        pages.append(time.perf_counter() - started)
        query = words.query()
        started = time.perf_counter()
        await store.search(query)
        searches.append(time.perf_counter() - started)
    return _p95(threads), _p95(pages), _p95(searches)


def _p95(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.95)] * 1000


async def long_thread(messages: int, url: str) -> None:
    """One thread of many messages: is the second half as quick as the first?"""
    async with ThreadStore(url) as store:
        clock = time.process_time if store.db.sqlite else time.perf_counter
        terms = Terms("", frozenset(), store.secret)
        source = one_thread(messages)
        costs = []
        while some := list(islice(source, 100)):
            batch = prepare_batch([Found("", m.raw) for m in some], terms)
            started = clock()
            await store.db.run(lambda tx, b=batch: store.file_batch(tx, b.arrivals, account=None))
            costs.append((clock() - started) / len(some) * 1e6)
        tenth = max(1, len(costs) // 10)
        early, late = statistics.mean(costs[tenth : 2 * tenth]), statistics.mean(costs[-tenth:])
        threads = await store.threads()
        print(f"one thread of {messages:,}: {early:.0f} µs a message in its second tenth, {late:.0f} in its last "
              f"({late / early:.2f}×); {len(threads)} thread")  # fmt: skip


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench store")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--url")
    parser.add_argument("--only", choices=("scale", "thread"))
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent.parent / ".cache") as directory:
        if given.only != "thread":
            asyncio.run(scale(given.messages, given.url or f"sqlite:///{directory}/scale.db"))
        if given.only != "scale":
            asyncio.run(long_thread(10_000, given.url or f"sqlite:///{directory}/thread.db"))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
