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
import hmac
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from .errors import (
    AlreadyAnswered,
    AuthenticationFailed,
    BadInput,
    CertificateRejected,
    KeyReused,
    NotFound,
    PermanentFailure,
    Refused,
    ServerError,
    StoreError,
    Unreachable,
)
from .message.models import Envelope, Message, Outgoing
from .message.parse import parse
from .policy import Kind, Origin, Policy, Situation, decide
from .recovery import LOOKS, Evidence, Recovery
from .sent import Recipient, Sent, State, shown
from .settings import Account
from .smtp import BeforeBody, Outcome, assigned_id, check_envelope
from .store import Arrival, ThreadStore, submissions, tallies
from .store.changes import Changes, announce
from .store.database import Tx, database_now
from .store.events import append_events
from .store.reading import message_of, number
from .store.submissions import Result, Submission
from .supervision import digest, event, note, noted
from .verdicts import Stop, judge, later, no_server

__all__ = ["Evidence", "Outbox", "Recipient", "Sent", "State"]

log = logging.getLogger(__name__)

LEASE = 180.0
"""Seconds a worker holds a row; renewed at a third of it while the attempt runs."""
CLAIM = 8
"""Rows that a worker takes at once, for each of its connections."""
MARGIN = 10.0
"""Seconds before the end of the lease from which the final dot may not go any more."""
EXPIRES = timedelta(hours=48)
LIMIT_PAUSE = 4 * 3600.0
"""Seconds an account rests when its provider's daily limit is reached."""
COPY_FOR = 86_400.0
"""Seconds for which a copy in Sent is still tried."""
TOKEN_PAUSE = 900.0
"""The same when a token was refused: it changes by itself, a password does not."""


class Submits(Protocol):
    """What the outbox needs of smtp.Submitter."""

    connections: int

    async def submit(
        self, raw: bytes, envelope: Envelope, *, before_body: BeforeBody | None = None, submission: str | None = None
    ) -> Outcome: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Item:
    """A write of a worker: the marker (no result), or how its attempt ended."""

    row: Submission
    result: Result | None = None
    stop: Stop | None = None


@dataclass(slots=True)
class _Hold:
    """A row that this worker holds, until when by its own monotonic clock, and what became of it."""

    row: Submission
    until: float
    error: ServerError | None = None


class Outbox(Recovery):
    """The outbox of one account. Building it does nothing; any number of workers may run on one store."""

    def __init__(
        self, account: Account, store: ThreadStore, submitter: Submits, *, evidence: Evidence | None = None,
        policy: Policy | None = None, clock: Callable[[], datetime] | None = None,
        monotonic: Callable[[], float] = time.monotonic, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random, lease: float = LEASE, looks: Sequence[float] = LOOKS,
        self_copy: bool = False,
    ) -> None:  # fmt: skip
        """
        Args:
            clock: Only for what is computed here from times that callers gave; leases go by the database's clock.
            jitter: 0 to 1; spreads retries by ±10 %.
            looks: Seconds before each look for a message whose fate is unknown.
            self_copy: Send a copy of everything to the account itself: evidence where the provider files nothing.
        """
        self.account, self.store, self.submitter, self.evidence = account, store, submitter, evidence
        self.policy = policy or Policy()
        self._clock, self._monotonic, self._sleep, self._jitter = clock, monotonic, sleep, jitter
        self._lease, self._margin, self._looks, self._self_copy = lease, min(MARGIN, lease / 10), looks, self_copy
        self._writes = _Together(self._write)

    async def close(self) -> None:
        """Leave the server. Rows that are under way are picked up by whoever comes next."""
        await self.submitter.close()

    # -- into the outbox ----------------------------------------------------------------------------------------------

    async def submit(self, outgoing: Outgoing, **how: Any) -> Sent:
        """`enqueue` in a transaction of its own, then `deliver`."""
        await self.store.open()
        queued = await self.store.db.run(lambda tx: self.enqueue(tx, outgoing, **how))
        return await self.deliver(queued.id)

    async def enqueue(
        self, tx: Tx, outgoing: Outgoing, *, kind: Kind = "new", answers: Message | None = None,
        key: str | None = None, send_at: datetime | None = None, origin: Origin = "program", agent: str = "",
        again: bool = True, at_most_once: bool | None = None, attachments_elsewhere: Sequence[str] = (),
        attachments_unknown: Sequence[str] = (), read_elsewhere: Sequence[str] = (), approved_by: str = "",
    ) -> Sent:  # fmt: skip
        """Freeze a message as a row, and file it in its thread, in the caller's transaction. Nothing is sent yet.

        Args:
            key: Makes it happen once for good: the same key gives the first submission back.
            send_at: Not before this time.
            again: False: refuse a second answer to the same message.
            approved_by: A person wrote or approved exactly this.

        Raises:
            BadInput: an address that cannot be written, a time without a zone.
            KeyReused: the key was used for other content; the error shows the difference.
            AlreadyAnswered: `answers` has an answer, and `again` is False.
            Refused: the policy says never.
        """
        check_envelope(outgoing.envelope)
        if send_at is not None and send_at.tzinfo is None:
            raise BadInput("send_at needs a time zone")
        now, account = await database_now(tx), self.account.key
        answered = int(str(answers.id)[1:]) if answers is not None and answers.id else None
        names = ([f"key {account} {key}"] if key else []) + ([f"answers {account} {answered}"] if answered else [])
        await submissions.hold(tx, *names)
        message = parse(outgoing.raw)
        if key and (first := await submissions.with_key(tx, account, key)) is not None:
            await self._same_content(tx, first, outgoing, message)
            return shown(first)
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
        in_headers = {a.key for a in message.recipients}
        arrival = Arrival(
            message, outgoing.raw, outgoing=True, answers=f"m{answered}" if answered and kind == "reply" else None,
            also_to=tuple(a for a in outgoing.envelope.rcpt_to if a.casefold() not in in_headers),
        )  # fmt: skip
        filed = (await self.store.file_batch(tx, [arrival], account=account))[0]
        recipients = [*outgoing.envelope.rcpt_to]
        if self._self_copy and self.account.key not in {a.casefold() for a in recipients}:
            recipients.append(self.account.address)
        due = max(now, send_at.timestamp()) if send_at is not None else now
        state = "held" if decision.action == "hold" else "queued"
        row = await submissions.add(
            tx,
            {
                "account": account, "state": state, "kind": kind, "origin": origin, "agent": agent, "key": key,
                "message_id": outgoing.message_id, "message": int(filed.id[1:]), "answers": answered,
                "generation": generation, "mail_from": outgoing.envelope.mail_from, "subject": message.subject[:500],
                "size": len(outgoing.raw), "digest": digest(outgoing.raw, outgoing.envelope.mail_from, recipients),
                "at_most_once": self.policy.at_most_once if at_most_once is None else at_most_once,
                "reasons": [r.model_dump() for r in decision.reasons], "created_at": now, "next_at": due,
                "expires_at": due + EXPIRES.total_seconds(), "attempts": 0, "epoch": 0, "looks": 0, "error": "",
                "reply": "", "copied": False, "decision": "approved" if approved_by else "",
                "decided_by": approved_by, "decided_at": now if approved_by else None,
            },
            recipients, outgoing.raw, thread=int(filed.thread[1:]),
        )  # fmt: skip
        await note(tx, row, state, now, rules=[r.rule for r in decision.reasons])
        await announce(tx)
        return shown(row)

    async def _situation(
        self, tx: Tx, outgoing: Outgoing, message: Message, *, kind: Kind, answers: Message | None, origin: Origin,
        now: float, approved: bool, attachments_elsewhere: tuple[str, ...], attachments_unknown: tuple[str, ...],
        read_elsewhere: tuple[str, ...],
    ) -> Situation:  # fmt: skip
        """Everything the policy looks at. Program code that starts a thread is not looked up: no rule would use it."""
        recipients = tuple(dict.fromkeys(a.casefold() for a in outgoing.envelope.rcpt_to))
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
            wrote, named, known, granted = await tallies.familiar(tx, account, thread, recipients)
            update |= {
                "wrote": frozenset(wrote), "named": frozenset(named), "known": frozenset(known),
                "granted": frozenset(granted), "text": message.text, "html": message.html or "",
                "attachments_elsewhere": attachments_elsewhere, "attachments_unknown": attachments_unknown,
                "read_elsewhere": read_elsewhere,
            }  # fmt: skip
        return base.model_copy(update=update)

    async def _replace(self, tx: Tx, row: Submission, outgoing: Outgoing, *, by: str) -> Sent:
        answers = await message_of(tx, f"m{row.answers}") if row.answers is not None else None
        kind: Kind = "reply" if row.kind == "reply" else "forward" if row.kind == "forward" else "new"
        origin: Origin = "tool" if row.origin == "tool" else "program"
        return await self.enqueue(
            tx, outgoing, kind=kind, answers=answers, key=row.key, origin=origin, agent=row.agent, approved_by=by
        )

    async def _thread_of(self, tx: Tx, message: Message) -> str:
        found = await submissions.thread_of(tx, int(str(message.id)[1:]))
        if found is None:
            raise NotFound(f"there is no message {message.id} in this store")
        return f"t{found}"

    async def _same_content(self, tx: Tx, first: Submission, outgoing: Outgoing, message: Message) -> None:
        before = parse((await submissions.bodies(tx, [first.id]))[first.id])
        differs = _difference(
            before, [r.address for r in first.recipients], message, outgoing.envelope.rcpt_to, self.account.key
        )
        if differs:
            raise KeyReused(
                f"key {first.key!r} was used for o{first.id}, with other content: {differs}; use another key"
            )

    # -- out of the outbox --------------------------------------------------------------------------------------------

    async def deliver(self, id: str) -> Sent:  # noqa: A002
        """Try now, once, and say how it stands. A 4xx leaves it `queued`; a lost connection after the body, `unknown`:
        both go on by themselves and need no second call.

        Raises:
            PermanentFailure: the server will not take it; it is `failed`.
            Unreachable, CertificateRejected, AuthenticationFailed: it stays queued.
        """
        await self.store.open()
        wanted = number(id, "o")
        started = self._monotonic()
        held, stopped = await self._claim(limit=1, ids=[wanted])
        if not held:
            async with self.store.reading() as tx:
                row = await submissions.one(tx, id)
            if row.state == "queued" and stopped:
                if stopped[0] == "login":
                    raise AuthenticationFailed(f"{stopped[1]}; nothing was sent, it is kept as {id}")
                return shown(row).model_copy(update={"error": f"paused: {stopped[1]}"})
            return shown(row)
        hold = _Hold(held[0], started + self._lease)
        await self._work([hold])
        async with self.store.reading() as tx:
            row = await submissions.one(tx, id)
        if hold.error is not None:
            raise type(hold.error)(
                f"{hold.error}; nothing was sent, it is kept as {id} and tried again"
            ) from hold.error
        if row.state == "failed":
            raise PermanentFailure(f"{id} was refused: {row.error}", code=row.code, submission=id)
        if row.state == "sent":
            await self._file_copies([row])
        return shown(row)

    async def deliver_due(self, limit: int = 100) -> list[Sent]:
        """Everything that is due: rows that a crash left behind, unknown ones to look for, then what is queued.

        Server errors stay in the rows; none is raised.
        """
        await self.store.open()
        await self._recover()
        await self._look()
        await self._take_bounces()
        done: list[int] = []
        while len(done) < limit:
            started = self._monotonic()
            rows, _ = await self._claim(limit=min(limit - len(done), CLAIM * self.submitter.connections))
            holds = [_Hold(row, started + self._lease) for row in rows]
            if not holds:
                break
            await self._work(holds)
            done += [h.row.id for h in holds]
            if any(h.error is not None for h in holds):
                break  # no server: the rest would only fail the same way
        async with self.store.reading() as tx:
            finished = await submissions.read(tx, done)
            without = (
                await submissions.without_copy(tx, self.account.key, since=await database_now(tx) - COPY_FOR)
                if self.evidence is not None
                else []
            )
        await self._file_copies(without)
        return [shown(row) for row in finished]

    async def run(self, poll: float = 30.0) -> None:
        """Deliver what is due, for ever; run it in a TaskGroup, in as many processes as you like."""
        await self.store.open()
        while True:
            try:
                async with Changes(self.store.db) as changes:
                    while True:
                        await self.deliver_due()
                        async with self.store.reading() as tx:
                            due, now = await submissions.next_due(tx, self.account.key), await database_now(tx)
                        await changes.wait(poll if due is None else min(poll, max(0.05, due - now)))
            except StoreError as exc:
                log.warning("outbox of %s: %s", self.account.key, exc)
                await self._sleep(5.0)

    async def _claim(self, *, limit: int, ids: Collection[int] = ()) -> tuple[list[Submission], tuple[str, str] | None]:
        """(rows that are ours now, what stops the account)"""

        async def work(tx: Tx) -> tuple[list[Submission], tuple[str, str] | None]:
            now = await database_now(tx)
            stopped = await self._stopped(tx, now)
            if stopped is not None:
                return [], stopped
            return await submissions.claim(tx, self.account.key, now=now, lease=self._lease, limit=limit, ids=ids), None

        return await self.store.db.run(work)

    async def _stopped(self, tx: Tx, now: float) -> tuple[str, str] | None:
        for cause, reason in await tallies.pauses(tx, self.account.key, now=now):
            mark, _, shown = reason.partition(" ")
            if cause != "login":
                return cause, reason
            if mark == self._credentials():
                return cause, shown
            await tallies.resume(tx, self.account.key, causes=["login"])  # another password: another chance
        return None

    def _credentials(self) -> str:
        """Tells whether the password is still the refused one, without telling the password."""
        secret = self.account.smtp_password or self.account.password
        value = secret.get_secret_value() if secret is not None else "token"
        return hmac.digest(self.store.secret, f"{self.account.smtp_host} {value}".encode(), "sha256").hex()[:16]

    async def _work(self, holds: Sequence[_Hold]) -> None:
        """One attempt for each row, at the same time, while their leases are renewed."""
        async with self.store.reading() as tx:
            bodies = await submissions.bodies(tx, [h.row.id for h in holds])
        renewal: asyncio.Task[None] | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                renewal = tasks.create_task(self._renew(holds))
                async with asyncio.TaskGroup() as attempts:
                    for hold in holds:
                        attempts.create_task(self._attempt(hold, bodies[hold.row.id]))
                renewal.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from group
        finally:
            if renewal is not None:
                renewal.cancel()

    async def _renew(self, holds: Sequence[_Hold]) -> None:
        while True:
            await self._sleep(self._lease / 3)
            started = self._monotonic()

            async def work(tx: Tx) -> set[int]:
                until = await database_now(tx) + self._lease
                return await submissions.renew(tx, [(h.row.id, h.row.epoch) for h in holds], until=until)

            try:
                held = await self.store.db.run(work)
            except StoreError:
                continue  # the lease itself says how long we may go on
            for hold in holds:
                hold.until = started + self._lease if hold.row.id in held else float("-inf")

    async def _attempt(self, hold: _Hold, raw: bytes) -> None:
        row = hold.row
        marked = False

        async def before_body() -> Callable[[], bool] | None:
            nonlocal marked
            started = self._monotonic()
            marked = bool(await self._writes(_Item(row)))
            hold.until = started + self._lease if marked else float("-inf")
            return (lambda: self._monotonic() < hold.until - self._margin) if marked else None

        envelope = Envelope(mail_from=row.mail_from, rcpt_to=row.pending)
        try:
            outcome = await self.submitter.submit(raw, envelope, before_body=before_body, submission=f"o{row.id}")
        except BadInput as exc:
            outcome = Outcome("permanent", "mail", None, str(exc))
        except (Unreachable, CertificateRejected, AuthenticationFailed) as exc:
            hold.error = exc
            stop = Stop("login", exc) if isinstance(exc, AuthenticationFailed) else None
            await self._writes(_Item(row, no_server(row, str(exc)), stop))
            return
        except (asyncio.CancelledError, Exception):
            if not marked:  # certainly not sent: the next worker need not wait for the lease to end
                await asyncio.shield(self._writes(_Item(row, later(row, "interrupted", 0.0), None)))
            raise
        log.info(
            "submission o%d account=%s attempt=%d state=%s step=%s smtp_code=%s", row.id, row.account, row.attempts,
            outcome.state, outcome.step, outcome.code,
        )  # fmt: skip
        result, stop = judge(row, outcome)
        if stop is not None:
            hold.error = stop.error
        await self._writes(_Item(row, result, stop))

    async def _write(self, items: Sequence[_Item]) -> list[bool]:
        """Markers and results that come at the same moment, in one transaction."""

        async def work(tx: Tx) -> list[bool]:
            now = await database_now(tx)
            marks = [(i.row.id, i.row.epoch) for i in items if i.result is None]
            alive = await submissions.mark(tx, marks, now=now, until=now + self._lease) if marks else set()
            ends = [(i, self._at(i.result, now)) for i in items if i.result is not None]
            if ends:
                await submissions.settle(tx, [result for _, result in ends])
                events: list[dict[str, Any]] = []
                for item, result in ends:
                    events += await self._after(tx, item.row, result, item.stop, now)
                await append_events(tx, events)
            return [i.result is not None or i.row.id in alive for i in items]

        return await self.store.db.run(work)

    def _at(self, result: Result, now: float) -> Result:
        """Delays become times of the database's clock; ±10 % keeps many rows from coming back at the same moment."""
        delay = None if result.next_at is None else result.next_at * (0.9 + 0.2 * self._jitter())
        return replace(
            result,
            next_at=None if delay is None else now + delay,
            sent_at=now if result.state == "sent" else None,
        )

    async def _after(
        self, tx: Tx, row: Submission, result: Result, stop: Stop | None, now: float
    ) -> list[dict[str, Any]]:
        """What an end brings with it, in the same transaction; the events to be written."""
        events: list[dict[str, Any]] = []
        if stop is not None:
            until = now + LIMIT_PAUSE if stop.cause == "limit" else None
            if self.account.token is not None and stop.cause == "login":
                until = now + TOKEN_PAUSE
            reason = f"{self._credentials()} {stop.error}" if stop.cause == "login" else str(stop.error)
            await tallies.pause(tx, row.account, cause=stop.cause, reason=reason, by="server", now=now, until=until)
            events.append(event("account.paused", now, account=row.account, data={"cause": stop.cause}))
        if result.state == "sent" and row.message is not None:
            other = assigned_id(self.account.smtp_host, result.reply)
            if other is not None and other != row.message_id:
                await self.store.alias(tx, row.message, other)
        if result.state in {"sent", "failed", "unknown"}:
            failed = [p.address for p in result.recipients.values() if p.state == "failed"]
            events.append(noted(row, result.state, now, code=result.code, failed=failed))
        return events

    async def _file_copies(self, rows: Sequence[Submission]) -> None:
        """A copy into Sent, for those who look at the mailbox. It failing is no failure of the submission."""
        if self.evidence is None:
            return
        for row in rows:
            if row.copied:
                continue
            try:
                async with self.store.reading() as tx:
                    raw = (await submissions.bodies(tx, [row.id]))[row.id]
                await self.evidence.file_sent(raw, row.message_id)
            except ServerError as exc:
                log.info("submission o%d: no copy in Sent: %s", row.id, exc)
                return
            await self.store.db.run(lambda tx, i=row.id: submissions.set_copied(tx, i))  # type: ignore[misc]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of several that came together: callers catch errors, not groups of them."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _difference(before: Message, to_before: Sequence[str], now: Message, to_now: Sequence[str], own: str) -> str:
    """What a person would call different; the Message-ID, the date and the MIME boundaries are not."""
    pairs: dict[str, tuple[object, ...]] = {
        # The copy to ourselves is ours, not the caller's.
        "recipients": tuple(sorted({a.casefold() for a in who} - {own}) for who in (to_before, to_now)),
        "subject": (before.subject, now.subject),
        "text": (before.text, now.text),
        "html": (before.html, now.html),
        "attachments": (
            [(a.name, a.content) for a in before.attachments],
            [(a.name, a.content) for a in now.attachments],
        ),
    }
    found = []
    for name, (a, b) in pairs.items():
        if a != b:
            shown_a, shown_b = (str(x)[:60] if name in {"recipients", "subject", "text"} else "" for x in (a, b))
            found.append(f"{name}: was {shown_a!r}, now {shown_b!r}" if shown_a or shown_b else name)
    return "; ".join(found)


class _Together:
    """Writes that come while one is under way share the next transaction."""

    def __init__(self, write: Callable[[Sequence[_Item]], Awaitable[list[bool]]]) -> None:
        self._do = write
        self._lock = asyncio.Lock()
        self._waiting: list[_Entry] = []

    async def __call__(self, item: _Item) -> bool:
        entry = _Entry(item)
        self._waiting.append(entry)
        async with self._lock:
            if entry.answer is None:
                batch, self._waiting = self._waiting, []
                try:
                    answers = await self._do([e.item for e in batch])
                except BaseException:
                    # The others try for themselves: every write is a compare-and-set, so again is harmless.
                    self._waiting = [e for e in batch if e is not entry] + self._waiting
                    raise
                for e, answer in zip(batch, answers, strict=True):
                    e.answer = answer
        return bool(entry.answer)


@dataclass(slots=True)
class _Entry:
    item: _Item
    answer: bool | None = None
