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
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from .bounced import return_path
from .delivery import LEASE, MARGIN, Delivery, Submits
from .errors import AlreadyAnswered, BadInput, KeyReused, NotFound, Refused
from .message.models import Message, Outgoing
from .message.parse import parse
from .policy import Kind, Origin, Policy, Situation, decide
from .recovery import LOOKS, Evidence
from .sent import Recipient, Sent, State, shown
from .settings import Account
from .smtp import check_envelope
from .store import Arrival, ThreadStore, submissions, tallies
from .store.changes import announce
from .store.database import Tx, database_now
from .store.reading import message_of
from .store.submissions import Submission
from .store.together import Together
from .supervision import digest, note

__all__ = ["Evidence", "Outbox", "Recipient", "Sent", "State"]

EXPIRES = timedelta(hours=48)


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
        self._writes: Together[Any, bool] = Together(self._write)

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
        mail_from = return_path(self.account, outgoing, self.store.secret)
        due = max(now, send_at.timestamp()) if send_at is not None else now
        state = "held" if decision.action == "hold" else "queued"
        row = await submissions.add(
            tx,
            {
                "account": account, "state": state, "kind": kind, "origin": origin, "agent": agent, "key": key,
                "message_id": outgoing.message_id, "message": int(filed.id[1:]), "answers": answered,
                "generation": generation, "mail_from": mail_from, "subject": message.subject[:500],
                "size": len(outgoing.raw), "digest": digest(outgoing.raw, mail_from, recipients),
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
        before = parse((await submissions.bodies(tx, [first.id]))[first.id])
        differs = _difference(
            before, [r.address for r in first.recipients], message, outgoing.envelope.rcpt_to, self.account.key
        )
        if differs:
            raise KeyReused(
                f"key {first.key!r} was used for o{first.id}, with other content: {differs}; use another key"
            )


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
