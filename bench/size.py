"""What a message costs in a store: bytes in tables and indexes, and the rate at which one process files.

    python -m bench.size [--messages 10000] [--url postgresql://…]

Threads of four messages between one person and the account, in plain text of some 2 KB; raw bytes and full-text index
included. Prints bytes a message, table by table, and for comparison the raw bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time

from sqlalchemy import text

from agentmail import ThreadStore, parse
from agentmail.store import Location
from agentmail.store.arrivals import Arrival

from .turns import US, database, postgresql

SYLLABLES = ("ba", "ri", "to", "ne", "sal", "mur", "ken", "dor", "vi", "la", "pos", "que", "tem", "hal", "zu", "fin")


def letter(number: int, rng: random.Random) -> bytes:
    """One of four in a thread: the person writes, we answer, the person answers, we answer."""
    first, place = number - number % 4, number % 4
    person = f"person{first % 20_000}@customer{first % 500}.example"
    sender, to = (person, US) if place % 2 == 0 else (US, person)
    chain = " ".join(f"<s{n}@example.org>" for n in range(first, number))
    answers = f"In-Reply-To: <s{number - 1}@example.org>\r\nReferences: {chain}\r\n" if place else ""
    words = ("".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(320))
    lines = iter(lambda: " ".join(w for w, _ in zip(words, range(12), strict=False)), "")
    return (
        f"From: {sender}\r\nTo: {to}\r\nSubject: {'Re: ' if place else ''}Matter {first}\r\n"
        f"Message-ID: <s{number}@example.org>\r\n"
        f"Date: Fri, 20 Nov 2026 09:{number % 60:02}:00 +0000\r\n{answers}\r\n"
    ).encode() + "\r\n".join(lines).encode()  # fmt: skip


async def measure(url: str, messages: int) -> None:
    rng, raw_bytes, wall, cpu = random.Random(1), 0, 0.0, 0.0
    async with ThreadStore(url) as store:
        await store.register(US)
        for start in range(0, messages, 100):
            raws = [letter(n, rng) for n in range(start, start + 100)]
            raw_bytes += sum(map(len, raws))
            began, used = time.perf_counter(), time.process_time()
            arrivals = [Arrival(parse(raw), raw, Location("INBOX", 1, start + i + 1), outgoing=i % 2 == 1)
                        for i, raw in enumerate(raws)]  # fmt: skip
            batch = store.prepare(arrivals, account=US)
            await store.db.run(lambda tx, batch=batch: store.file_batch(tx, batch, account=US))  # type: ignore[misc]
            wall, cpu = wall + time.perf_counter() - began, cpu + time.process_time() - used
        print(f"{store.db.dialect}: {messages:,} messages, parsed and filed at {messages / wall:,.0f}/s, "
              f"{1000 * cpu / messages:.2f} ms CPU each in this process")  # fmt: skip
        print(f"{raw_bytes / messages:8,.0f}  raw bytes")
        if store.db.sqlite:
            await store.vacuum()
        else:
            await _of_postgresql(store, messages)
    if url.startswith("sqlite"):
        print(f"{os.path.getsize(url.partition('///')[2]) / messages:8,.0f}  the file")


async def _of_postgresql(store: ThreadStore, messages: int) -> None:
    await store.db.maintain("VACUUM FULL ANALYZE")
    sizes = text(
        "SELECT c.relname, pg_table_size(c.oid), pg_indexes_size(c.oid) FROM pg_class c "
        "WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace ORDER BY 2 DESC"
    )
    async with store.reading() as tx:
        rows = (await tx.execute(sizes)).all()
    print(f"{sum(r[1] + r[2] for r in rows) / messages:8,.0f}  tables and indexes; of these:")
    for name, table, indexes in rows:
        if (table + indexes) / messages >= 10:
            print(f"{table / messages:8,.0f} + {indexes / messages:5,.0f} of indexes  {name}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--url", help="a PostgreSQL server, by any database of it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        await measure(f"sqlite:///{directory}/size.db", given.messages)
    with postgresql(given.url) as server, database(server) as url:
        await measure(url, given.messages)


if __name__ == "__main__":
    asyncio.run(main())
