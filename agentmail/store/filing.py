"""Messages into the store: which are new, where they belong, and everything written in one transaction.

The shape of a batch: read what its ids touch (locking those rows in sorted order), decide in memory by
`threads.placement`, write. Nothing is decided on a row that is not locked, so any number of processes get the same
threads. PostgreSQL locks rows: first ids, then threads, each sorted. SQLite's BEGIN IMMEDIATE locks everything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import and_, func, insert, literal, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from ..message.identifiers import is_ours
from ..message.models import Message
from ..message.subject import subject_key
from ..threads.models import Filed, Why
from ..threads.placement import Board, Facts, Hold, Link, atoms_of, facts_of, key_of
from ..threads.tree import written_at
from .database import Tx
from .events import append_events
from .tables.threads import (
    APART,
    ATTACHMENT,
    IDENT,
    LOCATION,
    MESSAGE,
    PERSON,
    RAW,
    THREAD,
)

T = TypeVar("T")

_CHUNK = 2_000
"""Values in one IN list; both databases allow more than 30,000."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a message lies on the server."""

    mailbox: str
    uidvalidity: int
    uid: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message on its way into the store, and how it came."""

    message: Message
    raw: bytes | None = None
    location: Location | None = None
    flags: tuple[str, ...] = ()
    fresh: bool = True
    """False for what was in the mailbox before we first looked: history, not news."""
    outgoing: bool = False
    """The account itself sent it: out of our outbox, or found in the Sent mailbox."""
    answers: str | None = None
    """The message it answers, such as `"m44"`, when the caller knows: then its headers need not say it."""
    also_to: tuple[str, ...] = ()
    """Recipients that no header names (Bcc)."""


@dataclass(slots=True)
class Prepared:
    """An arrival with everything worked out that needs no database. Build it outside of the transaction."""

    arrival: Arrival
    facts: Facts
    row: dict[str, Any]
    attachments: tuple[dict[str, Any], ...]
    own_atoms: frozenset[str] = field(default_factory=frozenset)


def prepare(arrival: Arrival, *, account: str, own: Collection[str], secret: bytes) -> Prepared:
    """Work out what filing needs to know. Pure, and most of the cost.

    Raises:
        ValueError: the message holds what no database stores (a lone surrogate, a NUL).
    """
    message = arrival.message
    guarded = bool(account)
    sender = message.sender.key if message.sender is not None else ""
    forged = message.auth is not None and message.auth.dmarc == "fail"
    ours = bool(message.message_id) and is_ours(message.message_id, secret)
    outgoing = arrival.outgoing or message.outgoing or (ours and sender in own and not forged)
    if outgoing != message.outgoing or message.id is not None or message.thread is not None:
        message = message.model_copy(update={"outgoing": outgoing, "id": None, "thread": None})
    facts = facts_of(
        message, guarded=guarded, own=own, outgoing=outgoing, answers=arrival.answers is not None,
        also_to=arrival.also_to,
    )  # fmt: skip
    raw = arrival.raw
    row = {
        "account": account,
        "message_id": message.message_id,
        "message_id_key": key_of(message.message_id) if message.message_id else "",
        "content_key": content_key(message),
        # The Sent copy of our own mail is that mail, whatever the server made of its body. An outsider who repeats
        # our id is not `outgoing`, and so gets a row of their own.
        "own_key": message.message_id if outgoing and ours else None,
        "at": written_at(message),
        "sender": sender,
        "subject_key": subject_key(message.subject),
        "answers": int(arrival.answers[1:]) if arrival.answers else None,
        "headless": False,
        "outgoing": outgoing,
        "fresh": arrival.fresh,
        "size": len(raw) if raw is not None else message.size,
        "parsed": message.model_dump_json(exclude={"id", "thread"}, exclude_defaults=False),
    }
    if "\\u0000" in row["parsed"] or any("\x00" in v for v in row.values() if isinstance(v, str)):
        raise ValueError("a NUL character, which no database stores in text")
    attachments = tuple(
        {"position": i, "name": a.name, "content_type": a.content_type, "size": a.size}
        for i, a in enumerate(message.attachments)
    )
    own_atoms = frozenset(atom for address in own for atom in atoms_of(address))
    return Prepared(arrival, facts, row, attachments, own_atoms)


def content_key(message: Message) -> str:
    """What makes two arrivals the same message: who says what, when, under which id.

    Hops add Received lines, change the transfer encoding and the line ends, so the key is made of the decoded values
    and not of the bytes. A mailing list's footer makes another message, which is kept beside the first.
    The Message-ID alone proves nothing: outsiders choose it.
    """
    digest = hashlib.sha256()
    parts: list[str | bytes] = [
        key_of(message.message_id) if message.message_id else "",
        message.sender.key if message.sender is not None else "",
        message.sent_at.isoformat() if message.sent_at is not None else "",
        " ".join(message.subject.split()),
        "\n".join(line.rstrip() for line in message.text.splitlines()).strip(),
        "\n".join(line.rstrip() for line in (message.html or "").splitlines()).strip(),
    ]
    for a in message.attachments:
        parts += [a.name, a.content_type, a.content if a.content is not None else str(a.size)]
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:40]


class Filing:
    """One batch, in one transaction."""

    def __init__(self, tx: Tx, account: str, batch: Sequence[Prepared], *, now: float) -> None:
        self.tx = tx
        self.account = account
        self.batch = batch
        self.now = now
        self.postgres = tx.dialect.name == "postgresql"
        self.board = Board(own=batch[0].own_atoms if batch else frozenset())
        self.stored: dict[str, frozenset[Hold]] = {}
        """Id key -> its holders as they stand in the database."""
        self.known: dict[int, set[str]] = {}
        """Thread -> the atoms of interest that its rows have."""
        self.redirected: set[int] = set()
        """Threads that were merged into another one before this batch."""
        self.merged: dict[int, int] = {}
        """Thread -> the one it becomes part of by this batch."""

    async def run(self) -> list[Filed]:
        if not self.batch:
            return []
        await self._load({key for p in self.batch for key in p.facts.holds})
        found = await self._known_messages()
        fresh = [i for i, known in enumerate(found) if known is None]
        # The same mail twice in one batch is one message.
        first: dict[tuple[str, str], int] = {}
        twin: dict[int, int] = {}
        for i in fresh:
            row = self.batch[i].row
            names = [("content", row["content_key"]), *([("own", row["own_key"])] if row["own_key"] else [])]
            same = next((first[n] for n in names if n in first), None)
            if same is not None:
                twin[i] = same
            else:
                first.update(dict.fromkeys(names, i))
        fresh = [i for i in fresh if i not in twin]
        answered = await self._answered(fresh)
        for n, i in enumerate(fresh):
            self.board.add(-1 - n, self.batch[i].facts)
            if (thread := answered.get(i)) is not None:
                self.board.join(-1 - n, thread)
        changed = {key for i in fresh for key in self.batch[i].facts.holds}
        self.board.settle(changed)
        changed |= await self._let_in(changed)
        ids = await self._write(fresh, changed)
        results: list[Filed] = []
        absorbed: dict[int, list[int]] = {}
        for loser, winner in self.merged.items():
            absorbed.setdefault(winner, []).append(loser)
        for i in range(len(self.batch)):
            at = twin.get(i, i)
            if at in ids:
                message, thread = ids[at]
                new = at == i
            else:
                known = found[at]
                assert known is not None
                message, thread = known[0], self.merged.get(known[1], known[1])
                new = False
            results.append(self._filed(i, message, thread, new=new, absorbed=absorbed.get(thread, ()) if new else ()))
        await self._locate([(i, int(results[i].id[1:])) for i in range(len(self.batch))])
        return results

    def _filed(self, i: int, message: int, thread: int, *, new: bool, absorbed: Iterable[int]) -> Filed:
        why = Why(rule="new" if new else "duplicate", confidence="certain")
        return Filed(id=f"m{message}", thread=f"t{thread}", new=new, absorbed=tuple(f"t{t}" for t in absorbed), why=why)

    # ---- reading, under lock ----------------------------------------------------------------------------------------

    async def _load(self, keys: Collection[str]) -> None:
        """Put what is known of these ids on the board, and lock it."""
        wanted = sorted(k for k in keys if k not in self.stored)
        if not wanted:
            return
        if self.postgres:
            await self.tx.execute(
                text(
                    "INSERT INTO ident (account, key, holders) SELECT :account, unnest(CAST(:keys AS text[])), '[]' "
                    "ON CONFLICT DO NOTHING"
                ),
                {"account": self.account, "keys": wanted},
            )
        found: dict[str, list[Hold]] = {}
        for some in _chunks(wanted):
            query = select(IDENT.c.key, IDENT.c.holders).where(IDENT.c.account == self.account, IDENT.c.key.in_(some))
            if self.postgres:
                query = query.order_by(IDENT.c.key).with_for_update()
            for key, holders in await self.tx.execute(query):
                found[key] = [Hold(*h) for h in json.loads(holders)]
        threads = {hold.thread for holds in found.values() for hold in holds}
        await self._lock_threads(threads)
        for key in wanted:
            self.stored[key] = frozenset(found.get(key, ()))
            for hold in found.get(key, ()):
                self.board.hold(key, hold)
        await self._load_people()

    async def _lock_threads(self, threads: Collection[int]) -> None:
        """Lock the rows that these threads lead to, and learn where that is."""
        waiting = {t for t in threads if t not in self.known}
        while waiting:
            further: set[int] = set()
            for some in _chunks(sorted(waiting)):
                query = select(THREAD.c.id, THREAD.c.merged_into).where(THREAD.c.id.in_(some))
                if self.postgres:
                    query = query.order_by(THREAD.c.id).with_for_update()
                for thread, winner in await self.tx.execute(query):
                    self.known.setdefault(thread, set())
                    if winner is not None:
                        self.redirected.add(thread)
                        self.board.join(winner, thread)
                        if winner not in self.known:
                            further.add(winner)
            waiting = further

    async def _load_people(self) -> None:
        """Whom the threads on the board know, as far as anybody here asks."""
        if not self.account:
            return
        asked: set[str] = set()
        for p in self.batch:
            asked.update(p.facts.people)
        for holders in self.board.holders.values():
            for hold in holders:
                asked.update(a for a in hold.voucher[1:].split("\n") if a)
        threads = sorted({self.board.root(t) for t in self.known})
        for some in _chunks(threads):
            for atoms in _chunks(sorted(asked)):
                query = select(PERSON.c.thread, PERSON.c.atom).where(
                    PERSON.c.thread.in_(some), PERSON.c.atom.in_(atoms)
                )
                for thread, atom in await self.tx.execute(query):
                    self.known[thread].add(atom)
                    self.board.know(thread, (atom,))

    async def _known_messages(self) -> list[tuple[int, int] | None]:
        """For each arrival the (message, thread) that it is already, or None."""
        by_key: dict[tuple[str, str], tuple[int, int]] = {}
        contents = sorted({p.row["content_key"] for p in self.batch})
        owns = sorted({p.row["own_key"] for p in self.batch if p.row["own_key"]})
        for column, name, values in ((MESSAGE.c.content_key, "content", contents), (MESSAGE.c.own_key, "own", owns)):
            for some in _chunks(values):
                query = select(column, MESSAGE.c.id, MESSAGE.c.thread).where(
                    MESSAGE.c.account == self.account, column.in_(some)
                )
                for value, message, thread in await self.tx.execute(query):
                    by_key[name, value] = (message, thread)
        places = await self._known_places()
        return [
            places.get(i)
            or by_key.get(("content", p.row["content_key"]))
            or (by_key.get(("own", p.row["own_key"])) if p.row["own_key"] else None)
            for i, p in enumerate(self.batch)
        ]

    async def _known_places(self) -> dict[int, tuple[int, int]]:
        places: dict[tuple[str, int], dict[int, int]] = {}
        for i, p in enumerate(self.batch):
            if (at := p.arrival.location) is not None:
                places.setdefault((at.mailbox, at.uidvalidity), {})[at.uid] = i
        known: dict[int, tuple[int, int]] = {}
        for (mailbox, uidvalidity), uids in places.items():
            for some in _chunks(sorted(uids)):
                query = (
                    select(LOCATION.c.uid, MESSAGE.c.id, MESSAGE.c.thread)
                    .join(MESSAGE, MESSAGE.c.id == LOCATION.c.message)
                    .where(
                        LOCATION.c.account == self.account, LOCATION.c.mailbox == mailbox,
                        LOCATION.c.uidvalidity == uidvalidity, LOCATION.c.uid.in_(some),
                    )
                )  # fmt: skip
                for uid, message, thread in await self.tx.execute(query):
                    known[uids[uid]] = (message, thread)
        return known

    async def _answered(self, fresh: Sequence[int]) -> dict[int, int]:
        """Arrival -> the thread that its caller says it answers in."""
        wanted = {i: self.batch[i].row["answers"] for i in fresh if self.batch[i].row["answers"] is not None}
        if not wanted:
            return {}
        query = select(MESSAGE.c.id, MESSAGE.c.cluster).where(
            MESSAGE.c.id.in_(sorted(set(wanted.values()))), MESSAGE.c.account == self.account
        )
        clusters = {row.id: row.cluster for row in await self.tx.execute(query)}
        await self._lock_threads(clusters.values())
        await self._load_people()
        for i, message in wanted.items():
            if message not in clusters:
                self.batch[i].row["answers"] = None
        return {i: clusters[message] for i, message in wanted.items() if message in clusters}

    async def _let_in(self, changed: Collection[str]) -> set[str]:
        """Ids by which threads were kept apart that need not be any more: somebody got to know somebody just now."""
        seen: set[str] = set(changed)
        more: set[str] = set()
        while self.account:
            joined = sorted(t for t, w in self._joined().items() for t in (t, w))
            learnt: dict[int, set[str]] = {}
            for thread in self.known:
                if self.board.root(thread) == thread and (atoms := self.board.people[thread] - self.known[thread]):
                    learnt[thread] = atoms
            if not joined and not learnt:
                break
            news = sorted({atom for atoms in learnt.values() for atom in atoms})
            query = select(APART.c.key).where(
                APART.c.account == self.account,
                or_(
                    APART.c.target.in_(joined), APART.c.claimant.in_(joined),
                    and_(APART.c.target.in_(sorted(learnt)), APART.c.atom.in_(news[:_CHUNK * 5])),
                ),
            )  # fmt: skip
            keys = {key for (key,) in await self.tx.execute(query)} - seen
            if not keys:
                break
            seen |= keys
            more |= keys
            await self._load(keys)
            self.board.settle(keys)
        return more

    def _joined(self) -> dict[int, int]:
        """Threads of the store that this batch makes part of another one."""
        return {
            t: w for t in sorted(self.known) if (w := self.board.root(t)) != t and t not in self.redirected
        }  # fmt: skip

    # ---- writing ----------------------------------------------------------------------------------------------------

    async def _write(self, fresh: Sequence[int], changed: Collection[str]) -> dict[int, tuple[int, int]]:
        """Write everything that changed; arrival -> (message, thread)."""
        root_of = {i: self.board.root(-1 - n) for n, i in enumerate(fresh)}
        new_roots = sorted({r for r in root_of.values() if r < 0}, reverse=True)
        thread_ids = dict(zip(new_roots, await self._next_ids("thread", len(new_roots)), strict=True))
        message_ids = await self._next_ids("message", len(fresh))
        cluster = {i: thread_ids.get(root, root) for i, root in root_of.items()}
        name = dict(zip(fresh, message_ids, strict=True))

        by_cluster: dict[int, list[dict[str, Any]]] = {}
        for i in fresh:
            by_cluster.setdefault(cluster[i], []).append(
                {**self.batch[i].row, "subject": self.batch[i].arrival.message.subject}
            )
        await self._insert_threads(by_cluster, set(thread_ids.values()))
        await self._merge()
        threads = cluster
        rows = [
            {**self.batch[i].row, "id": name[i], "cluster": cluster[i], "thread": threads[i], "variant": False}
            for i in fresh
        ]
        await self._mark_variants(rows)
        if rows:
            await self.tx.execute(insert(MESSAGE), rows)
        raws = [{"message": name[i], "data": raw} for i in fresh if (raw := self.batch[i].arrival.raw) is not None]
        if raws:
            await self.tx.execute(insert(RAW), raws)
        attachments = [{"message": name[i], **a} for i in fresh for a in self.batch[i].attachments]
        if attachments:
            await self.tx.execute(insert(ATTACHMENT), attachments)
        await self._update_threads(by_cluster, set(thread_ids.values()))
        await self._write_people(fresh, cluster)
        await self._write_holders(changed, thread_ids)
        await self._write_apart(changed, thread_ids)
        if self.account:
            await append_events(self.tx, [
                {"kind": "message.filed", "thread": threads[i], "message": name[i], "account": self.account,
                 "data": {"outgoing": self.batch[i].row["outgoing"]}, "at": self.now}
                for i in fresh if self.batch[i].arrival.fresh
            ])  # fmt: skip
        return {i: (name[i], threads[i]) for i in fresh}

    async def _next_ids(self, table: str, count: int) -> list[int]:
        """Numbers for new rows, known before they are written. A number is never used again, even after a delete."""
        if not count:
            return []
        if self.postgres:
            query = text("SELECT nextval(pg_get_serial_sequence(:table, 'id')) FROM generate_series(1, :count)")
            return [n for (n,) in await self.tx.execute(query, {"table": table, "count": count})]
        # Under BEGIN IMMEDIATE nobody else counts; the insert that follows moves sqlite_sequence on.
        query = text("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = :table), 0)")
        last = (await self.tx.execute(query, {"table": table})).scalar_one()
        return list(range(last + 1, last + 1 + count))

    async def _insert_threads(self, by_cluster: dict[int, list[dict[str, Any]]], new: set[int]) -> None:
        rows = []
        for thread in sorted(new):
            messages = by_cluster[thread]
            oldest = min(messages, key=lambda m: (m["at"], m["content_key"]))
            rows.append({
                "id": thread, "account": self.account, "subject": oldest["subject"], "status": "open", "labels": [],
                "notes": [], "data": {}, "messages": len(messages), "first_at": oldest["at"],
                "last_at": max(m["at"] for m in messages), "merged_into": None, "attached_to": None,
            })  # fmt: skip
        if rows:
            await self.tx.execute(insert(THREAD), rows)

    async def _update_threads(self, by_cluster: dict[int, list[dict[str, Any]]], new: set[int]) -> None:
        for thread in sorted(set(by_cluster) - new):
            messages = by_cluster[thread]
            oldest = min(messages, key=lambda m: (m["at"], m["content_key"]))
            first, last = oldest["at"], max(m["at"] for m in messages)
            statement = (
                update(THREAD)
                .where(THREAD.c.id == thread)
                .values(
                    messages=THREAD.c.messages + len(messages), last_at=_greatest(THREAD.c.last_at, last, self.postgres)
                )
            )
            await self.tx.execute(statement)
            older = update(THREAD).where(THREAD.c.id == thread, THREAD.c.first_at > first)
            await self.tx.execute(older.values(first_at=first, subject=oldest["subject"]))

    async def _merge(self) -> None:
        """Carry out the joins of threads that exist. Old ids stay as signposts."""
        self.merged = self._joined()
        absorbed: dict[int, list[int]] = {}
        for thread, winner in self.merged.items():
            absorbed.setdefault(winner, []).append(thread)
        for winner, losers in absorbed.items():
            await self._absorb(winner, losers)

    async def _absorb(self, winner: int, absorbed: Sequence[int]) -> None:
        rows = {
            row.id: row
            for row in await self.tx.execute(
                select(
                    THREAD.c.id,
                    THREAD.c.status,
                    THREAD.c.labels,
                    THREAD.c.notes,
                    THREAD.c.data,
                    THREAD.c.messages,
                    THREAD.c.first_at,
                    THREAD.c.last_at,
                    THREAD.c.subject,
                ).where(THREAD.c.id.in_([winner, *absorbed]))
            )
        }
        everyone = [rows[t] for t in (winner, *absorbed)]
        oldest = min(everyone, key=lambda r: (r.first_at, r.id))
        labels = sorted({label for r in everyone for label in r.labels})
        notes = [note for r in everyone for note in r.notes]
        data: dict[str, Any] = {}
        for r in reversed(everyone):
            data.update(r.data)
        await self.tx.execute(
            update(THREAD).where(THREAD.c.id == winner).values(
                subject=oldest.subject, first_at=oldest.first_at, last_at=max(r.last_at for r in everyone),
                messages=sum(r.messages for r in everyone), labels=labels, notes=notes, data=data,
                # Work that is open anywhere stays open.
                status="open" if any(r.status == "open" for r in everyone) else rows[winner].status,
            )
        )  # fmt: skip
        await self.tx.execute(update(MESSAGE).where(MESSAGE.c.cluster.in_(absorbed)).values(cluster=winner))
        await self.tx.execute(update(MESSAGE).where(MESSAGE.c.thread.in_(absorbed)).values(thread=winner))
        await self.tx.execute(
            update(THREAD)
            .where(or_(THREAD.c.id.in_(absorbed), THREAD.c.merged_into.in_(absorbed)))
            .values(merged_into=winner, messages=0)
        )
        await self.tx.execute(update(THREAD).where(THREAD.c.attached_to.in_(absorbed)).values(attached_to=winner))
        dialect = postgresql if self.postgres else sqlite
        people = (
            select(literal(winner), PERSON.c.atom, func.max(PERSON.c.name))
            .where(PERSON.c.thread.in_(absorbed))
            .group_by(PERSON.c.atom)
        )
        await self.tx.execute(
            dialect.insert(PERSON).from_select(["thread", "atom", "name"], people).on_conflict_do_nothing()
        )
        await self.tx.execute(PERSON.delete().where(PERSON.c.thread.in_(absorbed)))
        await self.tx.execute(update(APART).where(APART.c.target.in_(absorbed)).values(target=winner))
        await self.tx.execute(update(APART).where(APART.c.claimant.in_(absorbed)).values(claimant=winner))
        await self.tx.execute(APART.delete().where(APART.c.claimant == winner, APART.c.target == winner))
        await append_events(self.tx, [
            {"kind": "thread.merged", "thread": winner, "message": None, "account": self.account or None,
             "data": {"absorbed": f"t{t}"}, "at": self.now}
            for t in absorbed
        ])  # fmt: skip

    async def _mark_variants(self, rows: list[dict[str, Any]]) -> None:
        """Flag the messages that share a Message-ID without being the same message."""
        seen: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            seen.setdefault(row["message_id_key"], []).append(row)
        owned = [k for k in seen if k and any(h.role == "own" for h in self.stored.get(k, ()))]
        stored: dict[str, list[int]] = {}
        for some in _chunks(sorted(owned)):
            query = select(MESSAGE.c.message_id_key, MESSAGE.c.id).where(
                MESSAGE.c.account == self.account, MESSAGE.c.message_id_key.in_(some)
            )
            for key, message in await self.tx.execute(query):
                stored.setdefault(key, []).append(message)
        for key, same in seen.items():
            if key and len(same) + len(stored.get(key, ())) > 1:
                for row in same:
                    row["variant"] = True
        twice = [message for key in stored for message in stored[key]]
        if twice:
            await self.tx.execute(update(MESSAGE).where(MESSAGE.c.id.in_(twice)).values(variant=True))

    async def _write_people(self, fresh: Sequence[int], cluster: dict[int, int]) -> None:
        people: dict[tuple[int, str], str] = {}
        for i in fresh:
            for atom, called in self.batch[i].facts.people.items():
                if atom not in self.known.get(cluster[i], ()) or not self.account:
                    people.setdefault((cluster[i], atom), called)
        rows = [{"thread": t, "atom": a, "name": n} for (t, a), n in sorted(people.items())]
        if rows:
            dialect = postgresql if self.postgres else sqlite
            await self.tx.execute(dialect.insert(PERSON).on_conflict_do_nothing(), rows)

    async def _write_holders(self, changed: Collection[str], thread_ids: dict[int, int]) -> None:
        rows = []
        for key in sorted(changed):
            holds = self._collapsed(key, thread_ids)
            if holds != self.stored.get(key):
                rows.append({"account": self.account, "key": key, "holders": json.dumps(sorted(holds))})
        if not rows:
            return
        dialect = postgresql if self.postgres else sqlite
        statement = dialect.insert(IDENT)
        statement = statement.on_conflict_do_update(
            index_elements=["account", "key"], set_={"holders": statement.excluded.holders}
        )
        await self.tx.execute(statement, rows)

    def _collapsed(self, key: str, thread_ids: dict[int, int]) -> frozenset[Hold]:
        """The holders of an id as they shall be stored."""
        holds: set[Hold] = set()
        for hold in self.board.holders.get(key, ()):
            root = self.board.root(hold.thread)
            holds.add(Hold(thread_ids.get(root, root), hold.role, hold.voucher))
        if not self.account:
            # Everybody is believed, so the strongest hold of a thread says all there is to say.
            strength = {"own": 0, "firm": 1, "weak": 2}
            best: dict[int, Hold] = {}
            for hold in sorted(holds, key=lambda h: strength[h.role]):
                best.setdefault(hold.thread, hold)
            return frozenset(best.values())
        return frozenset(holds)

    async def _write_apart(self, changed: Collection[str], thread_ids: dict[int, int]) -> None:
        """Remember who was kept out of where, and who would have to become known to let them in."""
        if not self.account:
            return
        links: dict[tuple[int, str, int, str], None] = {}
        for link in self.board.kept_apart(sorted(changed)):
            named: Link = link._replace(
                claimant=thread_ids.get(link.claimant, link.claimant), target=thread_ids.get(link.target, link.target)
            )
            for atom in named.missing:
                links[named.target, atom, named.claimant, named.key] = None
        if not links:
            return
        query = select(APART.c.target, APART.c.atom, APART.c.claimant, APART.c.key).where(
            APART.c.account == self.account, APART.c.claimant.in_(sorted({c for _, _, c, _ in links}))
        )
        there = {tuple(row) for row in await self.tx.execute(query)}
        rows = [
            {"account": self.account, "target": target, "atom": atom, "claimant": claimant, "key": key}
            for target, atom, claimant, key in links
            if (target, atom, claimant, key) not in there
        ]
        if rows:
            await self.tx.execute(insert(APART), rows)

    async def _locate(self, messages: Sequence[tuple[int, int]]) -> None:
        """Remember where each arrival lies."""
        rows = [
            {"account": self.account, "mailbox": at.mailbox, "uidvalidity": at.uidvalidity, "uid": at.uid,
             "message": message, "flags": list(self.batch[i].arrival.flags)}
            for i, message in messages
            if (at := self.batch[i].arrival.location) is not None
        ]  # fmt: skip
        if rows:
            dialect = postgresql if self.postgres else sqlite
            await self.tx.execute(dialect.insert(LOCATION).on_conflict_do_nothing(), rows)


def _greatest(column: Any, value: float, postgres: bool) -> Any:
    return func.greatest(column, value) if postgres else func.max(column, value)


def _chunks(values: Sequence[T]) -> Iterable[Sequence[T]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
