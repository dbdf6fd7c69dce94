"""What the end of an attempt means: for the row, for each recipient, and for the whole account. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from .errors import AuthenticationFailed, ServerError, Throttled
from .smtp import Outcome, Refusals
from .store.attempts import Result
from .store.submissions import RecipientState, Submission

BACKOFF = (300.0, 600.0, 1200.0, 2400.0, 4000.0)
"""Seconds until the next attempt after a 4xx. The first is long enough for greylisting (RFC 6647 5)."""
NO_SERVER = (30.0, 60.0, 120.0, 300.0, 900.0)
"""The same when there was no server to talk to."""
LIMIT_PAUSE = 4 * 3600.0
"""Seconds an account rests when its provider's daily limit is reached."""
HOUR_PAUSE, RATE_PAUSE = 3600.0, 60.0
"""The same for a limit by the hour, and for going too fast or over too many connections."""

_PREFACE = re.compile(r"<[^<>]{0,320}>:? (?:\w+ ){1,3}rejected:", re.IGNORECASE)
"""Postfix's, before what a policy service says. It names the recipient, whosever limit it is."""
_OF_THE_MAIL = re.compile(r"\bsize|too (?:large|big)|receiv", re.IGNORECASE)
"""It is too large, or its recipient gets too much."""
_DAY = re.compile(
    r"\b5\.4\.5\b|\b5\.1\.90\b|\b5\.7\.23[23]\b|(?:daily|24.?hour) (?:[\w-]+ ){0,3}(?:quota|limit)|"
    r"(?:sending|send|submission|relay|outgoing|outbound) (?:\w+ )?(?:quota|limit)|sender[ _]quota|SubmissionQuota|"
    r"sending (?:is )?paused for",
    re.IGNORECASE,
)
_HOUR = re.compile(
    r"(?:exceed|limit|max).{0,80}(?:per hour|hourly)|per hour exceeded|hourly (?:\w+ ){0,3}(?:quota|limit)",
    re.IGNORECASE,
)
_MOMENT = re.compile(
    r"(?:sending|submission|message|e?mail|connection) rate|\brate.?limit|throttl|"
    r"too many (?:messages|e?mails|connections)|too much mail|concurrent|thread limit|too (?:fast|quickly)",
    re.IGNORECASE,
)
_SOME = re.compile(
    r"exceed\w* .{0,60}(?:quota|limit|threshold)|(?:quota|limit)(?: \w+){0,4} (?:exceeded|reached)|"
    r"reached .{0,30}(?:quota|limit)",
    re.IGNORECASE,
)
_ANOTHER = re.compile(
    r"mailbox|recipient|inbox|user|storage|disk|over ?quota|\b[45]\.(?:2\.\d|3\.4|5\.3)|hop|line|header", re.IGNORECASE
)
"""What `_SOME` may be about instead of the account."""


def limit_of(code: int, text: str) -> float:
    """Seconds that the account must rest, when the answer says that it sent too much; 0 when it says something else."""
    said = f"{code} {_PREFACE.sub('', text)}"
    if _OF_THE_MAIL.search(said):
        return 0.0
    for pattern, rest in ((_DAY, LIMIT_PAUSE), (_HOUR, HOUR_PAUSE), (_MOMENT, RATE_PAUSE)):
        if pattern.search(said):
            return rest
    return LIMIT_PAUSE if code not in {452, 552} and _SOME.search(said) and not _ANOTHER.search(said) else 0.0


@dataclass(frozen=True, slots=True)
class Stop:
    """The account must pause: it is not this message that is wrong."""

    cause: Literal["login", "limit"]
    error: ServerError
    rest: float = 0.0
    """For how many seconds, when it is a limit."""


def later(row: Submission, error: str, delay: float, **more: Any) -> Result:
    """Back to queued."""
    return Result(row.id, row.epoch, "queued", error=error[:1000], delay=delay, **more)


def no_server(row: Submission, error: str) -> Result:
    """There was nobody to talk to."""
    return later(row, error, NO_SERVER[min(row.attempts, len(NO_SERVER)) - 1])


def doubts(row: Submission, refused: Refusals) -> dict[str, RecipientState]:
    """When the body goes: who may get it, and whom the server refused (see `Submission.in_doubt`). Nobody when all may,
    and the row says so already.
    """
    people = _refused(refused)
    if people or any(r.code is not None for r in row.recipients if r.state == "pending"):
        people |= {a: RecipientState(a) for a in row.pending if a not in people}
    return people


def _refused(refused: Refusals) -> dict[str, RecipientState]:
    return {
        a: RecipientState(a, "pending" if c < 500 or limit_of(c, t) else "failed", c, t[:500])
        for a, (c, t) in refused.items()
    }


def judge(row: Submission, out: Outcome) -> tuple[Result, Stop | None]:
    """The row's next state, and whether the account must stop."""
    said = f"{out.code} {out.text}".strip() if out.code is not None else out.text
    if out.state == "unknown":
        error = f"it may have been sent: {said}"[:1000]
        people = doubts(row, out.refused)
        return Result(row.id, row.epoch, "unknown", out.code, error, delay=0.0, recipients=people), None
    people = _refused(out.refused)
    failed = {a: p for a, p in people.items() if p.state == "failed"}
    limit = _limit(out)
    if out.state == "sent":
        return _sent(row, out, people), limit
    if out.step == "hook":
        return later(row, said, 0.0), None
    if out.code in {530, 534, 535, 538}:
        return later(row, said, 0.0), Stop("login", AuthenticationFailed(f"the server wants another login: {said}"))
    if limit is not None:
        # Who meets one each time may be at fault itself, and must not be the first of all each time.
        delay = BACKOFF[min(row.attempts, len(BACKOFF)) - 1] if row.attempts > 2 else 0.0
        return later(row, said, delay, code=out.code, recipients=failed), limit
    if out.state == "permanent" or (out.code == 503 and row.attempts > 1):
        for a in row.pending:
            if a not in failed:  # also who was deferred before: what is refused as a whole is for nobody
                people[a] = RecipientState(a, "failed", out.code, out.text[:500])
        # Some were taken by an earlier attempt: then the message did leave.
        state = "sent" if any(r.state == "sent" for r in row.recipients) else "failed"
        return Result(row.id, row.epoch, state, out.code, said[:1000], recipients=people), None
    if out.code is None:
        delay = NO_SERVER[min(row.attempts, len(NO_SERVER)) - 1]
    else:
        delay = 1.0 if out.code == 503 else BACKOFF[min(row.attempts, len(BACKOFF)) - 1]
    return later(row, said, delay, code=out.code, recipients=failed), None


def _limit(out: Outcome) -> Stop | None:
    """Whether the server says, of the mail or of one of its recipients, that the account sent too much."""
    answers = [*out.refused.values()]
    if out.code is not None and out.state != "sent":
        answers.append((out.code, out.text))
    rest, text = max(((limit_of(c, t), f"{c} {t}") for c, t in answers), default=(0.0, ""))
    return Stop("limit", Throttled(f"the sending limit is reached: {text}"[:1000]), rest) if rest else None


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
    waiting_for = f"sent to the others; waiting: {refused}"
    return later(row, waiting_for, delay, code=out.code, recipients=people, reply=out.text[:1000])
