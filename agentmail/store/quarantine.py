"""Mail that could not be filed: kept with its bytes and the reason, listed, tried again. It never blocks its batch."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import DBAPIError

from ..errors import NotFound
from ..message.parse import parse
from ..threads.models import Filed, Why
from ..threads.tree import moment
from .arrivals import Arrival, Location
from .database import Tx
from .tables.threads import QUARANTINE

REFUSED = (DBAPIError, ValueError, OverflowError, UnicodeError)
"""What a row that no database takes looks like. A lost connection or race is not one of them: see `is_refusal`."""


_LONGEST_ID = 19
"""Characters: a higher number is none of a database."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One mail that waits for a better agentmail."""

    id: str
    """Such as `"q3"`."""
    account: str
    reason: str
    attempts: int
    at: datetime | None
    """When it was tried last."""
    size: int


def is_refusal(exc: BaseException) -> bool:
    """Whether the database refused this row, as against: was busy, or went away."""
    if not isinstance(exc, DBAPIError):
        return isinstance(exc, REFUSED)
    if exc.connection_invalidated:
        return False
    state = str(getattr(exc.orig, "sqlstate", "") or "")
    if state:
        return state[:2] in {"22", "23", "54"}  # data exception, integrity constraint, program limit exceeded
    return type(exc).__name__ in {"DataError", "IntegrityError", "InterfaceError", "StatementError"}


async def keep(tx: Tx, account: str, arrival: Arrival, exc: BaseException, *, now: float) -> Filed:
    """Put one mail aside. The same bytes that come the same way again are the same row, with one attempt more."""
    reason = f"{type(exc).__name__}: {exc}".partition("\n")[0][:500].replace("\x00", "␀")
    how = {
        "location": asdict(arrival.location) if arrival.location else None, "flags": list(arrival.flags),
        "fresh": arrival.fresh, "outgoing": arrival.outgoing, "answers": arrival.answers,
        "also_to": list(arrival.also_to),
    }  # fmt: skip
    reason = reason.encode("utf-8", "backslashreplace").decode()
    digest = hashlib.sha256(arrival.raw).hexdigest() if arrival.raw else ""
    number = await _tried_before(tx, account, digest, how, reason, now=now) if digest else None
    if number is None:
        values = {
            "account": account, "reason": reason, "arrival": how, "attempts": 1, "at": now,
            "data": arrival.raw or b"", "digest": digest,
        }  # fmt: skip
        key = (await tx.execute(insert(QUARANTINE).values(values))).inserted_primary_key
        number = key[0] if key else 0
    return Filed(
        id=f"q{number}", thread="", new=False,
        why=Why(rule="quarantined", confidence="certain", note=reason),
    )  # fmt: skip


async def _tried_before(
    tx: Tx, account: str, digest: str, how: dict[str, Any], reason: str, *, now: float
) -> int | None:
    """The row of a mail that failed before in the same way of arriving, with one attempt more."""
    query = select(QUARANTINE.c.id, QUARANTINE.c.arrival).where(
        QUARANTINE.c.account == account, QUARANTINE.c.digest == digest
    )
    found = next((row.id for row in await tx.execute(query.order_by(QUARANTINE.c.id)) if row.arrival == how), None)
    if found is not None:
        again = update(QUARANTINE).where(QUARANTINE.c.id == found)
        await tx.execute(again.values(attempts=QUARANTINE.c.attempts + 1, reason=reason, at=now))
    return found


async def listed(tx: Tx, *, account: str | None, limit: int) -> list[Quarantined]:
    query = select(QUARANTINE).order_by(QUARANTINE.c.id).limit(limit)
    if account is not None:
        query = query.where(QUARANTINE.c.account == account)
    return [
        Quarantined(f"q{r.id}", r.account, r.reason, r.attempts, moment(r.at), len(r.data))
        for r in await tx.execute(query)
    ]


async def taken_out(tx: Tx, id: str) -> tuple[str, Arrival, int]:  # noqa: A002
    """The account, the arrival (parsed anew) and the attempts behind `"q3"`; its row goes with this transaction."""
    row: Any = None
    if id[:1] == "q" and id[1:].isascii() and id[1:].isdigit() and len(id) <= _LONGEST_ID:
        # Locked, so that of two who try again at once one files the mail and the other finds it gone.
        query = select(QUARANTINE).where(QUARANTINE.c.id == int(id[1:])).with_for_update()
        row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"there is no quarantined mail {id[:80]!r} in this store: ids look like q3")
    how = row.arrival
    arrival = Arrival(
        parse(bytes(row.data)), bytes(row.data), Location(**how["location"]) if how["location"] else None,
        tuple(how["flags"]), how["fresh"], how["outgoing"], how["answers"], tuple(how["also_to"]),
    )  # fmt: skip
    await tx.execute(delete(QUARANTINE).where(QUARANTINE.c.id == row.id))
    return row.account, arrival, row.attempts


async def count_attempts(tx: Tx, id: str, attempts: int) -> None:  # noqa: A002
    """Remember how often a mail was tried, across rows."""
    await tx.execute(update(QUARANTINE).where(QUARANTINE.c.id == int(id[1:])).values(attempts=attempts))
