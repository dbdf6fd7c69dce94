"""What must hold for any bytes: `parse`, an answer to what it made of them, and `parse` of what `compose` made."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from agentmail.errors import BadInput
from agentmail.message import compose
from agentmail.message.characters import clean
from agentmail.message.models import Address, Attachment, Draft, Message
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
    assert "\\u0000" not in text.replace("\\\\", "")  # "\\u0000" typed as six letters is no NUL
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


def written(data: bytes) -> None:
    """A draft made of the bytes is refused, or reads back as it was meant: `parse(compose(x))`."""
    subject, name, text, html, title = (*(one.decode("utf-8", "replace") for one in data.split(b"\0")), *[""] * 5)[:5]
    person = Address(name=name, email="ana@example.org")
    files = [Attachment(name=title, content_type="application/pdf", content=data)] if title else []
    draft = Draft(to=(person,), subject=subject, text=text or "x", html=html or None, attachments=tuple(files))
    try:
        outgoing = compose.new(draft, sender="me@example.org", now=NOW, token=TOKEN)
    except BadInput:
        return
    assert outgoing.envelope.rcpt_to == ("ana@example.org",)
    again = parse(outgoing.raw)
    # A text that somebody typed may hold what looks like a uuencoded file, and characters that nobody sees.
    assert set(again.defects) <= {"unseen-characters", "uuencoded"}, again.defects
    assert again.message_id == outgoing.message_id
    assert [one.email for one in again.to] == ["ana@example.org"]
    assert _letters(again.subject) == _letters(subject)
    assert _letters(name).startswith(_letters(again.to[0].name))
    if clean(text)[0].strip() and "uuencoded" not in again.defects:
        assert _letters(again.text) == _letters(clean(text)[0])
    assert [one.content for one in again.attachments if one.content_type == "application/pdf"] == [data] * len(files)


def _letters(text: str) -> str:
    """Without what a header or a line end may change: blanks, quotes, controls."""
    return "".join(letter for letter in text if letter.isalnum())
