"""Keep what this version writes, for the versions after it: `python -m tests.integration.store.schemas.make`.

Run it when the schema changed and is about to be released. It never touches a dump that exists.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

from agentmail.store import Arrival, Location, ThreadStore, schema

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


async def main() -> None:
    target = HERE / f"{schema.revisions()[-1]}.sql"
    if target.exists():
        sys.exit(f"{target} exists; a dump is never changed")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "store.db"
        async with ThreadStore(f"sqlite:///{file}") as store:
            await write(store)
            print(await told(store))
        connection = sqlite3.connect(file)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        target.write_text("\n".join(connection.iterdump()), "utf-8")
        connection.close()


if __name__ == "__main__":
    asyncio.run(main())
