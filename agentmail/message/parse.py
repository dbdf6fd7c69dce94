"""Bytes to Message: liberal in everything, and bounded in everything. It never raises.

What was missing, cut or repaired is named in `Message.defects`; the codes are listed in docs/reference/defects.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any

from . import mime
from .addresses import Parsed, read_addresses
from .auth import verdict
from .automated import classify
from .calendar import Invitation, invitation
from .charsets import decode, storable
from .dates import read_date
from .identifiers import MISSING_DOMAIN, find_ids
from .models import Attachment, Message
from .text import html_to_text
from .words import decode_words, one_line, raw_text

MAX_TEXT = 4_000_000
"""Characters of text, and of HTML, that a Message carries; a longer body is cut there. The raw bytes keep the rest."""

_OWN_ID_HEADERS = ("x-google-original-message-id", "x-microsoft-original-message-id")
_SINGLE = frozenset({"from", "subject", "date", "message-id", "to", "cc", "in-reply-to", "references", "reply-to"})
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([A-Za-z0-9_:.-]{2,40})", re.IGNORECASE)
_UNSAFE_NAME = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+')
_DEVICE_NAME = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|\Z)", re.IGNORECASE)
_EXTENSIONS = {
    "text/plain": ".txt", "text/html": ".html", "text/calendar": ".ics", "text/csv": ".csv", "image/png": ".png",
    "image/jpeg": ".jpg", "image/gif": ".gif", "application/pdf": ".pdf", "message/rfc822": ".eml",
    "message/delivery-status": ".txt", "text/rfc822-headers": ".txt", "application/ms-tnef": ".dat",
    "application/json": ".json", "application/zip": ".zip",
}  # fmt: skip


def parse(raw: bytes, *, received_at: datetime | None = None, trusted_authserv: Collection[str] = ()) -> Message:
    """The message that these bytes are. Any bytes are a message; at worst everything in it is empty.

    Args:
        received_at: When the server took it in (aware), if known.
        trusted_authserv: Names under which your own mail server writes Authentication-Results (RFC 8601 5); without
            them `auth` is None, because anybody can write that header.
    """
    defects: set[str] = set()
    try:
        fields = _fields(bytes(raw), defects, trusted_authserv)
    except RecursionError:  # a library that recurses on what a sender wrote; we do not
        defects.add("too-deep")
        fields = {"message_id": _synthetic(bytes(raw))}
    fields["defects"] = tuple(sorted(defects))
    fields["size"] = len(raw)
    if received_at is not None:
        fields["received_at"] = received_at.astimezone(UTC)
    return Message.model_validate(fields)


def _fields(raw: bytes, defects: set[str], trusted: Collection[str]) -> dict[str, Any]:
    headers, body = mime.split_headers(memoryview(raw), defects)
    by_name: dict[str, list[bytes]] = {}
    shown: list[tuple[str, str]] = []
    for name, value in headers:
        lower = name.lower()
        by_name.setdefault(lower, []).append(value)
        text = raw_text(value)
        shown.append((name, one_line(decode_words(text) if "=?" in text else text)))
    for name in _SINGLE:
        if len(by_name.get(name, ())) > 1:
            defects.add(f"repeated-{name}")

    fields: dict[str, Any] = {"headers": tuple(shown)}
    sender = _addresses(by_name, "from", defects)
    people = {name: _addresses(by_name, name, defects) for name in ("to", "cc", "reply-to")}
    fields["sender"] = _address(sender[0]) if sender else None
    fields["to"], fields["cc"], fields["reply_to"] = (
        tuple(_address(p) for p in people[name]) for name in ("to", "cc", "reply-to")
    )
    if not sender:
        defects.add("no-sender")
    fields["subject"] = _first_text(by_name, "subject")
    if date := by_name.get("date"):
        fields["sent_at"] = read_date(raw_text(date[0]))
        if fields["sent_at"] is None:
            defects.add("bad-date")
    else:
        defects.add("no-date")

    root = mime.build(headers, body, defects)
    text, html, attachments, invite = _bodies(root, defects)
    fields["text"], fields["html"], fields["attachments"], fields["invitation"] = text, html, attachments, invite

    _ids(fields, by_name, defects)
    fields["thread_index"] = "".join(_first_text(by_name, "thread-index").split())[:4_000] or None
    fields["thread_topic"] = _first_text(by_name, "thread-topic") or None
    fields["automated"], fields["bounce"] = classify(shown, attachments, text)
    if trusted:
        alone = len(sender) == 1 and len(by_name.get("from", ())) == 1
        domain = sender[0].email.rpartition("@")[2].casefold() if alone else ""
        # Not decoded: an encoded word could spell a trusted server's name after its border looked for it.
        fields["auth"] = verdict([(name, one_line(raw_text(value))) for name, value in headers], trusted, domain)
    return fields


# -- headers


def _first_text(by_name: dict[str, list[bytes]], name: str) -> str:
    values = by_name.get(name)
    if not values:
        return ""
    text = raw_text(values[0])
    return one_line(decode_words(text) if "=?" in text else text)


def _addresses(by_name: dict[str, list[bytes]], name: str, defects: set[str]) -> list[Parsed]:
    found: list[Parsed] = []
    for value in by_name.get(name, ())[:20]:
        text = raw_text(value)
        if "\n" in text or "\r" in text or "\x00" in text:
            text = one_line(text)
        addresses, wrong = read_addresses(text)
        defects.update(wrong)
        found += addresses
    return found[:500]


def _address(parsed: Parsed) -> dict[str, str]:
    return {"name": parsed.name, "email": parsed.email}


def _ids(fields: dict[str, Any], by_name: dict[str, list[bytes]], defects: set[str]) -> None:
    """Own ids, In-Reply-To, References (RFC 5322 3.6.4), each without the message's own id."""
    own: list[str] = []
    for value in by_name.get("message-id", ())[:10]:
        found = find_ids(raw_text(value), "own")
        own += found.ids or found.bare
        if not found.ids and found.bare:
            defects.add("bare-message-id")
        elif not found.ids:
            defects.add("bad-message-id")
    if not own:
        defects.add("no-message-id")
        own = [_synthetic_for(fields)]
    others = own[1:]
    for name in _OWN_ID_HEADERS:
        for value in by_name.get(name, ())[:2]:
            found = find_ids(raw_text(value), "own")
            others += found.ids or found.bare
    fields["message_id"] = own[0]
    fields["other_ids"] = tuple(i for i in dict.fromkeys(others) if i != own[0])
    mine = {own[0], *fields["other_ids"]}
    for key, name in (("in_reply_to", "in-reply-to"), ("references", "references")):
        ids: list[str] = []
        bare: list[str] = []
        for value in by_name.get(name, ())[:10]:
            found = find_ids(raw_text(value), "references" if key == "references" else "in-reply-to")
            ids += found.ids
            bare += found.bare
            if found.cut:
                defects.add("too-many-references")
        if not ids and bare:
            ids = bare
            defects.add("bare-reference")
        if mine & set(ids):
            defects.add("self-reference")
        fields[key] = tuple(i for i in dict.fromkeys(ids) if i not in mine)


def _synthetic_for(fields: dict[str, Any]) -> str:
    """An id for a message without one: the same for every copy of it, whatever hops added on the way."""
    headers = dict(reversed([(name.lower(), value) for name, value in fields["headers"]]))
    kept = [headers.get(name, "") for name in ("from", "to", "date", "subject")]
    text = "\n".join(line.rstrip() for line in (fields["text"] or fields["html"] or "").splitlines()).strip()
    return _synthetic("\0".join([*kept, text]).encode())


def _synthetic(data: bytes) -> str:
    return f"<{hashlib.sha256(data).hexdigest()[:32]}@{MISSING_DOMAIN}>"


# -- bodies


def _leaves(root: mime.Part) -> Iterator[tuple[mime.Part, bool]]:
    """Parts that hold something, in the order of the document, and whether one of several readings (alternative)."""
    waiting = [(root, False)]
    while waiting:
        part, alternative = waiting.pop()
        if part.is_multipart:
            inside = part.content_type == "multipart/alternative" or alternative
            waiting.extend((child, inside) for child in reversed(part.children))
        else:
            yield part, alternative


def _bodies(root: mime.Part, defects: set[str]) -> tuple[str, str | None, tuple[Attachment, ...], Invitation | None]:
    """The text to read, the HTML, everything else.

    Text parts that a mail shows one below the other (a list's footer, the text around Apple's images) are joined.
    """
    texts: list[str] = []
    pages: list[str] = []
    attachments: list[Attachment] = []
    invite: Invitation | None = None
    for part, _ in _leaves(root):
        kind = part.content_type
        if kind in {"text/plain", "text/html"} and part.disposition != "attachment" and not part.filename:
            content = mime.decoded(part, defects)
            if kind == "text/plain":
                texts.append(_text(content, part, defects))
            else:
                pages.append(_page(content, part, defects))
            continue
        content = mime.decoded(part, defects)
        if kind == "text/calendar" and invite is None:
            invite = invitation(content, part.parameters.get("method"))
        attachments.append(_attachment(part, content, len(attachments)))
    html = "\n".join(pages) if pages else None
    text = "\n".join(t for t in texts if t) if texts else ""
    if len(text) > MAX_TEXT or (html is not None and len(html) > MAX_TEXT):
        defects.add("text-cut")
        text, html = text[:MAX_TEXT], html and html[:MAX_TEXT]
    if html is not None and not text.strip():
        text = html_to_text(html)
    return text, html, tuple(attachments), invite


def _text(content: bytes, part: mime.Part, defects: set[str]) -> str:
    text, wrong = decode(content, part.parameters.get("charset"))
    if wrong:
        defects.add(wrong)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if part.parameters.get("format", "").lower() == "flowed":
        text = _unflowed(text, delete_space=part.parameters.get("delsp", "").lower() == "yes")
    return text


def _unflowed(text: str, *, delete_space: bool) -> str:
    """Join the lines that a sender broke softly (RFC 3676 4)."""
    out: list[str] = []
    open_depth: int | None = None  # of the paragraph that the next line may continue
    for line in text.split("\n"):
        depth = len(line) - len(line.lstrip(">"))
        content = line[depth:].removeprefix(" ")  # 4.4: space stuffing
        signature = content == "-- "
        if open_depth == depth and not signature and out:
            out[-1] += content
        else:
            out.append((">" * depth + " " if depth else "") + content)
        flows = content.endswith(" ") and not signature
        if flows and delete_space:
            out[-1] = out[-1][:-1]
        open_depth = depth if flows else None
    return "\n".join(out)


def _page(content: bytes, part: mime.Part, defects: set[str]) -> str:
    charset = part.parameters.get("charset")
    if not charset and (meta := _META_CHARSET.search(content[:4_096])) is not None:
        charset = meta[1].decode("ascii")
    text, wrong = decode(content, charset)
    if wrong:
        defects.add(wrong)
    return text


def _attachment(part: mime.Part, content: bytes, number: int) -> Attachment:
    return Attachment(
        name=safe_name(part.filename, part.content_type, number),
        content_type=part.content_type,
        size=len(content),
        content_id=part.content_id,
        inline=part.disposition == "inline" or (part.content_id is not None and part.disposition != "attachment"),
        content=content,
    )


def safe_name(name: str, content_type: str = "application/octet-stream", number: int = 0) -> str:
    """A file name that stays inside its directory on every system, and shows what it is."""
    text = storable(one_line(name)).replace("\\", "/").rpartition("/")[2]
    text = _UNSAFE_NAME.sub("_", text).strip(" .")
    if len(text) > 150:
        stem, dot, extension = text.rpartition(".")
        text = f"{stem[:130]}.{extension}" if dot and len(extension) <= 16 else text[:150]
    if not text:
        text = f"part-{number + 1}{_EXTENSIONS.get(content_type, '.bin')}"
    return f"_{text}" if _DEVICE_NAME.match(text) else text
