"""How many rows a read visits: counted by the databases themselves, so that a busy machine changes nothing."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, text

from agentmail.message.models import Message
from agentmail.store import Arrival, ThreadStore
from agentmail.store.bulk import Insert
from agentmail.store.search import index
from agentmail.store.tables.threads import LABEL, MESSAGE, PERSON, THREAD, core
from agentmail.store.tables.turns import WorkRow
from agentmail.store.words import index_text

_EVERY = 10
"""Steps of SQLite's virtual machine between two counts."""


async def visited(store: ThreadStore, read: Callable[[], Awaitable[object]]) -> int:
    """On SQLite steps of its virtual machine, a few to a row; on PostgreSQL rows that scans produced or dropped."""
    if store.db.sqlite:
        with _steps(store) as count:
            await read()
        return count[0]
    with _statements(store) as ran:
        await read()
    rows = 0
    async with store.db.read() as tx:
        driver: Any = (await tx.get_raw_connection()).driver_connection
        for sql, values in ran:
            told = await driver.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}", *values)
            rows += _rows((json.loads(told) if isinstance(told, str) else told)[0]["Plan"])
    return rows


@contextmanager
def _steps(store: ThreadStore) -> Iterator[list[int]]:
    count = [0]

    def step() -> int:
        count[0] += _EVERY
        return 0

    def watch(connection: Any, *_: object) -> None:
        connection.driver_connection._conn.set_progress_handler(step, _EVERY)

    engine = store.db.engine.sync_engine
    event.listen(engine, "checkout", watch)
    try:
        yield count
    finally:
        event.remove(engine, "checkout", watch)


@contextmanager
def _statements(store: ThreadStore) -> Iterator[list[tuple[str, Any]]]:
    ran: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: object) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            ran.append((statement, parameters))

    engine = store.db.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield ran
    finally:
        event.remove(engine, "before_cursor_execute", note)


def _rows(plan: dict[str, Any]) -> int:
    rows = sum(map(_rows, plan.get("Plans", ())))
    if "Scan" in plan["Node Type"]:
        rows += int(plan["Actual Loops"]) * int(
            plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        )
    return rows


FEW = 40
"""Threads that differ from all others. They are the oldest, so that who walks from the newest finds them last."""


async def fill(store: ThreadStore, first: int, last: int) -> None:
    """Threads of one message each, with these numbers, written past filing, which would take longer."""
    rows, labels, messages, people, work, words = [], [], [], [], [], []
    for n in range(first, last + 1):
        few = n <= FEW
        account = "few@x.example" if few else "many@x.example"
        message = Message(
            message_id=f"<{n}@x.example>", subject=f"Subject {n}",
            text=f"common {'seldom' if few else ''} {'even' if n % 2 else 'odd'} 会議{'京' if few else ''}",
        )  # fmt: skip
        rows.append((n, account, message.subject, "waiting" if few else "open", '["vip"]' if few else '["plain"]',
                     "[]", "{}", 1, float(n), float(n), None, None))  # fmt: skip
        parsed = message.model_dump_json(exclude={"id", "thread"})
        messages.append((n, account, n, n, message.message_id, message.message_id, f"{n}", None, float(n),
                         "a@b.example", "", None, False, False, True, False, 1, parsed))  # fmt: skip
        labels.append(("vip" if few else "plain", n))
        people.append((n, "ana@few.example" if few else "bo@many.example", ""))
        state = "stuck" if few else "ready"
        work.append((n, account, "seldom" if few else "busy", state, "message", "", 0.0, 0, 0, n, 0, 0, 0, 0, ""))
        words.append((n, float(n), index_text(message)))

    async def write(tx: Any) -> None:
        written = ((THREAD, rows), (LABEL, labels), (MESSAGE, messages), (PERSON, people), (core(WorkRow), work))
        for table, values in written:
            await Insert(table).rows(tx, values)
        await index(tx, "few@x.example", [w for w in words if w[0] <= FEW])
        await index(tx, "many@x.example", [w for w in words if w[0] > FEW])
        if tx.dialect.name == "postgresql":
            # What autovacuum does sooner or later; until then searches read up to 4 MB of news first.
            await tx.execute(text("SELECT gin_clean_pending_list('search_words')"))
        await tx.execute(text("ANALYZE"))

    await store.db.run(write)


async def visited_filing(store: ThreadStore, arrivals: list[Arrival], account: str | None) -> int:
    """The same for a batch that is filed, on SQLite."""
    with _steps(store) as count:
        await store.db.run(lambda tx: store.file_batch(tx, arrivals, account=account))
    return count[0]
