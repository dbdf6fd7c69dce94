"""What the end of an attempt means: for the row, for each recipient, and for the whole account. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from .errors import AuthenticationFailed, ServerError, Throttled
from .smtp import Outcome
from .store.attempts import Result
from .store.submissions import RecipientState, Submission

BACKOFF = (300.0, 600.0, 1200.0, 2400.0, 4000.0)
"""Seconds until the next attempt after a 4xx. The first is long enough for greylisting (RFC 6647 5)."""
NO_SERVER = (30.0, 60.0, 120.0, 300.0, 900.0)
"""The same when there was no server to talk to."""

_LIMIT = re.compile(
    r"\b5\.4\.5\b|daily (?:user )?(?:sending|message|e-?mail)? ?(?:quota|limit)|sending (?:quota|limit|rate)|"
    r"rate limit|too many messages|exceeded .{0,40}(?:quota|limit|rate)|(?:quota|limit) exceeded|throttl",
    re.IGNORECASE,
)
_OF_THE_RECIPIENT = re.compile(r"mailbox|recipient|inbox|over ?quota|\b[45]\.2\.[12]\b|4\.5\.3", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Stop:
    """The account must pause: it is not this message that is wrong."""

    cause: Literal["login", "limit"]
    error: ServerError


def later(row: Submission, error: str, delay: float, **more: Any) -> Result:
    """Back to queued."""
    return Result(row.id, row.epoch, "queued", error=error[:1000], delay=delay, **more)


def no_server(row: Submission, error: str) -> Result:
    """There was nobody to talk to."""
    return later(row, error, NO_SERVER[min(row.attempts, len(NO_SERVER)) - 1])


def judge(row: Submission, out: Outcome) -> tuple[Result, Stop | None]:
    """The row's next state, and whether the account must stop."""
    said = f"{out.code} {out.text}".strip() if out.code is not None else out.text
    if out.state == "unknown":
        error = f"it may have been sent: {said}"[:1000]
        return Result(row.id, row.epoch, "unknown", out.code, error, delay=0.0), None
    people = {a: RecipientState(a, "pending" if c < 500 else "failed", c, t[:500]) for a, (c, t) in out.refused.items()}
    if out.state == "sent":
        return _sent(row, out, people), None
    if out.step == "hook":
        return later(row, said, 0.0), None
    if out.code in {530, 534, 535, 538}:
        return later(row, said, 0.0), Stop("login", AuthenticationFailed(f"the server wants another login: {said}"))
    if out.code is not None and _LIMIT.search(said) and not _OF_THE_RECIPIENT.search(said):
        return later(row, said, 0.0, code=out.code), Stop("limit", Throttled(f"the sending limit is reached: {said}"))
    if out.state == "permanent" or (out.code == 503 and row.attempts > 1):
        for a in row.pending:
            people.setdefault(a, RecipientState(a, "failed", out.code, out.text[:500]))
        # Some were taken by an earlier attempt: then the message did leave.
        state = "sent" if any(r.state == "sent" for r in row.recipients) else "failed"
        return Result(row.id, row.epoch, state, out.code, said[:1000], recipients=people), None
    if out.code is None:
        delay = NO_SERVER[min(row.attempts, len(NO_SERVER)) - 1]
    else:
        delay = 1.0 if out.code == 503 else BACKOFF[min(row.attempts, len(BACKOFF)) - 1]
    failed = {a: p for a, p in people.items() if p.state == "failed"}
    return later(row, said, delay, code=out.code, recipients=failed), None


def _sent(row: Submission, out: Outcome, people: dict[str, RecipientState]) -> Result:
    """Taken, for all or for some."""
    people |= {a: RecipientState(a, "sent", out.code) for a in row.pending if a not in out.refused}
    waiting = [p for p in people.values() if p.state == "pending"]
    refused = "; ".join(f"{p.address}: {p.code} {p.text}" for p in people.values() if p.state != "sent")
    if not waiting:
        error = f"not taken: {refused}"[:1000] if refused else ""
        return Result(row.id, row.epoch, "sent", out.code, error, out.text[:1000], None, people, not refused)
    # Too many at once (452 4.5.3): the rest goes at once, in a transaction of its own (RFC 5321 4.5.3.1.10).
    split = all(p.code == 452 for p in waiting)
    delay = 0.0 if split else BACKOFF[min(row.attempts, len(BACKOFF)) - 1]
    return later(row, f"sent to the others; waiting: {refused}", delay, code=out.code, recipients=people)
