"""The mails of `mail/`, and whether what came out of one is what its `.json` says. The schema is in README.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from agentmail.message.identifiers import MISSING_DOMAIN
from agentmail.message.models import Address, Attachment, Message
from agentmail.message.parse import parse
from agentmail.message.text import html_to_text

MAIL = Path(__file__).parent / "mail"
CORE = frozenset(
    (
        *("about", "message_id", "in_reply_to", "references", "subject", "from", "to", "cc", "date", "text"),
        *("attachments", "defects", "automated"),
    )
)
"""What stands in every `.json`."""


class Difference(NamedTuple):
    field: str
    wanted: Any
    got: Any

    def __str__(self) -> str:
        return f"{self.field}:\n  wanted {self.wanted!r}\n  got    {self.got!r}"


class Case:
    """One mail with what must come out of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem

    @cached_property
    def raw(self) -> bytes:
        return self.path.read_bytes()

    @cached_property
    def wanted(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path.with_suffix(".json").read_text("utf-8"))
        return found

    def parse(self) -> Message:
        return parse(self.raw, trusted_authserv=self.wanted.get("trusted", ()))

    def differences(self) -> list[Difference]:
        """Where the parser and the `.json` disagree; empty when all is well."""
        message = self.parse()
        found = []
        for field, wanted in self.wanted.items():
            if field not in NOTES:
                got = GETTERS[field](message, wanted)
                if got != wanted:
                    found.append(Difference(field, wanted, got))
        return found


def cases() -> Iterator[Case]:
    """All of them, by name."""
    yield from (Case(path) for path in sorted(MAIL.glob("*.eml")))


# -- what is read of a message, in the form that the .json has ---------------------------------------------------------

NOTES = frozenset(("about", "trusted"))
"""Keys that are not compared."""


def _person(address: Address | None) -> list[str] | None:
    return None if address is None else [address.name, address.email]


def _lines(text: str | None) -> list[str] | None:
    """A text as its lines; one line end at the very end does not count."""
    if text is None:
        return None
    return text.removesuffix("\n").split("\n") if text else []


def _attachment(attachment: Attachment, wanted: dict[str, Any]) -> dict[str, Any]:
    content = attachment.content or b""
    every = {
        "name": attachment.name,
        "type": attachment.content_type,
        "size": attachment.size,
        "inline": attachment.inline,
        "content_id": attachment.content_id,
        "content": content.decode("utf-8", "replace"),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return {key: value for key, value in every.items() if key in wanted or key in ("name", "type", "size")}


def _attachments(message: Message, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    padded = [*wanted, *({} for _ in range(len(message.attachments) - len(wanted)))]
    return [_attachment(one, about) for one, about in zip(message.attachments, padded, strict=False)]


def _message_id(message: Message, _: object) -> str | None:
    return None if message.message_id.endswith(f"@{MISSING_DOMAIN}>") else message.message_id


def _bounce(message: Message, _: object) -> dict[str, Any] | None:
    if message.bounce is None:
        return None
    recipients = [[one.email, one.action, one.status] for one in message.bounce.recipients]
    return {"message_id": message.bounce.message_id, "recipients": recipients}


def _some(attribute: str) -> Callable[[Message, Any], Any]:
    """The fields of a value of the message that the .json names."""

    def read(message: Message, wanted: Any) -> Any:
        found = getattr(message, attribute)
        if found is None or wanted is None:
            return None if found is None else found.model_dump(mode="json")
        return {key: value for key, value in found.model_dump(mode="json").items() if key in wanted}

    return read


GETTERS: dict[str, Callable[[Message, Any], Any]] = {
    "message_id": _message_id,
    "other_ids": lambda m, _: list(m.other_ids),
    "in_reply_to": lambda m, _: list(m.in_reply_to),
    "references": lambda m, _: list(m.references),
    "references_count": lambda m, _: len(m.references),
    "subject": lambda m, _: m.subject,
    "from": lambda m, _: _person(m.sender),
    "to": lambda m, _: [_person(one) for one in m.to],
    "cc": lambda m, _: [_person(one) for one in m.cc],
    "reply_to": lambda m, _: [_person(one) for one in m.reply_to],
    "date": lambda m, _: m.sent_at and m.sent_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "text": lambda m, _: _lines(m.text),
    "html": lambda m, _: _lines(m.html),
    "html_as_text": lambda m, _: _lines(html_to_text(m.html or "")),
    "new_text": lambda m, _: _lines(m.new_text),
    "attachments": _attachments,
    "headers": lambda m, wanted: {name: m.header(name) for name in wanted},
    "thread_index": lambda m, _: m.thread_index,
    "thread_topic": lambda m, _: m.thread_topic,
    "automated": lambda m, _: m.automated,
    "bounce": _bounce,
    "auth": _some("auth"),
    "invitation": _some("invitation"),
    "defects": lambda m, _: list(m.defects),
}
