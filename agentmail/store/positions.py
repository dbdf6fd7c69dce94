"""How far each mailbox is read. Every function takes its caller's transaction: position and mail commit together."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from sqlalchemy import Table, Update, and_, bindparam, delete, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ..errors import Conflict
from .database import Tx
from .direct import Statement, among, listed
from .tables.base import core
from .tables.mailboxes import ConnectivityRow, DepartedRow, MailboxRow, SkippedRow
from .tables.threads import ALIAS, LOCATION, MESSAGE

MAILBOX, SKIPPED, DEPARTED, CONNECTIVITY = core(MailboxRow), core(SkippedRow), core(DepartedRow), core(ConnectivityRow)
_CHUNK = 5_000
T = TypeVar("T")


class LostLease(Conflict):
    """Another process watches this mailbox now; nothing was written."""


@dataclass(frozen=True, slots=True)
class Position:
    """The row of one mailbox; see `tables.mailboxes.MailboxRow`."""

    account: str
    name: str
    uidvalidity: int = 0
    floor: int = 0
    history: int = 0
    low: int = 0
    uidnext: int = 0
    modseq: int | None = None
    messages: int = 0
    first_at: float = 0.0
    synced_at: float = 0.0
    reconciled_at: float = 0.0
    resets: tuple[float, ...] = ()
    parked_until: float = 0.0
    failures: int = 0
    error: str = ""
    holder: str = ""
    lease_until: float = 0.0
    epoch: int = 0


_COLUMNS = [f.name for f in fields(Position)]


def _insert(tx: Tx, table: Table) -> Any:
    return (sqlite if tx.dialect.name == "sqlite" else postgresql).insert(table)


def _position(row: Any) -> Position:
    values = {name: row[name] for name in _COLUMNS}
    return Position(**{**values, "resets": tuple(values["resets"])})


async def positions(tx: Tx, account: str) -> list[Position]:
    """All mailboxes of an account that were ever read."""
    found = await tx.execute(select(MAILBOX).where(MAILBOX.c.account == account).order_by(MAILBOX.c.name))
    return [_position(row) for row in found.mappings()]


async def position(tx: Tx, account: str, name: str) -> Position | None:
    found = await tx.execute(select(MAILBOX).where(MAILBOX.c.account == account, MAILBOX.c.name == name))
    row = found.mappings().one_or_none()
    return _position(row) if row is not None else None


async def begin(tx: Tx, new: Position) -> None:
    """Write the first position of a mailbox; of several processes that come first together, one's stands."""
    values = {name: getattr(new, name) for name in _COLUMNS} | {"resets": list(new.resets)}
    await tx.execute(_insert(tx, MAILBOX).values(values).on_conflict_do_nothing())
    # A lease may have made the row before anybody looked into the mailbox.
    kept = {"holder", "lease_until", "epoch", "account", "name"}
    await tx.execute(
        update(MAILBOX)
        .where(MAILBOX.c.account == new.account, MAILBOX.c.name == new.name, MAILBOX.c.first_at == 0.0)
        .values({name: value for name, value in values.items() if name not in kept})
    )


async def save(
    tx: Tx, account: str, name: str, *, uidvalidity: int, epoch: int | None = None,
    new_uidvalidity: int | None = None, **values: object,
) -> None:  # fmt: skip
    """Write what is known now, if the mailbox is still under `uidvalidity` (and the lease `epoch`, when given).

    Raises:
        LostLease: it is not. The caller's transaction must not commit.
    """
    row = update(MAILBOX).where(
        MAILBOX.c.account == account, MAILBOX.c.name == name, MAILBOX.c.uidvalidity == uidvalidity
    )
    if epoch is not None:
        row = row.where(MAILBOX.c.epoch == epoch)
    if new_uidvalidity is not None:
        values["uidvalidity"] = new_uidvalidity
    done = await tx.execute(row.values(**values))
    if done.rowcount != 1:
        raise _lost(account, name)


def _lost(account: str, name: str) -> LostLease:
    return LostLease(f"mailbox {name!r} of {account}: another process reads it now; nothing was written")


async def fence(tx: Tx, account: str, name: str, *, epoch: int) -> None:
    """Nothing else of this transaction counts unless the mailbox is still held under this lease.

    Raises:
        LostLease: it is not. The caller's transaction must not commit.
    """
    mine = (MAILBOX.c.account == account, MAILBOX.c.name == name, MAILBOX.c.epoch == epoch)
    if (await tx.execute(update(MAILBOX).where(*mine).values(epoch=epoch))).rowcount != 1:
        raise _lost(account, name)


async def advance(
    tx: Tx, account: str, name: str, *, uidvalidity: int, low: int, epoch: int | None = None, history: int | None = None
) -> None:
    """Move `low` up, never down, if the mailbox is still under this uidvalidity (and epoch and history, when given).

    Raises:
        LostLease: it is not. The caller's transaction must not commit.
    """
    done = await _ADVANCE.run(
        tx, box_account=account, box=name, validity=uidvalidity, to=low, at_epoch=epoch, at_history=history
    )
    if done.changed != 1:
        raise _lost(account, name)


def _advance(postgres: bool) -> Update:
    low = (func.greatest if postgres else func.max)(MAILBOX.c.low, bindparam("to", type_=MAILBOX.c.low.type))
    return (
        update(MAILBOX)
        .where(MAILBOX.c.account == bindparam("box_account"), MAILBOX.c.name == bindparam("box"),
               MAILBOX.c.uidvalidity == bindparam("validity"),
               MAILBOX.c.epoch == func.coalesce(bindparam("at_epoch", type_=MAILBOX.c.epoch.type), MAILBOX.c.epoch),
               MAILBOX.c.history == func.coalesce(bindparam("at_history", type_=MAILBOX.c.history.type),
                                                  MAILBOX.c.history))
        .values(low=low)
    )  # fmt: skip


_ADVANCE = Statement(_advance)


async def known_uids(tx: Tx, account: str, mailbox: str, uidvalidity: int, low: int, high: int) -> set[int]:
    """The uids in this range that are filed, or settled as skipped."""
    known: set[int] = set()
    for table in (LOCATION, SKIPPED):
        query = select(table.c.uid).where(
            table.c.account == account, table.c.mailbox == mailbox, table.c.uidvalidity == uidvalidity,
            table.c.uid >= low, table.c.uid <= high,
        )  # fmt: skip
        if table is SKIPPED:
            query = query.where(SKIPPED.c.settled)
        known.update((await tx.execute(query)).scalars())
    return known


async def known_ids(
    tx: Tx, account: str, mailbox: str, uidvalidity: int, *, below: int, most: int
) -> dict[int, set[str]]:
    """The highest uids below one that are filed -> the Message-IDs, aliases too, of what is filed there; those without
    are left out.
    """
    query = (
        select(LOCATION.c.uid, MESSAGE.c.message_id, ALIAS.c.message_id.label("alias"))
        .join(MESSAGE, MESSAGE.c.id == LOCATION.c.message)
        .join(ALIAS, ALIAS.c.message == MESSAGE.c.id, isouter=True)
        .where(LOCATION.c.account == account, LOCATION.c.mailbox == mailbox, LOCATION.c.uidvalidity == uidvalidity)
        .where(LOCATION.c.uid < below)
        .order_by(LOCATION.c.uid.desc())
        .limit(most)
    )
    found: dict[int, set[str]] = {}
    for uid, message_id, alias in await tx.execute(query):
        found.setdefault(uid, set()).update(x for x in (message_id, alias) if x)
    return {uid: ids for uid, ids in found.items() if ids}


async def departed_uids(tx: Tx, account: str, mailbox: str, uidvalidity: int, low: int = 0) -> set[int]:
    query = select(DEPARTED.c.uid).where(
        DEPARTED.c.account == account, DEPARTED.c.mailbox == mailbox, DEPARTED.c.uidvalidity == uidvalidity,
        DEPARTED.c.uid >= low,
    )  # fmt: skip
    return set((await tx.execute(query)).scalars())


async def depart(tx: Tx, account: str, mailbox: str, uidvalidity: int, uids: Iterable[int], *, at: float) -> None:
    """Note that these are not in the mailbox any more."""
    rows = [
        {"account": account, "mailbox": mailbox, "uidvalidity": uidvalidity, "uid": uid, "at": at}
        for uid in sorted(uids)
    ]
    if rows:
        await tx.execute(_insert(tx, DEPARTED).on_conflict_do_nothing(), rows)


async def come_back(tx: Tx, account: str, mailbox: str, uidvalidity: int, uids: Collection[int]) -> None:
    """Note that these were only out of sight."""
    for some in _chunks(sorted(uids)):
        await tx.execute(
            delete(DEPARTED).where(
                DEPARTED.c.account == account, DEPARTED.c.mailbox == mailbox,
                DEPARTED.c.uidvalidity == uidvalidity, DEPARTED.c.uid.in_(some),
            )
        )  # fmt: skip


async def forget_from(tx: Tx, account: str, mailbox: str, uidvalidity: int, uid: int) -> None:
    """Forget locations from `uid` on: the server gives those numbers to other messages now."""
    for table in (LOCATION, SKIPPED, DEPARTED):
        await tx.execute(
            delete(table).where(
                table.c.account == account, table.c.mailbox == mailbox, table.c.uidvalidity == uidvalidity,
                table.c.uid >= uid,
            )
        )  # fmt: skip


async def skip(
    tx: Tx, account: str, mailbox: str, uidvalidity: int, uid: int, *, reason: str, tries: int, at: float
) -> bool:
    """Count one failed attempt at a uid; whether it is settled now, after `tries` of them."""
    values = {"account": account, "mailbox": mailbox, "uidvalidity": uidvalidity, "uid": uid, "attempts": 1,
              "settled": tries <= 1, "reason": reason[:500], "at": at}  # fmt: skip
    statement = _insert(tx, SKIPPED).values(values)
    statement = statement.on_conflict_do_update(
        index_elements=["account", "mailbox", "uidvalidity", "uid"],
        set_={"attempts": SKIPPED.c.attempts + 1, "settled": SKIPPED.c.attempts + 1 >= tries,
              "reason": statement.excluded.reason, "at": statement.excluded.at},
    ).returning(SKIPPED.c.settled)  # fmt: skip
    return bool((await tx.execute(statement)).scalar_one())


async def attempts(tx: Tx, account: str, mailbox: str, uidvalidity: int, uid: int) -> int:
    query = select(SKIPPED.c.attempts).where(
        SKIPPED.c.account == account, SKIPPED.c.mailbox == mailbox, SKIPPED.c.uidvalidity == uidvalidity,
        SKIPPED.c.uid == uid,
    )  # fmt: skip
    return int((await tx.execute(query)).scalar_one_or_none() or 0)


async def unskip(tx: Tx, account: str, mailbox: str, uidvalidity: int, uids: Collection[int]) -> None:
    """They are filed after all."""
    for some in _chunks(sorted(uids)):
        await _UNSKIP.run(tx, account=account, mailbox=mailbox, uidvalidity=uidvalidity, uids=listed(tx, some))


_UNSKIP = Statement(
    lambda postgres: delete(SKIPPED).where(
        SKIPPED.c.account == bindparam("account"), SKIPPED.c.mailbox == bindparam("mailbox"),
        SKIPPED.c.uidvalidity == bindparam("uidvalidity"), among(SKIPPED.c.uid, "uids", postgres=postgres),
    )
)  # fmt: skip


async def give_skipped_another_chance(tx: Tx, account: str, mailbox: str, *, before: int) -> None:
    """Ask again for what failed fewer than `before` times in all."""
    await tx.execute(
        update(SKIPPED)
        .where(SKIPPED.c.account == account, SKIPPED.c.mailbox == mailbox, SKIPPED.c.attempts < before)
        .values(settled=False)
    )


async def skipped(tx: Tx, account: str) -> list[dict[str, Any]]:
    """What is on the server and not in the store, with the reason."""
    query = select(SKIPPED).where(SKIPPED.c.account == account).order_by(SKIPPED.c.mailbox, SKIPPED.c.uid)
    return [dict(row) for row in (await tx.execute(query)).mappings()]


# ---- flags ----------------------------------------------------------------------------------------------------------


async def save_flags(
    tx: Tx, account: str, mailbox: str, uidvalidity: int, flags: Mapping[int, Sequence[str]]
) -> list[int]:
    """Write flags where they differ; the uids that changed. `\\Recent` is not a flag to keep (RFC 9051 drops it)."""
    changed: list[dict[str, Any]] = []
    for some in _chunks(sorted(flags)):
        query = select(LOCATION.c.uid, LOCATION.c.flags).where(
            LOCATION.c.account == account, LOCATION.c.mailbox == mailbox, LOCATION.c.uidvalidity == uidvalidity,
            LOCATION.c.uid.in_(some),
        )  # fmt: skip
        for uid, before in await tx.execute(query):
            now = sorted(set(flags[uid]) - {"\\Recent"})
            if now != sorted(set(before) - {"\\Recent"}):
                changed.append({"which": uid, "now": now})
    if changed:
        statement = update(LOCATION).where(
            LOCATION.c.account == account, LOCATION.c.mailbox == mailbox, LOCATION.c.uidvalidity == uidvalidity,
            LOCATION.c.uid == bindparam("which"),
        )  # fmt: skip
        await tx.execute(statement.values(flags=bindparam("now", type_=LOCATION.c.flags.type)), changed)
    return [row["which"] for row in changed]


async def places_of(tx: Tx, account: str, message: int) -> list[tuple[str, int, int]]:
    """Where a message lies now: `(mailbox, uidvalidity, uid)` under the mailbox's present uidvalidity."""
    gone = exists().where(
        DEPARTED.c.account == LOCATION.c.account, DEPARTED.c.mailbox == LOCATION.c.mailbox,
        DEPARTED.c.uidvalidity == LOCATION.c.uidvalidity, DEPARTED.c.uid == LOCATION.c.uid,
    )  # fmt: skip
    query = (
        select(LOCATION.c.mailbox, LOCATION.c.uidvalidity, LOCATION.c.uid)
        .join(MAILBOX, and_(MAILBOX.c.account == LOCATION.c.account, MAILBOX.c.name == LOCATION.c.mailbox,
                            MAILBOX.c.uidvalidity == LOCATION.c.uidvalidity))
        .where(LOCATION.c.account == account, LOCATION.c.message == message, ~gone)
        .order_by(LOCATION.c.mailbox, LOCATION.c.uid)
    )  # fmt: skip
    return [(box, validity, uid) for box, validity, uid in await tx.execute(query)]


async def flags_of(tx: Tx, account: str, message: int) -> set[str]:
    """The flags of a message, in all places where it ever lay."""
    query = select(LOCATION.c.flags).where(LOCATION.c.account == account, LOCATION.c.message == message)
    return {flag for (flags,) in await tx.execute(query) for flag in flags}


async def copies(tx: Tx, account: str, mailbox: str, uidvalidity: int) -> dict[tuple[str, int], list[int]]:
    """Messages that lay in this mailbox under an old uidvalidity, by `(Message-ID, size)`."""
    query = (
        select(MESSAGE.c.message_id, MESSAGE.c.size, MESSAGE.c.id)
        .join(LOCATION, LOCATION.c.message == MESSAGE.c.id)
        .where(LOCATION.c.account == account, LOCATION.c.mailbox == mailbox, LOCATION.c.uidvalidity == uidvalidity)
    )
    found: dict[tuple[str, int], list[int]] = {}
    for message_id, size, message in await tx.execute(query):
        found.setdefault((message_id, size), []).append(message)
    return found


async def locate(
    tx: Tx, account: str, mailbox: str, uidvalidity: int, places: Mapping[int, tuple[int, Sequence[str]]]
) -> None:
    """Give known messages a location: uid -> (message, flags)."""
    rows = [
        {"account": account, "mailbox": mailbox, "uidvalidity": uidvalidity, "uid": uid, "message": message,
         "flags": list(flags)}
        for uid, (message, flags) in sorted(places.items())
    ]  # fmt: skip
    if rows:
        await tx.execute(_insert(tx, LOCATION).on_conflict_do_nothing(), rows)


# ---- leases ---------------------------------------------------------------------------------------------------------


async def take_lease(tx: Tx, account: str, name: str, holder: str, *, now: float, lease: float) -> int | None:
    """Become, or stay, the one that watches a mailbox; the epoch, or None while another one does."""
    blank = Position(account=account, name=name)
    values = {column: getattr(blank, column) for column in _COLUMNS} | {"resets": []}
    await tx.execute(_insert(tx, MAILBOX).values(values).on_conflict_do_nothing())
    mine = and_(MAILBOX.c.account == account, MAILBOX.c.name == name)
    renewed = await tx.execute(
        update(MAILBOX)
        .where(mine, MAILBOX.c.holder == holder, MAILBOX.c.lease_until > now)
        .values(lease_until=now + lease)
        .returning(MAILBOX.c.epoch)
    )
    if (epoch := renewed.scalar_one_or_none()) is not None:
        return int(epoch)
    taken = await tx.execute(
        update(MAILBOX)
        .where(mine, or_(MAILBOX.c.holder == "", MAILBOX.c.lease_until <= now))
        .values(holder=holder, lease_until=now + lease, epoch=MAILBOX.c.epoch + 1)
        .returning(MAILBOX.c.epoch)
    )
    epoch = taken.scalar_one_or_none()
    return int(epoch) if epoch is not None else None


async def renew_leases(tx: Tx, holder: str, *, now: float, lease: float) -> dict[tuple[str, str], int]:
    """Renew what this process still holds; (account, mailbox) -> epoch. What has run out stays lost."""
    renewed = await tx.execute(
        update(MAILBOX)
        .where(MAILBOX.c.holder == holder, MAILBOX.c.lease_until > now)
        .values(lease_until=now + lease)
        .returning(MAILBOX.c.account, MAILBOX.c.name, MAILBOX.c.epoch)
    )
    return {(account, name): epoch for account, name, epoch in renewed}


async def release_lease(tx: Tx, account: str, name: str, holder: str) -> None:
    await tx.execute(
        update(MAILBOX)
        .where(MAILBOX.c.account == account, MAILBOX.c.name == name, MAILBOX.c.holder == holder)
        .values(holder="", lease_until=0.0)
    )


# ---- whether the server lets us in ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connectivity:
    """See `tables.mailboxes.ConnectivityRow`."""

    state: str = "ok"
    failures: int = 0
    until: float = 0.0
    secret: str = ""
    error: str = ""
    at: float = 0.0


async def connectivity(tx: Tx, account: str) -> Connectivity:
    row = (await tx.execute(select(CONNECTIVITY).where(CONNECTIVITY.c.account == account))).mappings().one_or_none()
    return Connectivity(**{f.name: row[f.name] for f in fields(Connectivity)}) if row is not None else Connectivity()


async def save_connectivity(tx: Tx, account: str, now: Connectivity) -> None:
    values = {f.name: getattr(now, f.name) for f in fields(Connectivity)}
    statement = _insert(tx, CONNECTIVITY).values(account=account, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=["account"], set_=values))


def fingerprint(secret: bytes, credentials: str) -> str:
    """What tells other credentials from these, and says nothing about them to who lacks the store's secret."""
    return hmac.new(secret, b"credentials\0" + credentials.encode(), hashlib.sha256).hexdigest()[:32]


def _chunks(values: Sequence[T]) -> Iterable[Sequence[T]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
