"""Claims on threads: one holder each, a lease by the database's clock, and an epoch that fences the last holder out.

A row of `work` goes through

```
            a message, a timer, a hand-off
                        │
                        ▼        claim             finish
   idle ───────────▶  ready ───────────▶ claimed ───────────▶ idle   (ready again when more came meanwhile)
                        ▲                  │  │
                        │   give back,     │  │  MAX_ATTEMPTS given back, or leases that ended
                        └── lease ended ───┘  └─────────────▶ stuck  (until new mail, or somebody frees it)
```

Every statement that writes for a holder names its epoch; when no row changed, the claim was lost (law 8).

What a claim costs does not depend on the size of the store: it walks the index `work_due`, which holds no idle thread,
from the row that has waited longest. The statements are built once and compare with the database's own clock, so a
claim is one round trip, and so is the end of any number of turns.
What makes a thread want attention, and what others do to it, is in `wanting`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    Row,
    Update,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from ..errors import HeldByOther, NotFound, StaleTurn
from .database import Tx, clock_sql, database_now, virtual_now
from .events import append_events
from .tables.turns import ACTIVE, NEVER, TimerRow, WorkRow

MAX_ATTEMPTS = 5
"""After so many turns that failed or vanished a thread is `stuck`: visible, never dropped, never tried again alone."""

BACKOFF = (10.0, 60.0, 300.0, 1800.0)
"""Seconds until a thread that was given back is tried again, by attempt."""

work = WorkRow.__table__  # type: ignore[attr-defined]
timer = TimerRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to act on one thread until its lease ends, as long as nobody claimed it since (`epoch`)."""

    thread: int
    account: str
    agent: str
    reason: str
    note: str
    attempt: int
    epoch: int
    newest: int
    """The newest incoming message when it was claimed: what this turn has seen."""
    done: int
    """The newest incoming message that was finished with before."""
    round: int = 0
    """How many turns on this thread were finished: the same for every attempt at one turn."""


def row_of(thread: int, account: str, **values: object) -> dict[str, object]:
    """A new row of work."""
    return {
        "thread": thread, "account": account, "agent": "", "state": "ready", "reason": "message", "note": "",
        "next_at": 0.0, "attempt": 0, "epoch": 0, "newest": 0, "seen": 0, "done": 0, "round": 0, "woken": 0,
        "error": "", **values,
    }  # fmt: skip


# -- claiming ---------------------------------------------------------------------------------------------------------

_GIVEN = [work.c.thread, work.c.account, work.c.agent, work.c.reason, work.c.note, work.c.attempt, work.c.epoch,
          work.c.newest, work.c.done, work.c.round, work.c.state]  # fmt: skip


@cache
def _claiming(dialect: str, names: int, virtual: bool) -> Update:
    """Claim what has waited longest: one ordered walk of the index for each agent name."""
    now = _now(dialect, virtual)
    walks = [
        select(work.c.thread, work.c.next_at)
        .where(work.c.account == bindparam("b_account"), work.c.agent == bindparam(f"b_name{i}"), ACTIVE,
               work.c.next_at <= now)
        .order_by(work.c.next_at)
        .limit(bindparam("b_limit"))
        .with_for_update(skip_locked=True)
        .subquery()
        for i in range(names)
    ]  # fmt: skip
    every = union_all(*(select(w.c.thread, w.c.next_at) for w in walks)).subquery()
    # A CTE, since a subquery with a lock and a limit may run more than once in a join.
    due = select(every.c.thread).order_by(every.c.next_at).limit(bindparam("b_limit")).cte("due")
    # The last of its attempts vanished: it is not tried again alone.
    over = work.c.attempt >= MAX_ATTEMPTS
    return (
        update(work)
        .where(work.c.thread.in_(select(due.c.thread)))
        .values(
            state=case((over, "stuck"), else_="claimed"),
            agent=case((over, work.c.agent), else_=bindparam("b_agent")),
            next_at=case((over, NEVER), else_=now + bindparam("b_lease", type_=Double)),
            attempt=case((over, work.c.attempt), else_=work.c.attempt + 1),
            error=case((and_(over, work.c.state == "claimed"), "its holders vanished without finishing"),
                       else_=work.c.error),
            epoch=work.c.epoch + 1, seen=work.c.newest, woken=0,
        )
        .returning(*_GIVEN)
    )  # fmt: skip


def _now(dialect: str, virtual: bool) -> ColumnElement[float]:
    return bindparam("b_now", type_=Double) if virtual else clock_sql(dialect)


async def claim_due(
    tx: Tx, *, account: str, agents: Collection[str], agent: str, lease: float, limit: int = 1
) -> list[Claim]:
    """Claim up to `limit` threads that are due, the longest waiting first; fewer when there are fewer.

    `agents` are the names whose threads may be taken: one's own, and "" for those that nobody was routed to.
    """
    names, now = sorted(agents), virtual_now(tx)
    values: dict[str, object] = {"b_account": account, "b_agent": agent, "b_lease": lease, "b_limit": limit}
    values |= {f"b_name{i}": name for i, name in enumerate(names)} | ({} if now is None else {"b_now": now})
    statement = _claiming(tx.dialect.name, len(names), now is not None)
    while True:
        rows = (await tx.execute(statement, values)).all()
        taken = [_claim(row) for row in rows if row.state == "claimed"]
        await _tell_stuck(tx, [(r.thread, r.account, "its holders vanished") for r in rows if r.state == "stuck"])
        if taken or not rows:
            return sorted(taken, key=lambda c: c.newest)
        # Only threads that are stuck now: look behind them.


async def _tell_stuck(tx: Tx, threads: Sequence[tuple[int, str, str]]) -> None:
    """Nobody tries these any more; people should know."""
    await append_events(
        tx,
        [
            {"kind": "thread.stuck", "thread": t, "message": None, "account": a, "data": {"error": e}, "at": None}
            for t, a, e in threads
        ],
    )


def _claim(row: Row[Any]) -> Claim:
    return Claim(
        row.thread, row.account, row.agent, row.reason, row.note, row.attempt, row.epoch, row.newest, row.done,
        row.round,
    )  # fmt: skip


async def claim_thread(tx: Tx, thread: int, *, account: str, agent: str, lease: float, newest: int = 0) -> Claim:
    """Claim this thread now, whether it is due or not. `newest` is its newest incoming message, for a thread that
    never asked for attention.

    Raises:
        HeldByOther: somebody holds it; it says who, and for how long at most.
    """
    now = await database_now(tx)
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    row = row_of(thread, account, agent=agent, state="idle", next_at=now, newest=newest)
    await tx.execute(dialect.insert(work).values(**row).on_conflict_do_nothing())
    taken = (
        await tx.execute(
            update(work)
            .where(work.c.thread == thread, or_(work.c.state != "claimed", work.c.next_at <= now))
            .values(
                state="claimed", agent=agent, next_at=now + lease, epoch=work.c.epoch + 1, seen=work.c.newest, woken=0,
                attempt=case((work.c.state == "stuck", 1), else_=work.c.attempt + 1),
            )
            .returning(*_GIVEN)
        )
    ).one_or_none()  # fmt: skip
    if taken is not None:
        return _claim(taken)
    held = (await tx.execute(select(work.c.agent, work.c.next_at).where(work.c.thread == thread))).one_or_none()
    if held is None:
        raise NotFound(f"no thread t{thread}")
    raise HeldByOther(f"t{thread} is held by {held.agent!r} for at most {max(0.0, held.next_at - now):.0f} s more")


# -- what a holder writes ---------------------------------------------------------------------------------------------


@cache
def _checking(dialect: str, virtual: bool) -> Update:
    # Writing the epoch that is there already locks the row until the commit, so that nobody can claim meanwhile.
    return _held(dialect, virtual).values(epoch=work.c.epoch).returning(work.c.newest)


@cache
def _renewing(dialect: str, virtual: bool) -> Update:
    lease = bindparam("b_lease", type_=Double)
    return _held(dialect, virtual).values(next_at=_now(dialect, virtual) + lease).returning(work.c.thread)


def _held(dialect: str, virtual: bool) -> Update:
    """The epoch must be the holder's own, and the lease must not have ended."""
    return update(work).where(
        work.c.thread == bindparam("b_thread"), work.c.epoch == bindparam("b_epoch"), work.c.state == "claimed",
        work.c.next_at > _now(dialect, virtual),
    )  # fmt: skip


async def renew(tx: Tx, claim: Claim, *, lease: float) -> None:
    """Move the end of the lease. Raises StaleTurn when the claim was lost."""
    await _write(tx, claim, _renewing, b_lease=lease)


async def check(tx: Tx, claim: Claim) -> None:
    """The first statement of every effect of a turn: it locks the row, so that nobody can claim until the commit."""
    await look(tx, claim)


async def look(tx: Tx, claim: Claim) -> int:
    """Check the claim, and say which incoming message is the newest now: newer than `claim.newest` is unread."""
    return int(await _write(tx, claim, _checking))


async def _write(tx: Tx, claim: Claim, statement: Any, **values: object) -> Any:
    now = virtual_now(tx)
    if now is not None:
        values["b_now"] = now
    found = await tx.execute(
        statement(tx.dialect.name, now is not None), {"b_thread": claim.thread, "b_epoch": claim.epoch, **values}
    )
    row = found.first()
    if row is None:
        raise lost(claim)
    return row[0]


def lost(claim: Claim) -> StaleTurn:
    """What a holder is told whose claim is gone."""
    return StaleTurn(
        f"the claim of {claim.agent!r} on t{claim.thread} was lost (its lease ended, a person answered by hand, or the "
        "thread was merged or claimed again): nothing of this turn was written; read the thread again"
    )


@cache
def _finishing(dialect: str, virtual: bool) -> Update:
    now = _now(dialect, virtual)
    more = or_(work.c.newest > work.c.seen, work.c.woken == 1)
    # Locked in order, as filing does.
    held = (
        select(work.c.thread)
        .where(
            work.c.thread.in_(bindparam("b_threads", expanding=True)), work.c.state == "claimed", work.c.next_at > now,
            tuple_(work.c.thread, work.c.epoch).in_(bindparam("b_pairs", expanding=True)),
        )
        .order_by(work.c.thread)
        .with_for_update()
        .cte("held")
    )  # fmt: skip
    return (
        update(work)
        .where(work.c.thread.in_(select(held.c.thread)))
        .values(
            state=case((more, "ready"), else_="idle"),
            # What woke it during the turn is still to come.
            reason=case((work.c.woken == 1, work.c.reason), else_="message"),
            note=case((work.c.woken == 1, work.c.note), else_=""),
            next_at=now, attempt=0, done=work.c.seen, round=work.c.round + 1, woken=0, error="",
        )
        .returning(work.c.thread, work.c.state)
    )  # fmt: skip


async def finish_all(tx: Tx, claims: Sequence[Claim]) -> dict[int, str]:
    """These turns are done: thread -> the state it is in now, of those whose claim still held; the others were lost.

    Mail that came during a turn makes its thread ready again, and so does a reminder.
    """
    now = virtual_now(tx)
    values: dict[str, object] = {
        "b_threads": sorted(c.thread for c in claims),
        "b_pairs": sorted((c.thread, c.epoch) for c in claims),
    } | ({} if now is None else {"b_now": now})
    done = await tx.execute(_finishing(tx.dialect.name, now is not None), values)
    states = {int(thread): str(state) for thread, state in done}
    for claim in claims:
        if claim.note and states.get(claim.thread) == "ready":
            await tx.execute(
                update(work)
                .where(work.c.thread == claim.thread, work.c.state == "ready", _begins(claim))
                .values(note=_unread(claim))
            )
    return states


def _begins(claim: Claim) -> ColumnElement[bool]:
    begins: ColumnElement[bool] = work.c.note.startswith(f"{claim.note}; ", autoescape=True)
    return begins


def _unread(claim: Claim) -> ColumnElement[str]:
    """What the thread's note says beyond what the turn was told when it began."""
    return case((_begins(claim), func.substr(work.c.note, len(claim.note) + 3)), else_=work.c.note)


async def finish(tx: Tx, claim: Claim) -> str:
    """The turn is done; the state of its thread. Raises StaleTurn."""
    done = await finish_all(tx, [claim])
    if claim.thread not in done:
        raise lost(claim)
    return done[claim.thread]


async def hand_off(tx: Tx, claim: Claim, *, agent: str) -> None:
    """The turn is done, and another agent takes the thread over as this one found it. Raises StaleTurn."""
    await check(tx, claim)
    told = case((work.c.woken == 1, _unread(claim)), else_="")  # a reminder that came meanwhile is for the other agent
    await tx.execute(
        update(work)
        .where(work.c.thread == claim.thread)
        .values(state="ready", agent=agent, reason="handoff", note=told, next_at=await database_now(tx), attempt=0,
                round=work.c.round + 1, woken=0, error="")
    )  # fmt: skip


async def give_back(tx: Tx, claim: Claim, *, error: str = "", at_once: bool = False) -> None:
    """The turn failed, or was cancelled (`at_once`, which does not count as an attempt). Raises StaleTurn."""
    await check(tx, claim)
    now = await database_now(tx)
    if at_once:
        values = {"state": "ready", "next_at": now, "attempt": max(0, claim.attempt - 1)}
    elif claim.attempt >= MAX_ATTEMPTS:
        values = {"state": "stuck", "next_at": NEVER}
    else:
        values = {"state": "ready", "next_at": now + BACKOFF[min(claim.attempt, len(BACKOFF)) - 1]}
    await tx.execute(update(work).where(work.c.thread == claim.thread).values(error=error, woken=0, **values))
    if values["state"] == "stuck":
        await _tell_stuck(tx, [(claim.thread, claim.account, error)])
