"""Claims on threads: one holder each, a lease by the database's clock, and an epoch that fences the last holder out.

A row of `work` goes through

```
            a message, a timer, a hand-off
                        │
                        ▼        claim             finish
   idle ───────────▶  ready ───────────▶ claimed ───────────▶ idle   (ready again when more mail came meanwhile)
                        ▲                  │  │
                        │   give back,     │  │  MAX_ATTEMPTS given back, or leases that ended
                        └── lease ended ───┘  └─────────────▶ stuck  (until new mail, or somebody frees it)
```

Every statement that writes for a holder names its epoch; when no row changed, the claim was lost (law 8).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, case, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ..errors import HeldByOther, NotFound, StaleTurn
from .database import Tx, database_now
from .tables.turns import TimerRow, WorkRow

MAX_ATTEMPTS = 5
"""After so many turns that failed or vanished a thread is `stuck`: visible, never dropped, never tried again alone."""

BACKOFF = (10.0, 60.0, 300.0, 1800.0)
"""Seconds until a thread that was given back is tried again, by attempt."""

work = WorkRow.__table__  # type: ignore[attr-defined]
timer = TimerRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True)
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


async def arrived(
    tx: Tx, account: str, newest: dict[int, int], *, now: float, reason: str = "message", agent: str = ""
) -> None:
    """Incoming mail wants attention: thread -> its newest incoming message. Part of the filing transaction.

    A claimed thread stays claimed: its holder's reply is refused as stale, and finishing makes it ready again.
    `agent` is whose thread it becomes when it is new.
    """
    if not newest:
        return
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(work).values(
        [
            {"thread": t, "account": account, "agent": agent, "state": "ready", "reason": reason, "note": "",
             "next_at": now, "attempt": 0, "epoch": 0, "newest": m, "done": 0, "error": ""}
            for t, m in sorted(newest.items())
        ]
    )  # fmt: skip
    new, old = statement.excluded, work.c
    claimed, due = old.state == "claimed", old.state == "ready"
    await tx.execute(
        statement.on_conflict_do_update(
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
    )


async def wake(tx: Tx, thread: int, *, account: str, agent: str, reason: str, note: str, now: float) -> None:
    """A thread is due for a reason that is not new mail: a reminder, a hand-off, an approval."""
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(work).values(
        thread=thread, account=account, agent=agent, state="ready", reason=reason, note=note, next_at=now, attempt=0,
        epoch=0, newest=0, done=0, error="",
    )  # fmt: skip
    new, old = statement.excluded, work.c
    claimed = old.state == "claimed"
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["thread"],
            set_={
                "agent": new.agent,
                "state": case((claimed, old.state), else_="ready"),
                "reason": new.reason,
                "note": new.note,
                "next_at": case((claimed, old.next_at), else_=new.next_at),
                "attempt": 0,
            },
        )
    )


async def claim_due(
    tx: Tx, *, account: str, agents: Collection[str], agent: str, lease: float, limit: int = 1
) -> list[Claim]:
    """Claim up to `limit` threads that are due, the longest waiting first; fewer when there are fewer.

    `agents` are the names whose threads may be taken: one's own, and "" for those that nobody was routed to.
    """
    now = await database_now(tx)
    await _give_up(tx, account, agents, now)
    takeable = (
        select(work.c.thread)
        .where(
            work.c.account == account,
            work.c.agent.in_(sorted(agents)),
            work.c.state.in_(("claimed", "ready")),
            work.c.next_at <= now,
            work.c.attempt < MAX_ATTEMPTS,
        )
        .order_by(work.c.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return await _take(tx, work.c.thread.in_(takeable.scalar_subquery()), agent=agent, until=now + lease)


async def claim_thread(tx: Tx, thread: int, *, account: str, agent: str, lease: float, newest: int = 0) -> Claim:
    """Claim this thread now, whether it is due or not. `newest` is its newest incoming message, for a thread that
    never asked for attention.

    Raises:
        HeldByOther: somebody holds it; it says who, and for how long at most.
    """
    now = await database_now(tx)
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    await tx.execute(
        dialect.insert(work)
        .values(thread=thread, account=account, agent=agent, state="idle", reason="message", note="", next_at=now,
                attempt=0, epoch=0, newest=newest, done=0, error="")
        .on_conflict_do_nothing()
    )  # fmt: skip
    free = or_(work.c.state != "claimed", work.c.next_at <= now)
    taken = await _take(tx, and_(work.c.thread == thread, free), agent=agent, until=now + lease)
    if taken:
        return taken[0]
    row = (await tx.execute(select(work.c.agent, work.c.next_at).where(work.c.thread == thread))).one_or_none()
    if row is None:
        raise NotFound(f"no thread t{thread}")
    raise HeldByOther(f"t{thread} is held by {row.agent!r} for at most {max(0.0, row.next_at - now):.0f} s more")


async def renew(tx: Tx, claim: Claim, *, lease: float) -> None:
    """Move the end of the lease. Raises StaleTurn when the claim was lost."""
    now = await database_now(tx)
    await _write(tx, claim, now, next_at=now + lease)


async def check(tx: Tx, claim: Claim) -> None:
    """The first statement of every effect of a turn: it locks the row, so that nobody can claim until the commit."""
    await _write(tx, claim, await database_now(tx), epoch=claim.epoch)


async def finish(tx: Tx, claim: Claim, *, agent: str | None = None, reason: str = "", note: str = "") -> None:
    """The turn is done. Mail that came during it makes the thread ready again; so does a hand-off to `agent`."""
    now = await database_now(tx)
    more = work.c.newest > claim.newest
    handed = agent is not None
    await _write(
        tx, claim, now,
        state="ready" if handed else case((more, "ready"), else_="idle"),
        agent=claim.agent if agent is None else agent,
        reason=reason or "message",
        note=note,
        next_at=now,
        attempt=0,
        done=claim.newest if not handed else claim.done,
        error="",
    )  # fmt: skip


async def give_back(tx: Tx, claim: Claim, *, error: str = "", at_once: bool = False) -> None:
    """The turn failed, or was cancelled (`at_once`, which does not count as an attempt)."""
    now = await database_now(tx)
    if at_once:
        await _write(tx, claim, now, state="ready", next_at=now, attempt=max(0, claim.attempt - 1), error=error)
    else:
        stuck = claim.attempt >= MAX_ATTEMPTS
        delay = BACKOFF[min(claim.attempt, len(BACKOFF)) - 1]
        await _write(tx, claim, now, state="stuck" if stuck else "ready", next_at=now + delay, error=error)


async def merge(tx: Tx, winner: int, absorbed: Sequence[int]) -> None:
    """Threads became one: the attention they need becomes one too. Whoever held an absorbed one is fenced out."""
    rows = (
        await tx.execute(
            select(work).where(work.c.thread.in_([winner, *absorbed])).order_by(work.c.thread).with_for_update()
        )
    ).all()
    losers = [r for r in rows if r.thread != winner]
    if not losers:
        return
    await tx.execute(update(timer).where(timer.c.thread.in_(list(absorbed))).values(thread=winner))
    await tx.execute(delete(work).where(work.c.thread.in_([r.thread for r in losers])))
    kept = next((r for r in rows if r.thread == winner), None)
    wants = [r for r in losers if r.state in {"ready", "claimed", "stuck"}]
    newest = max(r.newest for r in rows)
    if kept is None:
        first = losers[0]
        values = {**first._asdict(), "thread": winner, "newest": newest}
        values |= {"state": "ready" if wants else "idle", "epoch": first.epoch + 1, "attempt": 0}
        await tx.execute(work.insert().values(values))
    else:
        values = {"newest": newest}
        if not kept.agent:
            values["agent"] = next((r.agent for r in losers if r.agent), "")
        if wants and kept.state != "claimed":
            values |= {"state": "ready", "next_at": min(r.next_at for r in [*wants, kept]), "attempt": 0}
        await tx.execute(update(work).where(work.c.thread == winner).values(values))


async def _give_up(tx: Tx, account: str, agents: Collection[str], now: float) -> None:
    """Leases that ended for the last time: their holders vanished again and again."""
    await tx.execute(
        update(work)
        .where(work.c.account == account, work.c.agent.in_(sorted(agents)), work.c.state == "claimed",
               work.c.next_at <= now, work.c.attempt >= MAX_ATTEMPTS)
        .values(state="stuck", error="its holders vanished without finishing")
    )  # fmt: skip


async def _take(tx: Tx, which: object, *, agent: str, until: float) -> list[Claim]:
    found = await tx.execute(
        update(work)
        .where(which)  # type: ignore[arg-type]
        .values(state="claimed", agent=agent, epoch=work.c.epoch + 1, attempt=work.c.attempt + 1, next_at=until)
        .returning(work.c.thread, work.c.account, work.c.reason, work.c.note, work.c.attempt, work.c.epoch,
                   work.c.newest, work.c.done)
    )  # fmt: skip
    return [
        Claim(r.thread, r.account, agent, r.reason, r.note, r.attempt, r.epoch, r.newest, r.done)
        for r in sorted(found, key=lambda r: r.newest)
    ]


async def _write(tx: Tx, claim: Claim, now: float, **values: object) -> None:
    """Write for a holder, or raise: the epoch must be its own and the lease must not have ended."""
    done = await tx.execute(
        update(work)
        .where(
            work.c.thread == claim.thread, work.c.epoch == claim.epoch, work.c.state == "claimed", work.c.next_at > now
        )
        .values(**values)
    )
    if done.rowcount != 1:
        raise StaleTurn(
            f"the claim of {claim.agent!r} on t{claim.thread} was lost (its lease ended, or the thread was merged or "
            "claimed again): nothing of this turn was written; read the thread again"
        )


async def look(tx: Tx, claim: Claim) -> int:
    """Check the claim, and say which incoming message is the newest now: newer than `claim.newest` is unread."""
    await check(tx, claim)
    return int((await tx.execute(select(work.c.newest).where(work.c.thread == claim.thread))).scalar_one())


async def belongs_to(tx: Tx, thread: int, *, account: str, agent: str) -> None:
    """An agent began or answered a thread that is nobody's: what comes back is for it."""
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(work).values(
        thread=thread, account=account, agent=agent, state="idle", reason="message", note="", next_at=0.0, attempt=0,
        epoch=0, newest=0, done=0, error="",
    )  # fmt: skip
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["thread"], set_={"agent": statement.excluded.agent}, where=work.c.agent == ""
        )
    )


async def unrouted(tx: Tx, account: str, *, limit: int = 50) -> list[tuple[int, int]]:
    """(thread, newest message) of threads that are nobody's and want attention."""
    rows = await tx.execute(
        select(work.c.thread, work.c.newest)
        .where(work.c.account == account, work.c.agent == "", work.c.state == "ready")
        .order_by(work.c.next_at)
        .limit(limit)
    )
    return [(int(r.thread), int(r.newest)) for r in rows]


async def route(tx: Tx, thread: int, agent: str) -> None:
    """Give a thread that is nobody's to an agent; the first one to say so decides."""
    await tx.execute(update(work).where(work.c.thread == thread, work.c.agent == "").values(agent=agent))


async def answered_by_hand(tx: Tx, threads: Collection[int]) -> None:
    """A person answered from the account itself: what waited for an answer has one."""
    await tx.execute(
        update(work)
        .where(work.c.thread.in_(sorted(threads)), work.c.state.in_(("ready", "stuck")))
        .values(state="idle", done=work.c.newest, attempt=0)
    )


async def next_at(tx: Tx, *, account: str, agents: Collection[str]) -> float | None:
    """When something is due next, by the database's clock; None when nothing is."""
    threads = select(func.min(work.c.next_at)).where(
        work.c.account == account, work.c.agent.in_(sorted(agents)), work.c.state.in_(("claimed", "ready"))
    )
    timers = select(func.min(timer.c.due_at)).where(timer.c.account == account)
    found = [t for t in (await tx.scalar(threads), await tx.scalar(timers)) if t is not None]
    return float(min(found)) if found else None


async def due_timers(tx: Tx, *, account: str, now: float | None = None) -> int:
    """Turn timers that are due into attention; how many."""
    moment = await database_now(tx) if now is None else now
    rows = (
        await tx.execute(
            select(timer)
            .where(timer.c.account == account, timer.c.due_at <= moment)
            .order_by(timer.c.thread, timer.c.id)
            .with_for_update(skip_locked=True)
        )
    ).all()
    for row in rows:
        await wake(tx, row.thread, account=account, agent=row.agent, reason="reminder", note=row.note, now=moment)
    if rows:
        await tx.execute(delete(timer).where(timer.c.id.in_([r.id for r in rows])))
    return len(rows)


async def set_timer(tx: Tx, thread: int, *, account: str, agent: str, due_at: float, note: str) -> None:
    await tx.execute(timer.insert().values(thread=thread, account=account, agent=agent, due_at=due_at, note=note))


async def cancel_timers(tx: Tx, threads: Collection[int]) -> None:
    """Somebody answered: what should have come back need not."""
    await tx.execute(delete(timer).where(timer.c.thread.in_(sorted(threads))))


async def counts(tx: Tx, account: str) -> dict[str, int]:
    """How many threads are in each state of attention."""
    rows = await tx.execute(select(work.c.state, func.count()).where(work.c.account == account).group_by(work.c.state))
    return {str(state): int(number) for state, number in rows}
