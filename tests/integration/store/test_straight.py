"""PostgreSQL: what goes to asyncpg past SQLAlchemy ends as it would have ended there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import bindparam, select, text
from sqlalchemy.exc import DBAPIError

from agentmail.errors import BadInput, StoreUnreachable
from agentmail.store import ThreadStore, direct, quarantine
from agentmail.store.bulk import Insert
from agentmail.store.database import Tx
from agentmail.store.direct import Statement
from agentmail.store.savepoint import savepoint
from agentmail.store.tables.threads import INFO

VALUE = Statement(lambda _: select(INFO.c.value).where(INFO.c.name == bindparam("name")))
SLEEP = Statement(lambda _: text("SELECT pg_sleep(60)"))
WRITE = Insert(INFO)


@pytest.fixture
async def store(new_postgresql: str) -> AsyncIterator[ThreadStore]:
    async with ThreadStore(new_postgresql) as opened:
        yield opened


async def begun(tx: Tx) -> int:
    """SQLAlchemy begins the transaction with its first statement; the process that serves it."""
    process = (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    assert direct.asyncpg_of(tx) is not None
    return int(process)


async def test_what_it_writes_and_reads_belongs_to_the_transaction(store: ThreadStore) -> None:
    async def work(tx: Tx) -> None:
        assert direct.asyncpg_of(tx) is None
        await begun(tx)
        await WRITE.rows(tx, [("one", "1"), ("two", "2")])
        assert "2" == (await VALUE.run(tx, name="two")).value
        raise KeyError

    with pytest.raises(KeyError):
        await store.db.run(work)
    async with store.reading() as tx:
        assert (await VALUE.run(tx, name="one")).rows == []


async def test_a_row_that_is_refused_is_undone_with_its_part_alone(store: ThreadStore) -> None:
    async def work(tx: Tx) -> None:
        await begun(tx)
        await WRITE.rows(tx, [("one", "1")])
        with pytest.raises(DBAPIError) as refused:
            async with savepoint(tx):
                await WRITE.rows(tx, [("two", "2"), ("one", "again")])
        assert quarantine.is_refusal(refused.value)
        await WRITE.rows(tx, [("three", "3")])

    await store.db.run(work)
    async with store.reading() as tx:
        found = {name: (await VALUE.run(tx, name=name)).value for name in ("one", "two", "three")}
    assert found == {"one": "1", "two": None, "three": "3"}


async def test_half_a_character_is_bad_input(store: ThreadStore) -> None:
    async def work(tx: Tx) -> None:
        await begun(tx)
        await WRITE.rows(tx, [("one", "\ud800")])

    with pytest.raises(BadInput):
        await store.db.run(work)
    await store.db.run(begun)


async def test_a_connection_that_was_closed_meanwhile_is_not_used_again(store: ThreadStore) -> None:
    async def work(tx: Tx) -> None:
        process = await begun(tx)
        async with store.db.write() as other:
            await other.execute(text(f"SELECT pg_terminate_backend({process}, 60000)"))
        await VALUE.run(tx, name="one")

    with pytest.raises(StoreUnreachable):
        await store.db.run(work)
    for _ in range(3):
        await store.db.run(begun)


async def test_a_connection_that_was_cancelled_in_a_statement_is_not_used_again(store: ThreadStore) -> None:
    used: list[int] = []
    asked = asyncio.Event()

    async def work(tx: Tx) -> None:
        used.append(await begun(tx))
        asked.set()
        await SLEEP.run(tx)

    task = asyncio.ensure_future(store.db.run(work))
    await asked.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    used.append(await store.db.run(begun))
    assert used[0] != used[1]


@pytest.mark.parametrize("straight", [True, False])
async def test_a_table_that_another_process_changed_meanwhile_is_read_anew(store: ThreadStore, straight: bool) -> None:
    """A statement that is prepared knows the types of its columns, and inside a transaction nobody prepares it anew."""

    async def read(tx: Tx) -> object:
        await begun(tx)
        if straight:
            return (await VALUE.run(tx, name="one")).value
        return (await tx.execute(select(INFO.c.value).where(INFO.c.name == "one"))).scalar_one()

    await store.db.run(lambda tx: WRITE.rows(tx, [("one", "1")]))
    assert "1" == await store.db.run(read)
    async with ThreadStore(store.url) as other:
        await other.db.run(lambda tx: tx.execute(text("ALTER TABLE info ALTER COLUMN value TYPE varchar")))
    assert "1" == await store.db.run(read)
