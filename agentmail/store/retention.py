"""Taking mail out of the store for good: a thread, or everything of one person; and how large the store is.

What stays must not fall apart. A deleted message leaves its Message-ID behind as a ghost, so that answers to it still
find their thread; nothing else of it stays. The mail server is not touched: delete there what shall be gone there.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Text, cast, delete, func, insert, or_, select, text, update

from ..errors import BadInput, Conflict
from ..message.domains import address_key
from ..message.models import Message, Value
from ..message.parse import parse
from ..threads.placement import EVERYWHERE, Facts, Hold, facts_of
from . import attention, holders, submissions
from .database import Database, Tx
from .events import append_event
from .queries import message_at
from .reading import resolve
from .search import unindex
from .subjects import attach
from .tables import metadata
from .tables.base import core
from .tables.outbox import GRANT, SubmissionRow
from .tables.threads import (
    ACCOUNT,
    ALIAS,
    APART,
    ATTACHMENT,
    EVENT,
    HOLDER,
    IDENT,
    MESSAGE,
    PERSON,
    QUARANTINE,
    RAW,
    THREAD,
)
from .words import index_text, normalised

_SUBMISSION = core(SubmissionRow)
_OPEN = ("held", "queued", "sending", "unknown")
_GHOST = "?"
"""The voucher of an id that nobody speaks for any more."""
_PARTLY = "messages.deleted"
"""The event that a thread has lost some of its messages, and holds on to their ids."""
_CHUNK = 500


class Deleted(Value):
    """What was deleted for good."""

    messages: int = 0
    attachments: int = 0
    bytes: int = 0
    """Of raw mail. The file shrinks when it is vacuumed."""
    threads: tuple[str, ...] = ()
    """Threads of which nothing is left."""
    still_mentioned: tuple[str, ...] = ()
    """Messages of other people that still name the address, in a header or in quoted text."""


class AccountSize(Value):
    """What one account has in the store."""

    account: str
    """Its key; empty for archives imported without one."""
    threads: int
    messages: int
    attachments: int
    bytes: int
    """Of raw mail."""


class StoreSize(Value):
    """How large the store is."""

    accounts: tuple[AccountSize, ...] = ()
    database_bytes: int = 0
    unused_bytes: int = 0
    """Given back by `vacuum`. PostgreSQL does not say."""


# ---- deleting --------------------------------------------------------------------------------------------------------


async def delete_thread(tx: Tx, id: str, *, now: float) -> Deleted:  # noqa: A002
    """Delete a thread with all its messages."""
    thread = await resolve(tx, id)
    clusters = [thread, *(await _ids(tx, select(THREAD.c.id).where(THREAD.c.attached_to == thread)))]
    # The attached ones first: then nothing hangs on the thread when its turn comes.
    done = Deleted()
    for cluster in reversed(clusters):
        done = add_up(done, await _Cluster(tx, cluster, now=now).remove(None))
    return done


async def clusters_of(tx: Tx, address: str) -> list[int]:
    """Every cluster that holds something of an address."""
    known = select(PERSON.c.thread).where(PERSON.c.atom == address)
    written = select(MESSAGE.c.cluster).where(MESSAGE.c.sender == address)
    return sorted({*await _ids(tx, known), *await _ids(tx, written)})


async def forget_in(tx: Tx, cluster: int, address: str, *, now: float) -> Deleted:
    """Delete what an address wrote in one cluster, and what was written to it alone."""
    return await _Cluster(tx, cluster, now=now).remove(address)


async def forget_elsewhere(tx: Tx, address: str) -> Deleted:
    """Delete what was put aside unfiled; and find the messages that still name the address."""
    for row in (await tx.execute(select(QUARANTINE.c.id, QUARANTINE.c.data))).all():
        sender = parse(bytes(row.data)).sender
        if sender is not None and sender.key == address:
            await tx.execute(delete(QUARANTINE).where(QUARANTINE.c.id == row.id))
    await tx.execute(delete(APART).where(APART.c.atom.in_([address, f"~{address}"])))
    await tx.execute(delete(GRANT).where(GRANT.c.address == address))
    await _forget_in_log(tx, address)
    return Deleted(still_mentioned=tuple(f"m{m}" for m in await _mentioning(tx, address)))


async def _forget_in_log(tx: Tx, address: str) -> None:
    """What happened stays in the log, to whom does not. It reads the log once."""
    named = func.lower(cast(EVENT.c.data, Text)).contains(json.dumps(address)[1:-1].lower(), autoescape=True)
    for row in (await tx.execute(select(EVENT.c.id, EVENT.c.data).where(named))).all():
        await tx.execute(update(EVENT).where(EVENT.c.id == row.id).values(data=_without(row.data, address)))


def _without(value: Any, address: str) -> Any:
    """A value of JSON, with nothing in the place of each text that names an address."""
    if isinstance(value, dict):
        return {key: _without(inner, address) for key, inner in value.items() if address not in key.lower()}
    if isinstance(value, list):
        return [_without(inner, address) for inner in value]
    return "" if isinstance(value, str) and address in value.lower() else value


async def _mentioning(tx: Tx, address: str) -> list[int]:
    words = normalised(address).split()
    if tx.dialect.name == "postgresql":
        sql = "SELECT place FROM search WHERE words @@ CAST(CAST(:match AS text) AS tsquery) ORDER BY place"
        match = " <-> ".join(f"'{w}'" for w in words)
    else:
        sql, match = "SELECT rowid FROM search WHERE search MATCH :match ORDER BY rowid", f'"{" ".join(words)}"'
    return [message_at(p) for (p,) in await tx.execute(text(sql), {"match": match})]


class _Cluster:
    """The messages that their ids put together, and what is taken out of them."""

    def __init__(self, tx: Tx, cluster: int, *, now: float) -> None:
        self.tx = tx
        self.cluster = cluster
        self.now = now
        self.account = ""
        self.own: frozenset[str] = frozenset()

    async def remove(self, address: str | None) -> Deleted:
        """Take out everything, or (with an address) what is that person's."""
        postgres = self.tx.dialect.name == "postgresql"
        columns = (THREAD.c.account, THREAD.c.attached_to, THREAD.c.merged_into)
        while True:
            query = select(*columns).where(THREAD.c.id == self.cluster)
            row = (await self.tx.execute(query.with_for_update() if postgres else query)).one_or_none()
            if row is None:
                return Deleted()
            if row.merged_into is None:
                break
            self.cluster = row.merged_into  # it was merged since it was looked for: its messages are there
        self.account = row.account
        own = (await self.tx.execute(select(ACCOUNT.c.own).where(ACCOUNT.c.key == row.account))).scalar_one_or_none()
        self.own = frozenset(own or ())
        parts = (MESSAGE.c.id, MESSAGE.c.at, MESSAGE.c.outgoing, MESSAGE.c.answers, MESSAGE.c.size, MESSAGE.c.parsed)
        rows = (await self.tx.execute(select(*parts).where(MESSAGE.c.cluster == self.cluster))).all()
        messages = {r.id: Message.model_validate_json(r.parsed) for r in rows}
        gone = [r for r in rows if address is None or self._is_of(messages[r.id], address)]
        stay = [r for r in rows if r not in gone]
        await self._refuse_open_submissions([r.id for r in gone])
        facts = {r.id: await self._facts(r, messages[r.id]) for r in rows}
        # The order in which filing locks: ids, then threads. The thread is locked already, so a filing that holds one
        # of these ids and waits for the thread makes PostgreSQL end one of us; `Database.run` starts again.
        await self._write_holders([facts[r.id] for r in gone], [facts[r.id] for r in stay], ghosts=bool(stay))
        attachments = await self._delete_messages(gone, messages)
        if stay:
            await self._shrink(stay, messages, [facts[r.id] for r in stay], without=address)
        else:
            await self._delete_thread(row.attached_to)
        if gone:
            await append_event(self.tx, _PARTLY if stay else "thread.deleted", thread=self.cluster,
                               account=self.account or None, data={"messages": len(gone)}, at=self.now)  # fmt: skip
        whole = () if stay or row.attached_to is not None else (f"t{self.cluster}",)
        return Deleted(messages=len(gone), attachments=attachments, bytes=sum(r.size for r in gone), threads=whole)

    def _is_of(self, message: Message, address: str) -> bool:
        sender = "" if message.sender is None else message.sender.key
        if sender == address:
            return True
        to = {a.key for a in message.recipients if a.email}
        return (to - self.own if sender in self.own else to) == {address}  # a copy to ourselves is no other reader

    async def _facts(self, row: Any, message: Message) -> Facts:
        aliases = (await self.tx.execute(select(ALIAS.c.message_id).where(ALIAS.c.message == row.id))).scalars().all()
        return facts_of(
            message, guarded=bool(self.account), own=self.own, outgoing=row.outgoing,
            answers=row.answers is not None, aliases=aliases,
        )  # fmt: skip

    async def _refuse_open_submissions(self, messages: Sequence[int]) -> None:
        """What waits to be sent, or may have been sent, is not ours to drop in passing (law 6)."""
        for some in _chunks(messages):
            query = select(_SUBMISSION.c.id).where(_SUBMISSION.c.message.in_(some), _SUBMISSION.c.state.in_(_OPEN))
            if waiting := await _ids(self.tx, query):
                names = ", ".join(f"o{n}" for n in waiting[:5])
                raise Conflict(f"t{self.cluster}: {names} is not settled yet; cancel or resolve it first")

    async def _write_holders(self, gone: Iterable[Facts], stay: Iterable[Facts], *, ghosts: bool) -> None:
        """Ids of what is gone: held on as ghosts if something stays, else let go."""
        kept: dict[str, set[tuple[str, str]]] = {}
        for facts in stay:
            for key, hold in facts.holds.items():
                kept.setdefault(key, set()).add(hold)
        dropped: dict[str, str] = {}
        for facts in gone:
            for key, (role, _) in facts.holds.items():
                dropped[key] = "weak" if role == "weak" and dropped.get(key) != "firm" else "firm"
        names = {self.cluster, *await _ids(self.tx, select(THREAD.c.id).where(THREAD.c.merged_into == self.cluster))}
        if not ghosts:
            dropped = {**dict.fromkeys(await self._ghosts(names), "weak"), **dropped}
        stored = await holders.read(self.tx, self.account, dropped, lock=True)
        after: dict[str, set[Hold]] = {}
        for key, was in stored.items():
            holds = {hold for hold in was if hold.thread not in names}
            if key in kept:
                holds |= {Hold(self.cluster, *h) for h in kept[key]}
            elif ghosts:
                holds.add(Hold(self.cluster, dropped[key], _GHOST if self.account else EVERYWHERE))
            after[key] = holds
        await holders.write(self.tx, self.account, stored, after)
        for some in _chunks(sorted(key for key, holds in after.items() if not holds)):
            await self.tx.execute(delete(IDENT).where(IDENT.c.account == self.account, IDENT.c.key.in_(some)))

    async def _ghosts(self, names: Collection[int]) -> list[str]:
        """Ids that a thread holds on to for messages that were deleted out of it before. No index leads from a thread
        to its ids, so they are looked for where the log says that there are any."""
        earlier = select(EVENT.c.id).where(EVENT.c.thread.in_(names), EVENT.c.kind == _PARTLY).limit(1)
        if (await self.tx.execute(earlier)).first() is None:
            return []
        found: set[str] = set()
        for name in names:
            listed = select(IDENT.c.key).where(IDENT.c.account == self.account, IDENT.c.holders.like(f"%[{name}, %"))
            in_rows = select(HOLDER.c.key).where(HOLDER.c.account == self.account, HOLDER.c.thread == name)
            for query in (listed, in_rows):
                found.update((await self.tx.execute(query)).scalars())
        return sorted(found)

    async def _delete_messages(self, gone: Sequence[Any], messages: dict[int, Message]) -> int:
        await unindex(self.tx, ((self.account, r.id, r.at, index_text(messages[r.id])) for r in gone))
        attachments = 0
        for some in _chunks([r.id for r in gone]):
            count = select(func.count()).select_from(ATTACHMENT).where(ATTACHMENT.c.message.in_(some))
            attachments += int((await self.tx.execute(count)).scalar_one())
            await self.tx.execute(delete(EVENT).where(EVENT.c.message.in_(some)))
            await submissions.spend_keys(self.tx, some)
            for table in reversed(metadata.sorted_tables):
                for key in table.foreign_keys:
                    if key.column.table is MESSAGE and table is not MESSAGE:
                        await self.tx.execute(delete(table).where(key.parent.in_(some)))
            await self.tx.execute(delete(MESSAGE).where(MESSAGE.c.id.in_(some)))
        return attachments

    async def _shrink(
        self, stay: Sequence[Any], messages: dict[int, Message], facts: Iterable[Facts], *, without: str | None
    ) -> None:
        oldest = min(stay, key=lambda r: (r.at, r.id))
        await self.tx.execute(
            update(THREAD).where(THREAD.c.id == self.cluster).values(
                messages=len(stay), subject=messages[oldest.id].subject, first_at=oldest.at,
                last_at=max(r.at for r in stay),
            )
        )  # fmt: skip
        people = {atom: name for f in facts for atom, name in f.people.items() if atom != without}
        await self.tx.execute(delete(PERSON).where(PERSON.c.thread == self.cluster))
        if people:
            rows = [{"thread": self.cluster, "atom": atom, "name": name} for atom, name in sorted(people.items())]
            await self.tx.execute(insert(PERSON), rows)

    async def _delete_thread(self, attached_to: int | None) -> None:
        for other in await _ids(self.tx, select(THREAD.c.id).where(THREAD.c.attached_to == self.cluster)):
            await attach(self.tx, other, None, was=None)
            await attention.parted(self.tx, self.account, other, self.cluster)
        signposts = await _ids(self.tx, select(THREAD.c.id).where(THREAD.c.merged_into == self.cluster))
        names = [*signposts, self.cluster]
        await self.tx.execute(delete(APART).where(or_(APART.c.claimant.in_(names), APART.c.target.in_(names))))
        await self.tx.execute(delete(EVENT).where(EVENT.c.thread.in_(names)))
        for table in reversed(metadata.sorted_tables):
            for key in table.foreign_keys:
                if key.column.table is THREAD and table not in {THREAD, MESSAGE}:
                    await self.tx.execute(delete(table).where(key.parent.in_(names)))
        # One statement each: a signpost points to the row that goes last.
        await self.tx.execute(delete(THREAD).where(THREAD.c.id.in_(signposts)))
        await self.tx.execute(delete(THREAD).where(THREAD.c.id == self.cluster))
        if attached_to is not None:
            newest = select(func.max(MESSAGE.c.at)).where(MESSAGE.c.thread == attached_to).scalar_subquery()
            await self.tx.execute(
                update(THREAD).where(THREAD.c.id == attached_to).values(last_at=func.coalesce(newest, THREAD.c.last_at))
            )


def checked_address(address: str) -> str:
    """The form an address is stored in."""
    address = address_key(address.strip())
    local, at, domain = address.rpartition("@")
    if not (at and local and domain) or any(c.isspace() for c in address):
        raise BadInput(f"{address[:80]!r} is not an address (local@domain)")
    return address


def add_up(a: Deleted, b: Deleted) -> Deleted:
    """Both together."""
    return Deleted(
        messages=a.messages + b.messages, attachments=a.attachments + b.attachments, bytes=a.bytes + b.bytes,
        threads=(*a.threads, *b.threads), still_mentioned=(*a.still_mentioned, *b.still_mentioned),
    )  # fmt: skip


async def _ids(tx: Tx, query: Any) -> list[int]:
    return [int(n) for (n,) in await tx.execute(query)]


def _chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


# ---- how large it is -------------------------------------------------------------------------------------------------


async def size(tx: Tx) -> StoreSize:
    """Count everything. It reads every row that it counts: some seconds for a million messages."""
    found: dict[str, dict[str, int]] = {}
    for name, query in {
        "threads": select(THREAD.c.account, func.count()).where(
            THREAD.c.merged_into.is_(None), THREAD.c.attached_to.is_(None)
        ),
        "messages": select(MESSAGE.c.account, func.count()),
        "attachments": select(MESSAGE.c.account, func.count()).join(ATTACHMENT, ATTACHMENT.c.message == MESSAGE.c.id),
        "bytes": select(MESSAGE.c.account, func.sum(MESSAGE.c.size)).join(RAW, RAW.c.message == MESSAGE.c.id),
    }.items():
        account = query.selected_columns[0]
        for key, count in await tx.execute(query.group_by(account)):
            found.setdefault(key, {})[name] = int(count)
    names = ("threads", "messages", "attachments", "bytes")
    accounts = tuple(AccountSize(account=k, **{n: v.get(n, 0) for n in names}) for k, v in sorted(found.items()))
    if tx.dialect.name == "postgresql":
        whole = (await tx.execute(text("SELECT pg_database_size(current_database())"))).scalar_one()
        return StoreSize(accounts=accounts, database_bytes=int(whole))
    page, pages, unused = [
        int((await tx.execute(text(f"PRAGMA {name}"))).scalar_one())
        for name in ("page_size", "page_count", "freelist_count")
    ]
    return StoreSize(accounts=accounts, database_bytes=page * pages, unused_bytes=page * unused)


async def vacuum(db: Database) -> None:
    """Give unused space back, so that what was deleted is gone from the file too. Other writers wait meanwhile."""
    if db.sqlite:
        # The index keeps deleted words until its segments are merged.
        optimise = "INSERT INTO search(search) VALUES ('optimize')"
        await db.maintain(optimise, "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        await db.maintain("VACUUM (ANALYZE)")

