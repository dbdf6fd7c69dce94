"""What people do with submissions: look, approve, deny, edit, cancel, retry, resolve, pause. And what bounces do.

Every change is a compare-and-set on the state it was decided on, so a second approval, or one for something that went
meanwhile, is refused. Who and when stay in the row and in the event log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import Any, TypeVar

from . import bounced
from .errors import BadInput, Conflict, NotFound, OutcomeUnknown, Refused
from .message.domains import address_key
from .message.models import Message, Outgoing
from .policy import Policy, Situation, decide
from .sent import Sent, State, shown
from .settings import Account
from .store import ThreadStore, submissions, tallies
from .store.changes import announce
from .store.database import Tx, database_now
from .store.events import append_event, append_events
from .store.reading import message_of, number
from .store.submissions import Submission
from .store.wanting import wake

T = TypeVar("T")


class Supervision:
    """The half of the Outbox that people and programs decide with."""

    account: Account
    store: ThreadStore
    policy: Policy

    async def _replace(self, tx: Tx, row: Submission, outgoing: Outgoing, *, by: str) -> Sent:
        """The Outbox's own: enqueue what a person made of a row."""
        raise NotImplementedError

    async def list(self, *states: State, limit: int = 50, before: str | None = None) -> list[Sent]:
        """Submissions, newest first; `before` is the last id of the page before."""
        last = number(before, "o") if before else None
        async with self.store.reading(snapshot=True) as tx:
            rows = await submissions.page(tx, self.account.key, states=states, limit=limit, before=last)
        return [shown(row) for row in rows]

    async def get(self, id: str) -> Sent:  # noqa: A002
        """One submission as it stands now."""
        async with self.store.reading() as tx:
            return shown(await self._one(tx, id))

    async def raw(self, id: str) -> bytes:  # noqa: A002
        """The exact bytes that leave, or left."""
        async with self.store.reading(snapshot=True) as tx:
            row = await self._one(tx, id)
            return (await submissions.bodies(tx, [row.id]))[row.id]

    async def fingerprint(self, id: str) -> str:  # noqa: A002
        """Of the bytes and the envelope: give it to `approve` to bind the approval to what was shown."""
        async with self.store.reading() as tx:
            return await submissions.digest_of(tx, (await self._one(tx, id)).id)

    async def answered(self, id: str) -> Message | None:  # noqa: A002
        """The message that a reply answers or a forward sends on, as it stands in the store; None for what is new."""
        async with self.store.reading(snapshot=True) as tx:
            row = await self._one(tx, id)
            return await message_of(tx, f"m{row.answers}") if row.answers is not None else None

    async def approve(self, id: str, *, by: str, fingerprint: str | None = None) -> Sent:  # noqa: A002
        """Let a held submission go, exactly as it is. It is queued, not sent: `deliver` or the worker sends it.

        Raises:
            Conflict: it is not held (any more), or its content is not what was shown.
            Refused: it would go to somebody on the deny list.
        """
        _name(by)

        async def work(tx: Tx) -> Sent:
            row = await self._one(tx, id)
            raw = (await submissions.bodies(tx, [row.id]))[row.id]
            people = [r.address for r in row.recipients]
            kept = await submissions.digest_of(tx, row.id)
            if digest(raw, row.mail_from, people) != kept or fingerprint not in {None, kept}:
                raise Conflict(f"{id} is not what was shown for approval: look at it again")
            recipients = tuple(map(address_key, people))
            verdict = decide(self.policy, Situation(kind="new", recipients=recipients, approved=True))
            if verdict.action == "deny":
                raise Refused(f"{id}: {verdict}")
            now = await database_now(tx)
            due = max(now, row.next_at or now)
            await self._decided(tx, row, "approved", by, now, state="queued", next_at=due, expires_at=due + 172_800.0)
            return shown(await self._one(tx, id))

        return await self._run(work)

    async def deny(self, id: str, *, by: str, reason: str = "") -> Sent:  # noqa: A002
        """Never send a held submission. The agent hears of it, with the reason."""
        _name(by)

        async def work(tx: Tx) -> Sent:
            row = await self._one(tx, id)
            now = await database_now(tx)
            await self._decided(
                tx, row, "denied", by, now, reason, state="canceled", next_at=None, generation=None,
                error=f"denied by {by}: {reason}"[:1000],
            )  # fmt: skip
            return shown(await self._one(tx, id))

        return await self._run(work)

    async def edit(self, id: str, outgoing: Outgoing, *, by: str) -> Sent:  # noqa: A002
        """Replace a held submission by what a person made of it, and let that go. It has a Message-ID of its own."""
        _name(by)

        async def work(tx: Tx) -> Sent:
            row = await self._one(tx, id)
            now = await database_now(tx)
            asked = submissions.key_of_edited(row.key) if row.key is not None else None
            if asked is not None and await submissions.with_key(tx, row.account, asked) is not None:
                asked = None  # what was asked was edited before
            await self._decided(
                tx, row, "edited", by, now, state="canceled", next_at=None, generation=None, key=asked,
                error=f"replaced by {by}",
            )  # fmt: skip
            return await self._replace(tx, row, outgoing, by=by)

        return await self._run(work)

    async def cancel(self, id: str, *, by: str = "") -> Sent:  # noqa: A002
        """Stop a submission that is held, queued or not due yet.

        What an earlier attempt brought to some of its recipients did leave: it is `sent`, and the rest will not get it.

        Raises:
            Conflict: too late; the error says what it is.
        """
        said = f"canceled by {by}" if by else "canceled"

        def values(row: Submission, now: float) -> dict[str, Any]:
            had = [r.address for r in row.recipients if r.state == "sent"]
            if not had:
                return {"state": "canceled", "generation": None, "error": said}
            return {"state": "sent", "sent_at": now, "error": f"{said}, after {', '.join(had)} had it"[:1000]}

        async def more(tx: Tx, row: Submission, now: float) -> None:
            if any(r.state == "sent" for r in row.recipients):
                await submissions.set_recipients(tx, row.id, "failed", text=said[:500])

        return await self._change(
            id, ["held", "queued"], "submission.canceled", by, more=more, by_row=values, next_at=None
        )

    async def retry(self, id: str, *, by: str = "") -> Sent:  # noqa: A002
        """Try a failed or waiting submission again, from now. Its bytes and Message-ID stay.

        Raises:
            OutcomeUnknown: it may have been sent: `resolve` it first.
            Conflict: there is nothing to try.
        """
        async with self.store.reading() as tx:
            if (await self._one(tx, id)).state == "unknown":
                raise OutcomeUnknown(f"{id} may have been sent: look for it, then resolve it", submission=id)

        async def more(tx: Tx, row: Submission, now: float) -> None:
            await submissions.set_recipients(tx, row.id, "pending", of="failed")
            if row.kind == "reply":
                await submissions.answer_again(tx, row)

        return await self._change(id, ["failed", "queued"], "submission.retried", by, state="queued", more=more)

    async def resolve(self, id: str, *, sent: bool, by: str) -> Sent:  # noqa: A002
        """A person found out what became of an unknown one: it was sent, or it was not and goes again."""
        _name(by)

        async def more(tx: Tx, row: Submission, now: float) -> None:
            if sent:
                await submissions.set_taken(tx, row.id)

        return await self._change(
            id, ["unknown"], "submission.resolved", by, more=more, decision="resolved", decided_by=by,
            by_row=lambda row, now: _went(row, now) if sent else _again(now) | {"marker_at": None},
        )  # fmt: skip

    async def pause(self, *, by: str, reason: str, until: datetime | None = None, every: bool = False) -> None:
        """Stop everything of this account that is not on its way yet, or of every account of the store (`every`)."""
        _name(by)
        account = tallies.EVERY if every else self.account.key

        async def work(tx: Tx) -> None:
            now = await database_now(tx)
            end = until.timestamp() if until is not None else None
            await tallies.pause(tx, account, cause="operator", reason=reason, by=by, now=now, until=end)
            await append_event(tx, "account.paused", account=account, at=now, data={"by": by, "reason": reason})

        await self._run(work)

    async def resume(self, *, by: str, every: bool = False) -> bool:
        """Lift the pauses, also those that the server caused; whether there was one."""
        account = tallies.EVERY if every else self.account.key

        async def work(tx: Tx) -> bool:
            now = await database_now(tx)
            if not await tallies.resume(tx, account, now=now):
                return False
            await append_event(tx, "account.resumed", account=account, at=now, data={"by": by})
            await announce(tx)
            return True

        return await self._run(work)

    async def paused(self) -> tuple[tuple[str, str], ...]:
        """(cause, reason) of everything that stops the account now."""
        async with self.store.reading() as tx:
            found = await tallies.pauses(tx, self.account.key, now=await database_now(tx))
        return tuple((cause, reason.partition(" ")[2] if cause == "login" else reason) for cause, reason in found)

    async def grant(self, address: str, *, reason: str = "") -> None:
        """Vouch for an address: tools may write to it. Call it with what a trusted person typed, never from a tool."""
        if "@" not in address or any(c.isspace() for c in address):
            raise BadInput(f"{address[:100]!r} is no address")

        async def work(tx: Tx) -> None:
            await tallies.grant(tx, self.account.key, address, reason=reason, now=await database_now(tx))

        await self._run(work)

    async def take_bounce(self, tx: Tx, message: Message) -> Sent | None:
        """Mark the recipients that a bounce names; the submission, or None when it is about nothing that we sent.

        Anybody can write a bounce: `bounced` says what is believed. Anything else changes nothing. One that came to the
        mail's own envelope sender and names nobody is about its only recipient.
        """
        report = message.bounce
        if report is None:
            return None
        now = await database_now(tx)
        row = await bounced.submission_of(tx, self.account.key, message, self.store.secret, now=now)
        if row is None:
            return None
        # 2.x.x is a success (RFC 3463 3.1), whatever else is said of it; 4.x.x is what was tried for too long.
        failed = [
            (r.email, r.status, r.diagnostic)
            for r in report.recipients
            if r.action == "failed" and not r.status.startswith("2")
        ]
        others = [r.address for r in row.recipients if address_key(r.address) != self.account.key]
        if not report.recipients and len(others) == 1:
            failed = [(others[0], "", message.subject)]
        marked = [who for who, code, text in failed if await submissions.bounce(tx, row.id, who, code=code, text=text)]
        if marked:
            lost = {address_key(a) for a in row.in_doubt}
            if row.state == "unknown" and not lost.isdisjoint(map(address_key, marked)):
                await self._was_sent(tx, row, now, evidence="it bounced")
            bounce = int(message.id[1:]) if message.id else None
            await note(tx, row, "bounced", now, recipients=marked, bounce=bounce)
            await announce(tx)
        return shown((await submissions.read(tx, [row.id]))[0])

    # -- inside

    async def _one(self, tx: Tx, id: str) -> Submission:  # noqa: A002
        """The row of this account that an id means."""
        row = await submissions.one(tx, id)
        if row.account != self.account.key:
            raise NotFound(f"{id} is a submission of {row.account}: ask an inbox of that account")
        return row

    async def _was_sent(self, tx: Tx, row: Submission, now: float, *, evidence: str) -> None:
        """There is proof that an unknown one did go."""
        values = _went(row, now)
        if await submissions.change(tx, row.id, states=["unknown"], epoch=row.epoch, **values):
            await submissions.set_taken(tx, row.id)
            if values["state"] == "sent":
                failed = [r.address for r in row.recipients if r.state == "failed"]
                await note(tx, row, "sent", now, evidence=evidence, failed=failed)

    async def _run(self, work: Callable[[Tx], Awaitable[T]]) -> T:
        await self.store.open()
        answer = await self.store.db.run(work)
        await self.store.db.durable()  # what somebody decided must not come back after a power cut
        return answer

    async def _decided(
        self, tx: Tx, row: Submission, decision: str, by: str, now: float, reason: str = "", **values: Any
    ) -> None:
        done = await submissions.change(
            tx, row.id, states=["held"], epoch=row.epoch, decision=decision, decided_by=by, decided_at=now, **values
        )
        if not done or row.state != "held":
            raise Conflict(f"o{row.id} is {row.state}{f' ({row.decision} by {row.decided_by})' if row.decision else ''}"
                           ", not held: there is nothing to decide")  # fmt: skip
        await note(tx, row, decision, now, by=by, reason=reason)
        if row.agent and row.thread is not None:
            text = f"o{row.id} was {decision} by {by}{f': {reason}' if reason else ''}"
            await wake(tx, row.thread, account=row.account, agent=row.agent, reason="approval", note=text, now=now)
        await announce(tx)

    async def _change(
        self, id: str, states: Collection[str], event: str, by: str, *, more: Any = None,  # noqa: A002
        by_row: Callable[[Submission, float], dict[str, Any]] | None = None, **values: Any,
    ) -> Sent:  # fmt: skip
        async def work(tx: Tx) -> Sent:
            row = await self._one(tx, id)
            now = await database_now(tx)
            extra: dict[str, Any] = by_row(row, now) if by_row is not None else {}
            if values.get("state") == "queued":
                extra |= _again(now)
            if not await submissions.change(tx, row.id, states=states, epoch=row.epoch, **(extra | values)):
                raise Conflict(f"{id} is {row.state}: that is possible only while it is {' or '.join(states)}")
            if more is not None:
                await more(tx, row, now)
            await note(tx, row, event.rpartition(".")[2], now, by=by)
            await announce(tx)
            return shown(await self._one(tx, id))

        return await self._run(work)


def _again(now: float) -> dict[str, Any]:
    """Queued, with two days from now on."""
    return {"state": "queued", "next_at": now, "expires_at": now + 172_800.0}


def _went(row: Submission, now: float) -> dict[str, Any]:
    """An unknown one did go to those in doubt: `sent`, unless the lost attempt was refused for others, who wait."""
    waiting = [r for r in row.recipients if r.state == "pending" and r.code is not None]
    if not waiting:
        return {"state": "sent", "sent_at": row.marker_at, "error": "", "next_at": None}
    refused = "; ".join(f"{r.address}: {r.code} {r.text}" for r in waiting)
    return _again(now) | {"marker_at": None, "error": f"sent to the others; waiting: {refused}"[:1000]}


def digest(raw: bytes, mail_from: str, recipients: Sequence[str]) -> str:
    """What an approval binds: the exact bytes, and who gets them."""
    named = "\n".join((mail_from, *recipients)).encode()
    return hashlib.sha256(hashlib.sha256(named).digest() + raw).hexdigest()


def event(kind: str, now: float, *, account: str, data: dict[str, Any], **ids: int | None) -> dict[str, Any]:
    """A row of the event log."""
    return {"kind": kind, "thread": None, "message": None, "account": account, "data": data, "at": now} | ids


def noted(row: Submission, what: str, now: float, **data: Any) -> dict[str, Any]:
    """`submission.sent` and its siblings."""
    data = {name: value for name, value in data.items() if value not in (None, "", [], ())}
    return event(
        f"submission.{what}", now, account=row.account, data={"id": f"o{row.id}", **data}, thread=row.thread,
        message=row.message,
    )  # fmt: skip


async def note(tx: Tx, row: Submission, what: str, now: float, **data: Any) -> None:
    """Write it into the event log."""
    await append_events(tx, [noted(row, what, now, **data)])


def _name(by: str) -> None:
    if not by or not by.isprintable():
        raise BadInput("by= needs the name of the person who decides")
