"""What comes back at a time, unless somebody answers before: reminders, and follow-ups that send themselves.

A timer is a row. Whoever deletes it has it, so of any number of processes one acts; an answer deletes it in the
transaction that files the answer. So an answer and a follow-up that is due never pass each other by.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ..message.models import Message
from .claims import timer, work
from .database import Tx, database_now
from .direct import Statement, among, listed
from .tables.outbox import RECIPIENT, SUBMISSION
from .tables.threads import MESSAGE
from .wanting import wake


@dataclass(frozen=True, slots=True)
class Timer:
    """A row as it stood when it was read."""

    id: int
    thread: int
    account: str
    agent: str
    kind: str
    due_at: float
    note: str
    text: str
    origin: str
    key: str


async def set_timer(
    tx: Tx, thread: int, *, account: str, agent: str, due_at: float, key: str, note: str = "", kind: str = "reminder",
    text: str = "", origin: str = "program",
) -> None:  # fmt: skip
    """Set a timer. The same key again changes it: a turn that runs twice leaves one, in its last wording."""
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(timer).values(
        thread=thread, account=account, agent=agent, due_at=due_at, note=note, kind=kind, text=text, origin=origin,
        key=key,
    )  # fmt: skip
    new = statement.excluded
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["account", "key"], set_={"due_at": new.due_at, "note": new.note, "text": new.text}
        )
    )


async def wake_due(tx: Tx, *, account: str) -> list[Timer]:
    """Reminders that are due become attention; the follow-ups that are due, which somebody has to send."""
    now = await database_now(tx)
    rows = (
        await tx.execute(
            select(timer)
            .where(timer.c.account == account, timer.c.due_at <= now)
            .order_by(timer.c.thread, timer.c.id)
            .with_for_update(skip_locked=True)
        )
    ).all()
    woken = [r for r in rows if r.kind == "reminder"]
    for row in woken:
        await wake(tx, row.thread, account=account, agent=row.agent, reason="reminder", note=row.note, now=now)
    if woken:
        await tx.execute(delete(timer).where(timer.c.id.in_([r.id for r in woken])))
    return [Timer(**r._asdict()) for r in rows if r.kind == "follow-up"]


async def due_follow_ups(tx: Tx, *, account: str) -> list[Timer]:
    """The follow-ups that are due, the longest first."""
    rows = await tx.execute(
        select(timer)
        .where(timer.c.account == account, timer.c.due_at <= await database_now(tx), timer.c.kind == "follow-up")
        .order_by(timer.c.due_at, timer.c.id)
    )
    return [Timer(**r._asdict()) for r in rows]


async def one(tx: Tx, id_: int) -> Timer | None:
    """The timer as it stands now: its thread may have been merged since."""
    row = (await tx.execute(select(timer).where(timer.c.id == id_))).one_or_none()
    return None if row is None else Timer(**row._asdict())


async def next_follow_up(tx: Tx, *, account: str) -> float | None:
    """When the next one is due, by the database's clock."""
    found = await tx.scalar(
        select(func.min(timer.c.due_at)).where(timer.c.account == account, timer.c.kind == "follow-up")
    )
    return None if found is None else float(found)


async def take(tx: Tx, id_: int) -> bool:
    """Whether this caller has the timer; False when somebody answered, or another process was first."""
    done = await tx.execute(delete(timer).where(timer.c.id == id_).returning(timer.c.id))
    return done.first() is not None


async def postpone(tx: Tx, id_: int, seconds: float) -> None:
    """Look again in so many seconds from now."""
    due = await database_now(tx) + seconds
    await tx.execute(update(timer).where(timer.c.id == id_, timer.c.due_at < due).values(due_at=due))


async def is_held(tx: Tx, thread: int) -> bool:
    """Whether an agent is at the thread at this moment."""
    query = select(work.c.thread).where(
        work.c.thread == thread, work.c.state == "claimed", work.c.next_at > await database_now(tx)
    )
    return (await tx.execute(query)).first() is not None


async def last_word(tx: Tx, thread: int) -> tuple[int | None, bool]:
    """The newest message of ours in a thread, and whether a person or an agent wrote after it."""
    ours = await tx.scalar(select(func.max(MESSAGE.c.id)).where(MESSAGE.c.thread == thread, MESSAGE.c.outgoing))
    if ours is None:
        return None, False
    later = await tx.execute(
        select(MESSAGE.c.parsed).where(MESSAGE.c.thread == thread, MESSAGE.c.id > ours, ~MESSAGE.c.outgoing)
    )
    return int(ours), any(answers(Message.model_validate_json(parsed).automated) for (parsed,) in later)


def answers(automated: str | None) -> bool:
    """Whether mail of this kind is an answer: a person's, or another agent's; an out-of-office message is none."""
    return automated in {None, "agent"}


async def fate_of(tx: Tx, message: int) -> str:
    """How the submission of a message of ours stands; `sent` when it went without our outbox, and `bounced` when it
    came back from everybody.
    """
    query = select(SUBMISSION.c.id, SUBMISSION.c.state).where(SUBMISSION.c.message == message)
    found = (await tx.execute(query.order_by(SUBMISSION.c.id.desc()).limit(1))).one_or_none()
    if found is None:
        return "sent"
    people = set((await tx.execute(select(RECIPIENT.c.state).where(RECIPIENT.c.submission == found.id))).scalars())
    came_back = found.state == "sent" and "bounced" in people and people <= {"bounced", "failed"}
    return "bounced" if came_back else str(found.state)


async def of_thread(tx: Tx, thread: int) -> list[Timer]:
    """What a thread waits for, the next one first."""
    rows = await tx.execute(select(timer).where(timer.c.thread == thread).order_by(timer.c.due_at, timer.c.id))
    return [Timer(**r._asdict()) for r in rows]


async def cancel(tx: Tx, threads: Collection[int], *, kind: str | None = None) -> int:
    """Somebody answered: what should have come back need not. How many there were."""
    those = listed(tx, sorted(threads))
    if kind is None:
        return (await _CANCELLED.run(tx, threads=those)).changed
    return (await _CANCELLED_KIND.run(tx, threads=those, kind=kind)).changed


_CANCELLED = Statement(lambda postgres: delete(timer).where(among(timer.c.thread, "threads", postgres=postgres)))
_CANCELLED_KIND = Statement(
    lambda postgres: delete(timer).where(
        among(timer.c.thread, "threads", postgres=postgres), timer.c.kind == bindparam("kind")
    )
)
