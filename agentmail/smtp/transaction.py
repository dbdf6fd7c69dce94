"""One mail transaction, step by step, so that the phase of every failure is known."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..errors import BadInput
from ..message.models import Envelope
from .session import Lost, Session, stuffed

State = Literal["sent", "temporary", "permanent", "unknown"]
Step = Literal["mail", "rcpt", "data", "hook", "body", "dot"]
Refusals = Mapping[str, tuple[int, str]]
"""Recipients that the server did not take, each with its reply."""
BeforeBody = Callable[[Refusals], Awaitable[Callable[[], bool] | None]]
"""Called when the server said 354, with the recipients who will not get it. It returns what says, just before the dot,
whether it may still go; None: stop.
"""

PATIENCE = 2.0
"""Seconds that the mail after this one stays on its connection while the server thinks about the dot."""
SOON = 30.0
"""Seconds for each answer to commands that went along with the mail before; another connection has more time."""

_PATH = re.compile(r'(?:[^\s"<>@\x00-\x20\x7f]+|"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*")@[^\s"<>@\x00-\x20\x7f]+')


@dataclass(frozen=True, slots=True)
class Mail:
    """What is handed over."""

    raw: bytes
    envelope: Envelope
    before_body: BeforeBody | None = None
    submission: str | None = None


@dataclass(frozen=True, slots=True)
class After:
    """The mail that comes next on this connection: its commands go along with our final dot.

    The transfer of a message may be the first of a group of commands (RFC 2920 3.1), so each mail takes one round trip.
    """

    commands: Callable[[], bytes]
    """Asked when the dot is about to go; nothing: there is none."""
    let_go: Callable[[], None]
    """The answer to the dot takes long: who waits for this connection need not."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a submission ended."""

    state: State
    step: Step
    """How far it came."""
    code: int | None = None
    """The reply code that decided; None when the server said nothing."""
    text: str = ""
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Recipients that the server did not take, with its reply; beside `sent` the others were taken."""


async def transact(session: Session, mail: Mail, after: After, *, begun: bool) -> Outcome:
    """Hand the message over, once; how it ended. The caller closes the connection unless its state is certain.

    Args:
        begun: Its commands went along with the mail before; the replies are to come.
    """
    step: Step = "mail"
    refused: dict[str, tuple[int, str]] = {}
    times, envelope = session.timeouts, mail.envelope
    try:
        if begun:
            replies = await session.replies(len(envelope.rcpt_to) + 2, min(times.command, SOON))
        else:
            said = commands(session, mail)
            if isinstance(said, Outcome):
                return said
            if session.dirty:
                if (await session.ask("RSET", timeout=times.command))[0][0] != 250:
                    return Outcome("temporary", "mail", None, "the server would not reset the connection")
                session.dirty = False
            replies = await session.ask(*said, timeout=times.command)
        session.dirty = True
        step, outcome, refused = _judge(replies, envelope)
        if outcome is not None:
            if replies[-1][0] == 354:  # it waits for a body nobody will get (RFC 2920 3.1)
                session.close()
            return outcome
        step = "hook"
        may_finish = await mail.before_body(refused) if mail.before_body is not None else lambda: True
        if may_finish is None:
            return Outcome("temporary", "hook", None, "stopped before the body", refused)
        step = "body"
        body = stuffed(mail.raw)
        if len(body) > session.at_once:
            await session.write_body(body)
            body = b""
        if not may_finish():
            # Paused for longer than the lease: somebody else may have taken over (and may have sent it).
            return Outcome("temporary", "hook", None, "too late to finish: closed before the final dot", refused)
        session.check()
        early = not session.usable  # answered before its end: the answer to the end would be taken for another mail's
        along = b"" if early else after.commands()
        step = "dot"
        if not session.finish(body + b".\r\n", along):
            # It may have said why before it hung up; a 2xx is nothing that it can mean of a mail without an end.
            code, text = session.said() or (None, "the connection took no more: the dot did not go")
            return Outcome(_verdict(max(code or 0, 400)), "body", code, text, refused)
        if along and not await session.answered(PATIENCE):
            after.let_go()
        code, text = await session.reply(times.dot)
        if early:
            session.close()
        if code // 100 == 3:
            raise Lost(f"the server answered the message with {code} {text}")
        session.dirty = False
        return Outcome(_verdict(code), "dot", code, text, refused)
    except Lost as exc:
        return Outcome("unknown" if step == "dot" else "temporary", step, None, str(exc), refused)


def check_envelope(envelope: Envelope) -> None:
    """Raise BadInput for an address that would mean something else as an SMTP command, or nothing at all."""
    if not envelope.rcpt_to:
        raise BadInput("a message needs at least one recipient")
    for address in (*envelope.rcpt_to, *([envelope.mail_from] if envelope.mail_from else [])):
        if len(address) > 320 or not _PATH.fullmatch(address):
            raise BadInput(f"address {address[:320]!r} cannot be written into an SMTP command")


def commands(session: Session, mail: Mail) -> list[str] | Outcome:
    """MAIL, RCPT… and DATA with what the server offers; or why it cannot take this message."""
    raw, envelope, submission = mail.raw, mail.envelope, mail.submission
    limit = session.extensions.get("size", "").strip()
    if limit.isdigit() and 0 < int(limit) < len(raw):
        return Outcome("permanent", "mail", 552, f"{len(raw)} bytes, and the server takes {limit} at most (RFC 1870)")
    options = f" SIZE={len(raw)}" if session.offers("size") else ""
    addresses = (envelope.mail_from, *envelope.rcpt_to)
    if not raw.isascii():
        if not session.offers("8bitmime"):
            return Outcome("permanent", "mail", 554, "the server takes no 8-bit text (no 8BITMIME, RFC 6152)")
        options += " BODY=8BITMIME"
    if not all(map(str.isascii, addresses)) or not (raw.isascii() or raw.partition(b"\r\n\r\n")[0].isascii()):
        if not session.offers("smtputf8"):
            return Outcome("permanent", "mail", 553, "the server takes ASCII addresses only (no SMTPUTF8, RFC 6531)")
        options += " SMTPUTF8"
    notify = ""
    if session.offers("dsn"):
        options += " RET=HDRS" + (f" ENVID={submission}" if submission and submission.isalnum() else "")
        notify = " NOTIFY=FAILURE,DELAY"
    return [
        f"MAIL FROM:<{envelope.mail_from}>{options}",
        *(f"RCPT TO:<{a}>{notify}" for a in envelope.rcpt_to),
        "DATA",
    ]


def _judge(
    replies: Sequence[tuple[int, str]], envelope: Envelope
) -> tuple[Step, Outcome | None, dict[str, tuple[int, str]]]:
    """What the replies to MAIL, RCPT… and DATA mean; no Outcome means that the body may go."""
    (code, text), asked = replies[0], len(envelope.rcpt_to)
    if code != 250:
        return "mail", Outcome(_verdict(code), "mail", code, text), {}
    answers = replies[1 : 1 + asked]
    refused = {a: r for a, r in zip(envelope.rcpt_to, answers, strict=False) if r[0] not in {250, 251, 252}}
    if len(refused) == asked or len(answers) < asked:
        # One that may be taken later makes the whole worth another attempt: lowest code first.
        code, text = min(refused.values())
        if len(answers) < asked and code >= 500:
            text = f"the connection was lost before everybody had an answer; the last one: {code} {text}"
            return "rcpt", Outcome("temporary", "rcpt", None, text, refused), refused
        return "rcpt", Outcome(_verdict(code), "rcpt", code, text, refused), refused
    code, text = replies[-1]
    if len(replies) < asked + 2:
        return "rcpt", Outcome("temporary", "rcpt", code, text), {}
    if code != 354:
        state = "temporary" if code // 100 in {2, 3} else _verdict(code)
        return "data", Outcome(state, "data", code, text, refused), refused
    return "data", None, refused


def _verdict(code: int) -> State:
    if 200 <= code < 300:
        return "sent"  # 251 after the dot is an acceptance too
    # 503 means that we and the server lost step with each other, not that the mail is bad.
    return "temporary" if code < 500 or code == 503 else "permanent"
