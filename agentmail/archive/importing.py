"""An archive into the store: read, parse ahead, file in batches of one transaction each.

An import that is killed leaves whole batches. Running it again files the rest and nothing twice, because the store
knows a message by its content.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ..message.domains import address_key
from .ahead import Batch, Source, Terms, Worker, forked, prepare_batch
from .reading import Found, Unread, Unreadable, listed, read_file

if TYPE_CHECKING:  # the database library comes with the store, while other processes parse already
    from ..store import Filed, ThreadStore

BATCH = 500
"""Messages in one transaction."""
BATCH_BYTES = 8 * 2**20
"""Raw bytes in one transaction, so that memory stays bounded when messages are large."""
ALONE = 1_000
"""Messages that are parsed in this process, at least: starting another one takes as long as filing these."""
FEW = 50
"""Messages for which no process is forked."""
MOST = 4
"""Processes that are forked, at most: one writes what they prepare."""
SMALL = 2**20
"""Bytes of a file that is read by the process that parses it, all at once."""


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
NOBODYS = Terms("", frozenset(), b"")
"""Of an archive without an account: nothing in it is our own mail, so nobody asks for the secret."""


async def import_archive(
    store: ThreadStore,
    paths: Iterable[Path | str],
    *,
    account: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    unreadable: Callable[[Unreadable], None] | None = None,
    ahead: Ahead | None = None,
) -> Totals:
    """File every message under these paths. Running it again files nothing twice.

    Args:
        account: The account that received this mail (its address); its threads are then guarded against strangers, as
            those of received mail are. None for an archive of nobody's: its messages join by their ids alone.
        workers: Processes that parse ahead; by default one less than there are processors, at least one. 0 parses in
            this process.
        progress: Called after each transaction.
        unreadable: Called with each file that could not be read.
        ahead: These paths, which other processes read already (`reading_ahead`).
    """
    await store.open()
    key = address_key(account) if account else None
    terms = Terms(key, store.own_addresses(key), store.secret) if key else NOBODYS
    totals = Totals()
    started = time.monotonic()

    def note(problem: Unreadable) -> None:
        totals.unreadable += 1
        if unreadable is not None:
            unreadable(problem)

    count = max(1, (os.cpu_count() or 1) - 1) if workers is None else workers
    several: list[Unread] = []
    begun = ahead or Ahead(_batches(listed(paths, smaller=SMALL)), ())
    for some in (begun, Ahead(_batches(iter(several), stream=True), begun.staff)):
        async with aclosing(some.ready(terms) if some.staff else _prepared(some.batches, terms, count)) as ready:
            async for batch in ready:
                several += batch.several
                for problem in batch.unreadable:
                    note(problem)
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


def _batches(files: Iterator[Unread | Unreadable], *, stream: bool = False) -> Iterator[list[Source]]:
    """What goes into one transaction each. Large files are read here; small ones by whoever parses them."""
    batch: list[Source] = []
    size = 0
    for one in _sources(files, stream=stream):
        batch.append(one)
        size += one.size if isinstance(one, Unread) else len(one.raw) if isinstance(one, Found) else 0
        if len(batch) == BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _sources(files: Iterator[Unread | Unreadable], *, stream: bool) -> Iterator[Source]:
    for file in files:
        if isinstance(file, Unread) and (stream or file.size < 0):
            yield from read_file(file)
        else:
            yield file


async def _prepared(batches: Iterator[list[Source]], terms: Terms, workers: int) -> AsyncGenerator[Batch]:
    """The batches, parsed: the first ones here, while other processes start and parse those that follow."""
    first: list[list[Source]] = []
    here = 0
    while not workers or here < ALONE:
        batch = await asyncio.to_thread(next, batches, None)
        if batch is None:
            break
        here += len(batch)
        if workers:
            first.append(batch)
        else:
            yield await asyncio.to_thread(prepare_batch, batch, terms)
    else:
        async with aclosing(_shared_out(batches, first, terms, workers)) as ready:
            async for prepared in ready:
                yield prepared
        return
    for some in first:
        yield await asyncio.to_thread(prepare_batch, some, terms)


async def _shared_out(
    batches: Iterator[list[Source]], first: list[list[Source]], terms: Terms, workers: int
) -> AsyncGenerator[Batch]:
    ahead = Ahead(batches, [Worker.started() for _ in range(workers)])
    try:
        await asyncio.to_thread(ahead.hand_out, terms)
        for some in first:
            yield await asyncio.to_thread(prepare_batch, some, terms)
        async with aclosing(ahead.ready(terms)) as ready:
            async for batch in ready:
                yield batch
    finally:
        ahead.close()


class Ahead:
    """Batches that other processes prepare while those before them are filed."""

    def __init__(self, batches: Iterator[list[Source]], staff: Sequence[Worker]) -> None:
        self.batches = batches
        self.staff = staff
        self._under_way: deque[Future[Batch]] = deque()
        self._turn = 0

    def hand_out(self, terms: Terms) -> None:
        """Give every worker two batches: one to work at, one that waits, so that no worker waits for us."""
        while len(self._under_way) < 2 * len(self.staff) and (batch := next(self.batches, None)) is not None:
            self._under_way.append(self.staff[self._turn % len(self.staff)].prepare(batch, terms))
            self._turn += 1

    async def ready(self, terms: Terms) -> AsyncGenerator[Batch]:
        """The batches in their order, prepared."""
        await asyncio.to_thread(self.hand_out, terms)
        while self._under_way:
            ready = await asyncio.wrap_future(self._under_way.popleft())
            await asyncio.to_thread(self.hand_out, terms)
            yield ready

    def close(self) -> None:
        """End the processes."""
        for future in self._under_way:
            future.cancel()
        for worker in self.staff:
            worker.close()


@contextmanager
def reading_ahead(paths: Iterable[Path | str], *, account: str | None = None) -> Iterator[Ahead]:
    """Let other processes read and prepare these paths from now on, while this one imports the database library and
    opens the store. For a program without threads, before its event loop runs; elsewhere nothing happens ahead.
    """
    batches = _batches(listed(paths, smaller=SMALL))
    first = next(batches, [])
    count = min(MOST, max(1, (os.cpu_count() or 1) - 1)) if len(first) > FEW else 0
    ahead = Ahead(chain([first] if first else [], batches), forked(count))
    try:
        if account is None:  # else the store has to say first which addresses are its own
            ahead.hand_out(NOBODYS)
        yield ahead
    finally:
        ahead.close()
