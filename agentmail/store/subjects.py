"""The subject rule at work: attach threads that only a subject can place, and take it back when it stops being true.

Whoever changes what the rule rests on (a message of that subject, a join, an owner of an id) works out anew every
answer that may depend on it, oldest first, because an attached answer is part of the thread that the next one may
mean. On PostgreSQL an advisory lock for each subject makes sure that two such changes see each other.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import Update, and_, bindparam, func, or_, select, text, tuple_, update
from sqlalchemy.exc import NoResultFound

from ..message.models import Message
from ..threads.fallback import WINDOW, mentioned_keys, shares_people
from . import attention, holders
from .database import Tx
from .direct import Statement, among, listed
from .events import append_events
from .tables.threads import HEADLESS, MESSAGE, THREAD, WITH_SUBJECT

_LOOKED_AT = 200
"""Messages of the candidate thread whose people are compared; the newest."""

_ANSWERS = Statement(
    lambda postgres: select(MESSAGE.c.cluster, MESSAGE.c.subject_key, MESSAGE.c.at).where(
        MESSAGE.c.account == bindparam("account"), among(MESSAGE.c.subject_key, "keys", postgres=postgres),
        MESSAGE.c.at >= bindparam("low"), MESSAGE.c.at <= bindparam("high"), HEADLESS,
    )
)  # fmt: skip
_HEADLESS = Statement(
    lambda postgres: (
        select(MESSAGE.c.cluster).where(among(MESSAGE.c.cluster, "clusters", postgres=postgres), HEADLESS).distinct()
    )
)

_LEAD = Statement(
    lambda postgres: (
        select(MESSAGE.c.at, MESSAGE.c.content_key, MESSAGE.c.headless, MESSAGE.c.subject_key, MESSAGE.c.parsed)
        .where(MESSAGE.c.cluster == bindparam("of"))
        .order_by(MESSAGE.c.at, MESSAGE.c.content_key)
        .limit(1)
    )
)
_ATTACHED_TO = Statement(lambda postgres: select(THREAD.c.attached_to).where(THREAD.c.id == bindparam("of")))
_TARGET = bindparam("target", type_=THREAD.c.id.type)
_ATTACH = Statement(lambda postgres: update(THREAD).where(THREAD.c.id == bindparam("what")).values(attached_to=_TARGET))
_SHOW = Statement(lambda postgres: update(MESSAGE).where(MESSAGE.c.cluster == bindparam("what")).values(thread=_TARGET))
_ATTACH_HANGING = Statement(
    lambda postgres: update(THREAD).where(THREAD.c.attached_to == bindparam("what")).values(attached_to=_TARGET)
)
_SHOW_HANGING = Statement(
    lambda postgres: update(MESSAGE).where(MESSAGE.c.thread == bindparam("what")).values(thread=_TARGET)
)


def _newest(postgres: bool) -> Update:
    """A thread is as new as the newest message that is shown in it."""
    newest = select(func.max(MESSAGE.c.at)).where(MESSAGE.c.thread == bindparam("which")).scalar_subquery()
    last = func.coalesce(newest, THREAD.c.last_at)
    return update(THREAD).where(THREAD.c.id == bindparam("which")).values(last_at=last)


_NEWEST = Statement(_newest)


class Lead(NamedTuple):
    """The oldest message of a cluster."""

    at: float
    content_key: str
    headless: bool
    subject_key: str
    parsed: str


Span = tuple[float, float]
"""The oldest and the newest time of what changed."""


class SubjectRule:
    """The answers of one account that one batch may have to place."""

    def __init__(self, tx: Tx, account: str, own: Collection[str], *, now: float) -> None:
        self.tx = tx
        self.account = account
        self.own = own
        self.now = now
        self.moved: dict[int, int] = {}
        """Cluster -> the thread it is shown in from now on."""
        self._waiting: list[tuple[float, str, int]] = []
        self._queued: set[int] = set()
        self._locked: set[str] = set()

    async def run(self, spans: Mapping[str, Span], clusters: Collection[int]) -> dict[int, int]:
        """Work out all answers that depend on messages with these subject keys, or that are in these clusters."""
        await self._lock(spans)
        await self._queue_subjects(spans)
        if clusters:
            for some in holders.chunks(sorted(clusters)):
                headless = await _HEADLESS.run(self.tx, clusters=listed(self.tx, some))
                await self._queue([c for (c,) in headless.rows])
        while self._waiting:
            *_, cluster = heapq.heappop(self._waiting)
            self._queued.discard(cluster)
            await self._place(cluster)
        return self.moved

    async def _lock(self, keys: Iterable[str]) -> None:
        new = sorted(set(keys) - self._locked)
        self._locked.update(new)
        if new and self.tx.dialect.name == "postgresql":
            query = text(
                "SELECT pg_advisory_xact_lock(n) FROM (SELECT DISTINCT hashtextextended(k, 1) AS n "
                "FROM unnest(CAST(:keys AS text[])) AS k ORDER BY 1) AS numbers"
            )
            await self.tx.execute(query, {"keys": [f"{self.account}\n{key}" for key in new]})

    async def _queue_subjects(self, spans: Mapping[str, Span]) -> None:
        for some in holders.chunks(sorted(spans)):
            low, high = min(spans[key][0] for key in some), max(spans[key][1] for key in some) + WINDOW
            answers = await _ANSWERS.run(self.tx, account=self.account, keys=listed(self.tx, some), low=low, high=high)
            found = {cluster for cluster, key, at in answers.rows if spans[key][0] <= at <= spans[key][1] + WINDOW}
            await self._queue(found)

    async def _queue(self, clusters: Iterable[int]) -> None:
        for cluster in set(clusters) - self._queued:
            lead = await self._lead(cluster)
            self._queued.add(cluster)
            heapq.heappush(self._waiting, (lead.at, lead.content_key, cluster))

    async def _lead(self, cluster: int) -> Lead:
        """The oldest message of a cluster: it speaks for all."""
        return Lead(*(await _LEAD.run(self.tx, of=cluster)).first)

    async def _place(self, cluster: int) -> None:
        lead = await self._lead(cluster)
        await self._lock([lead.subject_key])
        before: int | None = (await _ATTACHED_TO.run(self.tx, of=cluster)).first[0]
        target = await self._target(cluster, lead) if lead.headless else None
        if target == before:
            return
        await attach(self.tx, cluster, target, was=before)
        self.moved[cluster] = cluster if target is None else target
        if target is not None:
            await attention.joined(self.tx, self.account, target, [cluster])
        elif before is not None:
            await attention.parted(self.tx, self.account, cluster, before)
        await append_events(self.tx, [
            {"kind": "thread.attached" if target is not None else "thread.detached", "thread": cluster, "message": None,
             "account": self.account, "data": {"to": f"t{target}"} if target is not None else None, "at": self.now}
        ])  # fmt: skip
        await self._queue_dependents(cluster, lead, [t for t in (before, target) if t is not None])

    async def _queue_dependents(self, cluster: int, lead: Lead, touched: Collection[int]) -> None:
        query = (
            select(MESSAGE.c.subject_key, func.max(MESSAGE.c.at))
            .where(MESSAGE.c.cluster == cluster, MESSAGE.c.subject_key != "")
            .group_by(MESSAGE.c.subject_key)
        )
        spans = {key: (lead.at, last) for key, last in await self.tx.execute(query)}
        await self._lock(spans)
        if spans:
            until = (and_(MESSAGE.c.subject_key == k, MESSAGE.c.at <= last + WINDOW) for k, (_, last) in spans.items())
            later = select(MESSAGE.c.cluster).where(
                MESSAGE.c.account == self.account, HEADLESS, or_(*until),
                tuple_(MESSAGE.c.at, MESSAGE.c.content_key) > tuple_(lead.at, lead.content_key),
                MESSAGE.c.cluster != cluster,
            )  # fmt: skip
            await self._queue([c for (c,) in await self.tx.execute(later.distinct())])
        beside = select(THREAD.c.id).where(THREAD.c.attached_to.in_([cluster, *touched]), THREAD.c.id != cluster)
        for (other,) in (await self.tx.execute(beside)).all():
            other_lead = await self._lead(other)
            if (other_lead.at, other_lead.content_key) > (lead.at, lead.content_key):
                await self._queue([other])

    async def _target(self, cluster: int, lead: Lead) -> int | None:
        """The one thread that the oldest message of this cluster can mean, if there is exactly one."""
        answer = Message.model_validate_json(lead.parsed)
        if await self._any_owned(mentioned_keys(answer)):
            return None  # its ids do say something
        earlier = and_(
            MESSAGE.c.account == self.account, MESSAGE.c.subject_key == lead.subject_key, WITH_SUBJECT,
            MESSAGE.c.at >= lead.at - WINDOW, MESSAGE.c.at <= lead.at, MESSAGE.c.cluster != cluster,
            tuple_(MESSAGE.c.at, MESSAGE.c.content_key) < tuple_(lead.at, lead.content_key),
        )  # fmt: skip
        # Uniqueness first, people second: the other way round hides that the subject is ambiguous.
        threads = (await self.tx.execute(select(MESSAGE.c.thread).where(earlier).distinct().limit(2))).scalars().all()
        if len(threads) != 1 or threads[0] == cluster:
            return None
        query = select(MESSAGE.c.parsed).where(earlier).order_by(MESSAGE.c.at.desc(), MESSAGE.c.content_key.desc())
        rows = (await self.tx.execute(query.limit(_LOOKED_AT))).scalars().all()
        candidates = (Message.model_validate_json(parsed) for parsed in rows)
        return int(threads[0]) if shares_people(answer, candidates, self.own) else None

    async def _any_owned(self, keys: Collection[str]) -> bool:
        if not keys:
            return False
        found = await holders.read(self.tx, self.account, keys)
        return any(hold.role == "own" for holds in found.values() for hold in holds)


async def attach(tx: Tx, cluster: int, target: int | None, *, was: int | None) -> None:
    """Show a cluster's messages in another thread, or in its own again.

    Raises:
        NoResultFound: it was deleted meanwhile. From here on it cannot be, for its row is ours until the commit.
    """
    shown = cluster if target is None else target
    if not (await _ATTACH.run(tx, what=cluster, target=target)).changed:
        raise NoResultFound
    await _SHOW.run(tx, what=cluster, target=shown)
    if target is not None:
        # Whatever hangs on it moves along: nobody is attached to an attached thread.
        await _ATTACH_HANGING.run(tx, what=cluster, target=target)
        await _SHOW_HANGING.run(tx, what=cluster, target=target)
    for thread in sorted({cluster, shown, *([was] if was is not None else [])}):
        await _NEWEST.run(tx, which=thread)
