"""Opening: the schema is made or upgraded once, by one of many, and a newer one is left alone."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from agentmail.errors import StoreError, StoreTooNew
from agentmail.store import ThreadStore, schema
from agentmail.store.database import Database
from agentmail.store.tables import metadata

from ...unit.threads.worlds import US, message
from .schemas import make

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store_url(empty_store_url: str) -> str:
    """Here the schema is what is tested."""
    return empty_store_url


async def test_the_migrations_add_up_to_the_tables(store_url: str) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
        return [d for d in compare_metadata(context, metadata) if not _made_by_hand(d)]

    async with ThreadStore(store_url) as store, store.reading() as tx:
        assert await tx.run_sync(differences) == []


def _writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_schema", ROOT / "scripts/write-schema.py")
    assert spec is not None
    assert spec.loader is not None
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    return writer


async def test_a_new_file_is_made_by_a_script_that_is_what_the_migrations_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, migrated, made = _writer(), tmp_path / "migrated.db", tmp_path / "made.db"
    await writer.migrated(migrated)
    assert schema.SCRIPT.read_text("utf-8") == writer.script(migrated), "run `make docs`"
    monkeypatch.setattr(schema, "migrate", None)
    async with ThreadStore(f"sqlite:///{made}"):
        pass
    monkeypatch.undo()
    assert writer.script(made) == writer.script(migrated)
    with closing(sqlite3.connect(made)) as one, closing(sqlite3.connect(migrated)) as other:
        for table in ("search_config", "alembic_version"):
            rows = f"SELECT * FROM {table} ORDER BY 1"
            assert one.execute(rows).fetchall() == other.execute(rows).fetchall()


@pytest.mark.parametrize("why", ["of another revision", "not empty"])
async def test_where_the_script_does_not_fit_the_migrations_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    path = tmp_path / "store.db"
    if why == "not empty":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE notes (words TEXT)")
    else:
        script = tmp_path / "sqlite.sql"
        script.write_text("CREATE TABLE;\n\nINSERT INTO alembic_version (version_num) VALUES ('0001_threads');\n")
        monkeypatch.setattr(schema, "SCRIPT", script)
    async with ThreadStore(f"sqlite:///{path}") as store:
        assert await schema.upgrade(store.db) == schema.revisions()[-1]
        await store.register(US)
        assert (await store.file(message("a"), account=US)).new


def _made_by_hand(difference: object) -> bool:
    """Full-text indexes, and what only PostgreSQL has, are made by hand in their migration; no class describes them."""
    return any(name in repr(difference) for name in ("search", "uncrashed"))


async def test_a_second_opening_changes_nothing(store_url: str) -> None:
    async with ThreadStore(store_url) as store:
        secret = store.secret
        assert await schema.upgrade(store.db) == schema.revisions()[-1]
    async with ThreadStore(store_url) as store:
        assert store.secret == secret
        assert len(secret) == 32


@pytest.mark.parametrize(
    ("revision", "processes"), [("", 4), pytest.param("", 8, marks=pytest.mark.soak),
                                pytest.param(schema.revisions()[0], 8, marks=pytest.mark.soak)],
)  # fmt: skip
async def test_many_processes_open_an_empty_or_old_store_at_once(
    store_url: str, revision: str, processes: int
) -> None:
    if revision:
        db = Database(store_url)
        await db.run(lambda tx: tx.run_sync(schema.migrate, revision))
        await db.close()
    program = (
        "import asyncio, sys\n"
        "from agentmail.store import ThreadStore\n"
        "async def main():\n"
        "    async with ThreadStore(sys.argv[1]) as store:\n"
        "        print(store.secret.hex())\n"
        "asyncio.run(main())\n"
    )
    workers = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", program, store_url], stdout=subprocess.PIPE, text=True,
                         cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        for _ in range(processes)
    ]  # fmt: skip
    secrets = {(await asyncio.to_thread(w.communicate, timeout=240))[0].strip() for w in workers}
    assert [w.returncode for w in workers] == [0] * processes
    assert len(secrets) == 1
    async with ThreadStore(store_url) as store:
        assert await schema.upgrade(store.db) == schema.revisions()[-1]


async def test_a_newer_store_is_refused_and_left_alone(store_url: str) -> None:
    async with ThreadStore(store_url) as store, store.transaction() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '9999_future'"))
    with pytest.raises(StoreTooNew, match=r"9999_future.*upgrade agentmail"):
        await ThreadStore(store_url).open()
    db = Database(store_url)
    async with db.read() as tx:
        assert (await tx.execute(text("SELECT version_num FROM alembic_version"))).scalar_one() == "9999_future"
    await db.close()


async def test_a_database_of_another_program_is_refused_and_left_alone(store_url: str) -> None:
    db = Database(store_url)
    await db.run(lambda tx: tx.execute(text("CREATE TABLE message (words TEXT)")))
    with pytest.raises(StoreError, match="another program"):
        await ThreadStore(store_url).open()
    async with db.read() as tx:
        assert (await tx.execute(text("SELECT count(*) FROM message"))).scalar_one() == 0
        assert not await tx.run_sync(lambda connection: inspect(connection).has_table("thread"))
    await db.close()


@pytest.mark.parametrize("revision", schema.revisions())
async def test_a_store_of_any_older_schema_opens_and_upgrades(store_url: str, revision: str) -> None:
    db = Database(store_url)
    await db.run(lambda tx: tx.run_sync(schema.migrate, revision))
    async with db.read() as tx:
        assert (await tx.execute(text("SELECT version_num FROM alembic_version"))).scalar_one() == revision
    await db.close()
    async with ThreadStore(store_url) as store:
        await store.register(US)
        assert await schema.upgrade(store.db) == schema.revisions()[-1]
        filed = await store.file(message("a"), account=US)
        assert (await store.thread(filed.thread)).count == 1


async def test_a_half_done_upgrade_leaves_the_old_schema(store_url: str) -> None:
    db = Database(store_url)

    async def dies(tx: object) -> None:
        await tx.run_sync(schema.migrate)  # type: ignore[attr-defined]
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        await db.run(dies)
    async with db.read() as tx:
        assert await tx.run_sync(schema._revision) is None
    await db.close()
    async with ThreadStore(store_url) as store:
        assert store.secret


@pytest.mark.parametrize("dump", make.dumps(), ids=lambda p: p.stem)
async def test_a_file_that_an_older_version_wrote_opens_with_everything_in_it(tmp_path: Path, dump: Path) -> None:
    """The dumps are what that version wrote; `python -m tests.integration.store.schemas.make` adds today's."""
    connection = sqlite3.connect(tmp_path / "store.db")
    connection.executescript(dump.read_text("utf-8"))
    connection.close()
    async with ThreadStore(f"sqlite:///{tmp_path / 'store.db'}") as store:
        assert await make.told(store) == make.STORY
        filed = await store.file(message("new", answers=["a", "b"], day=3), account=US)
        assert (await store.thread("t1")).messages[-1].id == filed.id
