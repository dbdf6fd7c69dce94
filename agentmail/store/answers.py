"""What those who wait ask of the store: for any number of them as many statements as for one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from sqlalchemy import ColumnElement, Select, and_, bindparam, case, func, literal_column, select, union_all

from ..errors import NotFound
from ..message.models import Message
from ..threads.placement import key_of
from . import reading
from .claims import work
from .database import Tx, database_now
from .direct import Statement, among, listed
from .holders import chunks
from .tables.outbox import RECIPIENT, SUBMISSION
from .tables.threads import ATTACHMENT, EVENT, MESSAGE

HEARD_AT_ONCE = 200
"""Events that are read at a time."""
MOVES = frozenset({"thread.merged", "thread.attached", "thread.detached"})
"""Events by which messages that were there before come into another thread."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A message of ours that somebody waits for an answer to."""

    id: int
    thread: int
    message_id: str


@dataclass(frozen=True, slots=True)
class Heard:
    """An event, as far as it matters to those who wait."""

    id: int
    seq: int | None
    """None until the log has given it its place."""
    kind: str
    thread: int | None
    """Where the message that it is about is shown now; else the thread that it is about."""


async def asked(tx: Tx, account: str, message_ids: Collection[str]) -> dict[str, Asked]:
    """The messages of these Message-IDs, the first one filed of each; those that there are."""
    keys = {key_of(i if i.startswith("<") else f"<{i}>"): i for i in message_ids if "@" in i or i.startswith("<")}
    found: dict[str, Asked] = {}
    for some in chunks(sorted(keys)):
        query = select(MESSAGE.c.id, MESSAGE.c.thread, MESSAGE.c.message_id, MESSAGE.c.message_id_key).where(
            MESSAGE.c.account == account, MESSAGE.c.message_id_key.in_(some)
        )
        for row in await tx.execute(query.order_by(MESSAGE.c.id)):
            found.setdefault(keys[row.message_id_key], Asked(row.id, row.thread, row.message_id))
    for message_id in set(message_ids) - set(found):  # an id of ours, or one that a provider gave it
        try:
            message = await reading.message_of(tx, message_id, account)
        except NotFound:
            continue
        found[message_id] = Asked(int(str(message.id)[1:]), int(str(message.thread)[1:]), message.message_id or "")
    return found


class Asker(Protocol):
    """Asks the database: in a transaction (`asking`), or by the connection that hears of changes (`Changes.ask`)."""

    async def __call__(self, statement: Statement, /, **values: Any) -> Sequence[Sequence[Any]]: ...


def asking(tx: Tx) -> Asker:
    """Ask in this transaction."""

    async def ask(statement: Statement, /, **values: Any) -> Sequence[Sequence[Any]]:
        given = {name: listed(tx, v) if isinstance(v, list) else v for name, v in values.items()}
        return (await statement.run(tx, **given)).rows

    return ask


class Looked(NamedTuple):
    """What there is to see for somebody who waits."""

    thread: int
    """Where the message is shown now."""
    bounced: bool | None
    """Whether it came back from somebody, with a proof (`bounced.py`); None when it did not go by our outbox."""
    came: tuple[Message, ...]
    """What came into that thread after it, oldest first."""


class _Came(NamedTuple):
    asked: int
    thread: int
    id: int | None
    parsed: str
    bounced: int | None


async def incoming_after(ask: Asker, messages: Collection[int]) -> dict[int, Looked]:
    """Message -> what there is to see for those who wait for an answer to it."""
    found: dict[int, tuple[_Came, list[int]]] = {}
    rows: dict[int, _Came] = {}
    for some in chunks(sorted(set(messages))):
        for row in map(_Came._make, await ask(_CAME, asked=list(some))):
            later = found.setdefault(row.asked, (row, []))[1]
            if row.id is not None:
                later.append(row.id)
                rows.setdefault(row.id, row)
    messages_of = await reading.built(list(rows.values()), lambda some: ask(_PARTS, messages=list(some)))
    read = dict(zip(rows, messages_of, strict=True))
    return {
        asked: Looked(row.thread, None if row.bounced is None else row.bounced > 0, tuple(read[m] for m in later))
        for asked, (row, later) in found.items()
    }


async def why_bounced(tx: Tx, message: int) -> list[str]:
    """From whom a mail of ours came back, each with what was said."""
    query = select(RECIPIENT.c.address, RECIPIENT.c.text).join(SUBMISSION, SUBMISSION.c.id == RECIPIENT.c.submission)
    rows = await tx.execute(query.where(SUBMISSION.c.message == message, RECIPIENT.c.state == "bounced"))
    return [f"{address} {text}".strip() for address, text in rows]


_YES: ColumnElement[int] = literal_column("1")
_NO: ColumnElement[int] = literal_column("0")


def _incoming(postgres: bool) -> Select[Any]:
    ours, came = MESSAGE.alias("ours"), MESSAGE.alias("came")
    bounced = (
        select(func.max(case((RECIPIENT.c.state == literal_column("'bounced'"), _YES), else_=_NO)))
        .join(SUBMISSION, SUBMISSION.c.id == RECIPIENT.c.submission)
        .where(SUBMISSION.c.message == ours.c.id)
        .scalar_subquery()
    )
    return (
        select(ours.c.id.label("asked"), ours.c.thread, came.c.id, came.c.parsed, bounced.label("bounced"))
        .outerjoin(came, and_(came.c.thread == ours.c.thread, came.c.id > ours.c.id, ~came.c.outgoing))
        .where(among(ours.c.id, "asked", postgres=postgres))
        .order_by(came.c.at, came.c.id)
    )


def _parts(postgres: bool) -> Select[Any]:
    query = select(ATTACHMENT.c.message, ATTACHMENT.c.position, ATTACHMENT.c.id)
    return query.where(among(ATTACHMENT.c.message, "messages", postgres=postgres))


async def heard(ask: Asker, after: int) -> Sequence[Heard]:
    """What the log tells behind the place `after`, and what is committed and has no place yet; at most so many of each
    as are `HEARD_AT_ONCE`.
    """
    return [Heard(*row) for row in await ask(_HEARD, after=after)]


def _hearing(postgres: bool) -> Select[Any]:
    parts = [
        select(EVENT.c.id, EVENT.c.seq, EVENT.c.kind, EVENT.c.thread, EVENT.c.message)
        .where(condition)
        .order_by(order)
        .limit(literal_column(str(HEARD_AT_ONCE)))  # a number, or a plan for any number would sort the whole log
        .subquery()
        for condition, order in ((EVENT.c.seq > bindparam("after"), EVENT.c.seq), (EVENT.c.seq.is_(None), EVENT.c.id))
    ]
    both = union_all(*(select(part) for part in parts)).subquery()
    return select(
        both.c.id, both.c.seq, both.c.kind, func.coalesce(MESSAGE.c.thread, both.c.thread).label("shown")
    ).outerjoin(MESSAGE, MESSAGE.c.id == both.c.message)


async def place(ask: Asker) -> int:
    """The place of the newest event that has one."""
    return int((await ask(_PLACE))[0][0])


_PLACE = Statement(lambda _: select(func.coalesce(func.max(EVENT.c.seq), literal_column("0"))))
_CAME, _PARTS, _HEARD = Statement(_incoming), Statement(_parts), Statement(_hearing)


async def held(tx: Tx, threads: Collection[int]) -> dict[int, float]:
    """Of these threads those that somebody holds, and for how many seconds at most."""
    now, found = await database_now(tx), dict[int, float]()
    for some in chunks(sorted(threads)):
        query = select(work.c.thread, work.c.next_at).where(
            work.c.thread.in_(some), work.c.state == "claimed", work.c.next_at > now
        )
        found.update((row.thread, row.next_at - now) for row in await tx.execute(query))
    return found
