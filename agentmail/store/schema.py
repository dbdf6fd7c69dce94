"""Bring a database to the schema of this version, once, however many processes open it at the same moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text

from ..errors import StoreError, StoreTooNew
from .database import Database, Tx, shown

_MIGRATIONS = Path(__file__).parent / "migrations"
SCRIPT = _MIGRATIONS / "sqlite.sql"
"""What the migrations make of an empty SQLite file."""
_LOCK = 0x61_67_65_6E_74  # "agent": the key of PostgreSQL's advisory lock, the same in every process
_OURS = ("thread", "message", "account")
_FOREIGN = "of another program"
"""In place of a revision."""


def revisions() -> list[str]:
    """Every schema this version knows, oldest first. File names are revision ids, and they sort."""
    return sorted(path.stem for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


async def upgrade(db: Database) -> str | None:
    """Create or upgrade the schema; the revision that was found, or None for an empty database.

    The upgrade is one transaction: a process that dies in it leaves the old schema.

    Raises:
        StoreTooNew: a newer agentmail wrote this store. Nothing was changed.
    """
    async with db.read() as tx:
        found = await tx.run_sync(_revision)
    if _is_current(found, db):
        return found
    return await db.run(_locked_upgrade(db))


def _is_current(found: str | None, db: Database) -> bool:
    known = revisions()
    if found == _FOREIGN:
        raise StoreError(
            f"store {shown(db.url)} holds tables of another program that are called like ours: "
            "give agentmail a database of its own; nothing was changed"
        )
    if found is not None and found not in known:
        raise StoreTooNew(
            f"store {shown(db.url)} has schema {found}, this agentmail knows up to {known[-1]}: upgrade agentmail; "
            "nothing was changed"
        )
    return found == known[-1]


def _locked_upgrade(db: Database) -> Any:
    async def work(tx: Tx) -> str | None:
        if not db.sqlite:  # SQLite's BEGIN IMMEDIATE is the lock already
            await tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        found = await tx.run_sync(_revision)  # another process may have been first
        if _is_current(found, db):
            return found
        made = found is None and db.sqlite and await tx.run_sync(_create)
        if not made:
            await tx.run_sync(migrate)
        return found

    return work


def _create(connection: Connection) -> bool:
    """Make the tables in an empty SQLite file, without the migrations. False, and nothing made, when the file holds
    something of somebody's already, or the script is of another revision.
    """
    script = SCRIPT.read_text("utf-8")
    if not script.endswith(f"('{revisions()[-1]}');\n"):
        return False
    if connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").first() is not None:
        return False
    for statement in script.split(";\n")[:-1]:
        connection.exec_driver_sql(statement)
    return True


def _revision(connection: Connection) -> str | None:
    tables = inspect(connection)
    if not tables.has_table("alembic_version"):
        return _FOREIGN if any(map(tables.has_table, _OURS)) else None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def migrate(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to `revision` in the transaction of `connection`."""
    from alembic import command  # costs 0.2 s, and a store that is current never needs it
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
