"""What a caller sees of a submission: a frozen value, as it stood when it was read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from pydantic import PrivateAttr

from .message.models import Message, Value
from .policy import Kind
from .store.submissions import Submission, is_of_edited

State = Literal["held", "queued", "sending", "sent", "failed", "unknown", "canceled"]


class Recipient(Value):
    """One recipient of a submission."""

    address: str
    state: Literal["pending", "sent", "failed", "bounced"] = "pending"
    """`sent`: the submission server took it. `bounced`: it came back later."""
    code: int | None = None
    text: str = ""


class WaitsForReply(Protocol):
    """`Inbox.wait_for_reply`."""

    async def __call__(
        self, message_id: str, timeout: timedelta | float | None = None, *, automated: bool = False
    ) -> Message: ...


class Sent(Value):
    """A submission as it stands: what `reply` and `send` return, and a row of `inbox.outbox()`."""

    _wait: WaitsForReply | None = PrivateAttr(default=None)

    id: str
    """Such as `"o3"`."""
    message_id: str
    """Of the mail itself, with angle brackets. It never changes."""
    message: str | None = None
    """Our id of it in its thread, such as `"m45"`."""
    thread: str | None = None
    state: State
    error: str = ""
    """Why it is not sent, in words; empty when all is well."""
    code: int | None = None
    """The SMTP code that decided."""
    kind: Kind = "new"
    key: str | None = None
    subject: str = ""
    recipients: tuple[Recipient, ...] = ()
    reasons: tuple[str, ...] = ()
    """Why it is held: one sentence for each rule. And who was left out of a reply to all."""
    attempts: int = 0
    created_at: datetime
    next_attempt: datetime | None = None
    sent_at: datetime | None = None
    decided_by: str = ""
    """Who approved, denied or resolved it."""

    async def wait_for_reply(self, timeout: timedelta | float | None = None, *, automated: bool = False) -> Message:
        """The answer to this mail, also one that came before the call or while the process was down.

        Args:
            timeout: How long to wait; seconds, or a timedelta. None waits for ever.
            automated: An out-of-office message counts as an answer too.

        Raises:
            NoReply: nobody answered in time.
            Bounced: it came back.
        """
        if self._wait is None:
            raise RuntimeError("this Sent did not come from an open Inbox: use inbox.wait_for_reply(message_id)")
        return await self._wait(self.message_id, timeout, automated=automated)

    def bound_to(self, wait: WaitsForReply) -> Sent:
        """The same value, able to wait."""
        copy = self.model_copy()
        copy._wait = wait  # noqa: SLF001 - a copy of our own
        return copy


def shown(row: Submission) -> Sent:
    """The row as a value."""
    due = row.state in {"held", "queued", "unknown"}
    return Sent(
        id=f"o{row.id}", message_id=row.message_id, message=f"m{row.message}" if row.message is not None else None,
        thread=f"t{row.thread}" if row.thread is not None else None, state=row.state, error=row.error, code=row.code,
        kind=row.kind, key=None if is_of_edited(row.key) else row.key, subject=row.subject,
        reasons=tuple(r["text"] for r in row.reasons),
        recipients=tuple(Recipient(address=r.address, state=r.state, code=r.code, text=r.text) for r in row.recipients),
        attempts=row.attempts, created_at=_moment(row.created_at), decided_by=row.decided_by,
        next_attempt=_moment(row.next_at) if due and row.next_at is not None else None,
        sent_at=_moment(row.sent_at) if row.sent_at is not None else None,
    )  # fmt: skip


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
