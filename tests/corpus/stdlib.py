"""The usual recipe for Python's own parser (compat32): the fields that ours gives, as most programs read them.

Nothing is repaired here. What raises is caught for its field alone and stands there as `Raised`.
"""

from __future__ import annotations

import email
import email.header
import email.utils
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import Message
from typing import Any, NamedTuple


class Raised(NamedTuple):
    """What stands in a field that the recipe could not read."""

    error: str


def read(raw: bytes) -> dict[str, Any]:
    """The same fields as `differential.ours`."""
    message = email.message_from_bytes(raw)
    fields: dict[str, Callable[[], Any]] = {
        "message_id": lambda: str(message.get("Message-ID", "")).strip(),
        "in_reply_to": lambda: str(message.get("In-Reply-To", "")).split(),
        "references": lambda: str(message.get("References", "")).split(),
        "subject": lambda: decoded(str(message.get("Subject", ""))),
        "from": lambda: _people(message, "From")[:1],
        "to": lambda: _people(message, "To"),
        "cc": lambda: _people(message, "Cc"),
        "date": lambda: _date(message),
        "text": lambda: _body(message, "text/plain"),
        "html": lambda: _body(message, "text/html"),
        "attachments": lambda: _attachments(message),
    }
    return {field: _tried(get) for field, get in fields.items()}


def decoded(value: str) -> str:
    """RFC 2047, as the documentation of email.header shows it."""
    return str(email.header.make_header(email.header.decode_header(value)))


def _tried(get: Callable[[], Any]) -> Any:
    try:
        return get()
    except Exception as exc:  # LookupError, UnicodeError, ValueError, IndexError …
        return Raised(type(exc).__name__)


def _people(message: Message, name: str) -> list[list[str]]:
    values = [str(value) for value in message.get_all(name, [])]
    return [[decoded(who), where] for who, where in email.utils.getaddresses(values)]


def _date(message: Message) -> str | None:
    value = message.get("Date")
    if value is None:
        return None
    moment: datetime = email.utils.parsedate_to_datetime(str(value))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _leaves(message: Message) -> list[Message]:
    return [part for part in message.walk() if not part.is_multipart()]


def _attached(part: Message) -> bool:
    return part.get_content_disposition() == "attachment" or part.get_filename() is not None


def _body(message: Message, kind: str) -> str | None:
    for part in _leaves(message):
        if part.get_content_type() == kind and not _attached(part):
            content: Any = part.get_payload(decode=True)
            return str(content.decode(part.get_content_charset() or "utf-8", "replace"))
    return None


def _attachments(message: Message) -> list[list[Any]]:
    found = []
    for part in _leaves(message):
        if _attached(part) or part.get_content_type() not in ("text/plain", "text/html"):
            content: Any = part.get_payload(decode=True)
            found.append([decoded(part.get_filename() or ""), part.get_content_type(), len(content or b"")])
    return found
