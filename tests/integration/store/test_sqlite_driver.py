"""The short way into SQLite: nothing that can wait holds up the event loop, and what was cancelled leaves nothing."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from agentmail.errors import StoreBusy
from agentmail.store import database, writer
from agentmail.store.database import Database
from agentmail.store.direct import at_once, driver_of
from agentmail.store.savepoint import savepoint
from agentmail.store.sqlite_driver import LIGHT, MANY, Connection, connect


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    db = Database(f"sqlite:///{tmp_path / 'store.db'}")
    async with db.write() as tx:
        await tx.execute(text("CREATE TABLE n (i INTEGER PRIMARY KEY)"))
    yield db
    await db.close()


async def numbers(db: Database) -> list[int]:
    async with db.read() as tx:
        return list((await tx.execute(text("SELECT i FROM n ORDER BY i"))).scalars())


class Walks:
    """Counts the calls that go to a connection's thread."""

    def __init__(self, connection: Connection) -> None:
        self.count, self._put = 0, connection._tx.put_nowait
        connection._tx = self  # type: ignore[assignment]

    def put_nowait(self, what: Any) -> None:
        self.count += 1
        self._put(what)


async def test_a_transaction_of_many_statements_walks_to_the_thread_once(db: Database) -> None:
    async with db.write() as tx:
        walks = Walks((await tx.get_raw_connection()).driver_connection)
        for i in range(20):
            await tx.execute(text("INSERT INTO n VALUES (:i)"), {"i": i})
        assert walks.count == 0
        await tx.execute(text("INSERT INTO n VALUES (:i)"), [{"i": i} for i in range(100, 100 + MANY)])
        assert walks.count == 1
    assert walks.count == 2  # the COMMIT
    assert len(await numbers(db)) == 20 + MANY


async def test_a_short_transaction_walks_nowhere_until_the_log_is_due(db: Database, tmp_path: Path) -> None:
    log = tmp_path / "store.db-wal"
    async with db.engine.connect() as tx:
        await tx.execution_options(agentmail_write=True)
        walks = Walks((await tx.get_raw_connection()).driver_connection)
        for i in range(1_500):
            async with tx.begin():
                await tx.execute(text("INSERT INTO n VALUES (:i)"), {"i": i})
            assert log.stat().st_size < 2 * 1000 * 4_200  # SQLite's own mark, of so many pages, is still kept
    assert 40 <= walks.count <= 50
    assert len(await numbers(db)) == 1_500


async def test_many_bytes_are_committed_in_the_thread(db: Database) -> None:
    async with db.write() as tx:
        walks = Walks((await tx.get_raw_connection()).driver_connection)
        await tx.execute(text("CREATE TABLE b (x)"))
        await tx.execute(text("INSERT INTO b VALUES (:x)"), {"x": b"x" * (LIGHT + 1)})
        assert walks.count == 0
    assert walks.count == 1


async def test_a_part_that_fails_is_undone_and_the_rest_stays(db: Database) -> None:
    async with db.write() as tx:
        await tx.execute(text("INSERT INTO n VALUES (1)"))
        with pytest.raises(IntegrityError):
            async with savepoint(tx):
                await tx.execute(text("INSERT INTO n VALUES (2)"))
                await tx.execute(text("INSERT INTO n VALUES (1)"))
        async with savepoint(tx):
            await tx.execute(text("INSERT INTO n VALUES (3)"))
    assert await numbers(db) == [1, 3]


async def test_what_is_glanced_at_is_what_was_committed(db: Database) -> None:
    query = "SELECT i FROM n WHERE i = ?"
    async with db.write() as tx:
        await tx.execute(text("INSERT INTO n VALUES (1)"))
        assert db.glance(query, (1,)) == []
    assert db.glance(query, (1,)) == [(1,)]
    assert db.glance("SELECT i FROM missing", ()) is None
    assert db.glance("INSERT INTO n VALUES (2)", ()) is None  # it only reads
    assert await numbers(db) == [1]


async def test_waiting_for_another_writer_leaves_the_loop_free(db: Database, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO n VALUES (1)")
    waiting = asyncio.create_task(db.run(lambda tx: tx.execute(text("INSERT INTO n VALUES (2)"))))
    for _ in range(50):  # the loop turns while the writer waits
        await asyncio.sleep(0.001)
    assert not waiting.done()
    other.execute("COMMIT")
    other.close()
    await waiting
    assert await numbers(db) == [1, 2]


async def test_an_error_leaves_nothing_and_the_connection_serves_again(db: Database) -> None:
    with pytest.raises(RuntimeError):
        async with db.write() as tx:
            await tx.execute(text("INSERT INTO n VALUES (1)"))
            raise RuntimeError
    async with db.write() as tx:
        await tx.execute(text("INSERT INTO n VALUES (2)"))
    assert await numbers(db) == [2]


@pytest.mark.parametrize("statements", [1, MANY])
async def test_cancelled_anywhere_it_is_all_or_nothing(db: Database, statements: int) -> None:
    """Cut at every turn of the loop; whoever comes next finds no lock and no half of it."""
    for cut in range(40):
        first = cut * 1000

        async def work(tx: Any, first: int = first) -> None:
            await tx.execute(text("INSERT INTO n VALUES (:i)"), [{"i": first + i} for i in range(statements)])
            await tx.execute(text("INSERT INTO n VALUES (:i)"), {"i": first + 500})

        task = asyncio.create_task(db.run(work))
        for _ in range(cut):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, AssertionError)):
            await task
            raise AssertionError("it was through")
        found = [i for i in await numbers(db) if first <= i < first + 1000]
        assert len(found) in {0, statements + 1}
        async with asyncio.timeout(60), db.write() as tx:
            await tx.execute(text("DELETE FROM n"))


async def test_write_transactions_take_turns_on_one_connection(db: Database) -> None:
    """Past SQLAlchemy and through it, in the same one too."""
    drivers: list[object] = []

    async def work(tx: Any, number: int) -> None:
        driver = driver_of(tx)
        assert driver is not None
        drivers.append(driver)
        await at_once(driver, "INSERT INTO n VALUES (?)", (number,))
        await asyncio.sleep(0)
        if number % 2:
            await tx.execute(text("INSERT INTO n VALUES (:i)"), {"i": 100 + number})
        if number == 3:
            raise RuntimeError

    done = await asyncio.gather(
        *(db.run(lambda tx, i=i: work(tx, i)) for i in range(5)), return_exceptions=True
    )  # fmt: skip
    assert [type(one) for one in done] == [type(None)] * 3 + [RuntimeError, type(None)]
    assert 1 == len(set(drivers))
    assert await numbers(db) == [0, 1, 2, 4, 101]


async def test_who_holds_up_the_other_writers_of_the_process_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.02)
    monkeypatch.setattr(database, "RETRIES", 2)
    db, held = Database(f"sqlite:///{tmp_path / 'store.db'}"), asyncio.Event()
    first = asyncio.create_task(db.run(lambda tx: held.wait()))
    await asyncio.sleep(0)
    with pytest.raises(StoreBusy, match="still busy"):
        await db.run(lambda tx: tx.execute(text("SELECT 1")))
    held.set()
    assert await first
    await db.run(lambda tx: tx.execute(text("SELECT 1")))
    await db.close()


async def test_what_was_cancelled_past_sqlalchemy_is_undone(db: Database) -> None:
    async def work(tx: Any) -> None:
        driver = driver_of(tx)
        assert driver is not None
        await at_once(driver, "INSERT INTO n VALUES (?)", (1,))
        await asyncio.Event().wait()

    task = asyncio.create_task(db.run(work))
    async with asyncio.timeout(10):
        while not (db._writer and db._writer._tx and db._writer._tx.driver.writing):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await db.run(lambda tx: tx.execute(text("INSERT INTO n VALUES (2)")))
    assert await numbers(db) == [2]


async def test_closing_waits_for_what_is_under_way(db: Database) -> None:
    begun, closing = asyncio.Event(), asyncio.Event()

    async def work(tx: Any) -> None:
        await tx.execute(text("INSERT INTO n VALUES (1)"))
        begun.set()
        await closing.wait()
        await tx.execute(text("INSERT INTO n VALUES (2)"))

    task = asyncio.create_task(db.run(work))
    await begun.wait()
    end = asyncio.create_task(db.close())
    for _ in range(50):  # all that it does without waiting
        await asyncio.sleep(0)
    assert not end.done()
    closing.set()
    await end
    await task
    assert await numbers(db) == [1, 2]


@pytest.mark.parametrize("weight", [1, LIGHT + 1])
@pytest.mark.parametrize("straight", [False, True])
async def test_closing_does_not_wait_for_ever_and_neither_does_the_transaction(
    db: Database, straight: bool, weight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A COMMIT of many bytes goes to the thread, which has ended by then; and the turn is not let go of twice."""
    monkeypatch.setattr(writer, "CLOSING", 0.01)
    begun, closed = asyncio.Event(), asyncio.Event()

    async def work(tx: Any) -> None:
        driver = driver_of(tx)
        assert driver is not None
        await at_once(driver, "SELECT length(?)", (b"x" * weight,))
        if straight:
            await at_once(driver, "INSERT INTO n VALUES (1)", ())
        else:
            await tx.execute(text("INSERT INTO n VALUES (1)"))
        begun.set()
        await closed.wait()

    task = asyncio.create_task(db.run(work))
    await begun.wait()
    await db.close()
    closed.set()
    with pytest.raises(ValueError, match=r"no active connection|Connection closed"):
        await task
    await db.run(lambda tx: tx.execute(text("INSERT INTO n VALUES (2)")))
    assert await numbers(db) == [2]


@pytest.mark.parametrize("rows", [1, MANY])
async def test_nothing_is_written_behind_the_end_of_a_transaction(db: Database, rows: int) -> None:
    """Who is closed from outside may go on for a moment: each of its statements would be committed by itself."""

    async def work(tx: Any) -> None:
        driver = driver_of(tx)
        assert driver is not None
        await at_once(driver, "INSERT INTO n VALUES (1)", ())
        await driver.rollback()
        await at_once(driver, "INSERT INTO n VALUES (?)", [(2 + i,) for i in range(rows)], many=True)

    with pytest.raises(ValueError, match="Connection closed"):
        await db.run(work)
    assert await numbers(db) == []


@pytest.mark.parametrize("weight", [1, LIGHT + 1])
@pytest.mark.parametrize("straight", [False, True])
async def test_after_a_commit_that_failed_the_next_transaction_goes(db: Database, straight: bool, weight: int) -> None:
    """As on a disk that was full for a moment. SQLAlchemy holds on to such a transaction until it is rolled back."""
    async with db.write() as tx:
        await tx.execute(text("CREATE TABLE child (i INTEGER REFERENCES n(i) DEFERRABLE INITIALLY DEFERRED)"))

    async def work(tx: Any) -> None:
        driver = driver_of(tx)
        assert driver is not None
        await at_once(driver, "SELECT length(?)", (b"x" * weight,))
        if not straight:
            await tx.execute(text("INSERT INTO n VALUES (1)"))
        await at_once(driver, "INSERT INTO child VALUES (7)", ())

    with pytest.raises(IntegrityError):
        await db.run(work)
    await db.run(lambda tx: tx.execute(text("INSERT INTO n VALUES (2)")))
    assert await numbers(db) == [2]


def test_a_connection_that_failed_to_open_ends_its_thread_without_the_loop(tmp_path: Path) -> None:
    """The loop may be closed before the thread comes to its end; telling it so then is a traceback on stderr."""
    hold, complaints = threading.Event(), list[threading.ExceptHookArgs]()

    async def fail() -> Connection:
        connection = connect(str(tmp_path / "no directory" / "store.db"), timeout=1)
        put = connection._tx.put_nowait

        class Held:
            """Holds the thread up before the last thing it is told."""

            def put_nowait(self, what: Any) -> None:
                put((None, hold.wait))
                put(what)

        opening = connection._connector

        def connector() -> sqlite3.Connection:
            connection._tx = Held()  # type: ignore[assignment]
            return opening()

        connection._connector = connector
        with pytest.raises(sqlite3.OperationalError, match="unable to open"):
            await connection
        return connection

    hook, threading.excepthook = threading.excepthook, complaints.append
    try:
        connection = asyncio.run(fail())
        hold.set()
        connection._thread.join()
    finally:
        threading.excepthook = hook
    assert not complaints


async def test_a_connection_that_is_cancelled_while_it_opens_is_closed(tmp_path: Path) -> None:
    opened: list[sqlite3.Connection] = []
    begun, hold = threading.Event(), threading.Event()
    connection = connect(str(tmp_path / "store.db"), timeout=1)
    connector = connection._connector

    def slow() -> sqlite3.Connection:
        begun.set()
        hold.wait()
        opened.append(connector())
        return opened[0]

    connection._connector = slow
    task = asyncio.ensure_future(connection.__aenter__())
    await asyncio.to_thread(begun.wait)
    task.cancel()
    hold.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    connection._thread.join()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")


async def test_a_store_that_nobody_closes_is_no_warning(tmp_path: Path) -> None:
    """`await ThreadStore(url).file(message)`, as one line of a script; the file is as any other afterwards."""
    program = (
        "import asyncio, gc, sys\n"
        "from agentmail import ThreadStore, parse\n"
        "asyncio.run(ThreadStore(sys.argv[1]).file(parse(b'Message-ID: <a@b>\\n\\nhi'), account='me@x.example'))\n"
        "gc.collect()\n"
    )
    url = f"sqlite:///{tmp_path / 'store.db'}"
    done = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", program, url, stderr=asyncio.subprocess.PIPE
    )
    _, said = await done.communicate()
    assert (done.returncode, said) == (0, b"")
    db = Database(url)
    async with db.read() as tx:
        assert (await tx.execute(text("SELECT id FROM message"))).scalars().all() == [1]
    await db.close()
