"""Is this one thread, for every mail client? Judged from the bytes in a mailbox, not from agentmail's own objects.

It reads the headers with Python's own parser and its own three rules, so that a mistake of `agentmail.message` does not
judge itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Self

_ID = re.compile(r"<[^<>\s]+@[^<>\s]+>")
_PREFIX = re.compile(r"\s*(?:re|aw|sv|rif|fwd?)\s*:\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Wire:
    """The threading headers of one message, as they came over the wire."""

    message_ids: tuple[str, ...]
    """What its Message-ID headers hold: one, if all is well."""
    in_reply_to: tuple[str, ...]
    references: tuple[str, ...]
    subject: str
    thread_index: str

    @classmethod
    def read(cls, raw: bytes) -> Self:
        message = message_from_bytes(raw)

        def value(name: str) -> str:
            # An unfolded value: RFC 5322 2.2.3.
            return " ".join(re.sub(r"\r?\n(?=[ \t])", "", str(v)) for v in message.get_all(name, []))

        def ids(name: str) -> tuple[str, ...]:
            return tuple(_ID.findall(value(name)))

        try:
            subject = str(make_header(decode_header(value("Subject"))))
        except (HeaderParseError, LookupError, UnicodeError):
            subject = value("Subject")
        return cls(ids("Message-ID"), ids("In-Reply-To"), ids("References"), subject, value("Thread-Index").strip())

    @property
    def message_id(self) -> str:
        return self.message_ids[0] if self.message_ids else ""

    @property
    def parent(self) -> str:
        return self.in_reply_to[0] if self.in_reply_to else ""


@dataclass(frozen=True)
class Finding:
    """One thing that holds, or does not."""

    holds: bool
    claim: str
    """What should be so."""
    problems: tuple[str, ...] = ()
    """Where it is not, one line each."""


def judge(raws: Sequence[bytes]) -> tuple[Finding, ...]:
    """Three findings about a mailbox that holds one whole thread: its ids, its References chains, its subjects."""
    wires = [Wire.read(raw) for raw in raws]
    return (_unique(wires), _complete(wires), _same_subject(wires))


def base(subject: str) -> str:
    """The subject without what a reply puts in front of it."""
    while match := _PREFIX.match(subject):
        subject = subject[match.end() :]
    return subject


def _finding(claim: str, problems: list[str]) -> Finding:
    return Finding(not problems, claim, tuple(problems))


def _unique(wires: Sequence[Wire]) -> Finding:
    problems, seen = [], set()
    for number, wire in enumerate(wires, 1):
        if len(wire.message_ids) != 1:
            problems.append(f"message {number} has {len(wire.message_ids)} Message-IDs")
        for message_id in wire.message_ids:
            if message_id in seen:
                problems.append(f"message {number} has the Message-ID of another one: {message_id}")
            seen.add(message_id)
    return _finding(f"Message-IDs are unique ({len(seen)} of {len(wires)})", problems)


def _complete(wires: Sequence[Wire]) -> Finding:
    """References name every ancestor, oldest first, the parent last (RFC 5322 3.6.4); one message starts it all."""
    problems, known = [], {w.message_id: w for w in wires if w.message_id}
    starts = [w for w in wires if not w.in_reply_to]
    if len(starts) != 1:
        problems.append(f"{len(starts)} messages answer nothing: there should be one, the first")
    for number, wire in enumerate(wires, 1):
        if len(wire.in_reply_to) > 1:
            problems.append(f"message {number} answers {len(wire.in_reply_to)} messages at once")
        chain: list[str] = []
        at = wire.parent
        while at and at in known and at not in chain:
            chain.insert(0, at)
            at = known[at].parent
        if at:
            problems.append(f"message {number}: its ancestor {at} is not in this mailbox, or answers itself")
        elif tuple(chain) != wire.references:
            missing = [f"{x} is missing" for x in chain if x not in wire.references]
            extra = [f"{x} is no ancestor" for x in wire.references if x not in chain]
            problems.append(f"message {number}: References: {'; '.join(missing + extra) or 'in the wrong order'}")
    return _finding("each References chain is complete", problems)


def _same_subject(wires: Sequence[Wire]) -> Finding:
    first = next((w.subject for w in wires if not w.in_reply_to), "")
    problems = []
    for number, wire in enumerate(wires, 1):
        prefixes = len(wire.subject) - len(base(wire.subject))
        if base(wire.subject) != base(first):
            problems.append(f"message {number}: {wire.subject!r} is another subject than {first!r}")
        elif len(_PREFIX.findall(wire.subject[:prefixes])) > 1:
            problems.append(f"message {number}: {wire.subject!r} says more than once that it is a reply")
    return _finding("each subject keeps its base", problems)
