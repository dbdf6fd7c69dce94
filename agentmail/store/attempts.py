"""What a worker writes while it sends: leases, markers, ends. Each is one statement for any number of rows.

These run once or twice for every mail, so they are SQL text that the drivers keep prepared; building and compiling the
same expressions each time took half of the worker's CPU. The rows come as one JSON value, which both databases read.
Every change is a compare-and-set: a row that somebody else took over meanwhile stays theirs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, select, update

from .database import Tx
from .submissions import RecipientState, Submission, read
from .tables.outbox import RECIPIENT, SUBMISSION

S, R = SUBMISSION.c, RECIPIENT.c


@dataclass(frozen=True, slots=True)
class Result:
    """What an attempt came to, for one row that this worker holds."""

    id: int
    epoch: int
    state: str
    code: int | None = None
    error: str = ""
    reply: str = ""
    next_at: float | None = None
    sent_at: float | None = None
    recipients: Mapping[str, RecipientState] = field(default_factory=dict)
    whole: bool = False
    """Every recipient was taken."""


async def claim(
    tx: Tx, account: str, *, now: float, lease: float, limit: int, ids: Collection[int] = ()
) -> list[Submission]:
    """queued -> sending, for rows that are due; each is this caller's until the lease ends. The longest due first.

    `attempts` counts before anything is dialled, so that a message that kills its worker is not tried for ever.
    """
    due = select(S.id).where(S.account == account, S.state == "queued", S.next_at <= now)
    if ids:
        due = due.where(S.id.in_(sorted(ids)))
    due = due.order_by(S.next_at, S.id).limit(limit).with_for_update(skip_locked=True)
    taken = await tx.execute(
        update(SUBMISSION)
        .where(S.id.in_(due.scalar_subquery()), S.state == "queued")
        .values(state="sending", epoch=S.epoch + 1, attempts=S.attempts + 1, next_at=now + lease, marker_at=None)
        .returning(S.id)
    )
    return await read(tx, [int(i) for i in taken.scalars()])


async def renew(tx: Tx, held: Iterable[tuple[int, int]], *, until: float) -> set[int]:
    """Move the end of the leases; which of them are still held."""
    return await _held(tx, _RENEW, held, until)


async def mark(tx: Tx, held: Iterable[tuple[int, int]], *, now: float, until: float) -> set[int]:
    """The bodies are about to go. Which of them may: a row that is missing was taken over."""
    return await _held(tx, _MARK, held, until, now)


async def settle(tx: Tx, results: Sequence[Result]) -> None:
    """Write how attempts ended. A row that somebody else took over meanwhile stays theirs."""
    rows = [[r.id, r.epoch, r.state, r.code, r.error, r.reply, r.next_at, r.sent_at] for r in sorted(results, key=_id)]
    await tx.exec_driver_sql(_SETTLE[tx.dialect.name], (_json(rows),))
    changed = [
        {"b_id": r.id, "b_address": s.address, "b_state": s.state, "b_code": s.code, "b_text": s.text}
        for r in results
        for s in r.recipients.values()
        if not r.whole
    ]
    if changed:
        await tx.execute(
            update(RECIPIENT)
            .where(R.submission == bindparam("b_id"), R.address == bindparam("b_address"), R.state == "pending")
            .values(state=bindparam("b_state"), code=bindparam("b_code"), text=bindparam("b_text")),
            changed,
        )


async def _held(tx: Tx, statement: Mapping[str, str], held: Iterable[tuple[int, int]], *values: float) -> set[int]:
    done = await tx.exec_driver_sql(statement[tx.dialect.name], (_json(sorted(held)), *values))
    return {int(i) for (i,) in done}


def _id(result: Result) -> int:
    return result.id


def _json(rows: Any) -> str:
    return json.dumps(rows, separators=(",", ":")).replace("\\u0000", "")  # PostgreSQL's jsonb takes no NUL


def _both(statement: str, **columns: str) -> dict[str, str]:
    """The statement for each dialect; `GIVEN` is the list of rows in the first parameter, with these columns."""
    lite = ", ".join(f"json_extract(value, '$[{i}]') AS {name}" for i, name in enumerate(columns))
    post = ", ".join(f"(value ->> {i})::{kind} AS {name}" for i, (name, kind) in enumerate(columns.items()))
    given = {
        "sqlite": f"(SELECT {lite} FROM json_each($1)) AS g",  # noqa: S608 - names of columns, written below
        "postgresql": f"(SELECT {post} FROM jsonb_array_elements($1::jsonb)) AS g",  # noqa: S608
    }
    written = {name: statement.replace("GIVEN", rows) for name, rows in given.items()}
    return written | {"sqlite": re.sub(r"\$(\d)", r"?\1", written["sqlite"])}


_RENEW = _both(
    "UPDATE submission SET next_at = CAST($2 AS double precision) FROM GIVEN "
    "WHERE submission.id = g.i AND submission.epoch = g.e AND submission.state = 'sending' RETURNING submission.id",
    i="bigint", e="bigint",
)  # fmt: skip
_MARK = _both(
    "UPDATE submission SET marker_at = CAST($3 AS double precision), next_at = CAST($2 AS double precision) FROM GIVEN "
    "WHERE submission.id = g.i AND submission.epoch = g.e AND submission.state = 'sending' "
    "AND submission.next_at > CAST($3 AS double precision) RETURNING submission.id",
    i="bigint", e="bigint",
)  # fmt: skip
_SETTLE = _both(
    # A reply of 250 is knowledge, and outlives the lease: it keeps others from sending the mail again.
    # A failed reply leaves room for another one.
    "UPDATE submission SET state = g.s, code = g.c, error = g.t, reply = g.r, next_at = g.n, sent_at = g.at, "
    "marker_at = CASE WHEN g.s = 'queued' THEN NULL ELSE marker_at END, "
    "generation = CASE WHEN g.s = 'failed' THEN NULL ELSE generation END "
    "FROM GIVEN WHERE submission.id = g.i AND ((submission.state = 'sending' AND submission.epoch = g.e) "
    "OR (g.s = 'sent' AND submission.state IN ('unknown', 'queued')))",
    i="bigint", e="bigint", s="text", c="integer", t="text", r="text", n="double precision", at="double precision",
)  # fmt: skip
