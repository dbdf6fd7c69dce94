"""Two threads become one: the oldest takes everything in, the others stay as signposts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from . import attention
from .database import Tx
from .editing import write_labels
from .events import append_events
from .subjects import attach
from .tables.threads import APART, LABEL, MESSAGE, PERSON, THREAD


async def absorb(tx: Tx, account: str, winner: int, absorbed: Sequence[int], *, now: float) -> None:
    """Join `absorbed` into `winner`. Both sides of the subject rule are undone; the rule runs again afterwards."""
    rows = {
        row.id: row
        for row in await tx.execute(
            select(
                THREAD.c.id,
                THREAD.c.status,
                THREAD.c.labels,
                THREAD.c.notes,
                THREAD.c.data,
                THREAD.c.messages,
                THREAD.c.first_at,
                THREAD.c.last_at,
                THREAD.c.subject,
                THREAD.c.attached_to,
            ).where(THREAD.c.id.in_([winner, *absorbed]))
        )
    }
    everyone = [rows[t] for t in (winner, *absorbed)]
    oldest = min(everyone, key=lambda r: (r.first_at, r.id))
    labels = sorted({label for r in everyone for label in r.labels})
    notes = [note for r in everyone for note in r.notes]
    data: dict[str, Any] = {}
    for r in reversed(everyone):
        data.update(r.data)
    await tx.execute(
        update(THREAD).where(THREAD.c.id == winner).values(
            subject=oldest.subject, first_at=oldest.first_at,
            messages=sum(r.messages for r in everyone), labels=labels, notes=notes, data=data,
            # Work that is open anywhere stays open.
            status="open" if any(r.status == "open" for r in everyone) else rows[winner].status,
        )
    )  # fmt: skip
    await tx.execute(delete(LABEL).where(LABEL.c.thread.in_(absorbed)))
    await write_labels(tx, winner, labels)
    for row in everyone:
        if row.attached_to is not None:
            await attach(tx, row.id, None, was=row.attached_to)
            await attention.parted(tx, account, row.id, row.attached_to)
    await tx.execute(update(MESSAGE).where(MESSAGE.c.cluster.in_(absorbed)).values(cluster=winner))
    await tx.execute(update(MESSAGE).where(MESSAGE.c.thread.in_(absorbed)).values(thread=winner))
    await tx.execute(
        update(THREAD)
        .where(or_(THREAD.c.id.in_(absorbed), THREAD.c.merged_into.in_(absorbed)))
        .values(merged_into=winner, messages=0)
    )
    await tx.execute(update(THREAD).where(THREAD.c.attached_to.in_(absorbed)).values(attached_to=winner))
    newest = select(func.max(MESSAGE.c.at)).where(MESSAGE.c.thread == winner).scalar_subquery()
    await tx.execute(update(THREAD).where(THREAD.c.id == winner).values(last_at=newest))
    dialect = postgresql if tx.dialect.name == "postgresql" else sqlite
    people = (
        select(literal(winner), PERSON.c.atom, func.max(PERSON.c.name))
        .where(PERSON.c.thread.in_(absorbed))
        .group_by(PERSON.c.atom)
    )
    await tx.execute(dialect.insert(PERSON).from_select(["thread", "atom", "name"], people).on_conflict_do_nothing())
    await tx.execute(PERSON.delete().where(PERSON.c.thread.in_(absorbed)))
    await tx.execute(update(APART).where(APART.c.target.in_(absorbed)).values(target=winner))
    await tx.execute(update(APART).where(APART.c.claimant.in_(absorbed)).values(claimant=winner))
    await tx.execute(APART.delete().where(APART.c.claimant == winner, APART.c.target == winner))
    await attention.joined(tx, account, winner, absorbed)
    await append_events(tx, [
        {"kind": "thread.merged", "thread": winner, "message": None, "account": account or None,
         "data": {"absorbed": f"t{t}"}, "at": now}
        for t in absorbed
    ])  # fmt: skip
