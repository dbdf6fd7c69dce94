"""Which threads want attention, and since when: mail, timers and people decide, whoever holds a claim or not.

`claims` says what becomes of a thread that does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Executable, Row, and_, case, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from .claims import row_of, timer, work
from .database import Tx
from .direct import Statement
from .tables.turns import ACTIVE, NEVER


async def arrived(
    tx: Tx, account: str, newest: dict[int, int], *, now: float, reason: str = "message", agent: str = ""
) -> None:
    """Incoming mail wants attention: thread -> its newest incoming message. Part of the filing transaction.

    A claimed thread stays claimed: its holder's reply is refused as stale, and finishing makes it ready again.
    `agent` is whose thread it becomes when it is new.
    """
    if not newest:
        return
    await _ARRIVAL.many(
        tx, [row_of(t, account, agent=agent, reason=reason, next_at=now, newest=m) for t, m in sorted(newest.items())]
    )


def _arrival(postgres: bool) -> Executable:
    statement = (postgresql if postgres else sqlite).insert(work)
    new, old = statement.excluded, work.c
    claimed, due = old.state == "claimed", old.state == "ready"
    upsert: Executable = statement.on_conflict_do_update(
        index_elements=["thread"],
        set_={
            "newest": case((new.newest > old.newest, new.newest), else_=old.newest),
            "state": case((claimed, old.state), else_="ready"),
            "reason": case((claimed, old.reason), else_=new.reason),
            "next_at": case((or_(claimed, and_(due, old.next_at < new.next_at)), old.next_at), else_=new.next_at),
            # New mail is a new chance for a thread that was stuck.
            "attempt": case((claimed, old.attempt), else_=0),
        },
    )
    return upsert


_ARRIVAL = Statement(_arrival)


async def wake(tx: Tx, thread: int, *, account: str, agent: str, reason: str, note: str, now: float) -> None:
    """A thread is due for a reason that is not new mail: a reminder, an approval. It goes to whom it belongs, or else
    to `agent`. A claimed one stays claimed, and comes back when its turn ends.
    """
    row = row_of(thread, account, agent=agent, reason=reason, note=note, next_at=now, newest=0)
    await tx.execute(_waking(tx.dialect.name), row)


@cache
def _waking(dialect: str) -> Executable:
    statement = (sqlite if dialect == "sqlite" else postgresql).insert(work)
    new, old = statement.excluded, work.c
    claimed = old.state == "claimed"
    # Two reminders that meet are one turn, with both notes. So are one that is being worked on and another: the turn
    # may fail, or its process die, and then both are still to come. When it ends well, `_unread` takes its own off.
    unread = and_(old.state.in_(("ready", "claimed")), old.note != "", old.note != new.note)
    upsert: Executable = statement.on_conflict_do_update(
        index_elements=["thread"],
        set_={
            "agent": case((old.agent == "", new.agent), else_=old.agent),
            "state": case((claimed, old.state), else_="ready"),
            "woken": case((claimed, 1), else_=0),
            "reason": new.reason,
            "note": case((unread, old.note + "; " + new.note), else_=new.note),
            "next_at": case((claimed, old.next_at), else_=new.next_at),
            "attempt": case((claimed, old.attempt), else_=0),
        },
    )
    return upsert


async def merge(tx: Tx, winner: int, absorbed: Sequence[int]) -> None:
    """Threads became one: the attention they need becomes one too.

    Whoever held an absorbed one is fenced out; so is the winner's holder when there is more now than it has seen.
    """
    rows = (
        await tx.execute(
            select(work).where(work.c.thread.in_([winner, *absorbed])).order_by(work.c.thread).with_for_update()
        )
    ).all()
    losers = [r for r in rows if r.thread != winner]
    await tx.execute(update(timer).where(timer.c.thread.in_(list(absorbed))).values(thread=winner))
    if not losers:
        return
    await tx.execute(delete(work).where(work.c.thread.in_([r.thread for r in losers])))
    kept = next((r for r in rows if r.thread == winner), None)
    wants = [r for r in losers if r.state != "idle"]
    newest = max(r.newest for r in rows)
    if kept is None:
        first = losers[0]
        values: dict[str, object] = {**first._asdict(), "thread": winner, "newest": newest}
        values |= {"state": "ready" if wants else "idle", "epoch": first.epoch + 1, "attempt": 0}
        if wants:
            values |= {"next_at": _soonest(wants), "done": min(r.done for r in wants), **_told(wants)}
        await tx.execute(work.insert().values(values))
        return
    values = {"newest": newest, "round": max(r.round for r in rows)}
    if not kept.agent:
        values["agent"] = next((r.agent for r in losers if r.agent), "")
    if wants:
        open_ = [kept, *wants] if kept.state != "idle" else wants
        values |= {"state": "ready", "next_at": _soonest(open_), "attempt": 0, "epoch": kept.epoch + 1}
        values |= {"done": min(r.done for r in open_), **_told(open_)}
    await tx.execute(update(work).where(work.c.thread == winner).values(values))


def _told(rows: Sequence[Row[Any]]) -> dict[str, str]:
    """What the turn of threads that became one is told: why the first of them wanted it, and the notes of all."""
    return {"reason": rows[0].reason, "note": "; ".join(dict.fromkeys(r.note for r in rows if r.note))}


def _soonest(rows: Sequence[Row[Any]]) -> float:
    """When what wants attention wanted it; at once, where that is not to be told (a lease, a thread that was stuck)."""
    return min(r.next_at if r.state == "ready" else 0.0 for r in rows)


async def answered_by_hand(tx: Tx, threads: Collection[int]) -> None:
    """A person answered from the account itself: what waited for an answer has one.

    An agent that is at it is fenced out, or the sender would get two answers.
    """
    await tx.execute(
        update(work)
        .where(work.c.thread.in_(sorted(threads)), work.c.state != "idle")
        .values(state="idle", done=work.c.newest, attempt=0, epoch=work.c.epoch + 1, round=work.c.round + 1, woken=0)
    )


async def next_at(tx: Tx, *, account: str, agents: Collection[str]) -> float | None:
    """When something is due next, by the database's clock; None when nothing is."""
    found = [
        await tx.scalar(
            select(work.c.next_at)
            .where(work.c.account == account, work.c.agent == name, ACTIVE, work.c.next_at < NEVER)
            .order_by(work.c.next_at)
            .limit(1)
        )
        for name in sorted(agents)
    ]
    found.append(await tx.scalar(select(func.min(timer.c.due_at)).where(timer.c.account == account)))
    times = [t for t in found if t is not None]
    return float(min(times)) if times else None


async def counts(tx: Tx, account: str) -> dict[str, int]:
    """How many threads are in each state of attention; those that want none are not counted."""
    rows = await tx.execute(
        select(work.c.state, func.count()).where(work.c.account == account, ACTIVE).group_by(work.c.state)
    )
    return {str(state): int(number) for state, number in rows}
