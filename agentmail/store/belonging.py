"""Whose a thread is: given by a person, found by a route, taken by the agent that wrote first."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite

from .claims import row_of, work
from .database import Tx, database_now
from .tables.turns import ACTIVE


async def assign(tx: Tx, thread: int, *, account: str, agent: str) -> None:
    """A person gives a thread to an agent, whether it wants attention or not. Whoever held it is fenced out."""
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    now = await database_now(tx)
    statement = dialect.insert(work).values(**row_of(thread, account, agent=agent, reason="handoff", next_at=now))
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["thread"],
            set_={"agent": agent, "state": "ready", "reason": "handoff", "note": "", "next_at": now, "attempt": 0,
                  "epoch": work.c.epoch + 1, "round": work.c.round + 1, "woken": 0, "error": ""},
        )
    )  # fmt: skip


async def belongs_to(tx: Tx, thread: int, *, account: str, agent: str) -> None:
    """An agent began or answered a thread that is nobody's: what comes back is for it."""
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(work).values(**row_of(thread, account, agent=agent, state="idle"))
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["thread"], set_={"agent": statement.excluded.agent}, where=work.c.agent == ""
        )
    )


async def unrouted(tx: Tx, account: str, *, limit: int = 50) -> list[tuple[int, int]]:
    """(thread, newest message) of threads that are nobody's and want attention."""
    rows = await tx.execute(
        select(work.c.thread, work.c.newest)
        .where(work.c.account == account, work.c.agent == "", ACTIVE, work.c.state == "ready")
        .order_by(work.c.next_at)
        .limit(limit)
    )
    return [(int(r.thread), int(r.newest)) for r in rows]


async def route(tx: Tx, thread: int, agent: str) -> None:
    """Give a thread that is nobody's to an agent; the first one to say so decides."""
    await tx.execute(update(work).where(work.c.thread == thread, work.c.agent == "").values(agent=agent))
