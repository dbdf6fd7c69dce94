"""One mail, read by ours and by Python's own parser, and what stands in its headers."""

from __future__ import annotations

import email
import email.message
import re
from functools import cached_property
from typing import Any

from agentmail.message.models import Message
from agentmail.message.parse import parse

from . import stdlib


def ours(message: Message) -> dict[str, Any]:
    """The fields that are compared, in the form of `stdlib.read`."""
    sender = [message.sender] if message.sender is not None else []
    people = {"from": sender, "to": message.to, "cc": message.cc}
    return {
        "message_id": message.message_id,
        "in_reply_to": list(message.in_reply_to),
        "references": list(message.references),
        "subject": message.subject,
        **{field: [[one.name, one.email] for one in found] for field, found in people.items()},
        "date": message.sent_at.strftime("%Y-%m-%dT%H:%M:%SZ") if message.sent_at else None,
        "text": message.text,
        "html": message.html,
        "attachments": [[one.name, one.content_type, one.size] for one in message.attachments],
    }


class Pair:
    """One mail, read by both."""

    def __init__(self, raw: bytes, message: Message | None = None) -> None:
        self.raw = raw
        self.message = parse(raw) if message is None else message
        self.email = email.message_from_bytes(raw)
        self.ours = ours(self.message)
        self.theirs = stdlib.read(raw)
        self.defects = set(self.message.defects)
        self.is_tidied = message is not None

    @cached_property
    def tidied(self) -> Pair:
        """The same mail read by us as it is, and by the stdlib with its header block in order."""
        return Pair(tidied(self.raw), self.message)

    def values(self, field: str) -> list[str]:
        """The values of the header as the stdlib found them; bytes outside of ASCII are surrogates."""
        name = field.replace("_", "-")
        return [str(value) for key, value in self.email.raw_items() if key.lower() == name]

    def value(self, field: str) -> str:
        return "\n".join(self.values(field))

    @cached_property
    def leaves(self) -> list[email.message.Message]:
        return [part for part in self.email.walk() if not part.is_multipart()]


_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_KNOWN = re.compile(
    rb"(?:from|to|cc|subject|date|message-id|received|mime-version|content-[a-z-]+|return-path|reply-to)[ \t]*:",
    re.IGNORECASE,
)

_BASE64 = re.compile(rb"content-transfer-encoding:[ \t]*base64[ \t]*\Z", re.IGNORECASE)


def tidied(raw: bytes) -> bytes:
    """With a header block that the stdlib reads to its end: nothing in front, no line that is none, no CR alone."""
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if b"\n" not in raw:
        raw = raw.replace(b"\r", b"\n")
    raw = re.sub(rb"(?<!\r)\r{1,2}\n", b"\n", raw).lstrip(b"\r\n")
    if re.match(rb">?From (?! *:)", raw):
        raw = raw.partition(b"\n")[2]
    blank = re.search(rb"\n\n", raw)
    head, body = (raw[: blank.start()], raw[blank.end() :]) if blank else (raw, b"")
    lines = head.replace(b"\r", b" ").split(b"\n")
    kept: list[bytes] = []
    for number, line in enumerate(lines):
        if line[:1] in (b" ", b"\t"):
            kept += [line] if kept and line.strip() else []
        elif _FIELD.match(line):
            name, _, value = line.partition(b":")
            kept.append(name.rstrip() + b":" + value)
        elif line and b":" in line and any(map(_BASE64.match, kept)):
            kept.append(b"X-None:")  # no part of the base64; what is folded below it belongs to it
        elif line and not any(map(_KNOWN.match, lines[number + 1 :])):
            return b"\r\n".join([*kept, b"", *lines[number:], b"", body])
    return b"\r\n".join([*kept, b"", body])
