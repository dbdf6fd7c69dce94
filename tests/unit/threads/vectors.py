"""The thread vectors as messages: facts of other programs and real mail, in one neutral form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentmail.message.models import Message
from agentmail.message.parse import parse

FOLDER = Path(__file__).parents[2] / "vectors" / "threads"


@dataclass(frozen=True)
class Vector:
    name: str
    algorithm: str
    keys: tuple[str, ...]
    messages: tuple[Message, ...]
    aliases: tuple[tuple[str, ...], ...]
    """Per message the ids it is known by beside its header."""
    threads: frozenset[frozenset[str]] | None
    parents: dict[str, str | None]


def load(path: Path) -> Vector:
    given = json.loads(path.read_text("utf-8"))
    expected = given["expected"]
    return Vector(
        given["name"], given["algorithm"], tuple(m["key"] for m in given["messages"]),
        tuple(parse(raw(m)) for m in given["messages"]),
        tuple(tuple(filter(None, [m.get("sent_as")])) for m in given["messages"]),
        frozenset(frozenset(t) for t in expected["threads"]) if expected.get("threads") else None,
        expected.get("parents") or {},
    )  # fmt: skip


def raw(fields: dict[str, Any]) -> bytes:
    """The mail that these fields came from: they are header values as they stood, folds included."""
    headers: list[tuple[str, str | None]] = [
        ("Message-ID", fields["id"]), *(("Message-ID", i) for i in fields.get("extra_message_id", ())),
        ("In-Reply-To", fields["in_reply_to"]), *(("In-Reply-To", i) for i in fields.get("extra_in_reply_to", ())),
        ("References", fields["references"]), *(("References", i) for i in fields.get("extra_references", ())),
        ("Subject", fields["subject"]), ("Date", fields["date"]), ("From", fields["from"]), ("To", fields["to"]),
        ("Thread-Index", fields.get("thread_index")), ("Thread-Topic", fields.get("thread_topic")),
    ]  # fmt: skip
    lines = "".join(f"{name}: {value}\n" for name, value in headers if value is not None)
    return (lines + f"\n{fields['key']}\n").replace("\n", "\r\n").encode("utf-8", "surrogateescape")


def every() -> list[Path]:
    return sorted(p for p in FOLDER.glob("*.json") if not p.name.startswith("_"))
