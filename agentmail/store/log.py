"""Reading the event log: complete, in order, without gaps, whoever wrote it when.

PostgreSQL gives out ids before transactions commit, so a reader that remembers the highest id it saw would skip a
transaction that took a lower one and committed later. So `id` is not the place in the log: `seq` is, and it is given
only to rows that are committed, by the first reader that sees them, one reader at a time. Within a thread the order of
ids is the order of commits, because writers hold the thread's row.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import PrivateAttr
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from ..message.models import Value
from .database import Database, Tx
from .tables.threads import EVENT
from .tables.turns import CursorRow

_PUBLISHING = 0x61_67_65_6E_75
"""The key of the advisory lock that one publisher at a time holds."""

cursor = CursorRow.__table__  # type: ignore[attr-defined]


class Event(Value):
    """One thing that happened."""

    _ack: Callable[[int], Awaitable[None]] | None = PrivateAttr(default=None)

    seq: int
    """Its place in the log: pass the last one seen as `after`."""
    at: datetime
    kind: str
    """Dotted, subject first: `message.filed`, `thread.merged`, `submission.sent`."""
    thread: str | None = None
    message: str | None = None
    account: str | None = None
    data: dict[str, Any] | None = None

    async def ack(self) -> None:
        """This event and all before it are handled: the cursor it was read by moves behind it, and never back."""
        if self._ack is None:
            raise RuntimeError("this event was not read by a cursor: inbox.events(cursor='name')")
        await self._ack(self.seq)

    def of_cursor(self, ack: Callable[[int], Awaitable[None]]) -> Self:
        """The same value, able to be acknowledged."""
        copy = self.model_copy()
        copy._ack = ack  # noqa: SLF001 - a copy of our own
        return copy


async def unpublished(tx: Tx) -> bool:
    """Whether there are rows without a place; costs an index look-up."""
    return (await tx.execute(select(EVENT.c.id).where(EVENT.c.seq.is_(None)).limit(1))).first() is not None


async def publish(tx: Tx) -> None:
    """Give every committed row that has none its place, in the order of ids."""
    if tx.dialect.name != "sqlite":
        await tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _PUBLISHING})
    last = (await tx.execute(select(func.coalesce(func.max(EVENT.c.seq), 0)))).scalar_one()
    numbered = (
        select(EVENT.c.id, func.row_number().over(order_by=EVENT.c.id).label("place"))
        .where(EVENT.c.seq.is_(None))
        .subquery()
    )
    await tx.execute(update(EVENT).where(EVENT.c.id == numbered.c.id).values(seq=last + numbered.c.place))


async def published(db: Database, after: int, *, limit: int = 500) -> list[Event]:
    """The events behind `after`, in order, once everything that is committed has its place."""
    async with db.read() as tx:
        new = await unpublished(tx)
    if new:
        await db.run(publish)
    async with db.read() as tx:
        return await read_after(tx, after, limit=limit)


async def read_after(tx: Tx, after: int, *, limit: int = 500) -> list[Event]:
    """The events behind `after`, in order."""
    rows = await tx.execute(select(EVENT).where(EVENT.c.seq > after).order_by(EVENT.c.seq).limit(limit))
    return [
        Event(
            seq=r.seq, at=datetime.fromtimestamp(r.at, UTC), kind=r.kind,
            thread=f"t{r.thread}" if r.thread is not None else None,
            message=f"m{r.message}" if r.message is not None else None,
            account=r.account, data=r.data,
        )
        for r in rows
    ]  # fmt: skip


async def last_seq(tx: Tx) -> int:
    """The place of the newest event that has one."""
    return int((await tx.execute(select(func.coalesce(func.max(EVENT.c.seq), 0)))).scalar_one())


async def read_cursor(tx: Tx, name: str) -> int:
    """How far the reader of this name has come; 0 for a new one."""
    return int((await tx.execute(select(cursor.c.seq).where(cursor.c.name == name))).scalar_one_or_none() or 0)


async def start_cursor(tx: Tx, name: str, seq: int) -> None:
    """Where a new reader begins; one that exists stays where it is."""
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    await tx.execute(dialect.insert(cursor).values(name=name, seq=seq).on_conflict_do_nothing())


async def move_cursor(tx: Tx, name: str, seq: int) -> None:
    """Remember that everything up to `seq` was handled. It never moves back."""
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(cursor).values(name=name, seq=seq)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["name"], set_={"seq": statement.excluded.seq}, where=cursor.c.seq < statement.excluded.seq
        )
    )
