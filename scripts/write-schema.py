"""Write agentmail/store/migrations/sqlite.sql: what the migrations make of an empty SQLite file, as one script.

A test compares; `make docs` runs this.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from pathlib import Path

from agentmail.store import schema
from agentmail.store.database import Database

INTRODUCTION = """\
-- What the migrations make of an empty SQLite file: a new store does without Alembic, which takes longer to import and
-- to run than most first commands. Written by scripts/write-schema.py (`make docs`); a test compares.
"""


async def migrated(path: Path) -> None:
    """A store that the migrations made, one after the other."""
    db = Database(f"sqlite:///{path}")
    await db.run(lambda tx: tx.run_sync(schema.migrate))
    await db.close()


def script(path: Path) -> str:
    """The statements that make an empty file what this one is."""
    connection = sqlite3.connect(path)
    made = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
    virtual = [name for name, sql in made if sql.startswith("CREATE VIRTUAL TABLE")]
    statements = []
    for name, sql in made:
        if name == "sqlite_sequence" or any(name.startswith(f"{owner}_") for owner in virtual):
            continue  # SQLite makes them itself
        if ";\n" in sql:
            raise ValueError(f"{name} holds what parts two statements here")
        statements.append("\n".join(line.rstrip() for line in sql.splitlines()))
        if name in virtual:
            settings = connection.execute(f"SELECT k, v FROM {name}_config WHERE k <> 'version' ORDER BY k")
            statements += [f"INSERT INTO {name}({name}, rank) VALUES ('{k}', {v})" for k, v in settings]
    (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    statements.append(f"INSERT INTO alembic_version (version_num) VALUES ('{revision}')")
    connection.close()
    return INTRODUCTION + "".join(f"\n{statement};\n" for statement in statements)


def page() -> str:
    """The whole script, as the migrations of this tree would have it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        asyncio.run(migrated(path))
        return script(path)


if __name__ == "__main__":
    schema.SCRIPT.write_text(page(), "utf-8")
    sys.stdout.write(f"wrote {schema.SCRIPT}\n")
