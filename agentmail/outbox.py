"""The whole life of a submission: a row before a byte leaves, and an honest state at every moment after.

```
             enqueue                  claim (lease, epoch)           250
  policy ──▶ queued ───────────────────▶ sending ───────────────────▶ sent
    │          ▲ ▲ ▲                      │ │ │
    ▼          │ │ └── 4xx, no server ────┘ │ │ 5xx
   held ───────┘ │     lease ended before   │ └─────────────────────▶ failed ◀── expired
    │  approve   │     the marker           │                           ▲
    │            │                          │ lost after the marker     │
    │            │ not found, grace over    ▼                           │
    │            └───────────────────── unknown ──▶ sent  (found in Sent, or as a copy of our own)
    │                                       └──▶ stays, for a person (at_most_once; no way to look)
    └─ deny, cancel ──▶ canceled ◀── cancel (queued)
```

Bytes, Message-ID, envelope and key are written once and never change. The question before every send is: could this
have been sent already? The marker ("the body is about to go") commits before the body goes, so a row that is found in
`sending` without it was not sent; with it, the row becomes `unknown` and somebody looks before it goes again.
A lease ends what a worker may do: just before the final dot it asks whether its lease still holds.

Trap: `sent` means that the submission server said 250, and no more.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .attempting import COMPANY, Submits
from .bounced import return_path
from .delivery import LEASE, MARGIN, Delivery
from .errors import AgentMailError, AlreadyAnswered, BadInput, KeyReused, NotFound, Refused, StoreError
from .message.domains import address_key
from .message.models import Message, Outgoing
from .message.parse import parse
from .policy import Kind, Origin, Policy, Situation, decide
from .policy import left_out as left_out_reason
from .recovery import LOOKS, Evidence
from .sent import Recipient, Sent, State, shown
from .settings import Account
from .smtp import check_envelope
from .store import Arrival, ThreadStore, provenance, submissions, tallies
from .store.arrivals import Prepared
from .store.changes import announce
from .store.database import Tx, database_now
from .store.events import append_events
from .store.reading import message_of
from .store.submissions import Submission
from .store.together import Together
from .supervision import digest, noted

__all__ = ["Evidence", "Outbox", "Recipient", "Sent", "State"]

EXPIRES = timedelta(hours=48)
FARTHEST = timedelta(days=3660)
"""How far ahead a message may be dated."""
LONGEST_KEY = 500
"""Characters of an idempotency key; PostgreSQL's indexes hold no row of 3 KB."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """A message with everything worked out that needs no database, so that no transaction waits for it."""

    outgoing: Outgoing
    message: Message
    filing: Prepared


@dataclass(slots=True)
class _Given:
    """A message to be written into the outbox, as `queue` was asked."""

    ready: _Ready
    how: Mapping[str, Any]
    then: Callable[[Tx, Sent], Awaitable[None]] | None
    tried: bool = False
    """Whoever wrote for it was cancelled, perhaps in the commit: the row may be there."""


@dataclass(frozen=True, slots=True)
class _Admitted:
    """What the policy let pass, or holds: ready to be written."""

    ready: _Ready
    row: Mapping[str, Any]
    recipients: Sequence[str]
    rules: Sequence[str]


class Outbox(Delivery):
    """The outbox of one account. Building it does nothing; any number of workers may run on one store."""

    def __init__(
        self, account: Account, store: ThreadStore, submitter: Submits, *, evidence: Evidence | None = None,
        policy: Policy | None = None, clock: Callable[[], datetime] | None = None,
        monotonic: Callable[[], float] = time.monotonic, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random, lease: float = LEASE, looks: Sequence[float] = LOOKS,
        self_copy: bool | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            clock: Only for what is computed here from times that callers gave; leases go by the database's clock.
            jitter: 0 to 1; spreads retries by ±10 %.
            looks: Seconds before each look for a message whose fate is unknown.
            self_copy: Instead of what the account says: send a copy of everything to the account itself.
        """
        self.account, self.store, self.submitter, self.evidence = account, store, submitter, evidence
        self.policy = policy or Policy()
        self._clock, self._monotonic, self._sleep, self._jitter = clock, monotonic, sleep, jitter
        self._lease, self._margin, self._looks = lease, min(MARGIN, lease / 10), looks
        self._self_copy = account.self_copy if self_copy is None else self_copy
        self._writes: Together[Any, bool] = Together(self._write, may_wait=self._may_wait, patience=COMPANY)
        self._rows: Together[_Given, Sent | Exception] = Together(self._enqueue_all)

    async def close(self) -> None:
        """Leave the server. Rows that are under way are picked up by whoever comes next."""
        await self.submitter.close()

    # -- into the outbox ----------------------------------------------------------------------------------------------

    async def submit(self, outgoing: Outgoing, **how: Any) -> Sent:
        """`queue`, then `deliver`."""
        return await self.deliver((await self._queue(outgoing, **how)).id)

    async def enqueue(
        self, tx: Tx, outgoing: Outgoing, *, kind: Kind = "new", answers: Message | None = None,
        key: str | None = None, send_at: datetime | None = None, origin: Origin = "program", agent: str = "",
        again: bool = True, at_most_once: bool | None = None, attachments_elsewhere: Sequence[str] = (),
        attachments_unknown: Sequence[str] = (), read_elsewhere: Sequence[str] = (), approved_by: str = "",
        left_out: Sequence[str] = (),
    ) -> Sent:  # fmt: skip
        """Freeze a message as a row, and file it in its thread, in the caller's transaction. Nothing is sent yet.

        Args:
            key: Makes it happen once for good: the same key gives the first submission back.
            send_at: Not before this time.
            left_out: Who does not get this reply to all, because nobody reads there; kept with it as an explanation.
            again: False: refuse a second answer to the same message.
            approved_by: A person wrote or approved exactly this.

        Raises:
            BadInput: an address that cannot be written, a time without a zone.
            KeyReused: the key was used for other content; the error shows the difference.
            AlreadyAnswered: `answers` has an answer, and `again` is False.
            Refused: the policy says never.
        """
        ready = self._worked_out(outgoing, kind, answers)
        admitted = await self._admit(
            tx, ready, await database_now(tx), kind=kind, answers=answers, key=key, send_at=send_at, origin=origin,
            agent=agent, again=again, at_most_once=at_most_once, attachments_elsewhere=attachments_elsewhere,
            attachments_unknown=attachments_unknown, read_elsewhere=read_elsewhere, approved_by=approved_by,
            left_out=left_out,
        )  # fmt: skip
        return admitted if isinstance(admitted, Sent) else (await self._write_rows(tx, [admitted]))[0]

    async def queue(
        self, outgoing: Outgoing, *, then: Callable[[Tx, Sent], Awaitable[None]] | None = None, **how: Any
    ) -> Sent:
        """`enqueue` in a transaction that it shares with others of the same moment; raises what `enqueue` raises.

        Args:
            then: What belongs to it, in the same transaction.
        """
        queued = await self._queue(outgoing, then=then, **how)
        await self.store.db.durable()
        return queued

    async def _queue(
        self, outgoing: Outgoing, *, then: Callable[[Tx, Sent], Awaitable[None]] | None = None, **how: Any
    ) -> Sent:
        await self.store.open()
        ready = self._worked_out(outgoing, how.get("kind", "new"), how.get("answers"))
        queued = await self._rows(_Given(ready, how, then))
        if isinstance(queued, Exception):
            raise queued
        return queued

    async def _enqueue_all(self, given: Sequence[_Given]) -> Sequence[Sent | Exception]:
        """Rows that come at the same moment, in one transaction. What is refused is refused alone.

        Trap: when the transaction fails, each of them hears of it, and none is tried again here: a commit whose answer
        was lost may have happened.
        """
        try:
            return await self.store.db.run(lambda tx: self._enqueue_in(tx, given))
        except asyncio.CancelledError:
            for one in given:
                one.tried = True
            raise
        except Exception as exc:  # noqa: BLE001 - raised by each caller
            return [exc] * len(given)

    async def _enqueue_in(self, tx: Tx, given: Sequence[_Given]) -> list[Sent | Exception]:
        done: dict[int, Sent | Exception] = {}
        ready: dict[int, _Admitted] = {}
        now = await database_now(tx)

        async def write() -> None:
            done.update(zip(ready, await self._write_rows(tx, list(ready.values())), strict=True))
            ready.clear()

        for i, one in enumerate(given):
            if one.tried:
                first = await submissions.with_message_id(tx, self.account.key, one.ready.outgoing.message_id)
                if first is not None:
                    done[i] = shown(first)
                    continue
            # What a rule or a key looks up must see the rows before it; plain mail of a program is looked at by none.
            plain = one.how.get("kind", "new") == "new" and not one.how.get("key") and not self._checked(one.how)
            if ready and not plain:
                await write()
            try:
                admitted = await self._admit(tx, one.ready, now, **one.how)
            except AgentMailError as exc:
                if isinstance(exc, StoreError):
                    raise
                done[i] = exc
                continue
            if isinstance(admitted, Sent):
                done[i] = admitted
                continue
            ready[i] = admitted
            if not plain:
                await write()
        if ready:
            await write()
        for i, one in enumerate(given):
            if one.then is not None and isinstance(queued := done[i], Sent):
                await one.then(tx, queued)
        return [done[i] for i in range(len(given))]

    def _checked(self, how: Mapping[str, Any]) -> bool:
        return how.get("origin", "program") == "tool" or self.policy.programs == "checked"

    def _worked_out(self, outgoing: Outgoing, kind: Kind, answers: Message | None) -> _Ready:
        """Read the message as its recipients will, and prepare its filing."""
        check_envelope(outgoing.envelope)
        message = parse(outgoing.raw)
        in_headers = {a.key for a in message.recipients}
        answered = answers.id if answers is not None and kind == "reply" else None
        arrival = Arrival(
            message, outgoing.raw, outgoing=True, answers=answered,
            also_to=tuple(a for a in outgoing.envelope.rcpt_to if address_key(a) not in in_headers),
        )  # fmt: skip
        try:
            (filing,) = self.store.prepare([arrival], account=self.account.key)
        except ValueError as exc:
            raise BadInput(f"the message holds what no store keeps: {exc}") from exc
        return _Ready(outgoing, message, filing)

    async def _admit(
        self, tx: Tx, ready: _Ready, now: float, *, kind: Kind = "new", answers: Message | None = None,
        key: str | None = None, send_at: datetime | None = None, origin: Origin = "program", agent: str = "",
        again: bool = True, at_most_once: bool | None = None, attachments_elsewhere: Sequence[str] = (),
        attachments_unknown: Sequence[str] = (), read_elsewhere: Sequence[str] = (), approved_by: str = "",
        left_out: Sequence[str] = (),
    ) -> Sent | _Admitted:  # fmt: skip
        """Everything that is decided before a row is written; the first submission when the key was used."""
        if send_at is not None and send_at.tzinfo is None:
            raise BadInput("send_at needs a time zone")
        if send_at is not None and send_at.timestamp() > now + FARTHEST.total_seconds():
            raise BadInput(f"send_at is {send_at:%Y-%m-%d}: nothing is kept for more than ten years")
        if key and (len(key) > LONGEST_KEY or not key.isprintable()):
            raise BadInput(f"key {key[:40]!r}… is {len(key)} characters: up to {LONGEST_KEY}, all of them printable")
        outgoing, message, account = ready.outgoing, ready.message, self.account.key
        answered = int(str(answers.id)[1:]) if answers is not None and answers.id else None
        names = ([f"key {account} {key}"] if key else []) + ([f"answers {account} {answered}"] if answered else [])
        await submissions.hold(tx, *names)
        if key and (first := await submissions.with_key(tx, account, key)) is not None:
            await self._same_content(tx, first, outgoing, message)
            return shown(first)
        if key and await submissions.spent(tx, account, key):
            raise KeyReused(f"key {key!r} was used for mail that was deleted since: nothing was sent; use another key")
        generation = None
        if answered is not None and kind == "reply":
            earlier, generation = await submissions.answer_to(tx, account, answered)
            if earlier is not None and not again:
                raise AlreadyAnswered(
                    f"m{answered} has an answer: o{earlier.id} ({earlier.state}); pass again=True to write another one"
                )
        situation = await self._situation(
            tx, outgoing, message, kind=kind, answers=answers, origin=origin, now=now, approved=bool(approved_by),
            attachments_elsewhere=tuple(attachments_elsewhere), attachments_unknown=tuple(attachments_unknown),
            read_elsewhere=tuple(read_elsewhere),
        )  # fmt: skip
        decision = decide(self.policy, situation)
        if decision.action == "deny":
            raise Refused(f"nothing was sent: {decision}")
        recipients = [*outgoing.envelope.rcpt_to]
        if self._self_copy and self.account.key not in set(map(address_key, recipients)):
            recipients.append(self.account.address)
        mail_from = return_path(self.account, outgoing, self.store.secret)
        due = max(now, send_at.timestamp()) if send_at is not None else now
        state = "held" if decision.action == "hold" else "queued"
        return _Admitted(
            ready,
            {
                "account": account, "state": state, "kind": kind, "origin": origin, "agent": agent, "key": key,
                "message_id": outgoing.message_id, "answers": answered,
                "generation": generation, "mail_from": mail_from, "subject": message.subject[:500],
                "size": len(outgoing.raw), "digest": digest(outgoing.raw, mail_from, recipients),
                "at_most_once": self.policy.at_most_once if at_most_once is None else at_most_once,
                "reasons": [r.model_dump() for r in (*decision.reasons, *map(left_out_reason, left_out))],
                "created_at": now, "next_at": due,
                "expires_at": due + EXPIRES.total_seconds(), "attempts": 0, "epoch": 0, "looks": 0, "error": "",
                "reply": "", "copied": False, "decision": "approved" if approved_by else "",
                "decided_by": approved_by, "decided_at": now if approved_by else None,
            },
            recipients, [r.rule for r in decision.reasons],
        )  # fmt: skip

    async def _write_rows(self, tx: Tx, admitted: Sequence[_Admitted]) -> list[Sent]:
        """File the messages in their threads, and write their rows."""
        filed = await self.store.file_batch(tx, [one.ready.filing for one in admitted], account=self.account.key)
        rows = await submissions.add(tx, [
            ({**one.row, "message": int(f.id[1:])}, one.recipients, one.ready.outgoing.raw, int(f.thread[1:]))
            for one, f in zip(admitted, filed, strict=True)
        ])  # fmt: skip
        await append_events(tx, [
            noted(row, row.state, row.created_at, rules=one.rules) for row, one in zip(rows, admitted, strict=True)
        ])  # fmt: skip
        await announce(tx)
        return [shown(row) for row in rows]

    async def _situation(
        self, tx: Tx, outgoing: Outgoing, message: Message, *, kind: Kind, answers: Message | None, origin: Origin,
        now: float, approved: bool, attachments_elsewhere: tuple[str, ...], attachments_unknown: tuple[str, ...],
        read_elsewhere: tuple[str, ...],
    ) -> Situation:  # fmt: skip
        """Everything the policy looks at. Program code that starts a thread is not looked up: no rule would use it."""
        recipients = tuple(dict.fromkeys(address_key(a) for a in outgoing.envelope.rcpt_to))
        own = frozenset(self.account.own_addresses)
        base = Situation(origin=origin, kind=kind, recipients=recipients, own=own, answers=answers, approved=approved)
        checked = origin == "tool" or self.policy.programs == "checked"
        if kind != "reply" and not checked:
            return base
        account = self.account.key
        thread = int((await self._thread_of(tx, answers))[1:]) if answers is not None and kind == "reply" else None
        update: dict[str, object] = {"counts": await tallies.counts(tx, account, thread, recipients, now=now)}
        if answers is not None and answers.sender is not None:
            update["same_again"] = await tallies.same_again(
                tx, thread, answers.sender.key, limit=self.policy.same_again
            )
        if checked:
            if message.attachments and not approved and self.policy.attachments != "mailbox":
                home = await submissions.thread_of(tx, int(str(answers.id)[1:])) if answers is not None else None
                found = await provenance.from_elsewhere(tx, account, home, message.attachments)
                attachments_elsewhere = tuple(dict.fromkeys((*attachments_elsewhere, *found)))
            wrote, named, known, granted = await tallies.familiar(tx, account, thread, recipients)
            update |= {
                "wrote": frozenset(wrote), "named": frozenset(named), "known": frozenset(known),
                "granted": frozenset(granted), "around": await tallies.around(tx, account, thread),
                "text": f"{message.subject}\n{message.text}" if kind == "new" else message.text,
                "html": message.html or "",
                "attachments_elsewhere": attachments_elsewhere, "attachments_unknown": attachments_unknown,
                "read_elsewhere": read_elsewhere,
            }  # fmt: skip
        return base.model_copy(update=update)

    async def _replace(self, tx: Tx, row: Submission, outgoing: Outgoing, *, by: str) -> Sent:
        answers = await message_of(tx, f"m{row.answers}") if row.answers is not None else None
        kind: Kind = "reply" if row.kind == "reply" else "forward" if row.kind == "forward" else "new"
        origin: Origin = "tool" if row.origin == "tool" else "program"
        return await self.enqueue(
            tx, outgoing, kind=kind, answers=answers, key=row.key, origin=origin, agent=row.agent, approved_by=by,
            send_at=datetime.fromtimestamp(row.next_at, UTC) if row.next_at is not None else None,
            at_most_once=row.at_most_once,
        )  # fmt: skip

    async def _thread_of(self, tx: Tx, message: Message) -> str:
        found = await submissions.thread_of(tx, int(str(message.id)[1:]))
        if found is None:
            raise NotFound(f"there is no message {message.id} in this store")
        return f"t{found}"

    async def _same_content(self, tx: Tx, first: Submission, outgoing: Outgoing, message: Message) -> None:
        # A person may have edited it: then what was asked under the key is another row.
        edited = await submissions.with_key(tx, first.account, submissions.key_of_edited(str(first.key)))
        differs = ""
        for row in filter(None, (first, edited)):
            before = parse((await submissions.bodies(tx, [row.id]))[row.id])
            differs = _difference(
                before, [r.address for r in row.recipients], message, outgoing.envelope.rcpt_to, self.account.key
            )
            if not differs:
                break
        if differs:
            raise KeyReused(
                f"key {first.key!r} was used for o{first.id}, with other content: {differs}; use another key"
            )


def _difference(before: Message, to_before: Sequence[str], now: Message, to_now: Sequence[str], own: str) -> str:
    """What a person would call different; the Message-ID, the date and the MIME boundaries are not."""
    pairs: dict[str, tuple[object, ...]] = {
        # The copy to ourselves is ours, not the caller's.
        "recipients": tuple(sorted(set(map(address_key, who)) - {own}) for who in (to_before, to_now)),
        "subject": (before.subject, now.subject),
        "answers": (" ".join(before.in_reply_to), " ".join(now.in_reply_to)),
        "text": (before.text, now.text),
        "html": (before.html, now.html),
        "attachments": (
            [(a.name, a.content) for a in before.attachments],
            [(a.name, a.content) for a in now.attachments],
        ),
    }
    different = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if "text" in different:  # it is made of the text where nobody gave another
        different.pop("html", None)
    return "; ".join(n if n in {"html", "attachments"} else f"{n}: {_shown(p[0], p[1])}" for n, p in different.items())


def _shown(before: object, now: object) -> str:
    """Both, from shortly before the place where they begin to differ."""
    a, b = str(before), str(now)
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    start = max(0, same - 20)
    return f"was {a[start : start + 60]!r}, now {b[start : start + 60]!r}"
