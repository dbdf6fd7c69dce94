"""A part of a transaction that can be undone by itself.

SQLAlchemy takes longer for SAVEPOINT and RELEASE than SQLite for all that one message writes between them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .database import Tx
from .direct import asyncpg_of, at_once, driver_of, translated


@asynccontextmanager
async def savepoint(tx: Tx) -> AsyncIterator[None]:
    """A part of a transaction that is undone when it raises, and only it."""
    driver = driver_of(tx)
    if driver is None and asyncpg_of(tx) is None:
        async with tx.begin_nested():
            yield
        return
    await _say(tx, "SAVEPOINT part")
    try:
        yield
    except BaseException:
        # SQLite itself ends the transaction when the disk is full, PostgreSQL when the connection is lost.
        if driver.in_transaction if driver is not None else asyncpg_of(tx) is not None:
            await _say(tx, "ROLLBACK TO part")
            await _say(tx, "RELEASE part")
        raise
    await _say(tx, "RELEASE part")


async def _say(tx: Tx, sql: str) -> None:
    if (driver := driver_of(tx)) is not None:
        await at_once(driver, sql, ())
    elif (asyncpg := asyncpg_of(tx)) is not None:
        await translated(tx, sql, (), asyncpg.execute(sql))
