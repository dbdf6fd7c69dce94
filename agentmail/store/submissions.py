"""Rows of the outbox: written once, changed by compare-and-set under a lease and an epoch.

Nothing here decides; `agentmail.outbox` draws the states and calls these in the order that makes them safe.
Every function takes the caller's transaction.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import and_, bindparam, case, delete, func, insert, or_, select, text, union, update

from ..errors import NotFound
from ..message.domains import address_key
from ..threads.placement import key_of
from .bulk import Insert, next_ids
from .database import Tx
from .direct import Statement
from .reading import number
from .tables.outbox import BODY, PAUSE, RECIPIENT, SUBMISSION
from .tables.threads import ALIAS, INFO, LOCATION, MESSAGE

S, R = SUBMISSION.c, RECIPIENT.c


@dataclass(frozen=True, slots=True)
class RecipientState:
    """One recipient: `pending`, `sent`, `failed` or `bounced`, with what the server said."""

    address: str
    state: str = "pending"
    code: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """A row as it stood when it was read."""

    id: int
    account: str
    state: str
    kind: str
    origin: str
    agent: str
    key: str | None
    message_id: str
    message: int | None
    thread: int | None
    answers: int | None
    mail_from: str
    subject: str
    size: int
    at_most_once: bool
    reasons: list[dict[str, Any]]
    created_at: float
    next_at: float | None
    expires_at: float | None
    attempts: int
    epoch: int
    marker_at: float | None
    looks: int
    code: int | None
    error: str
    reply: str
    sent_at: float | None
    copied: bool
    decision: str
    decided_by: str
    decided_at: float | None
    recipients: tuple[RecipientState, ...] = ()

    @property
    def pending(self) -> tuple[str, ...]:
        """Whom the server has not taken yet, and may."""
        return tuple(r.address for r in self.recipients if r.state == "pending")

    @property
    def in_doubt(self) -> tuple[str, ...]:
        """Of one that is `unknown`: who may have got it. Whom the lost attempt was refused has the code of that."""
        return tuple(r.address for r in self.recipients if r.state == "pending" and r.code is None)


async def hold(tx: Tx, *names: str) -> None:
    """Until the commit, nobody else holds one of these names: what is looked up under it stays true.

    SQLite's BEGIN IMMEDIATE holds everything already.
    """
    if tx.dialect.name == "postgresql":
        for name in sorted(names):
            await _HOLD.run(tx, name=name)


async def add(tx: Tx, rows: Sequence[tuple[Mapping[str, Any], Sequence[str], bytes, int]]) -> list[Submission]:
    """Write new rows, each with its recipients, its bytes and the thread it stands in."""
    ids = await next_ids(tx, "submission", len(rows))
    await _ADD.dicts(tx, [
        {"marker_at": None, "code": None, "sent_at": None, **row, "id": id_,
         "return_tag": return_tag(str(row["mail_from"])), "reasons": json.dumps(row["reasons"])}
        for id_, (row, *_) in zip(ids, rows, strict=True)
    ])  # fmt: skip
    people = [
        (id_, i, a, "pending", None, "") for id_, (_, to, *_) in zip(ids, rows, strict=True) for i, a in enumerate(to)
    ]
    await _ADD_RECIPIENTS.rows(tx, people)
    await _ADD_BODIES.rows(tx, [(id_, raw) for id_, (_, _, raw, _) in zip(ids, rows, strict=True)])
    return [
        _submission({"id": id_, "thread": thread, **row}, [RecipientState(a) for a in to])
        for id_, (row, to, _, thread) in zip(ids, rows, strict=True)
    ]


async def read(tx: Tx, ids: Collection[int]) -> list[Submission]:
    """These rows with their recipients, in order of their ids; fewer when there are fewer."""
    return await _rows(tx, S.id.in_(sorted(ids)))


async def one(tx: Tx, id: str) -> Submission:  # noqa: A002
    """The row that `"o3"` means. Raises NotFound."""
    found = await read(tx, [number(id, "o")])
    if not found:
        raise NotFound(f"there is no submission {id} in this store")
    return found[0]


async def with_key(tx: Tx, account: str, key: str) -> Submission | None:
    found = (await _WITH_KEY.run(tx, account=account, key=key)).value
    return None if found is None else (await read(tx, [found]))[0]


_EDITED = "\x1fedited"
"""Ends the key of what a person replaced: its successor has the key now, and here is what was asked under it."""


def key_of_edited(key: str) -> str:
    return f"{key}{_EDITED}"


def is_of_edited(key: str | None) -> bool:
    return key is not None and key.endswith(_EDITED)


async def spent(tx: Tx, account: str, key: str) -> bool:
    """Whether a key was used for mail that was deleted since."""
    return (await tx.execute(select(INFO.c.value).where(INFO.c.name == _spent(account, key)))).first() is not None


async def spend_keys(tx: Tx, messages: Collection[int]) -> None:
    """These messages are about to be deleted, and their submissions with them: their keys stay used."""
    rows = await tx.execute(select(S.account, S.key, S.id).where(S.message.in_(sorted(messages)), S.key.is_not(None)))
    for account, key, id_ in rows.all():
        await tx.execute(insert(INFO).values(name=_spent(account, key), value=f"o{id_}"))


def _spent(account: str, key: str) -> str:
    """A digest, for what stays of a person must not say who it was."""
    return f"spent {hashlib.sha256(f'{account} {key}'.encode()).hexdigest()[:32]}"


async def with_message_id(tx: Tx, account: str, message_id: str) -> Submission | None:
    found = await _rows(tx, and_(S.account == account, S.message_id == message_id))
    return found[0] if found else None


async def answer_to(tx: Tx, account: str, message: int) -> tuple[Submission | None, int]:
    """The newest answer to a message that is not given up, and the next free generation."""
    ((top, newest),) = (await _ANSWERS.run(tx, account=account, message=message)).rows
    return (None, 0) if top is None else ((await read(tx, [newest]))[0], int(top) + 1)


async def answer_again(tx: Tx, row: Submission) -> None:
    """A failed answer is tried again: it is the answer to its message once more."""
    if row.answers is not None:
        await hold(tx, f"answers {row.account} {row.answers}")
        _, generation = await answer_to(tx, row.account, row.answers)
        await tx.execute(update(SUBMISSION).where(S.id == row.id).values(generation=generation))


async def page(
    tx: Tx, account: str, *, states: Collection[str] = (), limit: int = 50, before: int | None = None
) -> list[Submission]:
    """Newest first."""
    query = select(S.id).where(S.account == account)
    if states:
        query = query.where(S.state.in_(sorted(states)))
    if before is not None:
        query = query.where(S.id < before)
    ids = [int(i) for i in (await tx.execute(query.order_by(S.id.desc()).limit(limit))).scalars()]
    return (await read(tx, ids))[::-1]


async def bodies(tx: Tx, ids: Collection[int]) -> dict[int, bytes]:
    """The exact bytes."""
    query = select(BODY.c.submission, BODY.c.data).where(BODY.c.submission.in_(sorted(ids)))
    return {int(i): bytes(data) for i, data in await tx.execute(query)}


async def thread_of(tx: Tx, message: int) -> int | None:
    """The thread that a message stands in now."""
    found = (await _THREAD_OF.run(tx, message=message)).value
    return None if found is None else int(found)


async def without_copy(tx: Tx, account: str, *, since: float, limit: int = 50) -> list[Submission]:
    """Sent lately, and not in the Sent mailbox yet."""
    query = select(S.id).where(S.account == account, S.state == "sent", S.sent_at >= since, ~S.copied)
    return await read(tx, [int(i) for i in (await tx.execute(query.order_by(S.id.desc()).limit(limit))).scalars()])


async def set_copied(tx: Tx, id_: int) -> None:
    """A copy lies in Sent."""
    await tx.execute(update(SUBMISSION).where(S.id == id_).values(copied=True))


async def digest_of(tx: Tx, id_: int) -> str:
    return str((await tx.execute(select(S.digest).where(S.id == id_))).scalar_one())


# -- changes ----------------------------------------------------------------------------------------------------------


async def change(tx: Tx, id_: int, *, states: Collection[str], epoch: int | None = None, **values: Any) -> bool:
    """Compare and set outside of an attempt; False when the row is in no such state (any more)."""
    query = update(SUBMISSION).where(S.id == id_, S.state.in_(sorted(states)))
    if epoch is not None:
        query = query.where(S.epoch == epoch)
    return (await tx.execute(query.values(epoch=S.epoch + 1, **values))).rowcount == 1


async def set_recipients(tx: Tx, id_: int, state: str, *, of: str = "pending", **more: Any) -> None:
    await tx.execute(update(RECIPIENT).where(R.submission == id_, R.state == of).values(state=state, **more))


async def set_taken(tx: Tx, id_: int) -> None:
    """An unknown one did go, to those who were in doubt."""
    in_doubt = (R.submission == id_, R.state == "pending", R.code.is_(None))
    await tx.execute(update(RECIPIENT).where(*in_doubt).values(state="sent"))


# -- after a crash ----------------------------------------------------------------------------------------------------


async def take_abandoned(tx: Tx, account: str, *, now: float) -> tuple[list[int], list[int]]:
    """Rows in `sending` whose lease ended: back to queued, or unknown when the marker was set. (queued, unknown)"""
    ended = and_(S.account == account, S.state == "sending", S.next_at <= now)
    known = await tx.execute(
        update(SUBMISSION)
        .where(ended, S.marker_at.is_(None))
        .values(state="queued", epoch=S.epoch + 1, next_at=now, error="its worker vanished before the body went")
        .returning(S.id)
    )
    queued = [int(i) for i in known.scalars()]
    lost = await tx.execute(
        update(SUBMISSION)
        .where(ended, S.marker_at.is_not(None))
        .values(state="unknown", epoch=S.epoch + 1, next_at=now, looks=0,
                error="its worker vanished while the body went: it may have been sent")
        .returning(S.id)
    )  # fmt: skip
    return queued, [int(i) for i in lost.scalars()]


async def distrust(tx: Tx, boot: str) -> None:
    """Once after the machine started anew: what was being sent may have been, for a power cut takes markers back."""
    known = (await tx.execute(select(INFO.c.value).where(INFO.c.name == "boot"))).scalar_one_or_none()
    if known == boot:
        return
    await _assume_markers(tx)
    await tx.execute(delete(INFO).where(INFO.c.name == "boot"))
    await tx.execute(insert(INFO).values(name="boot", value=boot))


async def notice_crash(tx: Tx) -> None:
    """PostgreSQL: once after it crashed, or another server took its place: what was being sent may have been.

    Markers do not wait for the disk, and a crash takes the last of them back. It also empties unlogged tables, which no
    replica has either; a clean end of the server does neither. So as long as our row is there no marker was lost.
    """
    if tx.dialect.name != "sqlite" and (await _UNCRASHED.run(tx)).rows:
        await _assume_markers(tx)


async def _assume_markers(tx: Tx) -> None:
    """What was being sent counts as marked. Whom an earlier attempt was refused may have got this one."""
    lost = (S.state == "sending", S.marker_at.is_(None))
    of_lost = R.submission.in_(select(S.id).where(*lost).scalar_subquery())
    await tx.execute(update(RECIPIENT).where(of_lost, R.state == "pending", R.code.is_not(None)).values(code=None))
    await tx.execute(update(SUBMISSION).where(*lost).values(marker_at=S.next_at))


async def take_unknown(
    tx: Tx, account: str, *, now: float, again: float, limit: int = 20, ids: Collection[int] = ()
) -> list[Submission]:
    """Unknown rows whose next look is due. They are this caller's for `again` seconds."""
    due = select(S.id).where(S.account == account, S.state == "unknown", S.next_at <= now)
    if ids:
        due = due.where(S.id.in_(sorted(ids)))
    due = due.order_by(S.next_at, S.id).limit(limit).with_for_update(skip_locked=True)
    taken = await tx.execute(
        update(SUBMISSION)
        .where(S.id.in_(due.scalar_subquery()), S.state == "unknown")
        .values(epoch=S.epoch + 1, next_at=now + again)
        .returning(S.id)
    )
    return await read(tx, [int(i) for i in taken.scalars()])


async def take_expired(tx: Tx, account: str, *, now: float) -> list[int]:
    """Queued for too long: failed. What an earlier attempt brought to somebody did leave, and is sent.

    While the account is paused its mail has time.
    """
    standing = or_(PAUSE.c.until.is_(None), PAUSE.c.until > now)
    paused = select(PAUSE.c.account).where(PAUSE.c.account.in_((account, "*")), standing).exists()
    expired = and_(S.account == account, S.state == "queued", S.expires_at <= now, S.next_at <= now, ~paused)
    if (await tx.execute(select(S.id).where(expired).limit(1))).first() is None:
        return []
    partly = select(R.submission).where(R.submission == S.id, R.state == "sent").exists()
    ids: list[int] = []
    ends: tuple[tuple[Any, dict[str, Any]], ...] = (
        (partly, {"state": "sent", "sent_at": now}), (~partly, {"state": "failed", "generation": None}),
    )  # fmt: skip
    for which, values in ends:
        done = await tx.execute(
            update(SUBMISSION)
            .where(expired, which)
            .values(epoch=S.epoch + 1, next_at=None, **values,
                    error=case((S.error == "", "expired"), else_="expired; the last error: " + S.error))
            .returning(S.id)
        )  # fmt: skip
        ids += [int(i) for i in done.scalars()]
    if ids:
        await tx.execute(
            update(RECIPIENT).where(R.submission.in_(ids), R.state == "pending").values(state="failed", text="expired")
        )
    return ids


async def next_due(tx: Tx, account: str) -> float | None:
    """When something is due next; None when nothing is."""
    waiting = S.state.in_(("queued", "sending", "unknown"))
    query = select(func.min(S.next_at)).where(S.account == account, waiting, S.next_at.is_not(None))
    found = (await tx.execute(query)).scalar_one()
    return None if found is None else float(found)


async def has_copy(tx: Tx, message: int | None) -> bool:
    """Whether the receiving side has seen our own message on the server: in Sent, or a copy to ourselves."""
    if message is None:
        return False
    return (await tx.execute(select(LOCATION.c.uid).where(LOCATION.c.message == message).limit(1))).first() is not None


# -- bounces ----------------------------------------------------------------------------------------------------------


async def sent_under(tx: Tx, account: str, message_ids: Collection[str], *, since: float) -> Submission | None:
    """The submission that went out under one of these Message-IDs, ours or the one a rewriter gave it."""
    if not message_ids:
        return None
    keys = sorted({key_of(i) for i in message_ids})
    known_as = select(ALIAS.c.message).where(
        ALIAS.c.account == account, ALIAS.c.key.in_(keys), ALIAS.c.message_id.in_(sorted(message_ids))
    )
    under = select(S.id).where(S.account == account, S.message_id.in_(sorted(message_ids)))
    named = S.id.in_(union(under, select(S.id).where(S.message.in_(known_as.scalar_subquery()))))
    found = await _rows(tx, and_(S.account == account, named, S.state.in_(_TRIED), _AGE >= since))
    return found[0] if found else None


async def sent_from(tx: Tx, account: str, return_paths: Collection[str], *, since: float) -> Submission | None:
    """The submission whose envelope sender is one of these, which no other mail has."""
    if not return_paths:
        return None
    tags = sorted({tag for path in return_paths if (tag := return_tag(path)) is not None})
    named = and_(S.return_tag.in_(tags), func.lower(S.mail_from).in_(sorted(return_paths)))
    found = await _rows(tx, and_(S.account == account, named, S.state.in_(_TRIED), _AGE >= since))
    return found[0] if len(found) == 1 else None


def return_tag(mail_from: str) -> str | None:
    """What makes an envelope sender that of one mail alone (`local+b=tag@domain`)."""
    found = re.search(r"\+b=([a-z2-7]{16})@", mail_from)
    return found[1] if found else None


async def bounce(tx: Tx, id_: int, address: str, *, code: str, text: str) -> bool:
    """Mark a recipient as bounced; False when we never sent to it, or it is marked already."""
    over = select(S.id).where(S.id == id_, S.state.in_(("sent", "unknown"))).exists()
    went = or_(R.state == "sent", and_(R.state == "pending", over))
    done = await tx.execute(
        update(RECIPIENT)
        .where(R.submission == id_, func.lower(R.address) == address_key(address), went)
        .values(state="bounced", text=f"{code} {text}".strip()[:500])
    )
    return done.rowcount > 0


async def _rows(tx: Tx, which: Any) -> list[Submission]:
    rows = (await tx.execute(_ROWS.where(which))).all()
    people: dict[int, list[RecipientState]] = {}
    # Taken at once, as most mail is: `settle` writes the state of the row and leaves its recipients alone.
    taken = {r.id: r.code for r in rows if r.state == "sent"}
    if rows:
        wanted = _RECIPIENTS.where(R.submission.in_([r.id for r in rows]))
        for id_, address, state, code, said in await tx.execute(wanted):
            through = state == "pending" and id_ in taken
            one = RecipientState(address, "sent" if through else state, taken[id_] if through else code, said)
            people.setdefault(id_, []).append(one)
    return [Submission(*r, tuple(people.get(r.id, ()))) for r in rows]  # type: ignore[call-arg] # a Row has no length


def _submission(values: Mapping[str, Any], recipients: Iterable[RecipientState]) -> Submission:
    return Submission(**{name: values.get(name) for name in COLUMNS}, recipients=tuple(recipients))  # type: ignore[arg-type]


COLUMNS = [f.name for f in fields(Submission) if f.name != "recipients"]
"""What a row is read with, in order; `thread` is the message's."""
_ROWS = (
    select(*(MESSAGE.c.thread if name == "thread" else SUBMISSION.c[name] for name in COLUMNS))
    .outerjoin(MESSAGE, MESSAGE.c.id == S.message)
    .order_by(S.id)
)
_TRIED = ("sent", "unknown", "queued", "sending")
"""Some may have it while others wait."""
_AGE = S.created_at + 0.0
"""For what is looked up by a name: SQLite would rather walk the index of times, over two weeks of mail."""
_RECIPIENTS = select(R.submission, R.address, R.state, R.code, R.text).order_by(R.submission, R.position)
_WITH_KEY = Statement(
    lambda postgres: select(S.id).where(S.account == bindparam("account"), S.key == bindparam("key"))
)
_ANSWERS = Statement(
    lambda postgres: select(func.max(S.generation), func.max(S.id)).where(
        S.account == bindparam("account"), S.answers == bindparam("message"), S.generation.is_not(None)
    )
)
_HOLD = Statement(lambda postgres: text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 7))"))
_UNCRASHED = Statement(
    lambda postgres: text("INSERT INTO uncrashed (id) VALUES (1) ON CONFLICT DO NOTHING RETURNING id")
)
_THREAD_OF = Statement(lambda postgres: select(MESSAGE.c.thread).where(MESSAGE.c.id == bindparam("message")))
# Built once: building an expression costs more than running it.
_ADD = Insert(SUBMISSION)
_ADD_RECIPIENTS = Insert(RECIPIENT, [R.submission, R.position, R.address, R.state, R.code, R.text])
_ADD_BODIES = Insert(BODY, [BODY.c.submission, BODY.c.data])
