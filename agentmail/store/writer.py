"""SQLite: the one connection on which the write transactions of a process take turns.

A file has one writer at a time, so a second connection that writes gains nothing. It loses: each commit of another
connection makes it read again what it had in memory, and a pool that hands out four in turn does that at every write.
SQLAlchemy's way from the pool to BEGIN, COMMIT and back takes as long as all that one message writes in between; here
it begins when somebody asks it for a statement, and most do not (see `direct`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from .sqlite_driver import SHORT, Connection

T = TypeVar("T")
_BEGIN = "BEGIN IMMEDIATE"
CLOSING = 2.0
"""Seconds that closing waits for a transaction."""


class Kept(AsyncConnection):
    """SQLAlchemy's view of the connection, inside a write transaction that may not have been told to it."""

    __slots__ = ("driver",)
    driver: Connection

    async def run_sync(self, fn: Callable[..., T], *arg: Any, **kw: Any) -> T:
        """As ever; but what runs there may look whether a transaction is open, and commit one of its own (Alembic)."""
        if not self.in_transaction():
            await self.begin()
        return await super().run_sync(fn, *arg, **kw)


class Writer:
    """Runs one write transaction after the other on a connection that it keeps."""

    def __init__(self, engine: AsyncEngine, *, timeout: float) -> None:
        self._engine = engine
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self._tx: Kept | None = None

    async def run(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """`work` between BEGIN IMMEDIATE and COMMIT; rolled back when it raises.

        Raises:
            DBAPIError: also when those in front of it took too long; SQLite says the same of another process.
        """
        try:
            async with asyncio.timeout(self._timeout if self._turn.locked() else None):
                await self._turn.acquire()
        except TimeoutError:
            raise DBAPIError.instance(
                _BEGIN, (), sqlite3.OperationalError("database is locked"), sqlite3.Error
            ) from None
        try:
            return await self._run(work)
        finally:
            self._turn.release()

    async def _run(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        tx = self._tx if self._tx is not None else await self._opened()
        driver = tx.driver
        try:
            await driver.begin(_BEGIN, bare=True)
        except sqlite3.Error as exc:
            if getattr(exc, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                await self._drop()
            raise DBAPIError.instance(_BEGIN, (), exc, sqlite3.Error) from exc
        try:
            done = await work(tx)
            # SQLAlchemy joins in at the first statement that it is asked for.
            await (tx.commit() if tx.in_transaction() else driver.commit())
        except BaseException as exc:
            sound = False
            try:
                sound = await _undone(tx)
            finally:
                if not sound:
                    await self._drop()
            if isinstance(exc, sqlite3.Error):
                raise DBAPIError.instance("COMMIT", (), exc, sqlite3.Error) from exc
            raise
        return done

    async def _opened(self) -> Kept:
        tx = Kept(self._engine)
        await tx.start()
        try:
            assert tx.sync_connection is not None
            driver = tx.sync_connection.connection.driver_connection
            assert isinstance(driver, Connection)
            tx.driver = driver
            tx.sync_connection.detach()  # it never goes back to the pool, also when nobody closes the store
            await driver.in_thread(lambda raw: [raw.execute(pragma).fetchall() for pragma in SHORT])
        except BaseException:
            await _discard(tx)
            raise
        self._tx = tx
        return tx

    async def close(self) -> None:
        """Close the connection, when the transaction that is under way is through; the next one opens another."""
        ours = False
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                ours = await self._turn.acquire()
        try:
            await self._drop()
        finally:
            if ours:
                self._turn.release()

    async def _drop(self) -> None:
        tx, self._tx = self._tx, None
        if tx is not None:
            await _discard(tx)


async def _undone(tx: Kept) -> bool:
    """Roll back; whether the connection may serve again. Why it is rolled back matters more than why it cannot be."""
    if tx.invalidated:  # SQLAlchemy gives it up when a statement of its own is cancelled
        return False
    with suppress(SQLAlchemyError, sqlite3.Error, ValueError):  # it may be closed
        assert tx.sync_connection is not None
        if tx.sync_connection.get_transaction() is not None:  # also one whose COMMIT failed, which is no longer active
            await tx.rollback()
        await tx.driver.rollback()
        return not tx.invalidated
    return False


async def _discard(tx: Kept) -> None:
    with suppress(DBAPIError, sqlite3.Error):
        await tx.close()
    # SQLAlchemy forgets a connection that it holds for broken, and closes only those that belong to a pool.
    if (driver := getattr(tx, "driver", None)) is not None:
        with suppress(ValueError, sqlite3.Error):
            await driver.close()
