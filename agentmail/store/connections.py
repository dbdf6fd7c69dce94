"""What all processes together use of an account's server. Every function takes its caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Table, select, update
from sqlalchemy.dialects import postgresql, sqlite

from .database import Tx
from .tables.base import core
from .tables.connections import GmailRow, SlotRow, TrafficRow

SLOT, TRAFFIC, GMAIL = core(SlotRow), core(TrafficRow), core(GmailRow)
_AT_ONCE = 5_000


def _insert(tx: Tx, table: Table) -> Any:
    return (sqlite if tx.dialect.name == "sqlite" else postgresql).insert(table)


# ---- connections ----------------------------------------------------------------------------------------------------


async def take_slot(
    tx: Tx, account: str, numbers: Sequence[int], holder: str, *, now: float, lease: float,
    dead: Callable[[str], bool],
) -> int | None:  # fmt: skip
    """The first of `numbers` that nobody holds, or whose holder is `dead` or silent; None when all are in use."""
    found = await tx.execute(select(SLOT).where(SLOT.c.account == account))
    rows = {row["number"]: row for row in found.mappings()}
    for number in numbers:
        values = {"account": account, "number": number, "holder": holder, "until": now + lease}
        if (row := rows.get(number)) is None:
            taken = await tx.execute(_insert(tx, SLOT).values(**values).on_conflict_do_nothing())
        elif not row["holder"] or row["until"] <= now or dead(row["holder"]):
            taken = await tx.execute(
                update(SLOT)
                .where(SLOT.c.account == account, SLOT.c.number == number, SLOT.c.holder == row["holder"],
                       SLOT.c.until == row["until"])
                .values(holder=holder, until=now + lease)
            )  # fmt: skip
        else:
            continue
        if taken.rowcount == 1:
            return number
    return None


async def renew_slots(tx: Tx, holders: Collection[str], *, now: float, lease: float) -> set[str]:
    """Renew what these still hold; those that do not are not in the answer."""
    renewed = await tx.execute(
        update(SLOT)
        .where(SLOT.c.holder.in_(holders), SLOT.c.until > now)
        .values(until=now + lease)
        .returning(SLOT.c.holder)
    )
    return set(renewed.scalars())


async def free_slot(tx: Tx, account: str, holder: str) -> None:
    await tx.execute(
        update(SLOT).where(SLOT.c.account == account, SLOT.c.holder == holder).values(holder="", until=0.0)
    )


# ---- bytes ----------------------------------------------------------------------------------------------------------


async def fetched(tx: Tx, account: str, day: str) -> int:
    """Bytes of mail that were fetched on that day."""
    query = select(TRAFFIC.c.fetched).where(TRAFFIC.c.account == account, TRAFFIC.c.day == day)
    return int((await tx.execute(query)).scalar_one_or_none() or 0)


async def count_fetched(tx: Tx, account: str, day: str, size: int) -> None:
    statement = _insert(tx, TRAFFIC).values(account=account, day=day, fetched=size)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["account", "day"], set_={"fetched": TRAFFIC.c.fetched + statement.excluded.fetched}
        )
    )


# ---- Gmail ----------------------------------------------------------------------------------------------------------


async def by_msgid(tx: Tx, account: str, msgids: Collection[str]) -> dict[str, int]:
    """X-GM-MSGID -> the stored message."""
    wanted, found = sorted(msgids), dict[str, int]()
    for start in range(0, len(wanted), _AT_ONCE):
        query = select(GMAIL.c.msgid, GMAIL.c.message).where(
            GMAIL.c.account == account, GMAIL.c.msgid.in_(wanted[start : start + _AT_ONCE])
        )
        found.update((msgid, message) for msgid, message in await tx.execute(query))
    return found


async def save_labels(
    tx: Tx, account: str, said: Mapping[str, tuple[str, Sequence[str], int]], *, only_known: bool = False
) -> None:
    """X-GM-MSGID -> (X-GM-THRID, labels, message). With `only_known` nothing new is written."""
    for msgid, (thrid, labels, message) in sorted(said.items()):
        here = (GMAIL.c.account == account, GMAIL.c.msgid == msgid)
        if only_known:
            await tx.execute(update(GMAIL).where(*here).values(labels=sorted(labels)))
            continue
        statement = _insert(tx, GMAIL).values(
            account=account, msgid=msgid, thrid=thrid, labels=sorted(labels), message=message
        )
        await tx.execute(
            statement.on_conflict_do_update(
                index_elements=["account", "msgid"], set_={"labels": statement.excluded.labels}
            )
        )


async def labels_of(tx: Tx, account: str, message: int) -> tuple[str, ...]:
    """The labels of a message on Gmail."""
    query = select(GMAIL.c.labels).where(GMAIL.c.account == account, GMAIL.c.message == message)
    found: set[str] = set()
    for (labels,) in await tx.execute(query):
        found.update(labels)
    return tuple(sorted(found))
