"""The database under the store: one engine, one kind of transaction, two dialects.

Everything that touches SQL goes through `Database.read()` and `Database.write()`. A transaction is short, and never
open while we wait for a network or a model (law 7).

SQLite: WAL; a write begins with BEGIN IMMEDIATE, because a deferred one that turns into a write fails at once when
another process writes (SQLAlchemy's default lost 223 of 400 updates without an error).
PostgreSQL: READ COMMITTED with explicit row locks in sorted order; deadlocks and serialisation failures are retried.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import ColumnElement, Double, event, literal_column, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, NoResultFound, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import await_only as await_

from ..errors import BadInput, ConfigurationError, StoreBusy, StoreError, StoreUnreachable
from ..unbroken import cancellations, heed_cancellation
from ..urls import without_password
from .postgres_driver import FRESH, Direct, guards, keep_alive
from .sqlite_driver import SHORT, Connection, connect
from .together import Together
from .writer import Writer

T = TypeVar("T")
Tx = AsyncConnection
"""An open transaction; services pass it along as a value."""

BUSY_TIMEOUT = 10.0
"""Seconds a SQLite writer waits for another one."""
RETRIES = 8
"""How often a unit of work runs again after a deadlock or a lost race."""
_AFTER_THE_OTHERS = text("SELECT pg_advisory_xact_lock(418414324341)")
"""Until it ends, no other runs that lost a race too. It is asked for first, so nobody waits for it who holds a lock."""

PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "temp_store=MEMORY", "cache_size=-16384",
           "mmap_size=268435456", "wal_autocheckpoint=0")  # fmt: skip
"""How every connection of SQLite is set up. The log is carried over into the file by commits in the connection's thread
(see `sqlite_driver`).
"""

_NO_TEXT = {"22021", "22P05"}
_UNSTORABLE = "text with a NUL, or with half a character (a lone surrogate), which no database stores"
_UNSENT = "invalid input for query argument"
"""What asyncpg says of a value that it cannot send."""
_RETRY_STATES = {"40001", "40P01", "55P03"}
_RETRY_WORDS = ("database is locked", "cached statement plan is invalid")
"""What SQLite says while another process writes; and PostgreSQL of a prepared statement when another process changed
a column of it, upon which the driver prepares it anew."""
_OF_THE_FILE = ("readonly", "disk", "not a database")
"""What SQLite says when the file is to blame: it may not be written, it is full, damaged, or something else."""
_FLUSH = "SELECT pg_logical_emit_message(true, 'agentmail', '')"
"""PostgreSQL: a commit that waits for the disk, and for all commits before it. An empty one would wait for nothing."""
_CLOCK = "agentmail_clock"
_USED = "agentmail_used"


class Database:
    """An engine for one store URL. Building it opens nothing."""

    def __init__(self, url: str, *, clock: Callable[[], datetime] | None = None) -> None:
        self.url, self.dialect = _driver_url(url)
        self._engine: AsyncEngine | None = None
        self._clock = clock
        """Takes the place of the database's clock, for tests on virtual time."""
        self._own: Connection | None = None
        self._direct: Direct | None = None
        self._alone = asyncio.Lock()
        self._flushes: Together[None, None] = Together(self._flush)
        self._glancing: sqlite3.Connection | None = None
        self._writer: Writer | None = None
        self.owes_disk = False
        """PostgreSQL: something was committed without waiting for the disk (`synchronous_commit=off`)."""

    @property
    def sqlite(self) -> bool:
        return self.dialect == "sqlite"

    @property
    def engine(self) -> AsyncEngine:
        if self._engine is None:
            self._engine = _sqlite_engine(self.url) if self.sqlite else _postgres_engine(self.url)
            if self._clock is not None:
                clock = self._clock

                @event.listens_for(self._engine.sync_engine, "connect")
                def _carry_clock(_: Any, record: Any) -> None:
                    record.info[_CLOCK] = clock

        return self._engine

    async def close(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            await own.close()
        glancing, self._glancing = self._glancing, None
        if glancing is not None:
            glancing.close()
        direct, self._direct = self._direct, None
        if direct is not None:
            await direct.close()
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.close()
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    @asynccontextmanager
    async def read(self, *, snapshot: bool = False) -> AsyncIterator[Tx]:
        """A transaction that only reads: one snapshot on SQLite, and it never blocks a writer.

        Args:
            snapshot: One on PostgreSQL too, for statements of which a later one relies on what an earlier one found.
                Without it each sees what was committed until then, which saves the walks for BEGIN and ROLLBACK.
        """
        with _Translated(self.url):
            async with self.engine.connect() as tx:
                if not self.sqlite:
                    await tx.execution_options(isolation_level="REPEATABLE READ" if snapshot else "AUTOCOMMIT")
                async with _not_left_half_way(tx):
                    yield tx

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Tx]:
        """A transaction that writes: committed when the block ends, rolled back when it raises."""
        with _Translated(self.url):
            async with self.engine.connect() as tx:
                await tx.execution_options(agentmail_write=True)
                async with tx.begin():
                    yield tx

    async def run(self, work: Callable[[Tx], Awaitable[T]]) -> T:
        """Run `work` in a write transaction, again from the start when the database lost a race (at most 8 times)."""
        if not self.sqlite or self.watched:
            return await self._again(work, one_by_one=not self.sqlite, agentmail_write=True)
        if self._writer is None:
            self._writer = Writer(self.engine, timeout=BUSY_TIMEOUT)
        writer = self._writer
        return await self._until_won(lambda: writer.run(work))

    async def _again(self, work: Callable[[Tx], Awaitable[T]], *, one_by_one: bool = False, **options: Any) -> T:
        """
        Args:
            one_by_one: Who lost a race lets the others that did go first. Eight that meet at the same ids would meet
                there again and again: a deadlock costs all of them a second, and there are eight attempts.
        """
        tried = False

        async def once() -> T:
            nonlocal tried
            async with self.engine.connect() as tx:
                await tx.execution_options(**options)
                async with _not_left_half_way(tx), tx.begin():
                    again, tried = tried, True
                    if again and one_by_one:
                        await tx.execute(_AFTER_THE_OTHERS)
                    return await work(tx)

        return await self._until_won(once)

    async def _until_won(self, once: Callable[[], Awaitable[T]]) -> T:
        asked = cancellations()
        for attempt in range(RETRIES):
            try:
                with _Translated(self.url):
                    return await once()
            except _LostRace:
                heed_cancellation(asked)
                if attempt == RETRIES - 1:
                    raise StoreBusy(
                        f"store {shown(self.url)}: still busy after {RETRIES} attempts; try again"
                    ) from None
                # jitter, so that the writers that met once do not meet again
                await asyncio.sleep(random.uniform(0.002, 0.02) * (attempt + 1))  # noqa: S311
        raise AssertionError("unreachable")

    async def run_alone(self, work: Callable[[Tx], Awaitable[T]]) -> T:
        """`run` for work that is one statement, or several that need not belong together: what each writes is
        committed with it. It saves PostgreSQL the walks for BEGIN and COMMIT.
        """
        if self.sqlite:
            return await self.run(work)
        return await self._again(work, isolation_level="AUTOCOMMIT")

    @property
    def watched(self) -> bool:
        """Whether somebody listens to the statements of the engine, to count or to kill at them: `shortly` has none."""
        dispatch, pool = self.engine.sync_engine.dispatch, self.engine.sync_engine.pool.dispatch
        return bool(dispatch.before_cursor_execute or dispatch.after_cursor_execute or (self.sqlite and pool.checkout))

    def given_now(self) -> float | None:
        """The time of the clock that takes the place of the database's; None when the database's own goes."""
        return None if self._clock is None else self._clock().timestamp()

    async def shortly(self, sqlite: Callable[[sqlite3.Connection], T], postgresql: Callable[[Any], Awaitable[T]]) -> T:
        """A write of a few prepared statements, or of one, past SQLAlchemy, which takes ten times as long as they do.

        Args:
            sqlite: Gets the connection within BEGIN IMMEDIATE. It runs in the event loop: milliseconds at most.
            postgresql: Gets asyncpg's connection, for one statement, which is a transaction by itself.
        """

        async def once() -> T:
            if self.sqlite:
                async with self._alone:
                    if self._own is None:
                        self._own = await self._open_own()
                    try:
                        return await self._own.transact(sqlite)
                    except sqlite3.Error as exc:
                        raise DBAPIError.instance(None, None, exc, sqlite3.Error) from exc
            if self._direct is None:
                self._direct = Direct(make_url(self.url).set(drivername="postgresql").render_as_string(False))
            return await self._direct.run(postgresql)

        return await self._until_won(once)

    def glance(self, sql: str, values: Sequence[Any]) -> list[Any] | None:
        """The rows of a statement that finds very few by their keys, at once and in the event loop: SQLAlchemy and the
        way to a thread take fifty times as long as such a read does. None where that cannot be; then `read`.
        """
        if not self.sqlite or self.watched:
            return None
        try:
            if self._glancing is None:
                self._glancing = sqlite3.connect(
                    f"file:{quote(str(make_url(self.url).database))}?mode=ro", uri=True, timeout=0, isolation_level=None
                )
                self._glancing.execute("PRAGMA mmap_size=268435456")
            return self._glancing.execute(sql, values).fetchall()
        except sqlite3.Error:
            return None

    async def durable(self) -> None:
        """Until everything that was committed before outlives a power cut.

        PostgreSQL sees to that in its COMMIT, but for what says that it can wait (`owes_disk`). SQLite's with
        synchronous=NORMAL leaves the log in the kernel's memory, and a power cut takes the last of it. For what must
        not be forgotten the log is written out here, once for all that ask meanwhile: what synchronous=FULL does in
        each COMMIT, but without the lock of the file.
        """
        if self.sqlite or self.owes_disk:
            with _Translated(self.url):
                await self._flushes(None)

    async def _flush(self, asked: Sequence[None]) -> Sequence[None]:
        if not self.sqlite:
            self.owes_disk = False  # what is committed while this runs owes again
            try:
                await self.run_alone(lambda tx: tx.exec_driver_sql(_FLUSH))
            except BaseException:
                self.owes_disk = True
                raise
            return asked
        async with self._alone:
            if self._own is None:
                self._own = await self._open_own()
            own = self._own
        await own.in_thread(lambda _: _write_out(f"{make_url(self.url).database}-wal"))
        return asked

    async def _open_own(self) -> Connection:
        """SQLite has one writer at a time, so all short writes of a process share a connection without a loss."""
        opened = connect(str(make_url(self.url).database), timeout=BUSY_TIMEOUT)
        await opened
        try:
            statements = (*(f"PRAGMA {pragma}" for pragma in PRAGMAS), *SHORT)
            await opened.in_thread(lambda raw: [raw.execute(statement).fetchall() for statement in statements])
        except BaseException:
            opened.stop()
            raise
        return opened

    async def maintain(self, *statements: str) -> None:
        """Run statements that no transaction may hold, such as VACUUM."""
        with _Translated(self.url):
            async with self.engine.connect() as connection:
                # The driver's own connection: SQLAlchemy would begin a transaction before the first statement.
                driver = (await connection.get_raw_connection()).driver_connection
                assert driver is not None
                for statement in statements:
                    await driver.execute(statement)


class _LostRace(StoreBusy):
    """A deadlock, a serialisation failure or a lock that was not to be had: the same work may succeed now."""


class _Translated:
    """Translate the driver's exceptions at the door, by what the caller can do next."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if exc is None:
            return
        where = f"store {shown(self.url)}"
        if isinstance(exc, NoneFree):  # a thousand watchers that start at once share a few connections
            raise StoreBusy(f"{where}: all connections are in use; try again") from exc
        if isinstance(exc, NoResultFound):  # what an earlier statement found is gone: begun again, it will not find it
            raise _LostRace(f"{where}: something was deleted meanwhile; try again") from exc
        if isinstance(exc, sqlite3.Error):  # from the driver itself
            exc = DBAPIError(None, None, exc)
        if isinstance(exc, DBAPIError):
            state = str(getattr(exc.orig, "sqlstate", "") or getattr(exc.orig, "pgcode", "") or "")
            reason = str(exc.orig).partition("\n")[0]
            if state in _RETRY_STATES or any(words in reason for words in _RETRY_WORDS):
                raise _LostRace(f"{where}: busy: {reason}") from exc
            if exc.connection_invalidated or state[:2] in {"08", "28", "3D", "57"} or "unable to open" in reason:
                raise StoreUnreachable(
                    f"{where}: {reason}; check the URL, the server and your right to use it"
                ) from exc
            if state in _NO_TEXT or _UNSENT in reason:
                raise BadInput(_UNSTORABLE) from exc
            if state in {"42501", "53100", "53200", "53300"} or any(word in reason for word in _OF_THE_FILE):
                raise StoreError(f"{where}: {reason}") from exc
        elif type(exc).__module__.partition(".")[0] == "asyncpg":
            if getattr(exc, "sqlstate", None) in _RETRY_STATES:
                raise _LostRace(f"{where}: busy: {exc}") from exc
            raise StoreUnreachable(f"{where}: {exc}; check the URL, the server and your right to use it") from exc
        elif isinstance(exc, UnicodeEncodeError):
            raise BadInput(_UNSTORABLE) from exc
        elif isinstance(exc, OSError):
            raise StoreUnreachable(
                f"{where}: cannot connect ({exc}); is the server running, are host and port right?"
            ) from exc


@asynccontextmanager
async def _not_left_half_way(tx: Tx) -> AsyncIterator[None]:
    """Close the connection when a value could not be sent. By then asyncpg has told the server of the statement, and it
    says nothing of an end, so that outside a transaction the server waits in the middle of one.
    """
    try:
        yield
    except DBAPIError as exc:
        if _UNSENT in str(exc.orig):
            await tx.invalidate()
        raise


def _write_out(path: str) -> None:
    """Have the kernel write a file to the disk. Nobody locks the log, so that opening and closing it is harmless."""
    try:
        log = os.open(path, os.O_RDWR)
    except FileNotFoundError:  # it was carried over into the database, which SQLite writes out
        return
    try:
        getattr(os, "fdatasync", os.fsync)(log)
    finally:
        os.close(log)


def shown(url: str) -> str:
    """The URL without its password, and without our driver in it."""
    try:
        parsed = make_url(url)
        return without_password(parsed.set(drivername=parsed.get_backend_name()).render_as_string(hide_password=True))
    except (ArgumentError, NoSuchModuleError):
        return without_password(url)


def _driver_url(url: str) -> tuple[str, str]:
    """`postgresql://…` and `sqlite:///…` to the URL of the async driver, and the dialect's name."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError) as exc:
        raise ConfigurationError(
            f"store URL {shown(url)!r} is not a database URL: use sqlite:///agentmail.db or postgresql://user@host/database"
        ) from exc
    if backend == "postgres":
        parsed, backend = parsed.set(drivername="postgresql"), "postgresql"
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    if backend not in drivers:
        raise ConfigurationError(
            f"store URL {shown(url)!r}: {backend} is not supported; use sqlite:///… or postgresql://…"
        )
    if backend == "sqlite" and (parsed.database in {None, "", ":memory:"}):
        raise ConfigurationError(
            "store URL: an in-memory SQLite database cannot be shared; name a file: sqlite:///agentmail.db"
        )
    return parsed.set(drivername=drivers[backend]).render_as_string(hide_password=False), backend


def _sqlite_engine(url: str) -> AsyncEngine:
    engine = create_async_engine(url, poolclass=AsyncAdaptedQueuePool, pool_size=4, max_overflow=12,
                                 connect_args={"timeout": BUSY_TIMEOUT, "async_creator_fn": connect})  # fmt: skip

    @event.listens_for(engine.sync_engine, "connect")
    def _configure(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        write = connection.get_execution_options().get("agentmail_write")
        begin = "BEGIN IMMEDIATE" if write else "BEGIN"
        driver = connection.connection.dbapi_connection.driver_connection  # the pool's connection would not know it
        if driver.writing:
            return  # `Writer` has begun
        if connection.dispatch.before_cursor_execute or connection.dispatch.after_cursor_execute:
            connection.exec_driver_sql(begin)
            return
        try:  # past SQLAlchemy, which takes ten times as long for it
            await_(driver.begin(begin))
        except sqlite3.Error as exc:
            raise DBAPIError.instance(begin, (), exc, sqlite3.Error, dialect=engine.dialect) from exc

    return engine


def _postgres_engine(url: str) -> AsyncEngine:
    try:
        engine = create_async_engine(
            url, pool_size=5, max_overflow=15, connect_args={"timeout": 10, "server_settings": guards()}
        )
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            "PostgreSQL needs the driver asyncpg: pip install 'agentmail-inbox[postgres]'"
        ) from exc

    @event.listens_for(engine.sync_engine, "connect")
    def _guard(connection: Any, record: Any) -> None:
        keep_alive(connection.driver_connection)
        record.info[_USED] = time.monotonic()

    @event.listens_for(engine.sync_engine, "checkin")
    def _put_back(_: Any, record: Any) -> None:
        record.info[_USED] = time.monotonic()

    @event.listens_for(engine.sync_engine, "checkout")
    def _ask(connection: Any, record: Any, _: Any) -> None:
        if connection.driver_connection.is_closed():  # the server said goodbye meanwhile: nobody need be asked
            raise DisconnectionError
        # SQLAlchemy's pre-ping asks before every use, a round trip each; a connection that was just in use lives.
        if time.monotonic() - record.info.get(_USED, 0.0) > FRESH:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as exc:
                raise DisconnectionError from exc

    return engine


async def database_now(tx: Tx) -> float:
    """Seconds since the epoch by the database's clock, which all workers share."""
    now = virtual_now(tx)
    if now is not None:
        return now
    return float((await tx.exec_driver_sql(_NOW[tx.dialect.name])).scalar_one())


def virtual_now(tx: Tx) -> float | None:
    """The time of the clock that a test put in the place of the database's; None when the database's own goes."""
    clock = tx.sync_connection.connection.info.get(_CLOCK)  # type: ignore[union-attr]
    return None if clock is None else float(clock().timestamp())


def clock_sql(dialect: str) -> ColumnElement[float]:
    """The database's clock as an expression, which saves asking first. It stands still during a statement, or an index
    could not be compared with it.
    """
    return literal_column(CLOCKS[dialect], Double)


CLOCKS = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "CAST(extract(epoch FROM statement_timestamp()) AS double precision)",
}
_NOW = {dialect: f"SELECT {clock}" for dialect, clock in CLOCKS.items()}
