"""What must hold for any bytes: `parse`, and an answer to what it made of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from agentmail.errors import BadInput
from agentmail.message import compose
from agentmail.message.models import Message
from agentmail.message.parse import parse

OURS = {
    "from", "to", "cc", "subject", "date", "message-id", "in-reply-to", "references", "thread-topic", "thread-index",
    "auto-submitted", "x-auto-response-suppress", "x-agentmail-loop", "mime-version", "content-type",
    "content-transfer-encoding",
}  # fmt: skip
NOW = datetime(2026, 11, 21, tzinfo=UTC)
TOKEN = bytes(range(17))


def check(data: bytes) -> None:
    """Raise AssertionError when a promise is broken; any other exception is a broken promise as well."""
    message = parse(data)
    text = message.model_dump_json(exclude={"new_text"})
    json.loads(text)
    text.encode("utf-8")  # no lone surrogate
    assert "\\u0000" not in text
    assert "unreadable" not in message.defects
    for name, value in message.headers:
        assert name.isascii()
        assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in value), (name, value)
    assert parse(data) == message
    answer(message)


def answer(message: Message) -> None:
    """A reply carries our header names and no other, and reads back as what was meant."""
    try:
        outgoing = compose.reply(
            message, "Yes.", sender="me@example.org", reply_all=True, quote=True, now=NOW, token=TOKEN
        )
    except BadInput:
        return  # nobody usable to write to
    head = outgoing.raw.partition(b"\r\n\r\n")[0]
    assert head.isascii()
    names = [line.partition(b":")[0].decode().lower() for line in head.split(b"\r\n") if line[:1] not in b" \t"]
    assert set(names) <= OURS, names
    assert len(names) == len(set(names))
    assert all(len(line) <= 998 for line in outgoing.raw.split(b"\r\n"))
    assert b"\n" not in outgoing.raw.replace(b"\r\n", b"")
    again = parse(outgoing.raw)
    assert again.message_id == outgoing.message_id
    assert again.in_reply_to == compose.reply_references(message)[0]
    assert again.references == compose.reply_references(message)[1]
