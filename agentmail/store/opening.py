"""A store that opens: its database, its secret, its clock, and transactions. What it keeps is added above it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Self

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from . import schema
from .database import Database, Tx, database_now
from .tables.threads import ACCOUNT, INFO


def _system_clock() -> datetime:
    return datetime.now(UTC)


class OpenedStore:
    """The database at a URL, brought to today's schema when it is first used.

    Raises (when it opens):
        ConfigurationError: the URL means no database that we support.
        StoreUnreachable: no connection, or no right to it.
        StoreTooNew: a newer agentmail wrote it.
        StoreError: it is another program's, or no database at all.
    """

    def __init__(self, url: str, *, clock: Callable[[], datetime] | None = None) -> None:
        self.url = url
        self.db = Database(url, clock=clock)
        self._clock = clock or _system_clock
        self._secret: bytes | None = None
        self._own: dict[str, frozenset[str]] = {}
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Create or upgrade the schema, and read what this store is known by. Safe to call again."""
        async with self._opening:
            if self._secret is not None:
                return
            try:
                await schema.upgrade(self.db)
                self._secret = await self._introduce()
            except BaseException:
                await self.db.close()  # a store that did not open leaves no connection behind
                raise

    async def _introduce(self) -> bytes:
        """Read what this store is known by: its accounts' addresses, and its secret."""
        async with self.db.read() as tx:
            found = (await tx.execute(select(INFO.c.value).where(INFO.c.name == "secret"))).scalar_one_or_none()
            for key, addresses in await tx.execute(select(ACCOUNT.c.key, ACCOUNT.c.own)):
                self._own[key] = frozenset(addresses)
        return bytes.fromhex(found) if found else await self.db.run(self._make_secret)

    async def _make_secret(self, tx: Tx) -> bytes:
        """Once per store; of several processes that try, one wins and all read its value."""
        dialect = sqlite if self.db.sqlite else postgresql
        statement = dialect.insert(INFO).values(name="secret", value=secrets.token_hex(32))
        await tx.execute(statement.on_conflict_do_nothing())
        return bytes.fromhex((await tx.execute(select(INFO.c.value).where(INFO.c.name == "secret"))).scalar_one())

    async def close(self) -> None:
        await self.db.close()
        self._secret = None

    async def time(self) -> datetime:
        """Now, by the database's clock: the one that all processes share."""
        async with self.reading() as tx:
            return datetime.fromtimestamp(await database_now(tx), UTC)

    @property
    def is_open(self) -> bool:
        return self._secret is not None

    @property
    def secret(self) -> bytes:
        """The key of our Message-IDs' tags: made once per store, known to everybody who may open it."""
        if self._secret is None:
            raise RuntimeError("the store is not open: use `async with store` or `await store.open()`")
        return self._secret

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """A write transaction. What may meet other writers (filing!) belongs into `store.db.run(work)`: it retries."""
        await self.open()
        async with self.db.write() as tx:
            yield tx

    @asynccontextmanager
    async def reading(self, *, snapshot: bool = False) -> AsyncIterator[Tx]:
        """A transaction that only reads. `snapshot`: all of it sees the store as it stands at its first statement."""
        await self.open()
        async with self.db.read(snapshot=snapshot) as tx:
            yield tx

    def _now(self) -> float:
        return self._clock().timestamp()
