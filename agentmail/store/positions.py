"""The read position of a mailbox, written in the transaction that files the messages before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from .database import Tx
from .tables.mailboxes import PositionRow
from .tables.threads import LocationRow

position = PositionRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Position:
    uidvalidity: int
    uid: int
    """Every uid up to here was looked at."""
    begun_at: float
    """When this mailbox was first synced (seconds since the epoch)."""


async def read(tx: Tx, account: str, mailbox: str) -> Position | None:
    row = (
        await tx.execute(
            select(position.c.uidvalidity, position.c.uid, position.c.begun_at).where(
                position.c.account == account, position.c.mailbox == mailbox
            )
        )
    ).one_or_none()
    return Position(row.uidvalidity, row.uid, row.begun_at) if row is not None else None


async def save(tx: Tx, account: str, mailbox: str, new: Position) -> None:
    """Move on. A slower process never moves the position back within one uidvalidity."""
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(position).values(
        account=account, mailbox=mailbox, uidvalidity=new.uidvalidity, uid=new.uid, begun_at=new.begun_at
    )
    excluded, old = statement.excluded, position.c
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["account", "mailbox"],
            set_={"uidvalidity": excluded.uidvalidity, "uid": excluded.uid},
            where=(old.uidvalidity != excluded.uidvalidity) | (old.uid < excluded.uid),
        )
    )


async def located(tx: Tx, account: str, mailbox: str, uidvalidity: int, uids: Sequence[int]) -> set[int]:
    """Which of these uids were filed."""
    at = LocationRow.__table__.c  # type: ignore[attr-defined]
    if not uids:
        return set()
    rows = await tx.execute(
        select(at.uid).where(
            at.account == account, at.mailbox == mailbox, at.uidvalidity == uidvalidity, at.uid.in_(list(uids))
        )
    )
    return {int(u) for u in rows.scalars()}
