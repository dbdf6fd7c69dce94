"""Bytes to Message: liberal in everything, and bounded in everything. It never raises.

What was missing, cut or repaired is named in `Message.defects`; the codes are listed in docs/reference/defects.md.
The work is done by the modules beside this one: `headers` finds the fields, `mime` the parts, `words`, `charsets` and
`transfer` decode, `addresses`, `dates` and `identifiers` read what stands in single headers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from . import headers, mime
from .addresses import MAX_ADDRESSES, Parsed, read_addresses
from .auth import verdict
from .automated import classify
from .dates import read_date
from .filenames import safe_name
from .identifiers import MAX_IDS, MISSING_DOMAIN, find_ids
from .mime import MAX_TEXT
from .models import Message
from .text import html_to_text
from .words import decode_words, one_line

__all__ = ["MAX_TEXT", "parse", "safe_name"]

_MAX_REPEATS = 20
"""Headers of one name that are read, where one is allowed."""
_WANTED = frozenset(
    (
        *("from", "to", "cc", "reply-to", "subject", "date", "message-id", "in-reply-to", "references"),
        *("content-type", "content-transfer-encoding", "content-disposition", "content-id"),
        *("thread-index", "thread-topic", "x-google-original-message-id", "x-microsoft-original-message-id"),
    )
)
_SINGLE = frozenset(("from", "subject", "date", "message-id", "to", "cc", "in-reply-to", "references", "reply-to"))


def parse(raw: bytes, *, received_at: datetime | None = None, trusted_authserv: Collection[str] = ()) -> Message:
    """The message that these bytes are. Any bytes are a message; at worst everything in it is empty.

    Args:
        received_at: When the server took it in (aware), if known.
        trusted_authserv: Names under which your own mail server writes Authentication-Results (RFC 8601 5); without
            them `auth` is None, because anybody can write that header.
    """
    raw = bytes(raw)
    defects: set[str] = set()
    try:
        fields = _read(raw, defects, trusted_authserv)
    except Exception:  # noqa: BLE001  the last net of law 3; a test and the fuzzer hold that nothing falls into it
        defects.add("unreadable")
        fields = {"message_id": _synthetic(raw)}
    fields["defects"] = tuple(sorted(defects))
    fields["size"] = len(raw)
    if received_at is not None:
        fields["received_at"] = received_at.astimezone(UTC)
    return Message.model_validate(fields)


def _read(raw: bytes, defects: set[str], trusted: Collection[str]) -> dict[str, Any]:
    if b"\n" not in raw and b"\r" in raw:
        raw = raw.replace(b"\r", b"\n")
        defects.add("bare-cr")
    block = headers.read(raw, 0, len(raw), defects, outermost=True)
    given: dict[str, list[str]] = {}
    for name, value in block.fields:
        lower = name.lower()
        if lower in _WANTED:
            if lower not in given:
                given[lower] = [value]
            else:
                given[lower].append(value)
                if lower in _SINGLE:
                    defects.add(f"repeated-{lower}")
                elif lower == "content-type" and value != given[lower][0]:
                    defects.add("two-content-types")
    shown = block.fields if block.clean else [(name, _shown(value)) for name, value in block.fields]

    sender, to, cc, reply_to = (_people(given.get(name), defects) for name in ("from", "to", "cc", "reply-to"))
    if not sender:
        defects.add("no-sender")
    dates = given.get("date")
    sent_at = read_date(dates[0]) if dates else None
    if sent_at is None:
        defects.add("bad-date" if dates else "no-date")

    content = mime.Content(raw, defects)
    first = {name: values[0] for name, values in given.items() if name[:8] == "content-"}
    text, html = _joined(content.read(first, block.body, len(raw)), defects)
    subject = _first(given, "subject", defects)
    message_id, other_ids, in_reply_to, references = _ids(given, defects)
    if not message_id:
        message_id = _synthetic_for(given, subject, text or html or "")
    automated, bounce = classify(shown, content.attachments, text)
    return {
        "message_id": message_id,
        "other_ids": other_ids,
        "in_reply_to": in_reply_to,
        "references": references,
        "subject": subject,
        "sender": sender[0]._asdict() if sender else None,
        "to": [one._asdict() for one in to],
        "cc": [one._asdict() for one in cc],
        "reply_to": [one._asdict() for one in reply_to],
        "sent_at": sent_at,
        "text": text,
        "html": html,
        "attachments": content.attachments,
        "headers": shown,
        "thread_index": "".join(_first(given, "thread-index", defects).split())[:4_000] or None,
        "thread_topic": _first(given, "thread-topic", defects) or None,
        "automated": automated,
        "bounce": bounce,
        "auth": _verdict(block.fields, sender, given, trusted) if trusted else None,
        "invitation": content.invitation,
    }


# -- headers ----------------------------------------------------------------------------------------------------------


def _shown(value: str) -> str:
    return decode_words(value) if "=?" in value or not value.isprintable() else value


def _first(given: Mapping[str, Sequence[str]], name: str, defects: set[str]) -> str:
    values = given.get(name)
    return decode_words(values[0], defects) if values else ""


def _people(values: Sequence[str] | None, defects: set[str]) -> list[Parsed]:
    if not values:
        return []
    found: list[Parsed] = []
    for value in values[:_MAX_REPEATS]:
        addresses, wrong = read_addresses(value)
        defects.update(wrong)
        found += addresses
    if len(found) > MAX_ADDRESSES:
        defects.add("too-many-addresses")
    return found[:MAX_ADDRESSES]


def _ids(
    given: Mapping[str, Sequence[str]], defects: set[str]
) -> tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """`(own id or "", further ids, In-Reply-To, References)`, the last two without the message's own ids."""
    values = given.get("message-id")
    own: list[str] = []
    if values is None:
        defects.add("no-message-id")
    else:
        for value in values[:_MAX_REPEATS]:
            found = find_ids(value, "own")
            own += found.ids
            if found.bare:
                defects.add("bare-message-id")
            elif not found.ids:
                defects.add("bad-message-id")
        if not own:
            defects.add("no-message-id")
    message_id = own[0] if own else ""
    # Gmail replaces ids that it does not like, Exchange may: answers may name either.
    for name in ("x-google-original-message-id", "x-microsoft-original-message-id"):
        for value in given.get(name, ())[:_MAX_REPEATS]:
            own += find_ids(value, "own").ids
    mine = set(own)
    others = tuple(one for one in dict.fromkeys(own) if one != message_id)[:MAX_IDS]
    in_reply_to = _mentioned(given.get("in-reply-to"), "in-reply-to", mine, defects)
    references = _mentioned(given.get("references"), "references", mine, defects)
    return message_id, others, in_reply_to, references


def _mentioned(values: Sequence[str] | None, name: str, own: set[str], defects: set[str]) -> tuple[str, ...]:
    if not values:
        return ()
    found = find_ids(values[0] if len(values) == 1 else " ".join(values[:_MAX_REPEATS]),
                     "references" if name == "references" else "in-reply-to")  # fmt: skip
    if found.cut:
        defects.add("too-many-references")
    ids = found.ids
    if not ids and found.bare:
        ids = found.bare
        defects.add("bare-reference")
    if not own.isdisjoint(ids):
        defects.add("self-reference")
        ids = tuple(one for one in ids if one not in own)
    return ids


def _verdict(
    fields: Sequence[tuple[str, str]],
    sender: Sequence[Parsed],
    given: Mapping[str, Sequence[str]],
    trusted: Collection[str],
) -> Any:
    alone = len(sender) == 1 and len(given["from"]) == 1
    domain = sender[0].email.rpartition("@")[2].casefold() if alone else ""
    # Not decoded: an encoded word could spell a trusted server's name after its border looked for it.
    return verdict([(name, one_line(value)) for name, value in fields], trusted, domain)


def _synthetic_for(given: Mapping[str, Sequence[str]], subject: str, text: str) -> str:
    """An id for a message without one: the same for every copy of it, whatever hops added on the way."""
    kept = ["" if name not in given else given[name][0] for name in ("from", "to", "date")]
    body = "\n".join(line.rstrip() for line in text.split("\n")).strip()
    return _synthetic("\0".join([*kept, subject, body]).encode("utf-8", "replace"))


def _synthetic(data: bytes) -> str:
    return f"<{hashlib.sha256(data).hexdigest()[:32]}@{MISSING_DOMAIN}>"


# -- bodies -----------------------------------------------------------------------------------------------------------


def _joined(segments: Sequence[mime.Segment], defects: set[str]) -> tuple[str, str | None]:
    """`(text to read, HTML or None)`: text parts that a mail shows one below the other are one text."""
    texts: list[str] = []
    pages: list[str] = []
    for plain, html in segments:
        if html is not None:
            if len(html) > MAX_TEXT:
                defects.add("text-cut")
            pages.append(html[:MAX_TEXT])
        if plain is not None and (html is None or (plain and not plain.isspace())):
            texts.append(plain)
        elif html is not None:
            texts.append(html_to_text(html[:MAX_TEXT]))
    text = texts[0] if len(texts) == 1 else "\n".join(one for one in texts if one)
    page = pages[0] if len(pages) == 1 else "\n".join(pages) if pages else None
    if len(text) > MAX_TEXT or (page is not None and len(page) > MAX_TEXT):
        defects.add("text-cut")
        text, page = text[:MAX_TEXT], None if page is None else page[:MAX_TEXT]
    return text, page
