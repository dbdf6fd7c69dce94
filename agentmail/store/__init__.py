"""The shared thread store: every message, its thread, and what agents keep with it, in one SQL database.

Any number of processes may use one store at the same time. SQLite and PostgreSQL, from one code path.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Self

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from ..message.models import Attachment, Message
from ..threads.models import Filed, Thread, Why
from . import reading, schema
from .arrivals import Arrival, Location, Prepared, prepare
from .database import Database, Tx
from .filing import Filing
from .tables.threads import ACCOUNT, INFO

__all__ = ["Arrival", "Filed", "Location", "Thread", "ThreadStore", "Tx", "Why"]


def _system_clock() -> datetime:
    return datetime.now(UTC)


class ThreadStore:
    """The thread store at a database URL: `sqlite:///agentmail.db` or `postgresql://user@host/database`.

    Building it opens nothing. `async with` opens it; so does the first use. Opening creates or upgrades the schema.

    Raises (when it opens):
        ConfigurationError: the URL means no database that we support.
        StoreUnreachable: no connection, or no right to it.
        StoreTooNew: a newer agentmail wrote it.
    """

    def __init__(self, url: str, *, clock: Callable[[], datetime] | None = None) -> None:
        self.url = url
        self.db = Database(url)
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
            await schema.upgrade(self.db)
            async with self.db.read() as tx:
                found = (await tx.execute(select(INFO.c.value).where(INFO.c.name == "secret"))).scalar_one_or_none()
                own = {
                    key: frozenset(addresses)
                    for key, addresses in await tx.execute(select(ACCOUNT.c.key, ACCOUNT.c.own))
                }
            self._own.update(own)
            self._secret = bytes.fromhex(found) if found else await self.db.run(self._make_secret)

    async def _make_secret(self, tx: Tx) -> bytes:
        """Once per store; of several processes that try, one wins and all read its value."""
        dialect = sqlite if self.db.sqlite else postgresql
        statement = dialect.insert(INFO).values(name="secret", value=secrets.token_hex(32))
        await tx.execute(statement.on_conflict_do_nothing())
        return bytes.fromhex((await tx.execute(select(INFO.c.value).where(INFO.c.name == "secret"))).scalar_one())

    async def close(self) -> None:
        await self.db.close()
        self._secret = None

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
    async def reading(self) -> AsyncIterator[Tx]:
        """A transaction that only reads."""
        await self.open()
        async with self.db.read() as tx:
            yield tx

    # ---- filing -----------------------------------------------------------------------------------------------------

    async def register(self, account: str, own: Collection[str] = ()) -> None:
        """Say which addresses are this account's own; `account` (its address, lower case) always is."""
        await self.open()
        addresses = sorted({account, *(a.casefold() for a in own)})
        if self._own.get(account) == frozenset(addresses):
            return

        async def work(tx: Tx) -> None:
            dialect = sqlite if self.db.sqlite else postgresql
            statement = dialect.insert(ACCOUNT).values(key=account, own=addresses)
            statement = statement.on_conflict_do_update(index_elements=["key"], set_={"own": statement.excluded.own})
            await tx.execute(statement)

        await self.db.run(work)
        self._own[account] = frozenset(addresses)

    def own_addresses(self, account: str) -> frozenset[str]:
        """The addresses that count as this account itself."""
        return self._own.get(account, frozenset({account} if account else ()))

    async def file(
        self, message: Message, *, account: str | None = None, raw: bytes | None = None,
        location: Location | None = None, fresh: bool = True, outgoing: bool = False, answers: str | None = None,
    ) -> Filed:  # fmt: skip
        """Put one message into its thread. Filing the same message again changes nothing.

        Args:
            account: The account that received it (its address, lower case); None for an archive: then it joins by its
                ids alone, without the guard against strangers.
            raw: Its bytes; without them it has no attachments to open later.
            fresh: False for history: no agent will be asked to look at it.
        """
        await self.open()
        arrival = Arrival(message, raw, location, fresh=fresh, outgoing=outgoing, answers=answers)
        prepared = self.prepare([arrival], account=account)
        return (await self.db.run(lambda tx: self.file_batch(tx, prepared, account=account)))[0]

    def prepare(self, arrivals: Iterable[Arrival], *, account: str | None) -> list[Prepared]:
        """Do the part of filing that needs no database, so that the transaction is short. The store must be open."""
        own = self.own_addresses(account or "")
        return [prepare(a, account=account or "", own=own, secret=self.secret) for a in arrivals]

    async def file_batch(self, tx: Tx, arrivals: Sequence[Arrival | Prepared], *, account: str | None) -> list[Filed]:
        """File many messages in the caller's transaction, so that what the caller writes commits with them.

        Run it by `store.db.run(work)`: on PostgreSQL two batches that meet may have to start again, and `run` does.
        """
        own = self.own_addresses(account or "")
        batch = [
            a if isinstance(a, Prepared) else prepare(a, account=account or "", own=own, secret=self.secret)
            for a in arrivals
        ]
        return await Filing(tx, account or "", batch, now=self._clock().timestamp()).run()

    # ---- reading ----------------------------------------------------------------------------------------------------

    async def thread(self, id: str) -> Thread:  # noqa: A002
        """One thread with all its messages, oldest first. The id of a merged thread leads to where it went."""
        async with self.reading() as tx:
            return await reading.thread_of(tx, id)

    async def threads(
        self, status: str | None = None, limit: int = 20, after: str | None = None, *, account: str | None = None
    ) -> list[Thread]:
        """A page of threads by last activity, newest first, without messages. `after`: last id of the page before."""
        async with self.reading() as tx:
            return await reading.page_of_threads(tx, status=status, account=account, limit=limit, after=after)

    async def message(self, id: str, account: str | None = None) -> Message:  # noqa: A002
        """One message, by our id (`"m45"`) or by its Message-ID (the first one filed, when several carry it)."""
        async with self.reading() as tx:
            return await reading.message_of(tx, id, account)

    async def raw(self, id: str) -> bytes:  # noqa: A002
        """The bytes of a message as they came."""
        async with self.reading() as tx:
            return await reading.raw_of(tx, id)

    async def attachment(self, id: str) -> Attachment:  # noqa: A002
        """One attachment (`"a7"`) with its content."""
        async with self.reading() as tx:
            return await reading.attachment_of(tx, id)
