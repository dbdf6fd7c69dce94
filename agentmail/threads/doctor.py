"""What is wrong with the threading of these messages, and the fix.

Each check was met in real mail, or breaks a rule that some client documents. An error splits or garbles the thread in
at least one widespread client; a warning does so under circumstances; a note explains.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from ..message import outlook
from ..message.ancestry import thread_topic
from ..message.domains import address_key
from ..message.identifiers import MISSING_DOMAIN, find_ids, normalise
from ..message.models import Message, Value
from ..message.subject import base_subject, is_reply_subject, subject_key
from . import clients
from .findings import KINDS

_REWRITTEN = ("SMTPIN_ADDED_", "amazonses.com>")
_PLAIN_ID = re.compile(r"<[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+>\Z")
_ENGLISH = re.compile(r"\s*(?:\[[^\]]*\]\s*)*(?:re|fwd?)\s?:", re.IGNORECASE)
_PREFIX = re.compile(r"\s*[^\s:\uff1a\[\]]{1,15}(?:\[\d+\])?\s?[:\uff1a]\s*")


class Finding(Value):
    """One thing that is wrong with one message."""

    code: str
    """One of `agentmail.threads.findings.KINDS`."""
    severity: str
    """`error`, `warning` or `note`."""
    message: str
    fix: str


class Examined(Value):
    """One message and what was found."""

    message_id: str
    file: str = ""
    findings: tuple[Finding, ...] = ()


class Report(Value):
    """All messages, and how clients will group them."""

    messages: tuple[Examined, ...]
    groups: dict[str, list[list[str]]]
    confidence: dict[str, str]

    @property
    def healthy(self) -> bool:
        """Whether there is no error; warnings and notes are no errors."""
        return not any(f.severity == "error" for m in self.messages for f in m.findings)

    def as_json(self) -> dict[str, Any]:
        """Plain values: what `agentmail doctor --json` prints."""
        return self.model_dump(mode="json")


def examine(messages: Sequence[Message], *, files: Sequence[str] = (), raws: Sequence[bytes] = ()) -> Report:
    """Look at messages that belong together, or may: a thread, a folder, an archive.

    Args:
        files: Their names, in the same order, for the report.
        raws: Their bytes, in the same order; the length of header lines is looked at only then.
    """
    ward = _Ward(messages)
    examined = []
    for number, message in enumerate(messages):
        raw = raws[number] if number < len(raws) else b""
        found = dict(ward.look(message, raw))
        examined.append(
            Examined(
                message_id=message.message_id,
                file=files[number] if number < len(files) else "",
                findings=tuple(
                    Finding(code=code, severity=KINDS[code].severity, message=text, fix=KINDS[code].fix)
                    for code, text in found.items()
                ),
            )
        )
    sure: dict[str, str] = dict(clients.confidence(messages))
    return Report(messages=tuple(examined), groups=clients.predict(messages), confidence=sure)


Found = Iterator[tuple[str, str]]
"""Code, and what is wrong, for a person."""


class _Ward:
    """All messages under examination, by id."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.owners: dict[str, Message] = {}
        self.count: Counter[str] = Counter()
        self.dates: dict[str, list[datetime]] = {}
        """Of each subject, oldest first."""
        for message in messages:
            self.count[normalise(message.message_id)] += 1
            for i in message.known_ids:
                self.owners.setdefault(normalise(i), message)
            if message.sent_at is not None:
                self.dates.setdefault(subject_key(message.subject), []).append(message.sent_at)
        for dates in self.dates.values():
            dates.sort()
        self.late = {i for group in clients.predict(messages)["apple"] for i in group[clients.MOST :]}

    def look(self, message: Message, raw: bytes) -> Found:
        yield from self._own_id(message)
        yield from self._reply_ids(message)
        yield from self._chain(message)
        yield from self._subject(message)
        yield from self._outlook(message)
        yield from self._time(message)
        if raw and any(
            len(line.rstrip(b"\r")) > 998 for line in re.split(rb"\r?\n\r?\n", raw, maxsplit=1)[0].split(b"\n")
        ):
            yield "line-too-long", "a header line is longer than 998 bytes (RFC 5322 2.1.1)"
        if message.message_id in self.late:
            yield "too-many-messages", f"more than {clients.MOST} messages share ids: Gmail and Fastmail begin another"

    def parent_of(self, message: Message) -> Message | None:
        names = (*message.in_reply_to[:1], *message.references[-1:])
        found = (self.owners.get(normalise(i)) for i in names)
        return next((m for m in found if m is not None and m.message_id != message.message_id), None)

    def _own_id(self, message: Message) -> Found:
        values = message.header_all("message-id")
        if message.message_id.endswith(f"@{MISSING_DOMAIN}>") or not message.message_id:
            yield "message-id-missing", "there is no Message-ID: nobody can answer this message by its id"
            return
        if len(values) > 1:
            yield "message-id-twice", f"there are {len(values)} Message-ID headers"
        value = values[0].strip() if values else message.message_id
        inner = value.removeprefix("<").removesuffix(">")
        if not value.startswith("<") or not value.endswith(">"):
            yield "message-id-bare", f"the Message-ID {_short(value)} is not in angle brackets"
        left, at, host = inner.rpartition("@")
        if not at:
            yield "message-id-no-at", f"the Message-ID {_short(value)} has no @"
        elif "@" in left:
            yield "message-id-several-ats", f"the Message-ID {_short(value)} has more than one @"
        if re.search(r"[\s<>]|=\?", inner) or "bad-message-id" in message.defects:
            yield "message-id-malformed", f"the Message-ID {_short(value)} has white space, brackets or encoding inside"
        elif at and (host.endswith(".") or left.endswith(".")):
            yield "message-id-dot", f"a side of the Message-ID {_short(value)} ends in a dot"
        elif at and "@" not in left and not _PLAIN_ID.match(f"<{inner}>"):
            yield (
                "message-id-odd-characters",
                f"the Message-ID {_short(value)} is not letters, digits, dots and hyphens",
            )
        if self.count[normalise(message.message_id)] > 1:
            yield "message-id-shared", "another message here has the same Message-ID"
        originals = ("x-google-original-message-id", "x-microsoft-original-message-id")
        if any(message.header(name) for name in originals) or "SMTPIN_ADDED_" in message.message_id:
            yield "message-id-rewritten", "a provider replaced the Message-ID: the sender knows it by another"

    def _reply_ids(self, message: Message) -> Found:
        value = " ".join(message.header_all("in-reply-to"))
        ids = find_ids(value, "in-reply-to") if value else None
        if ids is None:
            if message.references:
                yield "in-reply-to-missing", "there is References and no In-Reply-To (Outlook Express did so)"
            return
        people = {a.key for a in (*message.people(), *message.reply_to)}
        real = [i for i in ids.ids if "@" in i and address_key(i[1:-1]) not in people]
        if not ids.ids and ids.bare:
            yield "in-reply-to-bare", f"In-Reply-To {_short(value)} has no angle brackets"
        elif not real:
            yield "in-reply-to-no-id", f"In-Reply-To {_short(value)} names a person or nothing, not a message"
        elif len(real) > 1:
            yield "in-reply-to-several", f"In-Reply-To names {len(real)} messages"
        if real and message.references and real[0] != message.references[-1]:
            yield "in-reply-to-not-last", "In-Reply-To is not the last id of References"
        if real and not message.header("references"):
            yield "references-missing", "there is In-Reply-To and no References"

    def _chain(self, message: Message) -> Found:
        value = " ".join(message.header_all("references"))
        parent = self.parent_of(message)
        outside = re.sub(r"<[^<>]*>", "", value)
        if "," in outside:
            yield "references-comma", "the ids in References are separated by commas"
        if "<" in outside or ">" in outside:
            yield "references-unbalanced", "an angle bracket in References is missing"
        given = re.findall(r"<[^<>]*>", value)
        if len(set(given)) < len(given):
            yield "references-repeated", "References names an id twice"
        if "self-reference" in message.defects or message.message_id in given:
            yield "references-itself", "the message refers to itself"
        if parent is not None:
            above = parent.references or (parent.in_reply_to if len(parent.in_reply_to) == 1 else ())
            whole = [*above, parent.message_id]
            if above and message.references == (parent.message_id,):
                yield "references-parent-only", f"References names the parent and not the {len(above)} above (iOS)"
            elif above and len(message.references) > 1 and message.references[0] != whole[0]:
                yield "references-root-missing", "References does not begin with the root of the thread (mutt)"
            mentions = {normalise(i) for i in (*parent.references, *parent.in_reply_to)}
            if normalise(message.message_id) in mentions:
                yield "references-cycle", "this message and its parent name each other as ancestor"
        for i in (*message.references, *message.in_reply_to):
            if any(mark in i for mark in _REWRITTEN) and normalise(i) not in self.owners:
                text = f"it answers {_short(i)}, an id that a provider made and only one mailbox knows"
                yield "references-unknown-rewrite", text
                break

    def _subject(self, message: Message) -> Found:
        parent = self.parent_of(message)
        named = bool(message.references or message.in_reply_to)
        key = subject_key(message.subject)
        if parent is not None and key != subject_key(parent.subject):
            text = f"the subject differs from the parent's{_difference(parent.subject, message.subject)}"
            yield "subject-changed", f"{text}: Gmail, Outlook and Fastmail begin a new conversation"
        if is_reply_subject(message.subject) and not named:
            yield "reply-without-ids", 'the subject says "Re:" and there is neither In-Reply-To nor References'
            dates = self.dates.get(key, []) if key else []
            before = bisect_left(dates, message.sent_at) if message.sent_at is not None else 0
            if before and message.sent_at and message.sent_at - dates[before - 1] > timedelta(days=7):
                yield "late-without-references", "the last message of that subject is more than seven days older"
        prefixes = _prefixes(message.subject)
        if prefixes > 1:
            yield "subject-prefixes", f"the subject has {prefixes} prefixes"
        if prefixes and is_reply_subject(message.subject) and not _ENGLISH.match(message.subject):
            yield "subject-prefix-localised", "the prefix is not Re: or Fwd:, and Gmail reportedly knows no other"

    def _outlook(self, message: Message) -> Found:
        if message.thread_index is None:
            return
        data = outlook.read(message.thread_index)
        if data is None:
            yield "thread-index-invalid", "Thread-Index is not 22 bytes or more in base64"
            return
        if (len(data) - outlook.HEADER) % outlook.LEVEL:
            yield "thread-index-length", "Thread-Index is not 22 bytes and five for each reply"
        parent = self.parent_of(message)
        if parent is None or subject_key(parent.subject) != subject_key(message.subject):
            return
        above = outlook.read(parent.thread_index or "")
        if above is not None and above[6:22] != data[6:22]:
            yield "thread-index-other-conversation", "Thread-Index has another GUID than the parent's"
        elif above is not None and not (data.startswith(above) and len(data) == len(above) + outlook.LEVEL):
            yield "thread-index-not-extended", "Thread-Index is not the parent's and five more bytes"
        if message.thread_topic and thread_topic(parent).casefold() != message.thread_topic.casefold():
            yield "thread-topic-changed", "Thread-Topic differs from the parent's"

    def _time(self, message: Message) -> Found:
        if message.sent_at is None:
            yield "date-missing", "there is no Date that can be read"
            return
        parent = self.parent_of(message)
        if message.received_at is not None and abs(message.received_at - message.sent_at) > timedelta(days=1):
            yield "date-skewed", "it says it was written more than a day from when it was received"
        elif (
            parent is not None and parent.sent_at is not None and parent.sent_at - message.sent_at > timedelta(hours=1)
        ):
            yield "date-skewed", "it says it was written before the message it answers"


def _short(value: str) -> str:
    return value if len(value) <= 80 else f"{value[:77]}…"


def _prefixes(subject: str) -> int:
    """How many reply or forward prefixes stand before the base subject."""
    text, count = subject[:2_000].strip(), 0
    base = base_subject(text)
    while count < 20 and text != base and (match := _PREFIX.match(text)) and base_subject(text[match.end() :]) == base:
        text, count = text[match.end() :], count + 1
    return count


def _difference(before: str, after: str) -> str:
    """The words that differ, when they are few."""
    old, new = base_subject(before).split(), base_subject(after).split()
    gone = [w for w in old if w not in new]
    come = [w for w in new if w not in old]
    if not 0 < len(gone) + len(come) <= 4:
        return ""
    return f" ({' '.join(gone) or 'nothing'} became {' '.join(come) or 'nothing'})"
