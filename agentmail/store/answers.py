"""What those who wait ask of the store: for any number of them as many statements as for one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, select, union_all

from ..errors import NotFound
from ..message.models import Message
from ..threads.placement import key_of
from . import reading
from .claims import work
from .database import Tx, database_now
from .holders import chunks
from .tables.threads import EVENT, MESSAGE

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


async def incoming_after(tx: Tx, messages: Collection[int]) -> dict[int, tuple[int, tuple[Message, ...]]]:
    """Message -> the thread it is shown in now, and what came in there after it, oldest first."""
    ours, came = MESSAGE.alias("ours"), MESSAGE.alias("came")
    found: dict[int, tuple[int, list[int]]] = {}
    rows: dict[int, Any] = {}
    for some in chunks(sorted(set(messages))):
        query = (
            select(ours.c.id.label("asked"), ours.c.thread, came.c.id, came.c.parsed)
            .outerjoin(came, and_(came.c.thread == ours.c.thread, came.c.id > ours.c.id, ~came.c.outgoing))
            .where(ours.c.id.in_(some))
            .order_by(came.c.at, came.c.id)
        )
        for row in await tx.execute(query):
            later = found.setdefault(row.asked, (row.thread, []))[1]
            if row.id is not None:
                later.append(row.id)
                rows.setdefault(row.id, row)
    read = dict(zip(rows, await reading.messages_from(tx, list(rows.values())), strict=True))
    return {asked: (thread, tuple(read[m] for m in later)) for asked, (thread, later) in found.items()}


async def heard(tx: Tx, after: int, *, limit: int) -> Sequence[Heard]:
    """What the log tells behind the place `after`, and what is committed and has no place yet; `limit` of each."""
    parts = [
        select(EVENT.c.id, EVENT.c.seq, EVENT.c.kind, EVENT.c.thread, EVENT.c.message)
        .where(condition)
        .order_by(order)
        .limit(limit)
        .subquery()
        for condition, order in ((EVENT.c.seq > after, EVENT.c.seq), (EVENT.c.seq.is_(None), EVENT.c.id))
    ]
    both = union_all(*(select(part) for part in parts)).subquery()
    query = select(
        both.c.id, both.c.seq, both.c.kind, func.coalesce(MESSAGE.c.thread, both.c.thread).label("shown")
    ).outerjoin(MESSAGE, MESSAGE.c.id == both.c.message)
    return [Heard(row.id, row.seq, row.kind, row.shown) for row in await tx.execute(query)]


async def held(tx: Tx, threads: Collection[int]) -> dict[int, float]:
    """Of these threads those that somebody holds, and for how many seconds at most."""
    now, found = await database_now(tx), dict[int, float]()
    for some in chunks(sorted(threads)):
        query = select(work.c.thread, work.c.next_at).where(
            work.c.thread.in_(some), work.c.state == "claimed", work.c.next_at > now
        )
        found.update((row.thread, row.next_at - now) for row in await tx.execute(query))
    return found
