"""Bytes to Message: liberal in everything, and bounded in everything. It never raises.

What was missing, cut or repaired is named in `Message.defects`; the codes are listed in docs/reference/defects.md.
The work is done by the modules beside this one: `headers` finds the fields, `mime` the parts, `words`, `charsets` and
`transfer` decode, `addresses`, `dates` and `identifiers` read what stands in single headers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

from . import headers, mime
from .addresses import MAX_ADDRESSES, read_addresses, read_usual
from .auth import verdict
from .automated import judge
from .bodies import MAX_TEXT
from .dates import read_date
from .filenames import safe_name
from .identifiers import MAX_IDS, MISSING_DOMAIN, find_ids, is_id
from .models import Address, Message
from .text import html_to_text, read, text_of
from .words import decode_words, one_line

__all__ = ["MAX_TEXT", "parse", "safe_name"]

_MAX_REPEATS = 20
"""Headers of one name that are read, where one is allowed."""
_EMPTY = dict(Message())
_REST = {name: value for name, value in _EMPTY.items() if name != "text"}
"""What stands in a Message when the mail says nothing of it; copied, which is three times as fast as a display."""
_SINGLE = frozenset(("from", "subject", "date", "message-id", "to", "cc", "in-reply-to", "references", "reply-to"))
_FURTHER = ("x-google-original-message-id", "x-microsoft-original-message-id")
_MAX_CONVERTED = 200_000
"""Bytes of a mail that is read with its line ends made shorter beforehand: below all limits that count bytes."""


def parse(raw: bytes, *, received_at: datetime | None = None, trusted_authserv: Collection[str] = ()) -> Message:
    """The message that these bytes are. Any bytes are a message; at worst everything in it is empty.

    Args:
        received_at: When the server took it in (aware), if known.
        trusted_authserv: Names under which your own mail server writes Authentication-Results (RFC 8601 5); without
            them `auth` is None, because anybody can write that header.
    """
    raw = raw if type(raw) is bytes else bytes(raw)
    defects: set[str] = set()
    try:
        fields = _read(raw, defects, trusted_authserv)
    except Exception:  # noqa: BLE001  the last net of law 3; a test and the fuzzer hold that nothing falls into it
        defects.add("unreadable")
        fields = {**_EMPTY, "message_id": _synthetic(raw)}
    if defects:
        fields["defects"] = tuple(sorted(defects))
    fields["size"] = len(raw)
    if received_at is not None:
        fields["received_at"] = received_at.astimezone(UTC)
    return Message.unchecked(fields)


def _read(raw: bytes, defects: set[str], trusted: Collection[str]) -> dict[str, Any]:
    crlf = False
    first = raw.find(b"\n")
    if first < 0:
        if 13 in raw:
            raw = raw.replace(b"\r", b"\n")
            defects.add("bare-cr")
    elif first > 1 and raw[first - 1] == 13 and len(raw) <= _MAX_CONVERTED:
        short = _with_lf(raw)
        if short is not None:
            raw, crlf = short, True
    block = headers.read(raw, 0, len(raw), defects, outermost=True)
    given = block.by_name
    if len(given) < len(block.fields):
        _repeats(given, defects)
    shown = tuple(block.fields) if block.clean else _shown(block)

    sender = _people(given.get("from"), defects)
    if not sender:
        defects.add("no-sender")
    dates = given.get("date")
    sent_at = read_date(dates[0]) if dates else None
    if sent_at is None:
        defects.add("bad-date" if dates else "no-date")

    content = mime.Content(raw, defects, crlf=crlf)
    segments = content.read(given, block.body, len(raw))
    html = _page(segments, defects)
    bare = html is not None and len(segments) == 1 and segments[0].plain is None
    message_id, other_ids, in_reply_to, references = _ids(given, defects)
    subject = _first(given, "subject", defects)

    fields: dict[str, Any] = _REST.copy()
    fields["message_id"] = message_id
    fields["other_ids"] = other_ids
    fields["in_reply_to"] = in_reply_to
    fields["references"] = references
    fields["subject"] = subject
    if sender:
        fields["sender"] = sender[0]
    fields["to"] = _people(given.get("to"), defects)
    if "cc" in given:
        fields["cc"] = _people(given["cc"], defects)
    if "reply-to" in given:
        fields["reply_to"] = _people(given["reply-to"], defects)
    fields["sent_at"] = sent_at
    fields["html"] = html
    if content.attachments:
        fields["attachments"] = tuple(content.attachments)
    fields["headers"] = shown
    if trusted:
        fields["auth"] = _verdict(block.fields, sender, given, trusted)
    fields["invitation"] = content.invitation
    if "thread-index" in given:
        fields["thread_index"] = "".join(_first(given, "thread-index", defects).split())[:4_000] or None
    if "thread-topic" in given:
        fields["thread_topic"] = _first(given, "thread-topic", defects) or None
    if not bare:
        fields["text"] = _text(segments, defects)

    def text() -> str:
        # HTML alone becomes text when somebody asks for it, which few do for most mails.
        if "text" not in fields:
            fields["text"] = text_of(read(html or ""))
        return str(fields["text"])

    if not message_id:
        fields["message_id"] = _synthetic_for(given, subject, text() or html or "")
    decode = None if block.clean else decode_words
    fields["automated"], fields["bounce"] = judge(given, shown, content.attachments, text, decode)
    return fields


def _with_lf(raw: bytes) -> bytes | None:
    """The mail with LF at the ends of its lines, when it has CRLF at each of them, as on the wire; else None.

    Three passes in C that look for one byte cost a tenth of what two kinds of line end cost everywhere below.
    Nothing is lost: the way back is exact, and attachments go it.
    """
    short = raw.replace(b"\r", b"")
    return short if short.replace(b"\n", b"\r\n") == raw else None


def _repeats(given: Mapping[str, Sequence[str]], defects: set[str]) -> None:
    """Name what stands more than once and may not."""
    for name, values in given.items():
        if len(values) > 1:
            if name in _SINGLE:
                defects.add(f"repeated-{name}")
            elif name == "content-type" and any(value != values[0] for value in values):
                defects.add("two-content-types")


# -- headers ----------------------------------------------------------------------------------------------------------


def _shown(block: headers.Block) -> tuple[tuple[str, str], ...]:
    printable = block.printable
    return tuple([
        field if "=?" not in field[1] and (printable or field[1].isprintable()) else (field[0], decode_words(field[1]))
        for field in block.fields
    ])  # fmt: skip


def _first(given: Mapping[str, Sequence[str]], name: str, defects: set[str]) -> str:
    values = given.get(name)
    return decode_words(values[0], defects) if values else ""


def _people(values: Sequence[str] | None, defects: set[str]) -> tuple[Address, ...]:
    if not values:
        return ()
    if len(values) == 1:
        value = values[0]
        if len(value) <= _MAX_REMEMBERED:
            if ", " not in value:
                person = _usual_person(value)
                if person is not None:
                    return (person,)
            people, wrong = _remembered(value)
        else:
            people, wrong = _addresses(value)
    else:
        read = [_addresses(value) for value in values[:_MAX_REPEATS]]
        people = tuple(address for some, _ in read for address in some)
        wrong = tuple(code for _, some in read for code in some)
        if len(people) > MAX_ADDRESSES:
            people, wrong = people[:MAX_ADDRESSES], (*wrong, "too-many-addresses")
    if wrong:
        defects.update(wrong)
    return people


def _addresses(value: str) -> tuple[tuple[Address, ...], tuple[str, ...]]:
    if len(value) <= _MAX_LIST:
        people: list[Address] = []
        for one in value.split(", "):
            person = _usual_person(one) if len(one) <= _MAX_REMEMBERED else None
            if person is None:
                break
            people.append(person)
        else:
            return tuple(people), ()
    found, wrong = read_addresses(value)
    return tuple([Address.unchecked({"name": one.name, "email": one.email}) for one in found]), tuple(wrong)


_MAX_LIST = 2_000
"""Characters of a list of addresses that is looked at one by one; there are no MAX_ADDRESSES in them."""
_MAX_REMEMBERED = 300


@lru_cache(maxsize=4_096)
def _usual_person(value: str) -> Address | None:
    """The address that a piece between two commas surely is, else None. The same people write again and again."""
    found = read_usual(value)
    return None if found is None else Address.unchecked({"name": found.name, "email": found.email})


_remembered = lru_cache(maxsize=2_048)(_addresses)


def _ids(
    given: Mapping[str, list[str]], defects: set[str]
) -> tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """`(own id or "", further ids, In-Reply-To, References)`, the last two without the message's own ids."""
    values = given.get("message-id")
    own: list[str] = []
    if values is None:
        defects.add("no-message-id")
    elif len(values) == 1 and is_id(values[0]):
        own = values[:1]
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
    for name in _FURTHER:
        if name in given:
            for value in given[name][:_MAX_REPEATS]:
                own += find_ids(value, "own").ids
    others = tuple([one for one in dict.fromkeys(own) if one != message_id])[:MAX_IDS] if len(own) > 1 else ()
    in_reply_to = _mentioned(given["in-reply-to"], "in-reply-to", own, defects) if "in-reply-to" in given else ()
    references = _mentioned(given["references"], "references", own, defects) if "references" in given else ()
    return message_id, others, in_reply_to, references


def _mentioned(
    values: Sequence[str], kind: Literal["in-reply-to", "references"], own: Sequence[str], defects: set[str]
) -> tuple[str, ...]:
    if len(values) == 1 and is_id(values[0]) and values[0] not in own:
        return (values[0],)
    found = find_ids(values[0] if len(values) == 1 else " ".join(values[:_MAX_REPEATS]), kind)
    if found.cut:
        defects.add("too-many-references")
    ids = found.ids
    if not ids and found.bare:
        ids = found.bare
        defects.add("bare-reference")
    if any(one in ids for one in own):
        defects.add("self-reference")
        ids = tuple(one for one in ids if one not in own)
    return ids


def _verdict(
    fields: Sequence[tuple[str, str]],
    sender: Sequence[Address],
    given: Mapping[str, Sequence[str]],
    trusted: Collection[str],
) -> Any:
    alone = len(sender) == 1 and len(given["from"]) == 1
    domain = sender[0].email.rpartition("@")[2].lower() if alone else ""
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


def _page(segments: Sequence[mime.Segment], defects: set[str]) -> str | None:
    """The HTML or None: parts that a mail shows one below the other are one page."""
    if len(segments) == 1:
        page = segments[0].html
    else:
        pages = [segment.html for segment in segments if segment.html is not None]
        page = "\n".join(pages) if pages else None
    if page is None:
        return None
    if len(page) > MAX_TEXT:
        defects.add("text-cut")
        page = page[:MAX_TEXT]
    return page


def _text(segments: Sequence[mime.Segment], defects: set[str]) -> str:
    """The text to read: text parts that a mail shows one below the other are one text."""
    if len(segments) == 1 and segments[0].html is None and len(segments[0].plain or "") <= MAX_TEXT:
        return segments[0].plain or ""
    texts: list[str] = []
    for plain, html in segments:
        if plain is not None and (html is None or (plain and not plain.isspace())):
            texts.append(plain)
        elif html is not None:
            texts.append(html_to_text(html[:MAX_TEXT]))
    text = texts[0] if len(texts) == 1 else "\n".join(one for one in texts if one)
    if len(text) > MAX_TEXT:
        defects.add("text-cut")
        text = text[:MAX_TEXT]
    return text
