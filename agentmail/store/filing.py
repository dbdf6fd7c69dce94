"""Messages into the store: which are new, where they belong, and everything written in one transaction.

The shape of a batch: read what its ids touch (locking those rows in sorted order), decide in memory by
`threads.placement`, write. Nothing is decided on a row that is not locked, so any number of processes get the same
threads. PostgreSQL locks rows: first ids, then threads, each sorted. SQLite's BEGIN IMMEDIATE locks everything.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal, TypeVar

from sqlalchemy import and_, bindparam, case, delete, func, insert, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from ..threads.fallback import SHORTEST_KEY
from ..threads.models import Filed, Match, Rejected, Why
from ..threads.placement import Board, Hold, Link, atoms_of, unknown
from .arrivals import Prepared
from .database import Tx
from .events import append_events
from .merging import absorb
from .search import index
from .subjects import Span, SubjectRule
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

_DUPLICATE = Why(rule="duplicate", confidence="certain", note="this store has it already")

_CHUNK = 2_000
"""Values in one IN list; both databases allow more than 30,000."""


class Filing:
    """One batch, in one transaction."""

    def __init__(
        self, tx: Tx, account: str, batch: Sequence[Prepared] = (), *, own: Collection[str], now: float
    ) -> None:
        self.tx = tx
        self.account = account
        self.batch = batch
        self.own = own
        self.now = now
        self.postgres = tx.dialect.name == "postgresql"
        self.board = Board(own=frozenset(atom for address in own for atom in atoms_of(address)))
        self.stored: dict[str, frozenset[Hold]] = {}
        """Id key -> its holders as they stand in the database."""
        self.known: dict[int, set[str]] = {}
        """Thread -> the atoms of interest that its rows have."""
        self.redirected: set[int] = set()
        """Threads that were merged into another one before this batch."""
        self.merged: dict[int, int] = {}
        """Thread -> the one it becomes part of by this batch."""
        self.attached: dict[int, int] = {}
        """Cluster -> the thread that the subject rule shows it in."""
        self.refused: list[Link] = []
        """Claims that the guard turned down."""
        self.spans: dict[str, Span] = {}
        """Subject key -> the times of messages that changed their thread."""

    async def run(self) -> list[Filed]:
        if not self.batch:
            return []
        await self._load({key for p in self.batch for key in p.facts.holds})
        found = await self._known_messages()
        twin = self._twins(found)
        fresh = [i for i, known in enumerate(found) if known is None and i not in twin]
        answered = await self._answered(fresh)
        for n, i in enumerate(fresh):
            self.board.add(-1 - n, self.batch[i].facts)
            if (thread := answered.get(i)) is not None:
                self.board.join(-1 - n, thread)
        changed = {key for i in fresh for key in self.batch[i].facts.holds}
        self.board.settle(changed)
        changed |= await self._let_in(changed)
        written = await self._write(fresh, changed)
        moved = await self._apply_subject_rule(fresh, written)
        absorbed: dict[int, list[int]] = {}
        for loser, winner in self.merged.items():
            absorbed.setdefault(winner, []).append(loser)
        results: list[Filed] = []
        for i in range(len(self.batch)):
            at = twin.get(i, i)
            known = found[at]
            message, cluster = written[at] if known is None else (known[0], self.merged.get(known[1], known[1]))
            thread = moved.get(cluster, self.attached.get(cluster, cluster))
            new = known is None and at == i
            gone = tuple(f"t{t}" for t in absorbed.get(cluster, ())) if new else ()
            why = self._why(at, cluster, thread, known=known is not None) if new else _DUPLICATE
            results.append(Filed(id=f"m{message}", thread=f"t{thread}", new=new, absorbed=gone, why=why))
        await self._announce(fresh, results)
        await self._locate([(i, int(results[i].id[1:])) for i in range(len(self.batch))])
        return results

    async def regard(self, thread: int, *, knows: Collection[str] = (), owns: Hold | None = None, key: str = "") -> int:
        """Work out a thread anew that got to know somebody, or owns one more id; where it is now."""
        await self._lock_threads([thread])
        thread = self.board.root(thread)
        if owns is not None:
            await self._load([key])
            self.board.hold(key, owns._replace(thread=thread))
        self.board.know(thread, knows)
        changed = {key} if key else set()
        self.board.settle(changed)
        changed |= await self._let_in(changed)
        written = await self._write([], changed)
        if knows:
            rows = [{"thread": self.board.root(thread), "atom": atom, "name": ""} for atom in sorted(knows)]
            dialect = postgresql if self.postgres else sqlite
            await self.tx.execute(dialect.insert(PERSON).on_conflict_do_nothing(), rows)
        moved = await self._apply_subject_rule([], written)
        cluster = self.board.root(thread)
        return moved.get(cluster, self.attached.get(cluster, cluster))

    def _twins(self, found: Sequence[object]) -> dict[int, int]:
        """The same mail twice in one batch is one message: arrival -> the earlier one that it is."""
        first: dict[tuple[str, str], int] = {}
        twins: dict[int, int] = {}
        for i, p in enumerate(self.batch):
            if found[i] is not None:
                continue
            names = [("content", p.row["content_key"]), *([("own", p.row["own_key"])] if p.row["own_key"] else [])]
            same = next((first[n] for n in names if n in first), None)
            if same is not None:
                twins[i] = same
            else:
                first.update(dict.fromkeys(names, i))
        return twins

    def _why(self, i: int, cluster: int, thread: int, *, known: bool) -> Why:
        """The short answer; `explain` gives the long one."""
        matched = []
        for key, (role, _) in self.batch[i].facts.holds.items():
            others = [h for h in self.stored.get(key, ()) if self.board.root(h.thread) == cluster]
            if others:
                matched.append(Match(message_id=key, header="", role=role, thread=f"t{cluster}"))
        claim = next((link for link in self.refused if link.claimant == cluster), None)
        if thread != cluster:
            return Why(rule="subject", confidence="low", note="attached by its subject, as the only thread it can mean")
        if matched or self.batch[i].row["answers"] is not None:
            rule: Literal["ids", "answers"] = "ids" if matched else "answers"
            return Why(rule=rule, confidence="high", matched=tuple(matched))
        if claim is not None:
            return Why(
                rule="kept apart", confidence="high", claimed_parent=claim.key,
                rejected=(Rejected(thread=f"t{claim.target}", message_id=claim.key, reason=unknown(claim.missing)),),
                note="its sender is a stranger in the thread that it claims to answer in",
            )  # fmt: skip
        return Why(rule="new", confidence="certain")

    async def _apply_subject_rule(self, fresh: Sequence[int], written: dict[int, tuple[int, int]]) -> dict[int, int]:
        if not self.account:
            return {}
        spans = dict(self.spans)
        for i in fresh:
            row = self.batch[i].row
            if len(key := row["subject_key"]) >= SHORTEST_KEY:
                low, high = spans.get(key, (row["at"], row["at"]))
                spans[key] = (min(low, row["at"]), max(high, row["at"]))
        clusters = {cluster for _, cluster in written.values()}
        clusters |= {root for t in self.known if (root := self.board.root(t)) > 0}
        return await SubjectRule(self.tx, self.account, self.own, now=self.now).run(spans, clusters)

    async def _announce(self, fresh: Sequence[int], results: Sequence[Filed]) -> None:
        if self.account:
            await append_events(self.tx, [
                {"kind": "message.filed", "thread": int(results[i].thread[1:]), "message": int(results[i].id[1:]),
                 "account": self.account, "data": {"outgoing": self.batch[i].row["outgoing"]}, "at": self.now}
                for i in fresh if self.batch[i].arrival.fresh
            ])  # fmt: skip

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
                query = select(THREAD.c.id, THREAD.c.merged_into, THREAD.c.attached_to).where(THREAD.c.id.in_(some))
                if self.postgres:
                    query = query.order_by(THREAD.c.id).with_for_update()
                for thread, winner, attached_to in await self.tx.execute(query):
                    self.known.setdefault(thread, set())
                    if attached_to is not None:
                        self.attached[thread] = attached_to
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
                asked.update(name for a in hold.voucher[1:].split("\n") if a for name in (a, f"~{a}"))
        threads = sorted(
            set(self.known) - self.redirected
        )  # also those that this batch joins: their rows are still there
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
                    select(LOCATION.c.uid, MESSAGE.c.id, MESSAGE.c.cluster)
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
            news = sorted({name for atoms in learnt.values() for atom in atoms for name in (atom, atom.lstrip("~"))})
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
        rows = [
            {**self.batch[i].row, "id": name[i], "cluster": c, "thread": self.attached.get(c, c), "variant": False}
            for i, c in cluster.items()
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
        await index(self.tx, self.account, ((name[i], self.batch[i].row["at"], self.batch[i].words) for i in fresh))
        await self._update_threads(by_cluster, set(thread_ids.values()))
        await self._write_people(fresh, cluster)
        await self._write_holders(changed, thread_ids)
        await self._write_apart(changed, thread_ids)
        return {i: (name[i], cluster[i]) for i in fresh}

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
        rows, bumped = [], []
        for thread in sorted(set(by_cluster) - new):
            messages = by_cluster[thread]
            oldest = min(messages, key=lambda m: (m["at"], m["content_key"]))
            last = max(m["at"] for m in messages)
            rows.append({
                "which": thread, "more": len(messages), "first": oldest["at"], "last": last, "about": oldest["subject"],
            })  # fmt: skip
            if thread in self.attached:
                bumped.append({"which": self.attached[thread], "last": last})
        T, lower = THREAD.c, func.least if self.postgres else func.min  # noqa: N806
        first: Any = bindparam("first")
        last_: Any = bindparam("last")
        newest = (func.greatest if self.postgres else func.max)(T.last_at, last_)
        here = update(THREAD).where(T.id == bindparam("which"))
        if rows:
            await self.tx.execute(
                here.values(
                    messages=T.messages + bindparam("more"), last_at=newest, first_at=lower(T.first_at, first),
                    subject=case((T.first_at > first, bindparam("about")), else_=T.subject),
                ),
                rows,
            )  # fmt: skip
        if bumped:
            await self.tx.execute(here.values(last_at=newest), bumped)

    async def _merge(self) -> None:
        """Carry out the joins of threads that exist. Old ids stay as signposts."""
        self.merged = self._joined()
        absorbed: dict[int, list[int]] = {}
        for thread, winner in self.merged.items():
            absorbed.setdefault(winner, []).append(thread)
        for winner, losers in absorbed.items():
            await self._note_subjects(losers)
            for thread in (winner, *losers):
                self.attached.pop(thread, None)
            await absorb(self.tx, self.account, winner, losers, now=self.now)

    async def _note_subjects(self, losers: Sequence[int]) -> None:
        """A join leaves fewer candidates for the subject rule: what it could not decide, it may decide now."""
        if not self.account:
            return
        query = (
            select(MESSAGE.c.subject_key, func.min(MESSAGE.c.at), func.max(MESSAGE.c.at))
            .where(MESSAGE.c.cluster.in_(losers), MESSAGE.c.subject_key != "")
            .group_by(MESSAGE.c.subject_key)
        )
        for key, low, high in await self.tx.execute(query):
            before = self.spans.get(key, (low, high))
            self.spans[key] = (min(before[0], low), max(before[1], high))

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
            self.refused.append(named)
            for atom in named.missing:
                links[named.target, atom, named.claimant, named.key] = None
        for some in _chunks(sorted(changed)):
            await self.tx.execute(delete(APART).where(APART.c.account == self.account, APART.c.key.in_(some)))
        rows = [
            {"account": self.account, "target": target, "atom": atom, "claimant": claimant, "key": key}
            for target, atom, claimant, key in links
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


def _chunks(values: Sequence[T]) -> Iterable[Sequence[T]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
