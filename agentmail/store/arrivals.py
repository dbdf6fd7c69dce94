"""What comes to the store: a message, how it came, and everything about it that needs no database."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic import create_model

from ..message.identifiers import is_ours
from ..message.models import Message, Value
from ..message.subject import subject_key
from ..threads.fallback import is_headless
from ..threads.placement import Facts, facts_of, key_of
from ..threads.tree import written_at
from .words import IndexText, index_text


@dataclass(frozen=True, slots=True)
class Location:
    """Where a message lies on the server."""

    mailbox: str
    uidvalidity: int
    uid: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message on its way into the store, and how it came."""

    message: Message
    raw: bytes | None = None
    location: Location | None = None
    flags: tuple[str, ...] = ()
    fresh: bool = True
    """False for what was in the mailbox before we first looked: history, not news."""
    outgoing: bool = False
    """The account itself sent it: out of our outbox, or found in the Sent mailbox."""
    answers: str | None = None
    """The message it answers, such as `"m44"`, when the caller knows: then its headers need not say it."""
    also_to: tuple[str, ...] = ()
    """Recipients that no header names (Bcc)."""


@dataclass(slots=True)
class Prepared:
    """An arrival with everything worked out that needs no database. Build it outside of the transaction."""

    arrival: Arrival
    facts: Facts
    row: dict[str, Any]
    attachments: tuple[dict[str, Any], ...]
    words: IndexText
    """What search finds it by."""
    subject: str


def prepare(arrival: Arrival, *, account: str, own: Collection[str], secret: bytes) -> Prepared:
    """Work out what filing needs to know. Pure, and most of the cost.

    Raises:
        ValueError: the message holds what no database stores (a lone surrogate, a NUL).
    """
    message = arrival.message
    guarded = bool(account)
    sender = message.sender.key if message.sender is not None else ""
    forged = message.auth is not None and message.auth.dmarc == "fail"
    ours = bool(message.message_id) and is_ours(message.message_id, secret)
    outgoing = arrival.outgoing or message.outgoing or (ours and sender in own and not forged)
    if outgoing != message.outgoing or message.id is not None or message.thread is not None:
        message = Message.unchecked({**message.__dict__, "outgoing": outgoing, "id": None, "thread": None})
    facts = facts_of(
        message, guarded=guarded, own=own, outgoing=outgoing, answers=arrival.answers is not None,
        also_to=arrival.also_to,
    )  # fmt: skip
    raw = arrival.raw
    row: dict[str, Any] = {
        "account": account,
        "message_id": message.message_id,
        "message_id_key": key_of(message.message_id) if message.message_id else "",
        "content_key": content_key(message),
        # The Sent copy of our own mail is that mail, whatever the server made of its body. An outsider who repeats
        # our id is not `outgoing`, and so gets a row of their own.
        "own_key": message.message_id if ours and (arrival.outgoing or arrival.message.outgoing) else None,
        "at": written_at(message),
        "sender": sender,
        "subject_key": subject_key(message.subject),
        "answers": int(arrival.answers[1:]) if arrival.answers else None,
        "headless": guarded and arrival.answers is None and not forged and is_headless(message),
        "outgoing": outgoing,
        "fresh": arrival.fresh,
        "size": len(raw) if raw is not None else message.size,
        # What is new in a text takes four times as long to find as everything else together. In history hardly anybody
        # ever looks at it, so there it is found when somebody does.
        "parsed": _stored_form(message),
    }
    if _holds_nul(row["parsed"]) or any("\x00" in v for v in row.values() if isinstance(v, str)):
        raise ValueError("a NUL character, which no database stores in text")
    attachments = tuple(
        {"position": i, "name": a.name, "content_type": a.content_type, "size": a.size}
        for i, a in enumerate(message.attachments)
    )
    return Prepared(arrival, facts, row, attachments, index_text(message), message.subject)


_ESCAPE = re.compile(r"\\(u0000|.)")


def _holds_nul(json: str) -> bool:
    """Whether a JSON text holds a NUL, as against a backslash that is followed by u0000."""
    return "\\u0000" in json and any(escape == "u0000" for escape in _ESCAPE.findall(json))


def _stored_form(message: Message) -> str:
    """The Message as JSON, without what has columns, and without `new_text`.

    Working that out costs more than all the rest of filing; whoever reads it does it then.
    """
    _ = message.text  # of a mail that is HTML alone it is worked out only now
    return _Stored.unchecked(message.__dict__.copy()).model_dump_json()


_KEPT: dict[str, Any] = {
    name: (field.annotation, field) for name, field in Message.model_fields.items() if name not in {"id", "thread"}
}
_Stored = create_model("_Stored", __base__=Value, **_KEPT)
"""The fields of a Message that are kept as JSON, and nothing else. What Message does when it is dumped makes Python's
objects of everything first, which takes three times as long as the JSON."""


def without_line_ends(text: str) -> str:
    """A text without the white space that stands at the ends of its lines, and around it: hops change both."""
    return "\n".join(map(str.rstrip, text.splitlines())).strip()


def content_key(message: Message) -> str:
    """What makes two arrivals the same message: who says what, when, under which id.

    Hops add Received lines, change the transfer encoding and the line ends, so the key is made of the decoded values
    and not of the bytes. A mailing list's footer makes another message, which is kept beside the first.
    The Message-ID alone proves nothing: outsiders choose it.
    """
    digest = hashlib.sha256()
    parts: list[str | bytes] = [
        key_of(message.message_id) if message.message_id else "",
        # casefold() and not the key: stores hold what was made this way, and it is only ever compared with itself.
        message.sender.email.casefold() if message.sender is not None else "",
        message.sent_at.isoformat() if message.sent_at is not None else "",
        " ".join(message.subject.split()),
        without_line_ends(message.text),
        without_line_ends(message.html or ""),
    ]
    for a in message.attachments:
        parts += [a.name, a.content_type, a.content if a.content is not None else str(a.size)]
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:40]
