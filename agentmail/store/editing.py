"""What agents keep with a thread: status, labels, notes, data. None of it is ever mailed."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import delete, insert, select, update

from ..errors import BadInput
from .database import Tx
from .events import append_event
from .reading import resolve
from .tables.threads import LABEL, THREAD

_LONGEST = 200


async def set_status(tx: Tx, id: str, status: str, *, at: float) -> None:  # noqa: A002
    """Set the status of a thread: `open`, `done`, or a word of your own."""
    _word("status", status)
    thread, account = await _locked(tx, id)
    await tx.execute(update(THREAD).where(THREAD.c.id == thread).values(status=status))
    await append_event(tx, "thread.status", thread=thread, account=account, data={"status": status}, at=at)


async def set_labels(
    tx: Tx,
    id: str,  # noqa: A002
    *,
    at: float,
    add: Collection[str] = (),
    remove: Collection[str] = (),
) -> tuple[str, ...]:
    """Add and remove labels; what the thread has afterwards."""
    for label in (*add, *remove):
        _word("label", label)
    thread, account = await _locked(tx, id)
    row = (await tx.execute(select(THREAD.c.labels).where(THREAD.c.id == thread))).one()
    labels = sorted((set(row.labels) | set(add)) - set(remove))
    await tx.execute(update(THREAD).where(THREAD.c.id == thread).values(labels=labels))
    await write_labels(tx, thread, labels)
    await append_event(tx, "thread.labels", thread=thread, account=account, data={"labels": labels}, at=at)
    return tuple(labels)


async def write_labels(tx: Tx, thread: int, labels: Collection[str]) -> None:
    """Make a thread findable by its labels."""
    await tx.execute(delete(LABEL).where(LABEL.c.thread == thread))
    if labels:
        rows = [{"folded": folded, "thread": thread} for folded in sorted({label.casefold() for label in labels})]
        await tx.execute(insert(LABEL), rows)


async def add_note(tx: Tx, id: str, text: str, *, agent: str = "", to: str = "", at: float) -> None:  # noqa: A002
    """Leave a note for the other agents; `to` is the one it hands the thread to."""
    for value in (text, agent, to):
        if "\x00" in value or not _is_unicode(value):
            raise BadInput("a note cannot hold a NUL, or half a character (a lone surrogate)")
    thread, account = await _locked(tx, id)
    row = (await tx.execute(select(THREAD.c.notes).where(THREAD.c.id == thread))).one()
    notes = [*row.notes, {"agent": agent, "at": at, "text": text} | ({"to": to} if to else {})]
    await tx.execute(update(THREAD).where(THREAD.c.id == thread).values(notes=notes))
    await append_event(tx, "thread.note", thread=thread, account=account, data={"agent": agent}, at=at)


async def put_data(tx: Tx, id: str, values: Mapping[str, Any], *, at: float) -> dict[str, Any]:  # noqa: A002
    """Set keys of the thread's own JSON object; None removes a key. Two agents that set different keys both win."""
    try:
        text = json.dumps(dict(values), allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise BadInput(f"data must be JSON: {exc}".encode(errors="replace").decode()) from exc
    values = json.loads(text)  # as it will be read: keys are text, tuples are lists
    thread, account = await _locked(tx, id)
    row = (await tx.execute(select(THREAD.c.data).where(THREAD.c.id == thread))).one()
    data = {k: v for k, v in {**row.data, **values}.items() if v is not None}
    await tx.execute(update(THREAD).where(THREAD.c.id == thread).values(data=data))
    await append_event(tx, "thread.data", thread=thread, account=account, data={"keys": sorted(values)}, at=at)
    return data


async def _locked(tx: Tx, id: str) -> tuple[int, str]:  # noqa: A002
    """The thread that this id means, with its row locked: what is read next is what will be changed."""
    thread = await resolve(tx, id)
    query = select(THREAD.c.account).where(THREAD.c.id == thread)
    account = (await tx.execute(query.with_for_update())).scalar_one()
    # It may have been merged while we waited for the lock.
    now = await resolve(tx, id)
    return (thread, account) if now == thread else await _locked(tx, id)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _word(what: str, value: str) -> None:
    if not value or len(value) > _LONGEST or not value.isprintable():
        raise BadInput(f"{what} {value[:40]!r} must be one printable line of 1 to {_LONGEST} characters")
