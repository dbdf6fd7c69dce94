"""Threads and messages out of the store. Every answer costs the same in a store of any size (counted in a test)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, select, tuple_

from ..errors import BadInput, NotFound
from ..message.models import Address, Attachment, Message
from ..message.parse import parse
from ..threads.models import Thread
from ..threads.placement import key_of, parent_choices
from ..threads.tree import moment, parents, rank
from .database import Database, Tx, database_now
from .tables.threads import ALIAS, APART, ATTACHMENT, MESSAGE, PERSON, RAW, THREAD
from .tables.turns import ACTIVE, STUCK, WorkRow
from .unsent import unsent

_WORK = WorkRow.__table__  # type: ignore[attr-defined]
_KINDS = {"t": "thread", "m": "message", "a": "attachment", "o": "submission"}


def number(id: str, letter: str) -> int:  # noqa: A002
    """`"t12"` -> 12.

    Raises:
        NotFound: it is not an id of this kind; the message says what it looks like instead.
    """
    kind, digits = id[:1], id[1:]
    if kind == letter and digits.isascii() and digits.isdigit() and len(digits) < 19:
        return int(digits)
    wanted = f"{_KINDS[letter]} ids look like {letter}12"
    if kind in _KINDS and digits.isascii() and digits.isdigit():
        raise NotFound(f"{id!r} is the id of a {_KINDS[kind]}, not of a {_KINDS[letter]}: {wanted}")
    raise NotFound(f"{id[:80]!r} is no {_KINDS[letter]} id: {wanted}")


async def resolve(tx: Tx, id: str) -> int:  # noqa: A002
    """The number of the thread that `"t12"` means now; merged threads lead to where they went."""
    thread = number(id, "t")
    for _ in range(3):
        query = select(THREAD.c.merged_into, THREAD.c.attached_to).where(THREAD.c.id == thread)
        row = (await tx.execute(query)).one_or_none()
        if row is None:
            raise NotFound(f"there is no thread {id} in this store")
        onward = row.merged_into if row.merged_into is not None else row.attached_to
        if onward is None:
            return thread
        thread = onward
    return thread


async def newest_incoming(tx: Tx, thread: int) -> int:
    """The newest message in a thread that others wrote; 0 when there is none."""
    query = select(func.max(MESSAGE.c.id)).where(MESSAGE.c.thread == thread, ~MESSAGE.c.outgoing)
    return int(await tx.scalar(query) or 0)


async def thread_of(tx: Tx, id: str) -> Thread:  # noqa: A002
    """One thread with its messages, oldest first."""
    thread = await resolve(tx, id)
    return (await threads_of(tx, [thread]))[thread]


async def threads_of(tx: Tx, threads: Sequence[int]) -> dict[int, Thread]:
    """Those of these threads that there are, with their messages; for many as many statements as for one.

    One that became part of another is none any more: all that was in it, and who held it, is found there.
    """
    there = THREAD.c.merged_into.is_(None), THREAD.c.attached_to.is_(None)
    rows = (await tx.execute(select(THREAD).where(THREAD.c.id.in_(sorted(set(threads))), *there))).all()
    wanted = [row.id for row in rows]
    people = await people_of(tx, wanted)
    found = await _messages_by_thread(tx, wanted)
    claimed = await _claimed_by_thread(tx, found)
    attention = await _attention(tx, wanted)
    waiting = await unsent(tx, wanted)
    return {
        row.id: _thread(
            row, people.get(row.id, ()), count=len(found[row.id][0]), messages=found[row.id][0],
            parents=found[row.id][1], claimed_parent=claimed.get(row.id), unsent=waiting.get(row.id, {}),
            **attention.get(row.id, {}),
        )
        for row in rows
    }  # fmt: skip


async def messages_of(tx: Tx, thread: int) -> tuple[tuple[Message, ...], dict[str, str | None]]:
    """The messages of a thread, oldest first, and who answers whom."""
    return (await _messages_by_thread(tx, [thread]))[thread]


async def _messages_by_thread(
    tx: Tx, threads: Sequence[int]
) -> dict[int, tuple[tuple[Message, ...], dict[str, str | None]]]:
    query = (
        select(MESSAGE.c.id, MESSAGE.c.thread, MESSAGE.c.parsed, MESSAGE.c.answers)
        .where(MESSAGE.c.thread.in_(threads))
        .order_by(MESSAGE.c.at, MESSAGE.c.id)
    )
    rows = (await tx.execute(query)).all()
    messages: dict[int, list[Message]] = {t: [] for t in threads}
    answers: dict[int, dict[str, str]] = {t: {} for t in threads}
    aliases: dict[int, dict[str, str]] = {t: {} for t in threads}
    for row, message in zip(rows, await messages_from(tx, rows), strict=True):
        messages[row.thread].append(message)
        if row.answers is not None:
            answers[row.thread][f"m{row.id}"] = f"m{row.answers}"
    also = (
        select(ALIAS.c.key, ALIAS.c.message, MESSAGE.c.thread)
        .join(MESSAGE, MESSAGE.c.id == ALIAS.c.message)
        .where(MESSAGE.c.thread.in_(threads))
    )
    for key, message_id, thread in await tx.execute(also):
        aliases[thread][key] = f"m{message_id}"
    return {t: (tuple(messages[t]), parents(messages[t], aliases=aliases[t], answers=answers[t])) for t in threads}


async def messages_from(tx: Tx, rows: Sequence[Any]) -> tuple[Message, ...]:
    """The messages of rows with `id`, `thread` and `parsed`."""

    async def attachments_of(messages: Sequence[int]) -> Iterable[Sequence[int]]:
        query = select(ATTACHMENT.c.message, ATTACHMENT.c.position, ATTACHMENT.c.id)
        return (await tx.execute(query.where(ATTACHMENT.c.message.in_(messages)))).all()

    return await built(rows, attachments_of)


async def built(
    rows: Sequence[Any], attachments_of: Callable[[Sequence[int]], Awaitable[Iterable[Sequence[int]]]]
) -> tuple[Message, ...]:
    """The messages of rows with `id`, `thread` and `parsed`; `attachments_of` gives (message, position, id) of some."""
    messages = [Message.model_validate_json(r.parsed) for r in rows]
    with_parts = [r.id for r, m in zip(rows, messages, strict=True) if m.attachments]
    names: dict[int, dict[int, str]] = {}
    for start in range(0, len(with_parts), 2_000):
        for message, position, attachment in await attachments_of(with_parts[start : start + 2_000]):
            names.setdefault(message, {})[position] = f"a{attachment}"
    return tuple(
        message.model_copy(update={
            "id": f"m{row.id}", "thread": f"t{row.thread}",
            "attachments": tuple(
                a.model_copy(update={"id": names.get(row.id, {}).get(i)}) for i, a in enumerate(message.attachments)
            ),
        })
        for row, message in zip(rows, messages, strict=True)
    )  # fmt: skip


async def message_of(tx: Tx, id: str, account: str | None = None) -> Message:  # noqa: A002
    """One message, by our id or by its Message-ID."""
    if id.startswith("<") or "@" in id:
        ids = await _by_message_id(tx, id, account)
    else:
        ids = [number(id, "m")]
    query = select(MESSAGE.c.id, MESSAGE.c.thread, MESSAGE.c.parsed).where(MESSAGE.c.id.in_(ids)).order_by(MESSAGE.c.id)
    if account is not None:
        query = query.where(MESSAGE.c.account == account)
    rows = (await tx.execute(query.limit(1))).all()
    if not rows:
        raise NotFound(f"there is no message {id[:200]} in this store")
    return (await messages_from(tx, rows))[0]


async def glanced(db: Database, id: str) -> Message | None:  # noqa: A002
    """One message by our id, without a transaction; None where `message_of` is to look for it."""
    if re.fullmatch(r"m[0-9]{1,18}", id) is None:
        return None
    rows = db.glance("SELECT id, thread, parsed FROM message WHERE id = ?", (int(id[1:]),))

    async def attachments_of(messages: Sequence[int]) -> Iterable[Sequence[int]]:
        return db.glance("SELECT message, position, id FROM attachment WHERE message = ?", tuple(messages)) or ()

    return (await built([_Glanced(*row) for row in rows], attachments_of))[0] if rows else None


class _Glanced(NamedTuple):
    id: int
    thread: int
    parsed: str


async def _by_message_id(tx: Tx, message_id: str, account: str | None) -> list[int]:
    key = key_of(message_id if message_id.startswith("<") else f"<{message_id}>")
    owners = select(MESSAGE.c.id).where(MESSAGE.c.message_id_key == key)
    known_as = select(ALIAS.c.message).where(ALIAS.c.key == key)
    if account is not None:
        owners, known_as = owners.where(MESSAGE.c.account == account), known_as.where(ALIAS.c.account == account)
    found = [n for (n,) in await tx.execute(owners.order_by(MESSAGE.c.id).limit(100))]
    return found or [n for (n,) in await tx.execute(known_as.order_by(ALIAS.c.message).limit(100))]


async def ancestors_of(tx: Tx, id: str) -> list[Message]:  # noqa: A002
    """The messages that this one answers, directly or not, oldest first: parent of parent of …"""
    row = (await tx.execute(select(MESSAGE.c.thread).where(MESSAGE.c.id == number(id, "m")))).one_or_none()
    if row is None:
        raise NotFound(f"there is no message {id} in this store")
    messages, tree = await messages_of(tx, row.thread)
    by_id = {str(m.id): m for m in messages}
    line: list[Message] = []
    at = tree.get(f"m{number(id, 'm')}")
    while at is not None:
        line.append(by_id[at])
        at = tree.get(at)
    return line[::-1]


async def raw_of(tx: Tx, id: str) -> bytes:  # noqa: A002
    """The bytes of a message as they came."""
    row = (await tx.execute(select(RAW.c.data).where(RAW.c.message == number(id, "m")))).one_or_none()
    if row is None:
        raise NotFound(f"there is no message {id} with its raw bytes in this store")
    return bytes(row.data)


async def attachment_of(tx: Tx, id: str) -> Attachment:  # noqa: A002
    """One attachment with its content, cut out of the raw message."""
    query = select(ATTACHMENT.c.message, ATTACHMENT.c.position).where(ATTACHMENT.c.id == number(id, "a"))
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"there is no attachment {id} in this store")
    parts = parse(await raw_of(tx, f"m{row.message}")).attachments
    if row.position >= len(parts):
        raise NotFound(f"attachment {id}: its message m{row.message} does not hold it any more")
    return parts[int(row.position)].model_copy(update={"id": id})


async def page_of_threads(
    tx: Tx, *, status: str | None, account: str | None, limit: int, after: str | None, assigned: str | None = None,
    stuck: bool = False,
) -> list[Thread]:  # fmt: skip
    """Threads by their last activity, newest first, without messages. `after` is the last id of the page before."""
    if not 1 <= limit <= 1_000:
        raise BadInput(f"limit is {limit}: a page holds 1 to 1000 threads")
    query = select(THREAD).where(THREAD.c.merged_into.is_(None), THREAD.c.attached_to.is_(None))
    if status is not None:
        query = query.where(THREAD.c.status == status)
    if account is not None:
        query = query.where(THREAD.c.account == account)
    if assigned is not None or stuck:
        query = query.where(await _waiting(tx, account, assigned, stuck=stuck))
    if after is not None:
        mark = await resolve(tx, after)
        last = (await tx.execute(select(THREAD.c.last_at).where(THREAD.c.id == mark))).scalar_one()
        query = query.where(tuple_(THREAD.c.last_at, THREAD.c.id) < tuple_(last, mark))
    rows = (await tx.execute(query.order_by(THREAD.c.last_at.desc(), THREAD.c.id.desc()).limit(limit))).all()
    shown = [r.id for r in rows]
    people = await people_of(tx, shown)
    hanging = (
        select(THREAD.c.attached_to, func.sum(THREAD.c.messages))
        .where(THREAD.c.attached_to.in_(shown))
        .group_by(THREAD.c.attached_to)
    )
    more = {thread: int(count) for thread, count in await tx.execute(hanging)}
    attention = await _attention(tx, shown)
    return [
        _thread(row, people.get(row.id, ()), count=row.messages + more.get(row.id, 0), **attention.get(row.id, {}))
        for row in rows
    ]


_FEW = 1_000
"""Threads that wait for somebody: so many are looked up and sorted. Where more do, a walk from the newest soon has a
page of them."""


async def _waiting(tx: Tx, account: str | None, assigned: str | None, *, stuck: bool) -> ColumnElement[bool]:
    """That a thread waits for an agent, or for nobody any more."""
    waiting = select(_WORK.c.thread).where(STUCK if stuck else ACTIVE)
    if account is not None:
        waiting = waiting.where(_WORK.c.account == account)
    if assigned is not None:
        waiting = waiting.where(_WORK.c.agent == assigned)
    found = (await tx.execute(waiting.limit(_FEW + 1))).scalars().all()
    return THREAD.c.id.in_(found) if len(found) <= _FEW else waiting.where(_WORK.c.thread == THREAD.c.id).exists()


async def _attention(tx: Tx, threads: Sequence[int]) -> dict[int, dict[str, str]]:
    """Whose each thread is, and whether it waits for them."""
    query = select(_WORK.c.thread, _WORK.c.agent, _WORK.c.state, _WORK.c.next_at).where(_WORK.c.thread.in_(threads))
    rows = (await tx.execute(query)).all()
    now = await database_now(tx) if any(r.state == "claimed" for r in rows) else 0.0
    return {
        int(r.thread): {
            "assigned": r.agent,
            "attention": "ready" if r.state == "claimed" and r.next_at <= now else r.state,  # its holder is gone
        }
        for r in rows
    }


async def people_of(tx: Tx, threads: Iterable[int]) -> dict[int, tuple[Address, ...]]:
    """Who takes part, by thread."""
    wanted = list(threads)
    home = {t: t for t in wanted}
    attached = select(THREAD.c.id, THREAD.c.attached_to).where(THREAD.c.attached_to.in_(wanted))
    home.update((row.id, row.attached_to) for row in await tx.execute(attached))
    query = select(PERSON.c.thread, PERSON.c.atom, PERSON.c.name).where(PERSON.c.thread.in_(sorted(home)))
    found: dict[int, dict[str, Address]] = {}
    for thread, atom, name in await tx.execute(query.order_by(PERSON.c.thread, PERSON.c.atom)):
        if atom[:1] not in {"@", "#", "~"}:
            found.setdefault(home[thread], {}).setdefault(atom, Address(name=name, email=atom))
    return {t: tuple(people.values()) for t, people in found.items()}


async def _claimed_by_thread(tx: Tx, found: Mapping[int, tuple[Sequence[Message], object]]) -> dict[int, str]:
    """The id by which a thread claims a place in another one that does not let it in."""
    kept_out = APART.c.claimant.in_(sorted(found)), APART.c.atom != ""
    query = select(APART.c.claimant, APART.c.key).where(*kept_out).distinct().limit(1_000)
    keys: dict[int, set[str]] = {}
    for thread, key in await tx.execute(query):
        keys.setdefault(thread, set()).add(key)
    claims: dict[int, str] = {}
    for thread, claimed in keys.items():
        messages = found[thread][0]
        claimed -= {key_of(i) for m in messages for i in m.known_ids}
        if claimed:
            wanted = [choice for message in sorted(messages, key=rank) for choice in parent_choices(message)]
            claims[thread] = next((choice for choice in wanted if key_of(choice) in claimed), min(claimed))
    return claims


def _thread(row: Any, people: tuple[Address, ...], *, count: int, **more: Any) -> Thread:
    return Thread(
        id=f"t{row.id}", account=row.account, subject=row.subject, people=people, status=row.status,
        labels=tuple(row.labels), notes=tuple(row.notes), data=dict(row.data), count=count,
        started_at=moment(row.first_at), last_at=moment(row.last_at), **more,
    )  # fmt: skip
