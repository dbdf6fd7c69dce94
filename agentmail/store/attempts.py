"""What a worker writes while it sends: leases, markers, ends. Each is one statement for any number of rows.

These run once or twice for every mail, so they are SQL text that the drivers keep prepared; building and compiling the
same expressions each time took half of the worker's CPU. The rows come as one JSON value, which both databases read.
Every change is a compare-and-set: a row that somebody else took over meanwhile stays theirs.

`write` is for the common case, markers and ends that bring nothing else with them: one transaction past SQLAlchemy on
SQLite, one statement on PostgreSQL. `mark` and `settle` are the same within a larger transaction.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, select, update

from .database import CLOCKS, Database, Tx
from .submissions import COLUMNS, RecipientState, Submission, read
from .tables.outbox import RECIPIENT, SUBMISSION

S, R = SUBMISSION.c, RECIPIENT.c

SMALL = 2**20
"""Bytes that are read in the event loop."""


@dataclass(frozen=True, slots=True)
class Result:
    """What an attempt came to, for one row that this worker holds."""

    id: int
    epoch: int
    state: str
    code: int | None = None
    error: str = ""
    reply: str = ""
    delay: float | None = None
    """Seconds until the next attempt or look; None: there is none."""
    recipients: Mapping[str, RecipientState] = field(default_factory=dict)
    whole: bool = False
    """Every recipient was taken."""


async def claim(
    tx: Tx, account: str, *, now: float, lease: float, limit: int, id_: int | None = None
) -> list[Submission]:
    """queued -> sending, for rows that are due; each is this caller's until the lease ends. The longest due first.

    `attempts` counts before anything is dialled, so that a message that kills its worker is not tried for ever.
    """
    due = select(S.id).where(S.account == account, S.state == "queued", S.next_at <= now)
    if id_ is not None:
        due = due.where(S.id == id_)
    due = due.order_by(S.next_at, S.id).limit(limit).with_for_update(skip_locked=True)
    taken = await tx.execute(
        update(SUBMISSION)
        .where(S.id.in_(due.scalar_subquery()), S.state == "queued")
        .values(state="sending", epoch=S.epoch + 1, attempts=S.attempts + 1, next_at=now + lease, marker_at=None)
        .returning(S.id)
    )
    return await read(tx, [int(i) for i in taken.scalars()])


async def claim_due(
    db: Database, account: str, *, lease: float, limit: int, id_: int | None = None
) -> tuple[list[Submission], bool]:
    """`claim` past SQLAlchemy, all due or one; (rows, whether there are none because something stops the account)."""
    kind, given = "due" if id_ is None else "one", db.given_now()

    def sqlite(connection: sqlite3.Connection) -> tuple[list[Submission], bool]:
        now = _now(connection) if given is None else given
        values = (account, now, lease, limit, id_)[: 4 + (id_ is not None)]
        taken = _json([i for (i,) in connection.execute(_CLAIM["sqlite"][kind], values).fetchall()])
        if taken == "[]":
            return [], bool(connection.execute(_STOPPED["sqlite"], (account, now)).fetchall())
        return _rows(connection.execute(_READ["sqlite"], (taken,)).fetchall()), False

    async def postgresql(connection: Any) -> tuple[list[Submission], bool]:
        values = (account, given, lease, limit, id_)[: 4 + (id_ is not None)]
        taken = [i for (i,) in await connection.fetch(_CLAIM["postgresql"][kind], *values)]
        if not taken:
            return [], bool(await connection.fetch(_STOPPED["postgresql"], account, given))
        return _rows(await connection.fetch(_READ["postgresql"], _json(taken))), False

    return await db.shortly(sqlite, postgresql)


async def bodies(db: Database, rows: Sequence[Submission]) -> dict[int, bytes] | None:
    """The exact bytes of a few small ones, past SQLAlchemy; None where it is for `submissions.bodies`."""
    if db.watched or sum(row.size for row in rows) > SMALL:
        return None
    ids = _json(sorted(row.id for row in rows))
    if db.sqlite:
        found = db.glance(_BODIES["sqlite"], (ids,))
        return None if found is None else dict(found)

    def never(_: sqlite3.Connection) -> list[Any]:
        raise AssertionError("this is PostgreSQL")

    async def postgresql(connection: Any) -> list[Any]:
        return list(await connection.fetch(_BODIES["postgresql"], ids))

    return dict(await db.shortly(never, postgresql))


def _now(connection: sqlite3.Connection) -> float:
    ((now,),) = connection.execute(_CLOCK).fetchall()
    return float(now)


def _rows(found: Iterable[Sequence[Any]]) -> list[Submission]:
    """Submissions of rows as `_READ` gives them: JSON is text, the recipients come last."""
    rows = []
    for row in found:
        values = dict(zip(COLUMNS, row, strict=False))
        values["reasons"] = _loaded(values["reasons"])
        values["at_most_once"], values["copied"] = bool(values["at_most_once"]), bool(values["copied"])
        people = tuple(RecipientState(*person) for person in _loaded(row[-1]))
        rows.append(Submission(**values, recipients=people))
    return rows


def _loaded(value: Any) -> Any:
    """JSON, which SQLAlchemy's connections of asyncpg have read already."""
    return json.loads(value) if isinstance(value, str) else value


async def renew(tx: Tx, held: Iterable[tuple[int, int]], *, until: float) -> set[int]:
    """Move the end of the leases; which of them are still held."""
    done = await tx.exec_driver_sql(_RENEW[tx.dialect.name], (_json(sorted(held)), until))
    return {int(i) for (i,) in done}


async def write(
    db: Database,
    marks: Sequence[tuple[int, int]],
    ends: Sequence[tuple[Result, Mapping[str, Any] | None]],
) -> set[int]:
    """Markers, and ends with their events, that come at the same moment; which of the marked may go.

    No disk is waited for, on neither database. A crash of PostgreSQL that takes a marker back is noticed (see
    `submissions.notice_crash`); whoever promises an end calls `Database.durable` first.
    """
    marked, given = _json(sorted(marks)), db.given_now()
    settled = _json([_settled(r) for r in sorted((r for r, _ in ends), key=_id)])

    def sqlite(connection: sqlite3.Connection) -> set[int]:
        now = _now(connection) if given is None else given
        alive = {i for (i,) in connection.execute(_MARK["sqlite"], (marked, now)).fetchall()} if marks else set()
        if ends:
            done = {i for (i,) in connection.execute(_SETTLE["sqlite"], (settled, now)).fetchall()}
            connection.executemany(_TELL, [
                (now, e["kind"], e["thread"], e["message"], e["account"], json.dumps(e["data"]))
                for r, e in ends if e is not None and r.id in done
            ])  # fmt: skip
        return alive

    async def postgresql(connection: Any) -> set[int]:
        told = _json([{"of": r.id, **e} for r, e in ends if e is not None])
        alive = {i for (i,) in await connection.fetch(_WRITE, marked, settled, told, given)}
        db.owes_disk = True
        return alive

    return await db.shortly(sqlite, postgresql)


async def mark(
    tx: Tx, held: Iterable[tuple[int, int]], *, now: float, people: Mapping[int, Iterable[RecipientState]] | None = None
) -> set[int]:
    """The bodies are about to go. Which of them may: a row that is missing was taken over.

    Args:
        people: By row, recipients whom the server refused, and then the others too: who dies now leaves word.
    """
    done = await tx.exec_driver_sql(_MARK[tx.dialect.name], (_json(sorted(held)), now))
    alive = {int(i) for (i,) in done}
    await _tell(tx, [(i, one) for i in sorted(alive & (people or {}).keys()) for one in (people or {})[i]])
    return alive


async def settle(tx: Tx, results: Sequence[Result], *, now: float) -> set[int]:
    """Write how attempts ended; which were written. A row that somebody else took over meanwhile stays theirs."""
    rows = _json([_settled(r) for r in sorted(results, key=_id)])
    done = {int(i) for (i,) in await tx.exec_driver_sql(_SETTLE[tx.dialect.name], (rows, now))}
    people = [(r, one) for r in results if not r.whole for one in r.recipients.values()]
    # A worker that lost its row knows who was taken; who has the row now says what became of the others.
    await _tell(tx, [(r.id, one) for r, one in people if r.id in done or one.state == "sent"])
    return done


async def _tell(tx: Tx, people: Sequence[tuple[int, RecipientState]]) -> None:
    """What became of recipients, each of a row, who were pending until now."""
    if people:
        await tx.execute(
            update(RECIPIENT)
            .where(R.submission == bindparam("b_id"), R.address == bindparam("b_address"), R.state == "pending")
            .values(state=bindparam("b_state"), code=bindparam("b_code"), text=bindparam("b_text")),
            [
                {"b_id": id_, "b_address": one.address, "b_state": one.state, "b_code": one.code, "b_text": one.text}
                for id_, one in people
            ],
        )


def _id(result: Result) -> int:
    return result.id


def _settled(r: Result) -> tuple[Any, ...]:
    return r.id, r.epoch, r.state, r.code, r.error, r.reply, r.delay


def _json(rows: Any) -> str:
    return _ENCODER.encode(rows).replace("\\u0000", "")  # PostgreSQL's jsonb takes no NUL


_ENCODER = json.JSONEncoder(separators=(",", ":"))  # `json.dumps` makes one for each call


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
    # The lease is left as it is: `renew` moves its end, and a row whose indexes stay the same is written anew alone.
    "UPDATE submission SET marker_at = CAST($2 AS double precision) FROM GIVEN "
    "WHERE submission.id = g.i AND submission.epoch = g.e AND submission.state = 'sending' "
    "AND submission.next_at > CAST($2 AS double precision) AND NOT "
    "EXISTS (SELECT 1 FROM pause WHERE pause.account IN (submission.account, '*') "
    "AND (pause.until IS NULL OR pause.until > CAST($2 AS double precision))) RETURNING submission.id",
    i="bigint", e="bigint",
)  # fmt: skip
_SETTLE = _both(
    # A reply of 250 is knowledge, and outlives the lease: it keeps others from sending the mail again, those too who
    # took it already and have not marked it. And who canceled it shall know.
    # A failed reply leaves room for another one.
    # A row that gets lost again is looked for as often as the first time.
    "UPDATE submission SET state = g.s, code = g.c, error = g.t, reply = g.r, looks = 0, "
    "next_at = CAST($2 AS double precision) + g.n, "
    "sent_at = CASE WHEN g.s = 'sent' THEN CAST($2 AS double precision) END, "
    "marker_at = CASE WHEN g.s = 'queued' THEN NULL ELSE marker_at END, "
    "generation = CASE WHEN g.s = 'failed' THEN NULL ELSE generation END "
    "FROM GIVEN WHERE submission.id = g.i AND ((submission.state = 'sending' AND submission.epoch = g.e) "
    "OR (g.s = 'sent' AND (submission.state IN ('unknown', 'queued', 'canceled') "
    "OR (submission.state = 'sending' AND submission.marker_at IS NULL)))) RETURNING submission.id",
    i="bigint", e="bigint", s="text", c="integer", t="text", r="text", n="double precision",
)  # fmt: skip
_PAUSED = (
    "EXISTS (SELECT 1 FROM pause WHERE pause.account IN (submission.account, '*') "
    "AND (pause.until IS NULL OR pause.until > NOW))"
)


def _claim(dialect: str, which: str) -> str:
    due = (
        "SELECT id FROM submission WHERE account = $1 AND state = 'queued' AND next_at <= NOW "  # noqa: S608
        f"{which} ORDER BY next_at, id LIMIT $4"
    )
    among = f"IN ({due})" if dialect == "sqlite" else f"= ANY (ARRAY({due} FOR UPDATE SKIP LOCKED))"
    return _timed(dialect, (
        "UPDATE submission SET state = 'sending', epoch = epoch + 1, attempts = attempts + 1, "  # noqa: S608
        f"next_at = NOW + $3, marker_at = NULL WHERE id {among} AND state = 'queued' AND NOT {_PAUSED} RETURNING id"
    ))  # fmt: skip


def _timed(dialect: str, statement: str) -> str:
    """`NOW` is the time of the second parameter, or the database's."""
    if dialect == "sqlite":
        return re.sub(r"\$(\d)", r"?\1", statement.replace("NOW", "?2"))
    return statement.replace("NOW", f"coalesce($2::double precision, {CLOCKS[dialect]})").replace(
        "$3", "$3::double precision"
    )


_CLAIM = {d: {"due": _claim(d, ""), "one": _claim(d, "AND id = $5")} for d in ("sqlite", "postgresql")}
_STOPPED = {
    d: _timed(d, "SELECT 1 FROM pause WHERE account IN ($1, '*') AND (until IS NULL OR until > NOW)")
    for d in ("sqlite", "postgresql")
}
_SELECT = (
    f"SELECT {', '.join(f'submission.{name}' if name != 'thread' else 'message.thread' for name in COLUMNS)}, "  # noqa: S608
    "(SELECT ARRAYS FROM (SELECT address, state, code, text FROM recipient WHERE recipient.submission = submission.id "
    "ORDER BY position) AS r) FROM submission LEFT JOIN message ON message.id = submission.message "
    "WHERE submission.id IN (SELECT GIVEN) ORDER BY submission.id"
)
_READ = {
    "sqlite": _SELECT.replace("ARRAYS", "json_group_array(json_array(r.address, r.state, r.code, r.text))").replace(
        "GIVEN", "value FROM json_each(?1)"
    ),
    "postgresql": _SELECT.replace(
        "ARRAYS", "coalesce(json_agg(json_build_array(r.address, r.state, r.code, r.text)), '[]')"
    ).replace("GIVEN", "value::bigint FROM jsonb_array_elements_text($1::jsonb)"),
}
_BODIES = {
    "sqlite": "SELECT submission, data FROM submission_body WHERE submission IN (SELECT value FROM json_each(?1))",
    "postgresql": "SELECT submission, data FROM submission_body WHERE submission = ANY "
    "(ARRAY(SELECT value::bigint FROM jsonb_array_elements_text($1::jsonb)))",
}
_CLOCK = f"SELECT {CLOCKS['sqlite']}"
_TELL = "INSERT INTO event (at, kind, thread, message, account, data) VALUES (?, ?, ?, ?, ?, ?)"


def _within(statement: str, rows: str) -> str:
    """A statement as a part of `_WRITE`: its rows are that parameter, its time is the one of all."""
    changes = {"$1": rows, "CAST($2 AS double precision)": "clock.now", " FROM (": " FROM clock, ("}
    for old, new in changes.items():
        statement = statement.replace(old, new)
    return statement


_WRITE = (
    f"WITH clock AS (SELECT coalesce(CAST($4 AS double precision), {CLOCKS['postgresql']}) AS now, "  # noqa: S608
    "set_config('synchronous_commit', 'off', true)), "  # for this transaction, which is this statement
    f"marked AS ({_within(_MARK['postgresql'], '$1')}), settled AS ({_within(_SETTLE['postgresql'], '$2')}), "
    "told AS (INSERT INTO event (at, kind, thread, message, account, data) SELECT clock.now, e ->> 'kind', "
    "(e ->> 'thread')::bigint, (e ->> 'message')::bigint, e ->> 'account', (e -> 'data')::json "
    "FROM clock, jsonb_array_elements($3::jsonb) AS e JOIN settled ON settled.id = (e ->> 'of')::bigint) "
    "SELECT id FROM marked"
)
