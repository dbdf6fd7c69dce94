"""A database that is full, busy, or none: one clear error of ours, nothing half done, and it goes on afterwards."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from agentmail.errors import StoreBusy, StoreError
from agentmail.store import Arrival, ThreadStore, database

from ...unit.threads.worlds import US, message


async def file(store: ThreadStore, *names: str) -> list[bool]:
    arrivals = [Arrival(message(name, text="word " * 2_000), b"x" * 20_000) for name in names]
    return [f.new for f in await store.db.run(lambda tx: store.file_batch(tx, arrivals, account=US))]


async def test_a_full_disk_files_nothing_by_halves(tmp_path: Path) -> None:
    async with ThreadStore(f"sqlite:///{tmp_path / 's.db'}") as store:
        await store.register(US)
        assert await file(store, "a") == [True]
        async with store.reading() as tx:
            pages = (await tx.execute(text("PRAGMA page_count"))).scalar_one()
        most = pages + 8

        def limit(connection: Any, *_: object) -> None:
            connection.driver_connection._conn.execute(f"PRAGMA max_page_count={most}")

        event.listen(store.db.engine.sync_engine, "checkout", limit)
        with pytest.raises(StoreError, match="full"):
            await file(store, "b", "c", "d")
        assert [len(await store.search("word")), len(await store.threads()), await store.quarantined()] == [1, 1, []]
        most = 1_000_000
        assert await file(store, "b", "c", "d") == [True, True, True]
        async with store.reading() as tx:
            assert (await tx.execute(text("PRAGMA integrity_check"))).scalar_one() == "ok"


async def test_a_vacuum_that_fails_is_an_error_of_ours(tmp_path: Path) -> None:
    async with ThreadStore(f"sqlite:///{tmp_path / 's.db'}") as store:
        await file(store, "a")

        def read_only(connection: Any, *_: object) -> None:
            connection.driver_connection._conn.execute("PRAGMA query_only=ON")

        event.listen(store.db.engine.sync_engine, "checkout", read_only)
        with pytest.raises(StoreError, match="readonly"):
            await store.vacuum()
        with pytest.raises(StoreError, match="readonly"):
            await file(store, "b")


async def test_another_writer_that_does_not_end_is_waited_for_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.02)
    monkeypatch.setattr(database, "RETRIES", 2)
    async with ThreadStore(f"sqlite:///{tmp_path / 's.db'}") as store:
        await file(store, "a")
        other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="still busy"):
            await file(store, "b")
        assert len(await store.threads()) == 1  # reading waits for nobody
        async with ThreadStore(store.url) as second:
            assert second.secret == store.secret
        other.execute("COMMIT")
        other.close()
        assert await file(store, "b") == [True]


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"Dear diary, " * 500)
    with pytest.raises(StoreError, match=r"sqlite:///.*s\.db: file is not a database"):
        await ThreadStore(f"sqlite:///{tmp_path / 's.db'}").open()
    assert (tmp_path / "s.db").read_bytes() == b"Dear diary, " * 500
