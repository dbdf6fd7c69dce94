"""A user on Dovecot, a store, and what the tests of receiving say about both."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from agentmail.mailsync import FirstRun, MailSync
from agentmail.settings import Account
from agentmail.store import ThreadStore
from tests.servers.dovecot import Dovecot


def mail(number: int, subject: str = "", body: str = "hello") -> bytes:
    """A message that no other number makes."""
    return (
        f"From: ana@example.org\r\nTo: agent@test.local\r\nSubject: {subject or f'number {number}'}\r\n"
        f"Date: Mon, 05 Jan 2026 09:00:00 +0000\r\nMessage-ID: <{number}@example.org>\r\n\r\n{body}\r\n"
    ).encode()


class World:
    """One account on one server, read into one store."""

    def __init__(self, dovecot: Dovecot, store: ThreadStore) -> None:
        self.dovecot, self.store = dovecot, store
        self.user = dovecot.new_user("sync")
        self.account: Account = dovecot.account(self.user, "plain")
        self.syncs: list[MailSync] = []

    def sync(self, account: Account | None = None, **given: object) -> MailSync:
        given.setdefault("first_run", FirstRun(history=None, everything_is_new=True))
        made = MailSync(account or self.account, self.store, **given)  # type: ignore[arg-type]
        self.syncs.append(made)
        return made

    def deliver(self, *numbers: int, **how: str) -> None:
        self.dovecot.deliver(self.user, *(mail(n, **how) for n in numbers))

    async def rows(self, sql: str, **values: object) -> list[tuple[object, ...]]:
        await self.store.open()
        async with self.store.db.read() as tx:
            return [tuple(row) for row in await tx.execute(text(sql), values)]

    async def stored(self) -> list[str]:
        """The Message-IDs of what is stored, in the order it was filed."""
        return [str(row[0]) for row in await self.rows("SELECT message_id FROM message ORDER BY id")]

    async def events(self, kind: str = "message.filed") -> int:
        return len(await self.rows("SELECT id FROM event WHERE kind = :kind", kind=kind))


@pytest.fixture
async def world(dovecot: Dovecot, sqlite_url: str) -> AsyncIterator[World]:
    store = ThreadStore(sqlite_url)
    made = World(dovecot, store)
    yield made
    for sync in made.syncs:
        await sync.close()
    await store.close()


def ids(*numbers: int) -> list[str]:
    return [f"<{n}@example.org>" for n in numbers]
