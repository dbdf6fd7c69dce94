"""What a durable outbox costs at least: the same rows by the bare driver, and aiosmtplib over kept connections.

Part of `python -m bench outbox --floor`. The rows are those that our outbox writes, recorded and written again in the
same groups: by `executemany`, in one transaction and one write to the disk for each group. Sending is 4 connections of
aiosmtplib that are kept; a marker is committed before each body, those of a moment together, and ends go along with the
next markers. Nothing is decided, parsed, looked up, fenced, renewed or retried: no outbox that keeps its word is this
quick.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import aiosmtplib
import asyncpg
from sqlalchemy import make_url

from agentmail.message.models import Outgoing
from agentmail.outbox import Outbox
from agentmail.store import ThreadStore, direct
from agentmail.store.database import PRAGMAS

CLAIMED = 32
"""As many as our worker takes at once with 4 connections."""

Rows = tuple[str, list[tuple[Any, ...]]]
"""An INSERT, and its rows."""
OUR_OWN = ('"submission"', '"recipient"', '"submission_body"', '"event"')


async def recorded(url: str, box_of: Callable[[ThreadStore], Outbox], mails: Callable[[ThreadStore], list[Outgoing]],
                   together: int) -> list[list[Rows]]:  # fmt: skip
    """What our outbox writes for these, in an empty store: a list for each transaction."""
    groups: list[list[Rows]] = []
    write = direct.rows

    async def keep(tx: Any, sql: str, values: Sequence[Any]) -> None:
        if values:
            groups[-1].append((sql, [tuple(row) for row in values]))
        await write(tx, sql, values)

    async with ThreadStore(url) as store:
        box, outgoing = box_of(store), mails(store)
        direct.rows = keep
        try:
            for start in range(0, len(outgoing), together):
                groups.append([])
                await asyncio.gather(*(box.queue(one) for one in outgoing[start : start + together]))
        finally:
            direct.rows = write
    return groups


def of_submissions(groups: list[list[Rows]]) -> list[list[Rows]]:
    """The same without thread, message, people and search: rows of the submissions themselves, and their events."""
    kept: list[list[Rows]] = []
    for group in groups:
        kept.append([])
        for sql, all_rows in group:
            rows, table = all_rows, sql.split()[2]
            columns = sql.partition("(")[2].partition(")")[0].split(", ")
            if table == '"submission"':  # there is no message that it could name
                at = columns.index("message")
                rows = [(*row[:at], None, *row[at + 1 :]) for row in rows]
            if table == '"event"':
                at = columns.index("kind")
                rows = [row for row in rows if row[at].startswith("submission.")]
            if table in OUR_OWN and rows:
                kept[-1].append((sql, rows))
    return kept


class Driver(Protocol):
    """The bare driver of a database, with what an outbox writes."""

    async def insert(self, group: list[Rows]) -> None: ...
    async def claim(self, ids: list[int]) -> None: ...
    async def write(self, marks: list[int], ends: list[int]) -> None: ...
    async def on_disk(self) -> None: ...
    async def close(self) -> None: ...


_CLAIM = "UPDATE submission SET state = 'sending', epoch = epoch + 1, attempts = attempts + 1, next_at = {} WHERE {}"
_MARK = "UPDATE submission SET marker_at = {} WHERE {} AND state = 'sending'"
_END = "UPDATE submission SET state = 'sent', code = 250, reply = 'ok', next_at = NULL, sent_at = {} WHERE {}"
_TOLD = "INSERT INTO event (at, kind, account, data) "


class Sqlite:
    """sqlite3, set up as ours is."""

    def __init__(self, url: str) -> None:
        self._path = str(make_url(url).database)
        self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        for pragma in PRAGMAS:
            self._db.execute(f"PRAGMA {pragma}").fetchall()

    async def insert(self, group: list[Rows]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        for sql, rows in group:
            self._db.executemany(sql, rows)
        self._db.execute("COMMIT")
        await self.on_disk()

    async def claim(self, ids: list[int]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(_CLAIM.format("?", "id = ?"), [(time.time() + 180, i) for i in ids])
        self._db.execute("COMMIT")
        await self.on_disk()

    async def write(self, marks: list[int], ends: list[int]) -> None:
        now = time.time()
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(_MARK.format("?", "id = ?"), [(now, i) for i in marks])
        self._db.executemany(_END.format("?", "id = ?"), [(now, i) for i in ends])
        told = f"{_TOLD} VALUES (?, 'submission.sent', 'a', ?)"
        self._db.executemany(told, [(now, f'{{"id": "o{i}"}}') for i in ends])
        self._db.execute("COMMIT")

    async def on_disk(self) -> None:
        def flush() -> None:
            log = os.open(f"{self._path}-wal", os.O_RDWR)
            os.fdatasync(log)
            os.close(log)

        await asyncio.to_thread(flush)

    async def close(self) -> None:
        self._db.close()


class Postgres:
    """asyncpg: one connection whose commits wait for the disk, and one for markers and ends, whose do not."""

    def __init__(self, hard: Any, soft: Any) -> None:
        self._hard, self._soft = hard, soft

    @classmethod
    async def open(cls, url: str) -> Postgres:
        by_index = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}
        hard = await asyncpg.connect(url)
        return cls(hard, await asyncpg.connect(url, server_settings={**by_index, "synchronous_commit": "off"}))

    async def insert(self, group: list[Rows]) -> None:
        async with self._hard.transaction():
            for sql, rows in group:
                await self._hard.executemany(sql, rows)

    async def claim(self, ids: list[int]) -> None:
        await self._hard.execute(_CLAIM.format("$2::float8", "id = ANY ($1::bigint[])"), ids, time.time() + 180)

    async def write(self, marks: list[int], ends: list[int]) -> None:
        if marks:
            await self._soft.execute(_MARK.format("$2::float8", "id = ANY ($1::bigint[])"), marks, time.time())
        if ends:
            ended = _END.format("$2::float8", "id = ANY ($1::bigint[]) RETURNING id")
            told = f"{_TOLD} SELECT $2, 'submission.sent', 'a', json_build_object('id', 'o' || id) FROM ended"
            await self._soft.execute(f"WITH ended AS ({ended}) {told}", ends, time.time())

    async def on_disk(self) -> None:
        await self._hard.execute("SELECT pg_logical_emit_message(true, 'bench', '')")

    async def close(self) -> None:
        await self._hard.close()
        await self._soft.close()


class Worker:
    """Sends what was inserted."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._marks: list[tuple[int, asyncio.Future[None]]] = []
        self._ends: list[int] = []
        self._writing: asyncio.Task[None] | None = None

    async def send(self, clients: list[aiosmtplib.SMTP], mails: list[tuple[int, str, str, bytes]]) -> None:
        """Each of (id, from, to, bytes), over connections that are open."""
        waiting = mails[::-1]
        ready: list[tuple[int, str, str, bytes]] = []
        claiming = asyncio.Lock()

        async def one(client: aiosmtplib.SMTP) -> None:
            while True:
                async with claiming:
                    if not ready and waiting:
                        some = [waiting.pop() for _ in range(min(CLAIMED, len(waiting)))]
                        await self._driver.claim([mail[0] for mail in some])
                        ready.extend(some[::-1])
                if not ready:
                    return
                id_, sender, to, raw = ready.pop()
                await self._mark(id_)
                await client.sendmail(sender, [to], raw)
                self._ends.append(id_)

        await asyncio.gather(*map(one, clients))
        await self._driver.write([], self._ends)
        await self._driver.on_disk()

    async def _mark(self, id_: int) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._marks.append((id_, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await done

    async def _write(self) -> None:
        while self._marks:
            marks, ends = self._marks, self._ends
            self._marks, self._ends = [], []
            await self._driver.write([id_ for id_, _ in marks], ends)
            for _, done in marks:
                done.set_result(None)
        self._writing = None


async def floor(
    url: str, groups: list[list[Rows]], mails: list[tuple[int, str, str, bytes]], clients: list[aiosmtplib.SMTP],
    timed: Callable[[str, int, Callable[[], Awaitable[None]]], Awaitable[dict[str, object]]], rows: str,
) -> list[dict[str, object]]:  # fmt: skip
    """Write these rows into an empty store, and send."""
    async with ThreadStore(url) as store:
        where = store.db.dialect
    driver: Driver = Sqlite(url) if where == "sqlite" else await Postgres.open(url)
    try:

        async def insert() -> None:
            for group in groups:
                await driver.insert(group)

        before = await timed(f"floor on {where}: rows before, {rows}", len(mails), insert)
        after = await timed(
            f"floor on {where}: row to sent, 4 connections", len(mails), lambda: Worker(driver).send(clients, mails)
        )
    finally:
        await driver.close()
    return [before, after]
