"""Keep what this version writes, for the versions after it: `python -m tests.integration.store.schemas.make`.

Run it when the schema changed and is about to be released; an older revision may be named. It never touches a dump
that exists. It knows nothing of a full-text index (from 0005 on): whole files of later versions come from `written.py`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

from agentmail.store import Arrival, Location, ThreadStore, schema
from agentmail.store.database import Database

from ....unit.threads.worlds import US, message

HERE = Path(__file__).parent

STORY: dict[str, Any] = {
    "t1": (["m1", "m2"], {"m1": None, "m2": "m1"}, ("vip",), {"order": 42}, None),
    "t3": (["m4"], {"m4": None}, (), {}, "<b@id.example>"),
    "raw": b"raw bytes of a",
    "merged": "t1",
}


def dumps() -> list[Path]:
    return sorted(HERE.glob("*.sql"))


async def write(store: ThreadStore) -> None:
    """A small store with something of everything in it."""
    await store.register(US)
    await store.file(message("a"), account=US, raw=b"raw bytes of a", location=Location("INBOX", 1, 1))
    late = message("b", answers=["x"], day=1)
    await store.db.run(lambda tx: store.file_batch(tx, [Arrival(late)], account=US))
    await store.db.run(lambda tx: store.alias(tx, "m1", "<x@id.example>"))
    await store.db.run(lambda tx: store.file_batch(
        tx, [Arrival(message("other", "dan@partner.example", subject="Other"))], account=US))  # fmt: skip
    await store.file(message("e", "eve@evil.example", answers=["a", "b"], subject="Mine"), account=US)
    await store.set_labels("t1", add=["vip"])
    await store.put_data("t1", {"order": 42})


async def told(store: ThreadStore) -> dict[str, Any]:
    """The same story, read back."""
    found: dict[str, Any] = {}
    for name, id in (("t1", "t1"), ("t3", "t4")):  # noqa: A001
        thread = await store.thread(id)
        messages = [m.id for m in thread.messages]
        found[name] = (messages, thread.parents, thread.labels, thread.data, thread.claimed_parent)
    found["raw"] = await store.raw("m1")
    found["merged"] = (await store.thread("t2")).id
    return found


async def main(revision: str) -> None:
    target = HERE / f"{revision}.sql"
    if target.exists():
        sys.exit(f"{target} exists; a dump is never changed")
    with tempfile.TemporaryDirectory() as folder:
        today, then = Path(folder) / "today.db", Path(folder) / "then.db"
        async with ThreadStore(f"sqlite:///{today}") as store:
            await write(store)
            assert await told(store) == STORY
        old = Database(f"sqlite:///{then}")
        await old.run(lambda tx: tx.run_sync(schema.migrate, revision))
        await old.close()
        target.write_text(_moved(today, then), "utf-8")


def _moved(today: Path, then: Path) -> str:
    """The story in the tables of an older schema, as SQL."""
    connection = sqlite3.connect(then)
    connection.execute("ATTACH DATABASE ? AS today", (str(today),))
    tables = [n for (n,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
    for table in tables:
        if table != "alembic_version" and not table.startswith("sqlite_"):
            columns = ", ".join(f'"{row[1]}"' for row in connection.execute(f'PRAGMA main.table_info("{table}")'))
            connection.execute(f'INSERT INTO main."{table}" ({columns}) SELECT {columns} FROM today."{table}"')
    connection.commit()
    connection.execute("DETACH DATABASE today")
    dump = "\n".join(connection.iterdump())
    connection.close()
    return dump + "\n"


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else schema.revisions()[-1]))
