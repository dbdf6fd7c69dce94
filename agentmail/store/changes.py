"""Being told that the store changed, also by another process: LISTEN/NOTIFY on PostgreSQL, `data_version` on SQLite.

A change is only a hint to look: it says nothing about what changed, one hint may stand for many changes, and polling
goes on underneath (`POLL`), because a notification can be lost with its connection.

Trap: look *after* `Changes` was entered, never before. What commits between a look and the baseline would be missed
until the next poll.
"""

from __future__ import annotations

import asyncio
import sqlite3
from types import TracebackType
from typing import Any, Self

from sqlalchemy import make_url, text

from ..errors import StoreUnreachable
from .database import Database, Tx, shown

CHANNEL = "agentmail"
SQLITE_LOOK = 0.02
"""Seconds between two looks at SQLite's data_version, which costs some microseconds."""
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

    async def __aenter__(self) -> Self:
        if self._db.sqlite:
            # A connection of its own: data_version only counts what *other* connections committed.
            path = make_url(self._db.url).database or ""
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=0.1)
            self._version = self._data_version()
        else:
            import asyncpg  # of the extra `postgres`; SQLite users need not have it

            url = make_url(self._db.url).set(drivername="postgresql")
            try:
                self._connection = await asyncpg.connect(url.render_as_string(hide_password=False), timeout=10)
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
        end = asyncio.get_running_loop().time() + timeout
        while (version := self._data_version()) == self._version:
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            await asyncio.sleep(min(SQLITE_LOOK, left))
        self._version = version
        return True

    def _data_version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
