"""Being told that the store changed, also by another process: LISTEN/NOTIFY on PostgreSQL, `data_version` on SQLite.

SQLite tells nobody; `data_version` has to be asked. Where the kernel says that the write-ahead log was written, it is
asked then, and some moments later, because the log is written before the commit can be seen. Elsewhere it is asked
every 20 ms, which costs most of a percent of a core.

A change is only a hint to look: it says nothing about what changed, one hint may stand for many changes, and polling
goes on underneath (`POLL`), because a notification can be lost with its connection.

Trap: look *after* `Changes` was entered, never before. What commits between a look and the baseline would be missed
until the next poll.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import make_url, text

from ..errors import StoreUnreachable
from .database import Database, Tx, keep_alive, shown
from .filewatch import FileWatch, watch

CHANNEL = "agentmail"
SQLITE_LOOK = 0.02
"""Seconds between two looks at SQLite's data_version where the kernel does not tell of writes."""
SQLITE_IDLE = 1.0
"""The same where it does, while nothing is written."""
SQLITE_AFTER = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Seconds between the looks after a write: the log is written first, and then the commit becomes visible."""
SQLITE_REST = 0.005
"""Seconds at least between two changes that are told, so that many small commits are one."""
POLL = 30.0
"""Seconds after which a waiter looks anyway."""


async def announce(tx: Tx) -> None:
    """Tell the others when this transaction commits. SQLite needs no telling."""
    if tx.dialect.name != "sqlite":
        await tx.execute(text(f"SELECT pg_notify('{CHANNEL}', '')"))


class Changes:
    """`async with Changes(db) as changes:` then look, `await changes.wait()`, look again."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._connection: Any = None
        self._told = asyncio.Event()
        self._version = 0
        self._watch: FileWatch | None = None
        self._last = 0.0

    async def __aenter__(self) -> Self:
        if self._db.sqlite:
            # A connection of its own: data_version only counts what *other* connections committed.
            path = make_url(self._db.url).database or ""
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=0.1)
            self._version = self._data_version()
            self._watch = watch(Path(f"{path}-wal"), self._told.set)
        else:
            import asyncpg  # of the extra `postgres`; SQLite users need not have it

            url = make_url(self._db.url).set(drivername="postgresql")
            try:
                self._connection = await asyncpg.connect(url.render_as_string(hide_password=False), timeout=10)
                keep_alive(self._connection)
                await self._connection.add_listener(CHANNEL, lambda *_: self._told.set())
                self._connection.add_termination_listener(lambda *_: self._told.set())
            except (OSError, asyncpg.PostgresError) as exc:
                raise StoreUnreachable(f"store {shown(self._db.url)}: cannot listen for changes: {exc}") from exc
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._db.sqlite:
            if self._watch is not None:
                self._watch.close()
            connection.close()
        elif not connection.is_closed():
            connection.terminate()  # nothing is in flight, and a slow server must not delay the end

    async def wait(self, timeout: float = POLL) -> bool:
        """Until something changed (True), or the time is up (False: look anyway)."""
        if not self._db.sqlite:
            if self._connection.is_closed():
                raise StoreUnreachable(f"store {shown(self._db.url)}: the listening connection was lost")
            try:
                async with asyncio.timeout(timeout):
                    await self._told.wait()
            except TimeoutError:
                return False
            self._told.clear()
            return True
        return await self._wait_sqlite(asyncio.get_running_loop(), timeout)

    async def _wait_sqlite(self, loop: asyncio.AbstractEventLoop, timeout: float) -> bool:
        end = loop.time() + timeout
        if (early := self._last + SQLITE_REST - loop.time()) > 0:
            await asyncio.sleep(min(early, timeout))
        looks: Iterator[float] = iter(())  # those that are still to come after a write
        while (version := self._data_version()) == self._version:
            if (left := end - loop.time()) <= 0:
                return False
            if self._watch is None:
                await asyncio.sleep(min(SQLITE_LOOK, left))
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(min(next(looks, SQLITE_IDLE), left)):
                    await self._told.wait()
            if self._told.is_set():
                self._told.clear()
                looks = iter(SQLITE_AFTER)
        self._version, self._last = version, loop.time()
        return True

    def _data_version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
