"""What the policy needs to know: how much was sent in which window, who is known, what stops an account."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from ..message.domains import address_key
from ..message.models import Message
from ..policy import Counts, resembles
from .database import Tx
from .tables.outbox import GRANT, PAUSE, RECIPIENT, SUBMISSION
from .tables.threads import INFO, MESSAGE, PERSON

S, R = SUBMISSION.c, RECIPIENT.c
_COUNTED = ("held", "queued", "sending", "sent", "unknown", "failed")
"""Denied and canceled mail reached nobody. Held mail counts: a loop must not fill the outbox either."""


async def counts(tx: Tx, account: str, thread: int | None, recipients: Collection[str], *, now: float) -> Counts:
    """How much of this account left within the windows of the policy."""
    replies = (S.account == account, S.kind == "reply", S.state.in_(_COUNTED))
    day, hour = now - 86_400, now - 3_600
    in_thread = (0, 0)
    unanswered = 0
    if thread is not None:
        row = (
            await tx.execute(
                select(
                    func.count().filter(S.created_at > now - 600),
                    func.count(),
                )
                .select_from(SUBMISSION)
                .join(MESSAGE, MESSAGE.c.id == S.message)
                .where(*replies, S.created_at > day, MESSAGE.c.thread == thread)
            )
        ).one()
        in_thread = (int(row[0]), int(row[1]))
        newest = select(func.max(MESSAGE.c.id)).where(MESSAGE.c.thread == thread, ~MESSAGE.c.outgoing).scalar_subquery()
        query = select(func.count()).where(
            MESSAGE.c.thread == thread,
            MESSAGE.c.outgoing,
            MESSAGE.c.id > func.coalesce(newest, 0),
            MESSAGE.c.id.not_in(select(S.message).where(S.message == MESSAGE.c.id, S.state == "canceled")),
        )
        unanswered = int((await tx.execute(query)).scalar_one())
    people: dict[str, int] = {}
    domains: dict[str, int] = {}
    lower = func.lower(R.address)
    for address in sorted(set(map(address_key, recipients))):
        query = (
            select(func.count())
            .select_from(RECIPIENT)
            .join(SUBMISSION, S.id == R.submission)
            .where(*replies, S.created_at > day, lower == address)
        )
        people[address] = int((await tx.execute(query)).scalar_one())
    for domain in sorted({address_key(a).rpartition("@")[2] for a in recipients}):
        query = (
            select(func.count())
            .select_from(SUBMISSION)
            .join(RECIPIENT, S.id == R.submission)
            .where(*replies, S.created_at > hour, lower.endswith(f"@{domain}", autoescape=True))
        )
        domains[domain] = int((await tx.execute(query)).scalar_one())
    of_account = (
        await tx.execute(
            select(
                func.count().filter(S.kind == "reply", S.created_at > hour),
                func.count().filter(S.origin == "tool", S.created_at > hour),
                func.count().filter(S.origin == "tool"),
            ).where(S.account == account, S.state.in_(_COUNTED), S.created_at > day)
        )
    ).one()
    return Counts(
        thread_10_minutes=in_thread[0], thread_day=in_thread[1], person_day=people, replies_hour=int(of_account[0]),
        domain_hour=domains, tool_hour=int(of_account[1]), tool_day=int(of_account[2]), unanswered=unanswered,
    )  # fmt: skip


async def familiar(
    tx: Tx, account: str, thread: int | None, recipients: Collection[str]
) -> tuple[set[str], set[str], set[str], set[str]]:
    """Of the recipients: (wrote or was written to in this thread, only named in it, known to the mailbox, granted)."""
    wanted = sorted(set(map(address_key, recipients)))
    wrote: set[str] = set()
    named: set[str] = set()
    if thread is not None:
        sent = await tx.execute(
            select(MESSAGE.c.sender).where(MESSAGE.c.thread == thread, MESSAGE.c.sender.in_(wanted)).distinct()
        )
        wrote |= {str(a) for a in sent.scalars()}
        written_to = await tx.execute(
            select(func.lower(R.address))
            .join(SUBMISSION, S.id == R.submission)
            .join(MESSAGE, MESSAGE.c.id == S.message)
            .where(MESSAGE.c.thread == thread, func.lower(R.address).in_(wanted), S.state == "sent")
        )
        wrote |= {str(a) for a in written_to.scalars()}
        present = await tx.execute(select(PERSON.c.atom).where(PERSON.c.thread == thread, PERSON.c.atom.in_(wanted)))
        named = {str(a) for a in present.scalars()} - wrote
    corresponded = await tx.execute(
        select(func.lower(R.address))
        .join(SUBMISSION, S.id == R.submission)
        .where(S.account == account, S.state == "sent", func.lower(R.address).in_(wanted))
        .distinct()
    )
    senders = await tx.execute(
        select(MESSAGE.c.sender).where(MESSAGE.c.account == account, MESSAGE.c.sender.in_(wanted)).distinct()
    )
    known = {str(a) for a in corresponded.scalars()} | {str(a) for a in senders.scalars()}
    vouched = await tx.execute(select(GRANT.c.address).where(GRANT.c.account == account, GRANT.c.address.in_(wanted)))
    return wrote, named, known, {str(a) for a in vouched.scalars()}


async def same_again(tx: Tx, thread: int | None, sender: str, *, limit: int) -> int:
    """How many of the newest messages from this sender in the thread, one after another, say the same."""
    if thread is None or not sender:
        return 0
    rows = await tx.execute(
        select(MESSAGE.c.parsed)
        .where(MESSAGE.c.thread == thread, MESSAGE.c.sender == sender, ~MESSAGE.c.outgoing)
        .order_by(MESSAGE.c.id.desc())
        .limit(limit)
    )
    texts = []
    for parsed in rows.scalars():
        values = json.loads(parsed)
        texts.append(str(values.get("new_text") or values.get("text") or ""))
    if not texts:
        return 0
    return 1 + next((i for i, t in enumerate(texts[1:]) if not resembles(texts[0], t)), len(texts) - 1)


_OVERLAP = 500
"""PostgreSQL hands out ids before transactions commit, so a lower one may appear late. Twice is harmless."""


async def new_bounces(tx: Tx, account: str) -> list[Message]:
    """Bounces among the messages filed since this was asked last, and the ones shortly before."""
    name = f"bounces {account}"
    mark = (await tx.execute(select(INFO.c.value).where(INFO.c.name == name))).scalar_one_or_none()
    newest = await _newest(tx)
    if not newest or str(newest) == mark:
        return []
    rows = await tx.execute(
        select(MESSAGE.c.id, MESSAGE.c.parsed)
        .where(*_bounces(account), MESSAGE.c.id > int(mark or 0) - _OVERLAP)
        .order_by(MESSAGE.c.id)
    )
    found = [Message.model_validate_json(r.parsed).model_copy(update={"id": f"m{r.id}"}) for r in rows]
    await _upsert(tx, INFO, {"name": name}, {"value": str(newest)})
    return found


async def bounced_since(tx: Tx, account: str, seen: int | None) -> tuple[bool, int]:
    """Whether a bounce was filed after the message `seen`, and the newest message now. Reads only what is newer.

    Without `seen` it is only a beginning. What appears late below it is found by the next `new_bounces`.
    """
    newest = await _newest(tx)
    if seen is None or newest <= seen:
        return False, newest
    found = await tx.execute(select(MESSAGE.c.id).where(*_bounces(account), MESSAGE.c.id > seen).limit(1))
    return found.first() is not None, newest


async def _newest(tx: Tx) -> int:
    """The newest message of any account: asked for one account, a store with many would be walked through."""
    return int((await tx.execute(select(func.max(MESSAGE.c.id)))).scalar_one() or 0)


def _bounces(account: str) -> tuple[ColumnElement[bool], ...]:
    mark = MESSAGE.c.parsed.contains('"automated":"bounce"', autoescape=True)
    return MESSAGE.c.account == account, ~MESSAGE.c.outgoing, mark


# -- what stops an account, and who is vouched for --------------------------------------------------------------------

EVERY = "*"
"""In place of an account: all of them."""


async def pauses(tx: Tx, account: str, *, now: float) -> list[tuple[str, str]]:
    """(cause, reason) of everything that stops this account now."""
    rows = await tx.execute(
        select(PAUSE.c.cause, PAUSE.c.reason).where(
            PAUSE.c.account.in_((account, EVERY)), or_(PAUSE.c.until.is_(None), PAUSE.c.until > now)
        )
    )
    return [(str(r.cause), str(r.reason)) for r in rows]


async def pause(
    tx: Tx, account: str, *, cause: str, reason: str, by: str, now: float, until: float | None = None
) -> None:
    values = {"reason": reason, "by": by, "at": now, "until": until}
    await _upsert(tx, PAUSE, {"account": account, "cause": cause}, values)


async def resume(tx: Tx, account: str, *, causes: Collection[str] = ()) -> bool:
    """Lift these pauses, or all of the account; whether there was one."""
    query = delete(PAUSE).where(PAUSE.c.account == account)
    if causes:
        query = query.where(PAUSE.c.cause.in_(sorted(causes)))
    return (await tx.execute(query)).rowcount > 0


async def grant(tx: Tx, account: str, address: str, *, reason: str, now: float) -> None:
    key = {"account": account, "address": address_key(address)}
    await _upsert(tx, GRANT, key, {"reason": reason, "at": now})


async def _upsert(tx: Tx, table: Any, key: dict[str, Any], values: dict[str, Any]) -> None:
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(table).values(**key, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))
