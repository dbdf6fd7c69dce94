"""Handing messages over: each message to each agent name once, across processes and restarts."""

from __future__ import annotations

from sqlalchemy import exists, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ..errors import BadInput
from .database import Tx
from .tables.receipts import ReceiptMarkRow, ReceiptRow
from .tables.threads import EventRow, MessageRow

SETTLED = 3600.0
"""Seconds after which no transaction can still bring a message with a lower id than one that is visible.

PostgreSQL hands out ids before transactions commit, so a lower id may appear after a higher one; only what is older
than this may fall below the mark.
"""


async def take_new(tx: Tx, *, account: str, agent: str, limit: int, now: float) -> list[int]:
    """The database ids of the oldest messages this agent name was not given yet; from now on it was.

    Two processes under one agent name never take the same: the row of `receipt_mark` is held until the commit.
    """
    if limit < 0:
        raise BadInput(f"limit is {limit}: say how many messages to hand over")
    low = await _hold_mark(tx, account, agent)
    message = MessageRow.__table__.c  # type: ignore[attr-defined]
    receipt = ReceiptRow.__table__.c  # type: ignore[attr-defined]
    given = exists().where(receipt.agent == agent, receipt.message == message.id)
    found = await tx.execute(
        select(message.id)
        .where(message.account == account, message.id > low, message.fresh, ~message.outgoing, ~given)
        .order_by(message.id)
        .limit(limit)
    )
    taken = [int(i) for i in found.scalars()]
    if taken:
        await tx.execute(insert(ReceiptRow), [{"agent": agent, "message": i} for i in taken])
        await _raise_mark(tx, account, agent, low, now)
    return taken


async def _hold_mark(tx: Tx, account: str, agent: str) -> int:
    mark = ReceiptMarkRow.__table__  # type: ignore[attr-defined]
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    await tx.execute(dialect.insert(mark).values(agent=agent, account=account, low=0).on_conflict_do_nothing())
    row = await tx.execute(select(mark.c.low).where(mark.c.agent == agent, mark.c.account == account).with_for_update())
    return int(row.scalar_one())


async def _raise_mark(tx: Tx, account: str, agent: str, low: int, now: float) -> None:
    """Move the mark to the last message below which everything was handed over and is settled."""
    message = MessageRow.__table__.c  # type: ignore[attr-defined]
    event = EventRow.__table__.c  # type: ignore[attr-defined]
    receipt = ReceiptRow.__table__.c  # type: ignore[attr-defined]
    given = exists().where(receipt.agent == agent, receipt.message == message.id)
    open_ = (
        select(func.min(message.id))
        .where(message.account == account, message.id > low, message.fresh, ~message.outgoing, ~given)
        .scalar_subquery()
    )
    settled = (
        select(func.max(event.message))
        .where(event.message > low, event.kind == "message.filed", event.account == account, event.at < now - SETTLED)
        .scalar_subquery()
    )
    bounds = (await tx.execute(select(open_, settled))).one()
    new_low = bounds[1] if bounds[0] is None or bounds[1] is None else min(bounds[0] - 1, bounds[1])
    if new_low is not None and new_low > low:
        mark = ReceiptMarkRow.__table__  # type: ignore[attr-defined]
        await tx.execute(update(mark).where(mark.c.agent == agent, mark.c.account == account).values(low=new_low))
