"""An archive into the store: read, parse ahead, file in batches of one transaction each.

An import that is killed leaves whole batches. Running it again files the rest and nothing twice, because the store
knows a message by its content.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from ..store import Filed, ThreadStore
from .ahead import Batch, Terms, Worker, prepare_batch
from .reading import Found, Unreadable, read

BATCH = 250
"""Messages in one transaction."""
BATCH_BYTES = 8 * 2**20
"""Raw bytes in one transaction, so that memory stays bounded when messages are large."""
ALONE = 1_000
"""Messages that are parsed in this process: starting another one takes as long as parsing these."""


@dataclass(slots=True)
class Totals:
    """What an import did so far."""

    messages: int = 0
    """Read."""
    filed: int = 0
    """New in the store."""
    defects: int = 0
    """Messages with at least one defect."""
    unreadable: int = 0
    """Files, or messages of an mbox, that could not be read; each was named."""
    quarantined: int = 0
    """Messages that the database refused; `store.quarantined()` lists them."""
    bytes: int = 0
    seconds: float = 0.0
    touched: set[str] = field(default_factory=set, repr=False)
    """The threads that hold these messages."""

    @property
    def duplicates(self) -> int:
        """Already in the store, or more than once in the archive."""
        return self.messages - self.filed - self.quarantined

    def as_json(self) -> dict[str, int | float]:
        """The last line of `agentmail import --json`."""
        return {
            "messages": self.messages, "filed": self.filed, "duplicates": self.duplicates,
            "threads": len(self.touched), "defects": self.defects, "seconds": round(self.seconds, 3),
        }  # fmt: skip


Progress = Callable[[Totals], None]


async def import_archive(
    store: ThreadStore,
    paths: Iterable[Path | str],
    *,
    account: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    unreadable: Callable[[Unreadable], None] | None = None,
) -> Totals:
    """File every message under these paths. Running it again files nothing twice.

    Args:
        account: The account that received this mail (its address); its threads are then guarded against strangers, as
            those of received mail are. None for an archive of nobody's: its messages join by their ids alone.
        workers: Processes that parse ahead; by default one less than there are processors, at least one. 0 parses in
            this process.
        progress: Called after each transaction.
        unreadable: Called with each file that could not be read.
    """
    await store.open()
    key = account.casefold() if account else None
    terms = Terms(key or "", store.own_addresses(key or ""), store.secret)
    totals = Totals()
    started = time.monotonic()

    def note(problem: Unreadable) -> None:
        totals.unreadable += 1
        if unreadable is not None:
            unreadable(problem)

    batches = _batches(read(paths), note)
    count = max(1, (os.cpu_count() or 1) - 1) if workers is None else workers
    async with aclosing(_prepared(batches, terms, count)) as ready:
        async for batch in ready:
            filed = await _file(store, batch, key)
            _count(totals, batch, filed)
            totals.seconds = time.monotonic() - started
            if progress is not None:
                progress(totals)
    totals.seconds = time.monotonic() - started
    return totals


async def _file(store: ThreadStore, batch: Batch, account: str | None) -> list[Filed]:
    return await store.db.run(lambda tx: store.file_batch(tx, batch.arrivals, account=account))


def _count(totals: Totals, batch: Batch, filed: Iterable[Filed]) -> None:
    for one in filed:
        totals.messages += 1
        if not one.thread:
            totals.quarantined += 1
            continue
        totals.filed += one.new
        totals.touched.add(one.thread)
        totals.touched.difference_update(one.absorbed)
    totals.defects += batch.defective
    totals.bytes += batch.bytes


def _batches(archive: Iterator[Found | Unreadable], note: Callable[[Unreadable], None]) -> Iterator[list[Found]]:
    batch: list[Found] = []
    size = 0
    for one in archive:
        if isinstance(one, Unreadable):
            note(one)
            continue
        batch.append(one)
        size += len(one.raw)
        if len(batch) == BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def _prepared(batches: Iterator[list[Found]], terms: Terms, workers: int) -> AsyncGenerator[Batch]:
    """The batches in order, parsed; the first ones here, the others ahead in other processes."""
    alone = 0
    while not workers or alone < ALONE:
        batch = await asyncio.to_thread(next, batches, None)
        if batch is None:
            return
        alone += len(batch)
        yield await asyncio.to_thread(prepare_batch, batch, terms)
    staff = [Worker(terms) for _ in range(workers)]
    under_way: deque[asyncio.Future[Batch]] = deque()
    try:
        turn = 0
        batch = await asyncio.to_thread(next, batches, None)
        while batch is not None or under_way:
            # Two for each: one at work, one waiting, so that no worker waits for us.
            while batch is not None and len(under_way) < 2 * workers:
                under_way.append(staff[turn % workers].prepare(batch))
                turn += 1
                batch = await asyncio.to_thread(next, batches, None)
            yield await under_way.popleft()
    finally:
        for future in under_way:
            future.cancel()
        for worker in staff:
            worker.close()
