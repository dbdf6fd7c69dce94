"""What the store costs as it grows: filing a batch, opening a thread, a page of threads, a search.

    python -m bench store [--messages 1000000] [--url sqlite:///x.db | postgresql://…] [--only scale|thread|walks]

What is timed is filing alone, in CPU time of this process (SQLite) or wall time (PostgreSQL), and reading as a caller
waits for it. Messages of 2.7 KB on average, in threads of 5 on average.

A machine that does other work is slower at one hour than at another. So the cost at each size is set against the cost
at 10,000 messages *at the same time*: batches go in turn to the large store and to a small one that was made just then.

With `--url` of a store that a run left behind, the run goes on from there.
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
    for n in range(-(-messages // len(base))):
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


COMPARED = 20
"""Batches that go to the large and the small store in turn."""


async def scale(messages: int, url: str, directory: Path) -> None:
    marks = [n for n in (10_000, 100_000, 1_000_000) if n <= messages]
    async with ThreadStore(url) as store:
        words = _Words()
        filed = sum(a.messages for a in (await store.size()).accounts)
        marks = [n for n in marks if n > filed]
        skip = filed
        print("  messages  filing us  at 10,000  ratio  thread p95 ms  page p95 ms  search p95 ms", flush=True)
        batches = _batches(messages + 2 * COMPARED * BATCH, Terms("", frozenset(), store.secret))
        for batch in batches:
            if len(words.seen) < 400:
                words.learn(batch)
            if skip > 0:
                skip -= len(batch.arrivals)
                continue
            await _file(store, batch)
            filed += len(batch.arrivals)
            if marks and filed >= marks[0]:
                marks.pop(0)
                large, small = await _compared(store, batches, directory / f"small-{filed}.db")
                reads = await _read_times(store, words, filed)
                print(f"{filed:>10,} {large:>10.0f} {small:>10.0f} {large / small:>6.2f} {reads[0]:>14.2f} "
                      f"{reads[1]:>12.2f} {reads[2]:>14.2f}", flush=True)  # fmt: skip
                filed += COMPARED * BATCH
                if not marks:
                    break
        found = await store.size()
        print(f"{found.database_bytes / filed:,.0f} bytes of database for each message; {found.accounts}")


async def _compared(store: ThreadStore, batches: Iterator[Batch], path: Path) -> tuple[float, float]:
    """Microseconds a message in the large store and in one of 10,000, batch by batch in turn."""
    url = f"sqlite:///{path}" if store.db.sqlite else ""
    if not url:
        costs = [await _file(store, batch) for batch in islice(batches, COMPARED)]
        return statistics.mean(costs), statistics.mean(costs)
    large, small = [], []
    async with ThreadStore(url) as other:
        for batch in _batches(10_000, Terms("", frozenset(), other.secret)):
            await _file(other, batch)
        for batch in islice(batches, COMPARED):
            large.append(await _file(store, batch))
            small.append(await _file(other, batch))
    # The means and not the medians: a merge of the index falls into some batches only, and belongs to the cost.
    return statistics.mean(large), statistics.mean(small)


async def _file(store: ThreadStore, batch: Batch) -> float:
    clock = time.process_time if store.db.sqlite else time.perf_counter
    started = clock()
    await store.db.run(lambda tx: store.file_batch(tx, batch.arrivals, account=None))
    return (clock() - started) / len(batch.arrivals) * 1e6


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


WALKS = ("even odd", "common label:vip", "seldom label:vip", "label:vip", "common label:plain", "even odd label:plain")
"""What has to look far: two words that never meet, and a label that only the oldest mail has."""


async def walks(messages: int, url: str) -> None:
    """Searches that are not answered by the newest mail, as a caller waits for them."""
    from tests.integration.store import visited

    visited.FEW = messages // 100
    async with ThreadStore(url) as store:
        for first in range(1, messages, 10_000):
            await visited.fill(store, first, min(first + 9_999, messages))
        for query in WALKS:
            costs = []
            for _ in range(5):
                started = time.perf_counter()
                hits = await store.search(query)
                costs.append(time.perf_counter() - started)
            print(f"{query:>22} in {messages:,} messages: {len(hits):>2} hits, {min(costs) * 1e3:.1f} ms", flush=True)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench store")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--url")
    parser.add_argument("--only", choices=("scale", "thread", "walks"))
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent.parent / ".cache") as directory:
        if given.only == "walks":
            asyncio.run(walks(given.messages, given.url or f"sqlite:///{directory}/walks.db"))
            return
        if given.only != "thread":
            asyncio.run(scale(given.messages, given.url or f"sqlite:///{directory}/scale.db", Path(directory)))
        if given.only != "scale":
            asyncio.run(long_thread(10_000, given.url or f"sqlite:///{directory}/thread.db"))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
