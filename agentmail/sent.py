"""What a caller sees of a submission: a frozen value, as it stood when it was read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from .message.models import Value
from .policy import Kind
from .store.submissions import Submission

State = Literal["held", "queued", "sending", "sent", "failed", "unknown", "canceled"]


class Recipient(Value):
    """One recipient of a submission."""

    address: str
    state: Literal["pending", "sent", "failed", "bounced"] = "pending"
    """`sent`: the submission server took it. `bounced`: it came back later."""
    code: int | None = None
    text: str = ""


class Sent(Value):
    """A submission as it stands: what `reply` and `send` return, and a row of `inbox.outbox()`."""

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
    """Why it is held: one sentence for each rule."""
    attempts: int = 0
    created_at: datetime
    next_attempt: datetime | None = None
    sent_at: datetime | None = None
    decided_by: str = ""
    """Who approved, denied or resolved it."""


def shown(row: Submission) -> Sent:
    """The row as a value."""
    due = row.state in {"held", "queued", "unknown"}
    return Sent(
        id=f"o{row.id}", message_id=row.message_id, message=f"m{row.message}" if row.message is not None else None,
        thread=f"t{row.thread}" if row.thread is not None else None, state=row.state, error=row.error, code=row.code,
        kind=row.kind, key=row.key, subject=row.subject, reasons=tuple(r["text"] for r in row.reasons),
        recipients=tuple(Recipient(address=r.address, state=r.state, code=r.code, text=r.text) for r in row.recipients),
        attempts=row.attempts, created_at=_moment(row.created_at), decided_by=row.decided_by,
        next_attempt=_moment(row.next_at) if due and row.next_at is not None else None,
        sent_at=_moment(row.sent_at) if row.sent_at is not None else None,
    )  # fmt: skip


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
