"""Statements that every mail needs, built once; inside a transaction they go to the driver, past SQLAlchemy.

SQLAlchemy takes 0.1 ms for a statement that was built before and 0.4 ms for one that is built anew, SQLite 0.004 ms for
either; filing one message is some twenty statements. Inside a write transaction of SQLite nobody is waited for (see
`sqlite_driver`), so nothing is lost by the short way. On PostgreSQL SQLAlchemy begins the transaction with its first
statement, and ends it; what only selects, and rows in bulk, go to asyncpg in between. The tables stay the schema: a
statement is Core's.

Where somebody listens to the engine's statements (to log, count or kill at them) all go through SQLAlchemy.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Executable, any_, bindparam, func, select
from sqlalchemy import column as column_
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import ARRAY, asyncpg
from sqlalchemy.exc import DBAPIError, NoResultFound

from .database import Tx
from .sqlite_driver import Connection
from .writer import Kept

T = TypeVar("T")


class Result(NamedTuple):
    """What a statement gave."""

    rows: Sequence[Sequence[Any]]
    changed: int
    """How many rows it wrote."""

    @property
    def value(self) -> Any:
        """The first column of the first row; None without rows."""
        return self.rows[0][0] if self.rows else None

    @property
    def first(self) -> Sequence[Any]:
        """The first row.

        Raises:
            NoResultFound: there is none, such as when it was deleted meanwhile; then `Database.run` begins again.
        """
        if not self.rows:
            raise NoResultFound
        return self.rows[0]


class Statement:
    """One statement, for both databases.

    Trap: values go to the driver as they are, and so do rows come back: plain numbers and text. A list is one parameter
    (`among`, `listed`), since `IN` with as many parameters as values is another statement each time.

    Args:
        build: Makes it for a database, with `bindparam` in the place of values; called once for each.
    """

    def __init__(self, build: Callable[[bool], Executable]) -> None:
        self._build = build
        self._core: dict[bool, Executable] = {}
        self._texts: dict[bool, tuple[str, tuple[str, ...], Mapping[str, Any]]] = {}

    async def run(self, tx: Tx, /, **values: Any) -> Result:
        """Run it once."""
        driver = driver_of(tx)
        if driver is not None:
            return await at_once(driver, *self.for_driver(values, postgres=False))
        asyncpg = asyncpg_of(tx)
        if asyncpg is not None and self._compiled(postgres=True)[0].startswith("SELECT"):
            sql, given = self.for_driver(values, postgres=True)
            found = await translated(tx, sql, given, asyncpg.fetch(sql, *given))
            return Result(found, len(found))
        done = await tx.execute(self._of(tx), values)
        return Result(done.all() if done.returns_rows else (), done.rowcount)

    async def many(self, tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it for each of these."""
        if not rows:
            return
        driver = driver_of(tx)
        if driver is None:
            await tx.execute(self._of(tx), rows)
            return
        sql, names, fixed = self._compiled(postgres=False)
        await at_once(driver, sql, [tuple(row[n] if n in row else fixed[n] for n in names) for row in rows], many=True)

    def for_driver(self, values: Mapping[str, Any], *, postgres: bool) -> tuple[str, tuple[Any, ...]]:
        """Its text and its values, as sqlite3 or asyncpg take them. A list is given as a list."""
        sql, names, fixed = self._compiled(postgres=postgres)
        given = {n: values[n] if n in values else fixed[n] for n in names}
        if not postgres:
            given = {n: json.dumps(v) if isinstance(v, list) else v for n, v in given.items()}
        return sql, tuple(given[n] for n in names)

    def _of(self, tx: Tx) -> Executable:
        postgres = tx.dialect.name != "sqlite"
        if postgres not in self._core:
            self._core[postgres] = self._build(postgres)
        return self._core[postgres]

    def _compiled(self, *, postgres: bool) -> tuple[str, tuple[str, ...], Mapping[str, Any]]:
        if postgres not in self._texts:
            dialect = _ASYNCPG if postgres else _DIALECT
            compiled = self._build(postgres).compile(dialect=dialect)  # type: ignore[attr-defined]  # Core's own are
            self._texts[postgres] = str(compiled), tuple(compiled.positiontup or ()), compiled.params
        return self._texts[postgres]


async def rows(tx: Tx, sql: str, values: Sequence[Any]) -> None:
    """Run the driver's own SQL for many rows, past SQLAlchemy's work on each of them."""
    if not values:
        return
    if (driver := driver_of(tx)) is not None:
        await at_once(driver, sql, values, many=True)
    elif (asyncpg := asyncpg_of(tx)) is not None:
        await translated(tx, sql, values, asyncpg.executemany(sql, values))
    else:
        await tx.exec_driver_sql(sql, list(values))


def among(column: ColumnElement[Any], name: str, *, postgres: bool) -> ColumnElement[bool]:
    """`column IN (the values of parameter name)`; the parameter is given by `listed`."""
    if postgres:
        return column == any_(bindparam(name, type_=ARRAY(column.type)))
    return column.in_(select(column_("value")).select_from(func.json_each(bindparam(name))))


def listed(tx: Tx, values: Sequence[Any]) -> Any:
    """Values for the parameter of an `among`."""
    return json.dumps(values) if isinstance(tx, Kept) or tx.dialect.name == "sqlite" else list(values)


_DIALECT = sqlite.dialect(paramstyle="qmark")
_ASYNCPG = asyncpg.dialect()  # type: ignore[no-untyped-call]


def driver_of(tx: Tx) -> Connection | None:
    """SQLite's connection inside a write transaction, where a statement waits for nobody; else None."""
    if isinstance(tx, Kept):
        return tx.driver
    connection = tx.sync_connection
    if tx.dialect.name != "sqlite" or connection is None or not connection.in_transaction():
        return None
    if connection.dispatch.before_cursor_execute or connection.dispatch.after_cursor_execute:
        return None
    driver = connection.connection.driver_connection
    return driver if isinstance(driver, Connection) and driver.writing else None


def asyncpg_of(tx: Tx) -> Any | None:
    """asyncpg's connection inside a transaction of PostgreSQL that has begun there too; else None."""
    connection = tx.sync_connection
    if tx.dialect.name != "postgresql" or connection is None or not connection.in_transaction():
        return None
    if connection.invalidated:
        return None
    if connection.dispatch.before_cursor_execute or connection.dispatch.after_cursor_execute:
        return None
    driver = connection.connection.driver_connection
    return driver if driver is not None and driver.is_in_transaction() else None


async def translated(tx: Tx, sql: str, values: Any, asked: Awaitable[T]) -> T:
    """What asyncpg answers; what it raises, and what then becomes of the connection, is as SQLAlchemy would have it."""
    try:
        return await asked
    except asyncio.CancelledError:
        await tx.invalidate()  # nobody knows how far it came
        raise
    except Exception as exc:
        driver = tx.sync_connection.connection.driver_connection  # type: ignore[union-attr]
        if driver is None or driver.is_closed():
            await tx.exec_driver_sql("SELECT 1")  # SQLAlchemy meets it too, and throws its other connections away
        if type(exc).__module__.partition(".")[0] == "asyncpg":
            raise DBAPIError.instance(sql, values, exc, Exception, dialect=_ASYNCPG) from exc
        raise


async def at_once(driver: Connection, sql: str, values: Any, *, many: bool = False) -> Result:
    """Run a statement; what the driver says against it is raised as SQLAlchemy would raise it."""
    try:
        if (done := driver.at_once(sql, values, many=many)) is not None:
            return Result(*done)
    except sqlite3.Error as exc:
        raise DBAPIError.instance(sql, values, exc, sqlite3.Error, dialect=_DIALECT) from exc
    cursor = driver.cursor()
    try:
        await (cursor.executemany if many else cursor.execute)(sql, values)
        return Result(await cursor.fetchall(), cursor.rowcount)
    except sqlite3.Error as exc:
        raise DBAPIError.instance(sql, values, exc, sqlite3.Error, dialect=_DIALECT) from exc
    finally:
        await cursor.close()
