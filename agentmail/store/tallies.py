"""What the policy needs to know: how much was sent in which window, who is known, what stops an account."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Integer, Select, Text, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ..message.domains import address_key
from ..message.models import Message
from ..policy import Counts, resembles
from .database import Tx
from .direct import Statement, among, listed
from .tables.outbox import GRANT, PAUSE, RECIPIENT, SUBMISSION
from .tables.threads import INFO, MESSAGE, PERSON

S, R = SUBMISSION.c, RECIPIENT.c
_DAY, _HOUR, _MINUTES = 86_400, 3_600, 600


def _of_account(*more: Any) -> tuple[ColumnElement[bool], ...]:
    """Denied and canceled mail reached nobody. Held mail counts: a loop must not fill the outbox either."""
    return (S.account == bindparam("account"), S.state != "canceled", S.created_at > bindparam("since"), *more)


_REPLY = S.kind == "reply"
_LOWER = func.lower(R.address, type_=Text)
_IN_THREAD = Statement(
    lambda postgres: select(func.count().filter(S.created_at > bindparam("lately")), func.count())
    .select_from(SUBMISSION)
    .join(MESSAGE, MESSAGE.c.id == S.message)
    .where(*_of_account(_REPLY, MESSAGE.c.thread == bindparam("thread")))
)
_NEWEST_IN = (
    select(func.max(MESSAGE.c.id))
    .where(MESSAGE.c.thread == bindparam("thread"), ~MESSAGE.c.outgoing)
    .scalar_subquery()
)  # fmt: skip
_UNANSWERED = Statement(
    lambda postgres: select(func.count()).where(
        MESSAGE.c.thread == bindparam("thread"), MESSAGE.c.outgoing, MESSAGE.c.id > func.coalesce(_NEWEST_IN, 0),
        MESSAGE.c.id.not_in(select(S.message).where(S.message == MESSAGE.c.id, S.state == "canceled")),
    )
)  # fmt: skip
_TO_PEOPLE = Statement(
    lambda postgres: select(_LOWER, func.count())
    .select_from(RECIPIENT)
    .join(SUBMISSION, S.id == R.submission)
    .where(*_of_account(_REPLY, among(_LOWER, "addresses", postgres=postgres)))
    .group_by(_LOWER)
)
_TO_DOMAIN = Statement(
    lambda postgres: select(func.count(S.id.distinct()))
    .select_from(SUBMISSION)
    .join(RECIPIENT, S.id == R.submission)
    .where(*_of_account(_REPLY, _LOWER.like(bindparam("ending"), escape="/")))
)
_BY_ACCOUNT = Statement(
    lambda postgres: select(
        func.count().filter(_REPLY, S.created_at > bindparam("lately")),
        func.count().filter(S.origin == "tool", S.created_at > bindparam("lately")),
        func.count().filter(S.origin == "tool"),
    ).where(*_of_account())
)  # fmt: skip


async def counts(tx: Tx, account: str, thread: int | None, recipients: Collection[str], *, now: float) -> Counts:
    """How much of this account left within the windows of the policy."""
    in_day = {"account": account, "since": now - _DAY}
    in_thread: Sequence[int] = (0, 0)
    unanswered = 0
    if thread is not None:
        in_thread = (await _IN_THREAD.run(tx, **in_day, lately=now - _MINUTES, thread=thread)).rows[0]
        unanswered = int((await _UNANSWERED.run(tx, thread=thread)).value)
    wanted = sorted(set(map(address_key, recipients)))
    written = (await _TO_PEOPLE.run(tx, **in_day, addresses=listed(tx, wanted))).rows
    people = dict.fromkeys(wanted, 0) | {str(address): int(n) for address, n in written}
    domains = {}
    for domain in sorted({a.rpartition("@")[2] for a in wanted}):
        ending = re.sub(r"([/%_])", r"/\1", domain)
        done = await _TO_DOMAIN.run(tx, account=account, since=now - _HOUR, ending=f"%@{ending}")
        domains[domain] = int(done.value)
    replies_hour, tool_hour, tool_day = (await _BY_ACCOUNT.run(tx, **in_day, lately=now - _HOUR)).rows[0]
    return Counts(
        thread_10_minutes=in_thread[0], thread_day=in_thread[1], person_day=people, replies_hour=replies_hour,
        domain_hour=domains, tool_hour=tool_hour, tool_day=tool_day, unanswered=unanswered,
    )  # fmt: skip


def _addresses(query: Callable[[], Select[Any]], column: ColumnElement[str]) -> Statement:
    """Of the addresses that are asked for, those that the query finds in its column."""
    return Statement(lambda postgres: query().where(among(column, "addresses", postgres=postgres)).distinct())


_SENT_TO = select(_LOWER).join(SUBMISSION, S.id == R.submission).where(S.state == "sent")
_IN: BindParameter[int] = bindparam("thread")
_OF: BindParameter[str] = bindparam("account")
_WROTE_IN = _addresses(lambda: select(MESSAGE.c.sender).where(MESSAGE.c.thread == _IN), MESSAGE.c.sender)
_WRITTEN_TO_IN = _addresses(
    lambda: _SENT_TO.join(MESSAGE, MESSAGE.c.id == S.message).where(MESSAGE.c.thread == _IN), _LOWER
)
_NAMED_IN = _addresses(lambda: select(PERSON.c.atom).where(PERSON.c.thread == _IN), PERSON.c.atom)
_WRITTEN_TO = _addresses(lambda: _SENT_TO.where(S.account == _OF), _LOWER)
_WROTE = _addresses(lambda: select(MESSAGE.c.sender).where(MESSAGE.c.account == _OF), MESSAGE.c.sender)
_GRANTED = _addresses(lambda: select(GRANT.c.address).where(GRANT.c.account == _OF), GRANT.c.address)


async def familiar(
    tx: Tx, account: str, thread: int | None, recipients: Collection[str]
) -> tuple[set[str], set[str], set[str], set[str]]:
    """Of the recipients: (wrote or was written to in this thread, only named in it, known to the mailbox, granted)."""
    wanted = listed(tx, sorted(set(map(address_key, recipients))))

    async def found(statement: Statement, **where: Any) -> set[str]:
        return {str(address) for (address,) in (await statement.run(tx, addresses=wanted, **where)).rows}

    wrote: set[str] = set()
    named: set[str] = set()
    if thread is not None:
        wrote = await found(_WROTE_IN, thread=thread) | await found(_WRITTEN_TO_IN, thread=thread)
        named = await found(_NAMED_IN, thread=thread) - wrote
    known = await found(_WRITTEN_TO, account=account) | await found(_WROTE, account=account)
    return wrote, named, known, await found(_GRANTED, account=account)


_ATOMS = Statement(lambda postgres: select(PERSON.c.atom).where(PERSON.c.thread == _IN).limit(500))
_LATELY = Statement(
    lambda postgres: select(_LOWER)
    .join(SUBMISSION, S.id == R.submission)
    .where(S.account == _OF, S.state == "sent")
    .order_by(S.id.desc())
    .limit(1_000)
)


async def around(tx: Tx, account: str, thread: int | None) -> frozenset[str]:
    """Domains of everybody in the thread, and of those the account wrote to lately."""
    found = list((await _LATELY.run(tx, account=account)).rows)
    if thread is not None:
        found += (await _ATOMS.run(tx, thread=thread)).rows
    return frozenset(str(who).rpartition("@")[2] for (who,) in found if "@" in who)


_LAST_OF = Statement(
    lambda postgres: select(MESSAGE.c.parsed)
    .where(MESSAGE.c.thread == bindparam("thread"), MESSAGE.c.sender == bindparam("sender"), ~MESSAGE.c.outgoing)
    .order_by(MESSAGE.c.id.desc())
    .limit(bindparam("most", type_=Integer))
)


async def same_again(tx: Tx, thread: int | None, sender: str, *, limit: int) -> int:
    """How many of the newest messages from this sender in the thread, one after another, say the same."""
    if thread is None or not sender:
        return 0
    texts = []
    for (parsed,) in (await _LAST_OF.run(tx, thread=thread, sender=sender, most=limit)).rows:
        values = json.loads(parsed)
        texts.append(str(values.get("new_text") or values.get("text") or ""))
    if not texts:
        return 0
    return 1 + next((i for i, t in enumerate(texts[1:]) if not resembles(texts[0], t)), len(texts) - 1)


_OVERLAP = 500
"""PostgreSQL hands out ids before transactions commit, so a lower one may appear late. Twice is harmless."""


async def new_bounces(tx: Tx, account: str) -> tuple[list[Message], int]:
    """Bounces among the messages filed since `bounces_taken`, and the ones shortly before; the newest message, or 0
    when nothing is new.
    """
    name = f"bounces {account}"
    mark = (await tx.execute(select(INFO.c.value).where(INFO.c.name == name))).scalar_one_or_none()
    newest = await _newest(tx)
    if not newest or str(newest) == mark:
        return [], 0
    rows = await tx.execute(
        select(MESSAGE.c.id, MESSAGE.c.parsed)
        .where(*_bounces(account), MESSAGE.c.id > int(mark or 0) - _OVERLAP)
        .order_by(MESSAGE.c.id)
    )
    return [Message.model_validate_json(r.parsed).model_copy(update={"id": f"m{r.id}"}) for r in rows], newest


async def bounces_taken(tx: Tx, account: str, upto: int) -> None:
    """What the bounces said is written, up to this message."""
    await _upsert(tx, INFO, {"name": f"bounces {account}"}, {"value": str(upto)})


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


async def resume(tx: Tx, account: str, *, now: float, causes: Collection[str] = ()) -> bool:
    """Lift these pauses, or all of the account; whether there was one. What waited has its two days from now on."""
    query = delete(PAUSE).where(PAUSE.c.account == account)
    if causes:
        query = query.where(PAUSE.c.cause.in_(sorted(causes)))
    if (await tx.execute(query)).rowcount == 0:
        return False
    await _give_time(tx, account, now=now)
    return True


async def lift_ended(tx: Tx, account: str, *, now: float) -> list[tuple[str, str]]:
    """(account, cause) of the pauses that have ended by themselves; what waited for them has its two days too.

    A limit gives them only to what was hardly tried: mail that meets one at each attempt may be at fault itself.
    """
    ended = (PAUSE.c.account.in_((account, EVERY)), PAUSE.c.until <= now)
    if (await tx.execute(select(PAUSE.c.cause).where(*ended).limit(1))).first() is None:
        return []
    lifted = await tx.execute(delete(PAUSE).where(*ended).returning(PAUSE.c.account, PAUSE.c.cause))
    done = sorted((str(whose), str(cause)) for whose, cause in lifted)
    for whose, cause in done:
        await _give_time(tx, whose, *([S.attempts <= 2] if cause == "limit" else []), now=now)
    return done


async def _give_time(tx: Tx, account: str, *which: ColumnElement[bool], now: float) -> None:
    until = now + 2 * _DAY
    waited = [S.state == "queued", S.expires_at < until, *([S.account == account] if account != EVERY else []), *which]
    await tx.execute(update(SUBMISSION).where(*waited).values(expires_at=until))


async def grant(tx: Tx, account: str, address: str, *, reason: str, now: float) -> None:
    key = {"account": account, "address": address_key(address)}
    await _upsert(tx, GRANT, key, {"reason": reason, "at": now})


async def _upsert(tx: Tx, table: Any, key: dict[str, Any], values: dict[str, Any]) -> None:
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(table).values(**key, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))
