"""Being told that the store changed, also by another process: LISTEN/NOTIFY on PostgreSQL, `data_version` on SQLite.

However many wait in a process, one listener serves them all: it opens with the first `Changes` of a database and
closes with the last. It is no task: the event loop calls it.

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
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakKeyDictionary

from sqlalchemy import make_url, text

from ..errors import StoreBusy, StoreUnreachable
from .database import Database, Tx, shown
from .direct import Statement
from .filewatch import FileWatch, watch
from .postgres_driver import BY_INDEX, SILENCE, keep_alive

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
        await _TELL.run(tx)


_TELL = Statement(lambda _: text(f"SELECT pg_notify('{CHANNEL}', '')"))


class Changes:
    """`async with Changes(db) as changes:` then look, `await changes.wait()`, look again.

    Args:
        later: Seconds after which it hears of a change, so that those go first whom somebody waits for.
    """

    def __init__(self, db: Database, *, later: float = 0.0) -> None:
        self._db = db
        self._listener: Listener | None = None
        self._later = later
        self._owed: asyncio.TimerHandle | None = None
        self.told = asyncio.Event()

    def tell(self) -> None:
        """Something changed."""
        if not self._later:
            self.told.set()
        elif self._owed is None:
            self._owed = asyncio.get_running_loop().call_later(self._later, self._tell_owed)

    def _tell_owed(self) -> None:
        self._owed = None
        self.told.set()

    async def __aenter__(self) -> Self:
        listener = _LISTENERS.get(self._db)
        if listener is None or listener.lost or listener.loop is not asyncio.get_running_loop():
            listener = _LISTENERS[self._db] = (
                SqliteListener(self._db) if self._db.sqlite else PostgresListener(self._db)
            )
        listener.waiting.add(self)  # before it opens, so that nobody closes it meanwhile
        self._listener = listener
        try:
            await listener.open()
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        listener, self._listener = self._listener, None
        if self._owed is not None:
            self._owed.cancel()
            self._owed = None
        if listener is None:
            return
        listener.waiting.discard(self)
        if not listener.waiting:
            listener.close()
            if _LISTENERS.get(self._db) is listener:
                del _LISTENERS[self._db]

    async def wait(self, timeout: float = POLL) -> bool:
        """Until something changed (True), or the time is up (False: look anyway).

        Raises:
            StoreUnreachable: the listener lost its connection. Enter a new `Changes`, and look.
        """
        if not self.told.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self.told.wait()
        if self._listener is None or self._listener.lost:
            raise StoreUnreachable(f"store {shown(self._db.url)}: the listening connection was lost")
        changed = self.told.is_set()
        self.told.clear()
        return changed

    async def ask(self, statement: Statement, /, **values: Any) -> Sequence[Sequence[Any]]:
        """A short question to the database, by the connection that heard of the change: nothing is taken out of a pool,
        and SQLAlchemy, which takes longer than the database does, has no part in it. On SQLite it runs in the event
        loop: ask for few rows.

        Raises:
            StoreBusy: ask the store instead.
            StoreUnreachable: the connection was lost.
        """
        if self._listener is None or self._listener.lost:
            raise StoreUnreachable(f"store {shown(self._db.url)}: the listening connection was lost")
        return await self._listener.ask(*statement.for_driver(values, postgres=not self._db.sqlite))


class Listener:
    """What hears of changes, for all `Changes` of one database in one event loop."""

    def __init__(self, db: Database) -> None:
        self.url = db.url
        self.loop = asyncio.get_running_loop()
        self.waiting: set[Changes] = set()
        self.lost = False
        """It hears nothing any more."""
        self._opening = asyncio.Lock()
        self._connection: Any = None

    async def open(self) -> None:
        """Take the baseline: what commits from now on is told. Safe to call again."""
        async with self._opening:
            if self._connection is None and not self.lost:
                try:
                    await self._open()
                except Exception:
                    self.lost = True
                    raise
        if self.lost:
            raise StoreUnreachable(f"store {shown(self.url)}: cannot listen for changes")

    async def _open(self) -> None:
        raise NotImplementedError

    async def ask(self, sql: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """The rows that it gives."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def tell(self) -> None:
        """Wake everybody who waits."""
        for changes in self.waiting:
            changes.tell()

    def lose(self) -> None:
        """From now on those who wait are told so."""
        self.lost = True
        for changes in self.waiting:
            changes.told.set()


class PostgresListener(Listener):
    """A connection that LISTENs."""

    async def _open(self) -> None:
        import asyncpg  # of the extra `postgres`; SQLite users need not have it

        self._asking = asyncio.Lock()
        """One question at a time: so it is with a connection of PostgreSQL."""
        url = make_url(self.url).set(drivername="postgresql")
        connection = None
        try:
            connection = await asyncpg.connect(
                url.render_as_string(hide_password=False), timeout=10, server_settings=BY_INDEX
            )
            keep_alive(connection)
            await connection.add_listener(CHANNEL, lambda *_: self.tell())
            connection.add_termination_listener(lambda *_: self.lose())
            self._connection = connection
        except (OSError, asyncpg.PostgresError) as exc:
            raise StoreUnreachable(f"store {shown(self.url)}: cannot listen for changes: {exc}") from exc
        finally:
            if self._connection is None and connection is not None:
                connection.terminate()

    async def ask(self, sql: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
        import asyncpg

        try:
            async with self._asking:
                rows: Sequence[Sequence[Any]] = await self._connection.fetch(sql, *values, timeout=SILENCE)
                return rows
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:  # a TimeoutError is an OSError
            self.lose()
            self.close()
            raise StoreUnreachable(f"store {shown(self.url)}: {exc}") from exc

    def close(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            self._connection.terminate()  # nothing is in flight, and a slow server must not delay the end


class SqliteListener(Listener):
    """A connection that asks for `data_version`, when the kernel or the time says so."""

    _watch: FileWatch | None = None
    _timer: asyncio.TimerHandle | None = None
    _owed: asyncio.TimerHandle | None = None

    async def _open(self) -> None:
        # A connection of its own: data_version only counts what *other* connections committed.
        path = make_url(self.url).database or ""
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=0.1)
        self._version = self._data_version()
        self._last = 0.0
        self._looks: Iterator[float] = iter(())
        """The looks that are still to come after a write."""
        self._watch = watch(Path(f"{path}-wal"), self._written)
        self._look_in(self._pause())

    def close(self) -> None:
        for timer in (self._timer, self._owed):
            if timer is not None:
                timer.cancel()
        self._timer = self._owed = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._connection is not None:
            self._connection.close()

    async def ask(self, sql: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
        try:
            return self._connection.execute(sql, values).fetchall()  # type: ignore[no-any-return]
        except sqlite3.Error as exc:
            raise StoreBusy(f"store {shown(self.url)}: {exc}") from exc

    def _data_version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def _pause(self) -> float:
        return next(self._looks, SQLITE_LOOK if self._watch is None else SQLITE_IDLE)

    def _look_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._look)

    def _written(self) -> None:
        self._looks = iter(SQLITE_AFTER)
        self._look()

    def _look(self) -> None:
        try:
            version = self._data_version()
        except sqlite3.Error:
            self.lose()
            return
        if version != self._version:
            self._version = version
            self._tell_soon()
        # Also after a change: the next commit may have been written already, and be seen in a moment.
        self._look_in(self._pause())

    def _tell_soon(self) -> None:
        if self._owed is not None:
            return
        early = self._last + SQLITE_REST - self.loop.time()
        if early > 0:
            self._owed = self.loop.call_later(early, self._tell_owed)
        else:
            self._tell_owed()

    def _tell_owed(self) -> None:
        self._owed, self._last = None, self.loop.time()
        self.tell()


_LISTENERS: WeakKeyDictionary[Database, Listener] = WeakKeyDictionary()
