"""A part of a transaction that can be undone by itself.

SQLAlchemy takes longer for SAVEPOINT and RELEASE than SQLite for all that one message writes between them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .database import Tx
from .direct import at_once, driver_of


@asynccontextmanager
async def savepoint(tx: Tx) -> AsyncIterator[None]:
    """A part of a transaction that is undone when it raises, and only it."""
    driver = driver_of(tx)
    if driver is None:
        async with tx.begin_nested():
            yield
        return
    await at_once(driver, "SAVEPOINT part", ())
    try:
        yield
    except BaseException:
        if driver.in_transaction:  # SQLite itself ends it when the disk is full
            await at_once(driver, "ROLLBACK TO part", ())
            await at_once(driver, "RELEASE part", ())
        raise
    await at_once(driver, "RELEASE part", ())
