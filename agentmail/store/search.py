"""Full-text search: one query language, FTS5 or tsvector behind it, the newest hits first.

The index is written in the transaction that files the message. Which words a message has is decided in
`store.words`, what a query means in `store.queries`; here are only the two databases.
"""

# ruff: noqa: S608 - every part of the statements is ours; what is looked for is a parameter

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, text

from ..errors import BadInput, NotFound
from ..message.models import Address, Value
from ..threads.tree import moment
from . import direct, queries
from .database import Tx
from .queries import Query, message_at, parse_query, place
from .reading import number
from .tables.threads import LABEL, MESSAGE
from .words import IndexText, normalised, tsvector

_SNIPPET = 160
"""Characters."""


_INSERT_POSTGRES = (
    "INSERT INTO search (place, message, account, words) VALUES ($1, $2, $3, CAST(CAST($4 AS text) AS tsvector))"
)
_INSERT_SQLITE = "INSERT INTO search (rowid, subject, sender, recipients, body, marks) VALUES (?, ?, ?, ?, ?, ?)"
_DELETE_SQLITE = text(  # a contentless table knows no words of a row: it is told them (FTS5 documentation, 6.7)
    "INSERT INTO search (search, rowid, subject, sender, recipients, body, marks) "
    "VALUES ('delete', :place, :subject, :sender, :recipients, :body, :marks)"
)


class Hit(Value):
    """One message that a search found."""

    id: str
    """The message, such as `"m45"`."""
    thread: str
    subject: str = ""
    sender: Address | None = None
    at: datetime | None = None
    """When it was written, as far as its date is believed; what results are sorted by."""
    snippet: str = ""
    """The text around the first word that was found, on one line. Plain text: nothing in it is marked."""


def account_mark(account: str) -> str:
    """The word that all messages of an account have in the index."""
    return "\ue000c" + hashlib.sha256(account.encode("utf-8", "surrogatepass")).hexdigest()[:12]


async def index(tx: Tx, account: str, rows: Iterable[tuple[int, float, IndexText]]) -> None:
    """Make messages findable: (id, time, words) of each."""
    values: list[tuple[Any, ...]]
    if tx.dialect.name == "postgresql":
        values = [(place(at, id_), id_, account, tsvector(words)) for id_, at, words in rows]
    else:
        # In the order of the row numbers: FTS5 writes out a segment each time one is lower than the one before.
        values = sorted(tuple(_fts_row(account, *row).values()) for row in rows)
    await direct.rows(tx, _INSERT_POSTGRES if tx.dialect.name == "postgresql" else _INSERT_SQLITE, values)


async def unindex(tx: Tx, rows: Iterable[tuple[str, int, float, IndexText]]) -> None:
    """Take messages out of the index: (account, id, time, words) of each, exactly as they went in."""
    values = sorted((_fts_row(*row) for row in rows), key=lambda v: v["place"])
    if not values:
        return
    if tx.dialect.name == "postgresql":
        await tx.execute(text("DELETE FROM search WHERE place = :place"), [{"place": v["place"]} for v in values])
    else:
        await tx.execute(_DELETE_SQLITE, values)


def _fts_row(account: str, id_: int, at: float, words: IndexText) -> dict[str, Any]:
    return {
        "place": place(at, id_), "subject": words.subject, "sender": words.sender, "recipients": words.recipients,
        "body": words.body, "marks": f"{words.marks} {account_mark(account)}",
    }  # fmt: skip


async def find(tx: Tx, q: str, *, limit: int, after: str | None, account: str | None) -> list[Hit]:
    """A page of hits, newest first. `after` is the last id of the page before."""
    if not 1 <= limit <= 1_000:
        raise BadInput(f"limit is {limit}: a page holds 1 to 1000 hits")
    query = parse_query(q)
    low, high = queries.bounds(query)
    if after is not None:
        high = min(high, await _place_of(tx, after))
    search = _Search(tx, query, account)
    found = await (search.labelled if search.wanted else search.page)(low, high, limit)
    return await _hits(tx, [message_at(p) for p in found], query)


_FEW = 500
"""Messages under a label: so few are looked up among the hits at once."""
_TRIED = (100, 1_000)
"""Newest hits whose labels are looked at, at first and then. Of a label that much mail has a page of them is full."""
_MOST = 100_000
"""Messages under a label: up to so many are known by their places when a search goes on behind the first hits."""
_AT_ONCE = (500, 1_000, 2_000, 4_000)
"""Messages under a label that are looked up in the index in one statement; the last figure goes on."""


class _Search:
    """One query on one database; what it finds are places, newest first."""

    def __init__(self, tx: Tx, query: Query, account: str | None) -> None:
        self.tx = tx
        self.query = query
        self.postgres = tx.dialect.name == "postgresql"
        self.key = "s.place" if self.postgres else "s.rowid"
        self.where, self.values = (_postgres if self.postgres else _sqlite)(query, account)
        self.wanted = [label.casefold() for label, negative in query.labels if not negative]
        """Labels that a hit must have."""
        conditions = []
        for i, (label, negative) in enumerate(query.labels):
            conditions.append(_labelled(f"label{i}", negative=negative, postgres=self.postgres))
            self.values[f"label{i}"] = label.casefold()
        self.labels = " AND ".join(conditions) or "TRUE"

    async def page(self, low: int, high: int, limit: int) -> list[int]:
        """Walk the hits, and look at the labels of each."""
        sql = f"SELECT {self.key} FROM search AS s WHERE {self.where} AND {self.labels}"
        return [p for (p,) in await self._run(sql, low, high, limit)]

    async def labelled(self, low: int, high: int, limit: int) -> list[int]:
        """The same for a label that hits must have, without walking past all those that do not have it.

        A page of common hits under a common label is among the newest hits. If not, one of the two is rare up to here:
        then the messages under the label are looked up among the hits, newest first, until the page is full.
        """
        found: list[int] = []
        if (places := await self._places(low, high, most=_FEW)) is None:
            sql = f"SELECT {self.key}, {self.labels} FROM search AS s WHERE {self.where}"
            for size in _TRIED:
                tried = await self._run(sql, low, high, size)
                found += [p for p, labelled in tried if labelled]
                if len(found) >= limit or len(tried) < size:
                    return found[:limit]
                high = tried[-1][0]
            if (places := await self._places(low, high, most=_MOST)) is None:
                return found + await self.page(low, high, limit - len(found))
        start, sizes = 0, list(_AT_ONCE)
        while start < len(places) and len(found) < limit:
            size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
            found += await self._among(places[start : start + size], limit - len(found))
            start += size
        return found

    async def _places(self, low: int, high: int, *, most: int) -> list[int] | None:
        """The places of all messages under the rarest label, newest first; None when every one has more."""
        rarest: list[int] | None = None
        for label in self.wanted:
            under = (
                select(MESSAGE.c.id, MESSAGE.c.at)
                .join(LABEL, LABEL.c.thread == MESSAGE.c.thread)
                .where(LABEL.c.folded == label)
                .limit(most + 1 if rarest is None else len(rarest))
            )
            places = [place(at, id_) for id_, at in await self.tx.execute(under)]
            if len(places) <= most and (rarest is None or len(places) < len(rarest)):
                rarest = places
        return None if rarest is None else sorted((p for p in rarest if low <= p < high), reverse=True)

    async def _among(self, places: Sequence[int], limit: int) -> list[int]:
        if self.postgres:
            sql = f"SELECT s.place FROM search AS s WHERE s.place = ANY(CAST(:places AS bigint[])) AND {self.where}"
            values: object = list(places)
        else:
            # CROSS: the places first, and each of them looked up in the index; else it goes through every hit.
            sql = (
                "SELECT s.rowid FROM json_each(:places) AS p CROSS JOIN search AS s ON s.rowid = p.value "
                f"WHERE {self.where}"
            )  # fmt: skip
            values = json.dumps(places)
        rows = await self._run(f"{sql} AND {self.labels}", places[-1], places[0] + 1, limit, places=values)
        return [p for (p,) in rows]

    async def _run(self, sql: str, low: int, high: int, limit: int, **more: Any) -> Sequence[Any]:
        sql += f" AND {self.key} >= :low AND {self.key} < :high ORDER BY {self.key} DESC LIMIT :limit"
        values = {**self.values, "low": low, "high": high, "limit": limit, **more}
        return (await self.tx.execute(text(sql), values)).all()


def _sqlite(query: Query, account: str | None) -> tuple[str, dict[str, Any]]:
    marks = () if account is None else (account_mark(account),)
    return "s.search MATCH :match", {"match": queries.fts5(query, *marks)}


def _postgres(query: Query, account: str | None) -> tuple[str, dict[str, Any]]:
    conditions, values = ["TRUE"], dict[str, Any]()
    if account is not None:
        conditions.append("s.account = :account")
        values["account"] = account
    if (match := queries.tsquery(query)) is not None:
        conditions.append("s.words @@ CAST(CAST(:match AS text) AS tsquery)")
        values["match"] = match
    return " AND ".join(conditions), values


def _labelled(name: str, *, negative: bool, postgres: bool) -> str:
    here = "s.message" if postgres else f"(s.rowid & {2**29 - 1})"
    # One value and not EXISTS: that PostgreSQL may answer by reading everything that has the label.
    has = (
        f"(SELECT 1 FROM message AS m JOIN label AS l ON l.thread = m.thread WHERE m.id = {here} "
        f"AND l.folded = :{name} LIMIT 1)"
    )
    return f"{has} IS {'' if negative else 'NOT '}NULL"


async def _place_of(tx: Tx, id_: str) -> int:
    message = number(id_, "m")
    at = (await tx.execute(select(MESSAGE.c.at).where(MESSAGE.c.id == message))).scalar_one_or_none()
    if at is None:
        raise NotFound(f"there is no message {id_} in this store to go on after")
    return place(at, message)


async def _hits(tx: Tx, ids: Sequence[int], query: Query) -> list[Hit]:
    columns = (MESSAGE.c.id, MESSAGE.c.thread, MESSAGE.c.at, MESSAGE.c.parsed)
    rows = {row.id: row for row in await tx.execute(select(*columns).where(MESSAGE.c.id.in_(ids)))}
    hits = []
    for id_ in ids:
        row = rows[id_]
        parsed = json.loads(row.parsed)
        sender = parsed.get("sender")
        hits.append(Hit(
            id=f"m{id_}", thread=f"t{row.thread}", subject=parsed.get("subject", ""),
            sender=Address(**sender) if sender else None, at=moment(row.at),
            snippet=snippet(parsed.get("text", ""), query),
        ))  # fmt: skip
    return hits


_WORD = re.compile(r"[^\W_]+")


def snippet(body: str, query: Query) -> str:
    """The text around the first word of the query in it, or its beginning, on one line."""
    firsts = {t.words[0] for t in query.terms if not t.negative and t.words[0].isalnum()}
    stems = tuple(t.words[0] for t in query.terms if t.prefix and not t.negative and len(t.words) == 1)
    body = body[:100_000]
    at = _first(body, firsts, stems) if firsts else None
    start = 0 if at is None or at < _SNIPPET // 3 else at - _SNIPPET // 3
    if start:  # not in the middle of a word
        space = body.find(" ", start, at)
        start = space + 1 if space >= 0 else start
    cut = " ".join(body[start : start + 2 * _SNIPPET].split())
    if len(cut) > _SNIPPET:
        end = cut.rfind(" ", _SNIPPET // 2, _SNIPPET)
        cut = cut[: end if end > 0 else _SNIPPET] + " …"
    return f"… {cut}" if start else cut


def _first(body: str, firsts: set[str], stems: tuple[str, ...]) -> int | None:
    if body.isascii():
        lower = body.lower()
        words = "|".join([*(rf"{re.escape(w)}(?![a-z0-9])" for w in firsts), *map(re.escape, stems)])
        found = re.search(rf"(?<![a-z0-9])(?:{words})", lower)
        return found.start() if found else None
    for word in _WORD.finditer(body):
        for piece in normalised(word.group()).split():
            if piece in firsts or (stems and piece.startswith(stems)):
                return word.start()
    return None
