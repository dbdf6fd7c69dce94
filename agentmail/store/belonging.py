"""Whose a thread is: given by a person, found by a route, taken by the agent that wrote first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Text, cast, select, update
from sqlalchemy.dialects import postgresql, sqlite

from .claims import row_of, work
from .database import Tx, database_now
from .direct import among, listed
from .tables.threads import THREAD
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


class Unrouted(NamedTuple):
    """A thread that is nobody's and wants attention."""

    thread: int
    newest: int
    """Its newest message."""
    state: str
    """All that a route sees of it: when this is the same, so is what is asked."""


async def unrouted(tx: Tx, account: str, *, known: Sequence[str] = (), limit: int = 50) -> list[Unrouted]:
    """Threads that are nobody's, the one that has waited longest first, without those whose state is `known`."""
    parts = (cast(work.c.thread, Text), cast(work.c.newest, Text), cast(THREAD.c.labels, Text))
    state = parts[0] + " " + parts[1] + " " + parts[2]
    query = (
        select(work.c.thread, work.c.newest, state.label("state"))
        .join(THREAD, THREAD.c.id == work.c.thread)
        .where(work.c.account == account, work.c.agent == "", ACTIVE, work.c.state == "ready")
        .order_by(work.c.next_at)
        .limit(limit)
    )
    if known:
        query = query.where(~among(state, "known", postgres=tx.dialect.name != "sqlite"))
    rows = await tx.execute(query, {"known": listed(tx, known)} if known else {})
    return [Unrouted(int(r.thread), int(r.newest), r.state) for r in rows]


async def route(tx: Tx, thread: int, agent: str) -> None:
    """Give a thread that is nobody's to an agent; the first one to say so decides."""
    await tx.execute(update(work).where(work.c.thread == thread, work.c.agent == "").values(agent=agent))
