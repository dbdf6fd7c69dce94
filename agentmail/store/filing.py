"""Messages into the store: which are new, where they belong, and everything written in one transaction.

The shape of a batch: read what its ids touch (locking those rows in sorted order), decide in memory by
`threads.placement`, write. Nothing is decided on a row that is not locked, so any number of processes get the same
threads. PostgreSQL locks rows: first ids, then threads, each sorted. SQLite's BEGIN IMMEDIATE locks everything.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Update, bindparam, case, delete, func, or_, select, update

from ..threads.fallback import SHORTEST_KEY
from ..threads.models import Filed, Match, Rejected, Why
from ..threads.placement import Hold, Link, claimed_parent, named_in, unknown
from . import holders
from .bulk import Insert, next_ids
from .direct import Statement, among, listed
from .events import append_events
from .gathering import Gathering
from .holders import chunks
from .merging import absorb
from .search import index
from .subjects import SubjectRule
from .tables.threads import (
    APART,
    ATTACHMENT,
    LOCATION,
    MESSAGE,
    PERSON,
    RAW,
    THREAD,
)

CROWD = 32
"""Threads that hold one id and are kept apart: above it the store remembers them one by one and not in pairs."""

_DUPLICATE = Why(rule="duplicate", confidence="certain", note="this store has it already")
_NEW = Why(rule="new", confidence="certain")
_OLD_IDS = Why(rule="ids", confidence="high", note="history: `explain` names the ids")

_THREADS = Insert(THREAD)
_MESSAGES = Insert(MESSAGE)
_RAWS = Insert(RAW)
_ATTACHMENTS = Insert(ATTACHMENT, [c for c in ATTACHMENT.c if c.name != "id"])
_PEOPLE = Insert(PERSON, after="ON CONFLICT DO NOTHING")
_APART = Insert(APART, [c for c in APART.c if c.name != "id"])


def _grown(postgres: bool) -> Update:
    """A thread with more messages; it is called what its oldest is called."""
    T, lower = THREAD.c, func.least if postgres else func.min  # noqa: N806
    first = bindparam("first", type_=T.first_at.type)
    about = bindparam("about", type_=T.subject.type)
    return _bumped(postgres).values(
        messages=T.messages + bindparam("more", type_=T.messages.type), first_at=lower(T.first_at, first),
        subject=case((T.first_at > first, about), else_=T.subject),
    )  # fmt: skip


def _bumped(postgres: bool) -> Update:
    newest = (func.greatest if postgres else func.max)(THREAD.c.last_at, bindparam("last", type_=THREAD.c.last_at.type))
    return update(THREAD).where(THREAD.c.id == bindparam("which")).values(last_at=newest)


_GROWN, _BUMPED = Statement(_grown), Statement(_bumped)
_STALE = Statement(
    lambda postgres: delete(APART).where(
        APART.c.account == bindparam("account"), among(APART.c.key, "keys", postgres=postgres),
        or_(
            among(APART.c.claimant, "threads", postgres=postgres), among(APART.c.target, "threads", postgres=postgres)
        ),
    )
)  # fmt: skip
_LOCATIONS = Insert(LOCATION, after="ON CONFLICT DO NOTHING")


class Filing(Gathering):
    """One batch, in one transaction."""

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
            # Nothing to check: every value was made here.
            results.append(
                Filed.model_construct(id=f"m{message}", thread=f"t{thread}", new=new, absorbed=gone, why=why)
            )
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
        self.board.touch(thread)
        changed = {key} if key else set()
        self.board.settle(changed)
        changed |= await self._let_in(changed)
        written = await self._write([], changed)
        if knows:
            await _PEOPLE.rows(self.tx, [(self.board.root(thread), atom, "") for atom in sorted(knows)])
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
        if not self.batch[i].arrival.fresh and thread == cluster and not self.account:
            # A reason for each of a million old messages costs more than their joins, and nobody reads it here.
            return _OLD_IDS if self._linked(i, cluster) else _NEW
        held = self.batch[i].facts.holds
        shared = [key for key in held if any(self.board.root(h.thread) == cluster for h in self.stored.get(key, ()))]
        where = named_in(self.batch[i].arrival.message) if shared else {}
        matched = [
            Match(message_id=key, header=where.get(key, ""), role=held[key][0], thread=f"t{cluster}") for key in shared
        ]
        claims = {link.key: link for link in self.refused if link.claimant == cluster and link.key in held}
        if thread != cluster:
            return Why(rule="subject", confidence="low", note="attached by its subject, as the only thread it can mean")
        if matched or self.batch[i].row["answers"] is not None:
            rule: Literal["ids", "answers"] = "ids" if matched else "answers"
            return Why(rule=rule, confidence="high", matched=tuple(matched))
        if claims:
            return Why(
                rule="kept apart", confidence="high",
                claimed_parent=claimed_parent(self.batch[i].arrival.message, set(claims)),
                rejected=tuple(
                    Rejected(thread=f"t{link.target}", message_id=key, reason=unknown(link.missing))
                    for key, link in claims.items()
                ),
                note="its sender is a stranger in the thread that it claims to answer in",
            )  # fmt: skip
        return _NEW

    def _linked(self, i: int, cluster: int) -> bool:
        return self.batch[i].row["answers"] is not None or any(
            self.board.root(h.thread) == cluster for key in self.batch[i].facts.holds for h in self.stored.get(key, ())
        )

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

    # ---- writing ----------------------------------------------------------------------------------------------------

    async def _write(self, fresh: Sequence[int], changed: Collection[str]) -> dict[int, tuple[int, int]]:
        """Write everything that changed; arrival -> (message, thread)."""
        root_of = {i: self.board.root(-1 - n) for n, i in enumerate(fresh)}
        new_roots = sorted({r for r in root_of.values() if r < 0}, reverse=True)
        thread_ids = dict(zip(new_roots, await next_ids(self.tx, "thread", len(new_roots)), strict=True))
        message_ids = await next_ids(self.tx, "message", len(fresh))
        cluster = {i: thread_ids.get(root, root) for i, root in root_of.items()}
        name = dict(zip(fresh, message_ids, strict=True))

        by_cluster: dict[int, list[dict[str, Any]]] = {}
        for i in fresh:
            by_cluster.setdefault(cluster[i], []).append(
                {**self.batch[i].row, "subject": self.batch[i].subject}
            )
        await self._insert_threads(by_cluster, set(thread_ids.values()))
        await self._merge()
        rows = [
            {
                **self.batch[i].row, "id": name[i], "cluster": c, "thread": self.attached.get(c, c), "variant": False,
                "headless": self.batch[i].row["headless"] and not self._names_an_owner(i),
            }
            for i, c in cluster.items()
        ]  # fmt: skip
        await self._mark_variants(rows)
        await _MESSAGES.dicts(self.tx, rows)
        await _RAWS.rows(self.tx, [(name[i], r) for i in fresh if (r := self.batch[i].arrival.raw) is not None])
        attachments = [{"message": name[i], **a} for i in fresh for a in self.batch[i].attachments]
        await _ATTACHMENTS.dicts(self.tx, attachments)
        await index(self.tx, self.account, ((name[i], self.batch[i].row["at"], self.batch[i].words) for i in fresh))
        await self._update_threads(by_cluster, set(thread_ids.values()))
        await self._write_people(fresh, cluster)
        await self._write_holders(changed, thread_ids)
        await self._write_apart(changed, thread_ids)
        return {i: (name[i], cluster[i]) for i in fresh}

    def _names_an_owner(self, i: int) -> bool:
        """Whether an id that it mentions belongs to some message: then the subject rule is not for it, ever."""
        return any(
            hold.role == "own"
            for key, (role, _) in self.batch[i].facts.holds.items()
            if role != "own"
            for hold in self.board.holders[key]
        )

    async def _insert_threads(self, by_cluster: dict[int, list[dict[str, Any]]], new: set[int]) -> None:
        rows = []
        for thread in sorted(new):
            messages = by_cluster[thread]
            oldest = min(messages, key=lambda m: (m["at"], m["content_key"]))
            rows.append({
                "id": thread, "account": self.account, "subject": oldest["subject"], "status": "open", "labels": "[]",
                "notes": "[]", "data": "{}", "messages": len(messages), "first_at": oldest["at"],
                "last_at": max(m["at"] for m in messages), "merged_into": None, "attached_to": None,
            })  # fmt: skip
        await _THREADS.dicts(self.tx, rows)

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
        await _GROWN.many(self.tx, rows)
        await _BUMPED.many(self.tx, bumped)

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
        for some in chunks(sorted(owned)):
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
        await _PEOPLE.rows(self.tx, [(t, a, n) for (t, a), n in sorted(people.items())])

    async def _write_holders(self, changed: Collection[str], thread_ids: dict[int, int]) -> None:
        now = {key: self._collapsed(key, thread_ids) for key in sorted(changed)}
        changes = {key: holds for key, holds in now.items() if holds != self.stored.get(key)}
        await holders.write(self.tx, self.account, self.stored, changes)

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
        rows: dict[tuple[int, str, int, str], None] = {}
        refused: dict[str, list[Link]] = {}
        for link in self.board.kept_apart(sorted(changed)):
            refused.setdefault(link.key, []).append(link)
        mine = sorted(root for root in self.board.touched if root > 0)
        for some in chunks(sorted(changed)) if mine else ():
            await _STALE.run(
                self.tx, account=self.account, keys=listed(self.tx, some), threads=listed(self.tx, mine)
            )
        for key, links in refused.items():
            voices = self.board.voices(key)
            if len(voices) > CROWD:
                wishes = await self._wishes(key, voices, {link.claimant for link in links})
            else:
                wishes = [(link.target, atom, link.claimant) for link in links for atom in link.missing]
            for target, atom, claimant in wishes:
                rows[thread_ids.get(target, target), atom, thread_ids.get(claimant, claimant), key] = None
            self.refused += (
                link._replace(
                    claimant=thread_ids.get(link.claimant, link.claimant),
                    target=thread_ids.get(link.target, link.target),
                )
                for link in links
            )
        await _APART.rows(self.tx, [(self.account, *row) for row in rows])

    async def _wishes(
        self, key: str, voices: Mapping[int, Collection[str]], refused: Collection[int]
    ) -> list[tuple[int, str, int]]:
        """What to remember of an id that many hold: not each pair, which would be their number squared, but for each
        thread once what could let it in anywhere, with itself as the target. `""` says that it holds the id at all.
        """
        query = select(APART.c.claimant, func.max(APART.c.atom)).where(
            APART.c.account == self.account, APART.c.key == key, APART.c.target == APART.c.claimant
        )
        written = {row[0]: row[1] for row in await self.tx.execute(query.group_by(APART.c.claimant))}
        wishes = []
        for root, atoms in voices.items():
            if root not in written:
                wishes.append((root, "", root))
            if root in refused and not written.get(root):
                wishes += [(root, atom, root) for atom in sorted(atoms)]
        return wishes

    async def _locate(self, messages: Sequence[tuple[int, int]]) -> None:
        """Remember where each arrival lies."""
        await _LOCATIONS.dicts(self.tx, [
            {"account": self.account, "mailbox": at.mailbox, "uidvalidity": at.uidvalidity, "uid": at.uid,
             "message": message, "flags": json.dumps(self.batch[i].arrival.flags)}
            for i, message in messages
            if (at := self.batch[i].arrival.location) is not None
        ])  # fmt: skip
