"""SQLite without a walk to another thread for every call.

aiosqlite gives each connection a thread and sends every call there: four for one statement (cursor, execute, fetch,
close), some 0.1 to 0.3 ms each, while the statement itself takes 0.02 ms. Filing one message was 80 such walks.

What can take its time still goes to the thread: reads, the COMMIT of more than some pages, and statements for many rows
at once. What runs between BEGIN IMMEDIATE and COMMIT waits for nobody, for the lock is ours, so it runs where it is
called.

A commit of some pages goes into the log and waits for no disk, unless it is the one that carries the log over into the
file. So none of these does (`wal_autocheckpoint=0`), but every so often one goes to the thread, and may.

Cancelling: a call that is in the thread is waited for before the cancellation goes on, and a connection is rolled back
before it is closed. Otherwise a cut at the wrong moment leaves a connection that holds the write lock of the file until
the garbage collector finds it.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import aiosqlite
from aiosqlite.core import _STOP_RUNNING_SENTINEL

T = TypeVar("T")

MANY = 32
"""Rows of one statement from which it goes to the thread: so long the event loop waits at most, about a millisecond."""
LIGHT = 128 * 2**10
"""Bytes of parameters up to which a transaction is committed in the event loop: so many go into the log in less time
than the way to the thread and back takes.
"""
SHORT = ("PRAGMA busy_timeout=0",)
"""How a connection is set up for `Connection.transact`."""


class Raw(sqlite3.Connection):
    """A connection that closes for good: sqlite3_close_v2 lives on, with its locks, while a statement is referenced."""

    def close(self) -> None:
        try:
            if self.in_transaction:
                self.rollback()
        finally:
            super().close()


class Connection(aiosqlite.Connection):
    """An aiosqlite connection that takes the short way where nothing can wait."""

    def __init__(self, connector: Callable[[], sqlite3.Connection], *, timeout: float) -> None:
        super().__init__(connector, 64)
        self._thread.daemon = True
        self._timeout = timeout
        self.writing = False
        """Between BEGIN IMMEDIATE and its end."""
        self.weight = 0
        """Bytes that the open transaction writes, about."""
        self._short = 0

    async def _connect(self) -> Connection:
        def connect() -> None:
            self._connection = self._connector()

        try:
            await self._in_thread(connect)
        except BaseException:
            opened, self._connection = self._connection, None
            if opened is not None:
                opened.close()
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Let the thread end. It is not asked to tell the loop so: of a connection that failed to open nobody waits
        for that, and a loop that is closed meanwhile would make the thread die with a traceback.
        """
        self._running = False

        def close() -> object:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            return _STOP_RUNNING_SENTINEL

        self._tx.put_nowait((None, close))

    async def close(self) -> None:
        """Close, and see the thread end, which has nothing else to do by then."""
        self.writing = False
        await super().close()
        if self._thread.ident is not None:
            self._thread.join()

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._connection is None:
            raise ValueError("Connection closed")  # what SQLAlchemy's adapter translates
        return await self._in_thread(lambda: fn(*args, **kwargs))

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        if not self._running:  # behind `stop` nothing is worked off, and who waits for it here waits for ever
            raise ValueError("Connection closed")
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((done, work))
        cancelled: asyncio.CancelledError | None = None
        while not done.done():
            try:
                await asyncio.shield(done)
            except asyncio.CancelledError as exc:
                cancelled = exc
            except Exception:  # noqa: BLE001, S110 - told below
                pass
        if cancelled is not None:
            done.exception()  # nobody hears of it any more
            raise cancelled
        return done.result()

    def cursor(self) -> Any:
        return Cursor(self)

    async def commit(self) -> None:
        self.writing = False
        await self._commit()

    async def _commit(self) -> None:
        self._short += 1
        if self.weight <= LIGHT and self._short % 32:
            self._conn.commit()
        else:
            await self._in_thread(self._carry_over)

    async def rollback(self) -> None:
        # SQLAlchemy rolls back whatever returns to its pool, and after a COMMIT that is nothing.
        if not self.writing:
            self._conn.rollback()
            return
        self.writing = False
        await super().rollback()

    async def call(self, work: Callable[[], object], sql: str, rows: int = 1) -> None:
        """Run `work`, which executes `sql`, here or in the thread."""
        if sql == "BEGIN IMMEDIATE":
            await self._begin(work)
            self.writing, self.weight = True, 0
        elif (self.writing and rows < MANY) or sql == "BEGIN":  # a plain BEGIN takes no lock yet
            work()
        else:
            self.weight += LIGHT + 1 if self.writing else 0
            await self._execute(work)

    async def begin(self, sql: str, *, bare: bool = False) -> None:
        """BEGIN or BEGIN IMMEDIATE, without a cursor. `bare`: the connection is set up as `SHORT` says."""
        if bare:
            await self._begin(lambda: self._conn.execute(sql), bare=True)
            self.writing, self.weight = True, 0
        else:
            await self.call(lambda: self._conn.execute(sql), sql)

    def at_once(self, sql: str, values: Any, *, many: bool) -> tuple[list[Any], int] | None:
        """The rows of a statement and how many it changed, inside a write transaction and without a step aside; None
        where it is for the thread (`many`, and more than some).
        """
        if not self.writing:  # it is being closed; alone the statement would be committed at once
            raise ValueError("Connection closed")
        if many and len(values) >= MANY:
            return None
        self.weight += sum(map(_weight, values)) if many else _weight(values)
        cursor = self._conn.executemany(sql, values) if many else self._conn.execute(sql, values)
        return cursor.fetchall() if cursor.description else [], cursor.rowcount

    async def in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What may take its time."""
        done: T = await self._in_thread(lambda: work(self._conn))
        return done

    async def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """A whole write transaction whose statements are few and short: it runs here, to the end. For a connection that
        does nothing else (`SHORT`).
        """
        await self._begin(lambda: self._conn.execute("BEGIN IMMEDIATE"), bare=True)
        try:
            answer = work(self._conn)
            await self._commit()
        except BaseException:
            self._conn.rollback()
            raise
        return answer

    def _carry_over(self) -> None:
        self._conn.execute("PRAGMA wal_autocheckpoint=1000")
        try:
            self._conn.commit()
        finally:
            self._conn.execute("PRAGMA wal_autocheckpoint=0")

    async def _begin(self, work: Callable[[], object], *, bare: bool = False) -> None:
        """Try until the other writer is done, at most for the timeout. SQLite's own waiting would need the thread.

        Nobody queues, so who has waited long tries more often than who just came: with eight writing processes that
        takes a third off the longest wait.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        pause = 0.0005
        while (busy := _tried(work) if bare else self._at_once(work)) is not None:
            waited = loop.time() - began
            if waited > self._timeout:
                raise busy
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - or the same two meet again
            pause = min(2 * pause, max(0.0005, 0.004 / (1 + waited / 0.02)))

    def _at_once(self, work: Callable[[], object]) -> sqlite3.OperationalError | None:
        """Begin without waiting; the error when another writer is busy."""
        self._conn.execute("PRAGMA busy_timeout=0")
        try:
            return _tried(work)
        finally:
            self._conn.execute(f"PRAGMA busy_timeout={int(self._timeout * 1000)}")


def _tried(work: Callable[[], object]) -> sqlite3.OperationalError | None:
    try:
        work()
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return exc
    return None


def _weight(parameters: Sequence[Any]) -> int:
    return sum([len(value) for value in parameters if isinstance(value, (str, bytes))])  # a list is twice as quick


class Cursor:
    """A statement and its rows, fetched in the same call. What SQLAlchemy's adapter asks of a cursor, and no more."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cursor: sqlite3.Cursor = connection._conn.cursor()  # noqa: SLF001 - the same file
        self._rows: list[Any] = []

    async def __aenter__(self) -> Cursor:
        return self

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._cursor.lastrowid

    async def execute(self, sql: str, parameters: Any = ()) -> None:
        def work() -> None:
            self._cursor.execute(sql, parameters)
            if self._cursor.description:
                self._rows = self._cursor.fetchall()

        self._connection.weight += _weight(parameters)
        await self._connection.call(work, sql)

    async def executemany(self, sql: str, parameters: Sequence[Any]) -> None:
        if len(parameters) < MANY:  # more of them weigh enough, whatever they are
            self._connection.weight += sum(map(_weight, parameters))
        await self._connection.call(lambda: self._cursor.executemany(sql, parameters), sql, len(parameters))

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        """Give the statement back; there is nothing to wait for."""
        self._cursor.close()


def connect(database: str, *, timeout: float, **more: Any) -> Connection:
    """What the engine calls for a new connection. Statements begin and end transactions; the driver begins none."""
    more["check_same_thread"] = False  # the loop and the connection's thread, one after the other

    def connector() -> sqlite3.Connection:
        opened: sqlite3.Connection = sqlite3.connect(
            database, timeout=timeout, isolation_level=None, factory=Raw, **more
        )
        return opened

    return Connection(connector, timeout=timeout)
