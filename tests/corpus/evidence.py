"""What the rules look at: the bytes of a mail, and what the stdlib would have said without one of its faults."""

from __future__ import annotations

import base64
import email.message
import quopri
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

from agentmail.message.characters import clean
from agentmail.message.filenames import safe_name
from agentmail.message.identifiers import MISSING_DOMAIN
from agentmail.message.text import html_to_text

from . import stdlib
from .pair import Pair
from .stdlib import Raised

IDS = ("message_id", "in_reply_to", "references")
PEOPLE = ("from", "to", "cc")
_HEADERS = (*IDS, *PEOPLE, "subject", "date")
BODIES = ("text", "html")
ALL = (*_HEADERS, *BODIES, "attachments")


def letters(text: str) -> str:
    """Letters and digits alone: equal when two readings differ in blanks, quotes, controls and unseen characters."""
    return "".join(c for c in unicodedata.normalize("NFKC", text) if c.isalnum())


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def is_8bit(text: str) -> bool:
    return any("\udc80" <= c <= "\udcff" for c in text)


def text_of_8bit(text: str) -> str:
    """What RFC 6532 says that raw bytes in a header are; Windows-1252, as everybody reads them, when they are not."""
    data = _bytes(text)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


_WORD = re.compile(r"=\?([^?*\s]+)(?:\*[^?\s]*)?\?([bq])\?(.*?)\?=", re.IGNORECASE)
_SUPERSETS = {
    "iso-8859-1": "cp1252", "us-ascii": "utf-8", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932",
    "euc-kr": "cp949", "iso-8859-8-i": "iso8859_8", "iso-2022-jp": "iso2022_jp_ext", "big5": "cp950",
}  # fmt: skip


def same_people(mine: Any, other: Any) -> bool:
    return [email for _, email in mine] == [email for _, email in other]


def named_alike(mine: Any, other: Any) -> bool:
    return same_people(mine, other) and all(
        letters(a) == letters(b) for (a, _), (b, _) in zip(mine, other, strict=True)
    )


def nobody(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    if isinstance(other, Raised):
        return False
    return mine == [one for one in other if any(one)] or (not mine and "@" not in stripped(pair.value(field)))


def stated(mine: Any) -> list[Any]:
    return [one for one in mine if one[1]]


def emails_stand_there(pair: Pair, field: str, mine: Any) -> bool:
    """Every address of ours stands in the header, letter for letter but for blanks and comments."""
    there = letters(" ".join(text_of_8bit(stripped(value)) for value in pair.values(field)))
    return bool(mine) and all(letters(stripped(where)) in there for _, where in mine)


_COMMENT = re.compile(r"\([^()]*\)")


def stripped(text: str) -> str:
    while (without := _COMMENT.sub("", text)) != text:
        text = without
    return text


def _lines(text: str | None) -> str:
    return (text or "").replace("\r\n", "\n").replace("\r", "\n")


# -- the rules --------------------------------------------------------------------------------------------------------


def ids_stand_there(pair: Pair, field: str, mine: Any) -> bool:
    value = pair.value(field)
    there = (
        letters(value)
        + letters(_read_words(text_of_8bit(value)))
        + letters(text_of_8bit(value))
        + letters(stripped(value))
    )
    found = [mine] if isinstance(mine, str) else mine
    if not found:
        return re.search(r"<[^<>\s]+@[^<>\s]+>", value) is None
    return "=?" in value or all(letters(one) in there for one in found)


def id_once(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    own = {pair.message.message_id, *pair.message.other_ids}
    said = dict.fromkeys([*other, *re.findall(r"<[^<>\s]*>", pair.value(field))])
    return field != "message_id" and mine == [one for one in said if one not in own and re.fullmatch(r"<[^<>]*>", one)]


def synthetic(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    return field == "message_id" and mine.endswith(f"@{MISSING_DOMAIN}>") and not re.search(r"[^<>@\s]@[^<>@\s]", other)


def tidy_header(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    return isinstance(other, str) and " ".join(_printable(other).split()) == " ".join(mine.split())


def _printable(text: str) -> str:
    return "".join(
        " " if c in "\t\r\n\x0b\x0c\x85\u2028\u2029" else c
        for c in text
        if c in "\t\r\n\x0b\x0c\x85\u2028\u2029" or unicodedata.category(c) != "Cc"
    )


def words(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    """Encoded words read leniently, in the charsets that they really are in: then the letters are the same."""
    value = pair.value(field)
    if "=?" not in value:
        return False
    read = letters(_read_words(text_of_8bit(value)))
    said = [mine] if isinstance(mine, str) else [who for who, _ in mine if who]
    if field != "subject" and not (isinstance(other, Raised) or same_people(mine, other)):
        return False
    return "unknown-charset" in pair.defects or all(letters(one) in read for one in said)


def _read_words(value: str) -> str:
    out, pending, charset, position = [], b"", "", 0
    for match in _WORD.finditer(value):
        label, kind, text = match[1].lower(), match[2].lower(), match[3]
        data = quopri.decodestring(text.replace("_", " ").encode("utf-8", "replace")) if kind == "q" else _base64(text)
        between = value[position : match.start()]
        if pending and (between.strip() or label != charset):
            out.append(_in_charset(pending, charset))
            pending = b""
        if not pending or between.strip():
            out.append(between)
        pending, charset, position = pending + data, label, match.end()
    return "".join([*out, _in_charset(pending, charset), value[position:]])


def _base64(text: str) -> bytes:
    digits = re.sub("[^A-Za-z0-9+/]", "", text)
    return base64.b64decode(digits[: len(digits) - (len(digits) % 4 == 1)] + "==")


def _in_charset(data: bytes, label: str) -> str:
    for codec in (_SUPERSETS.get(label, label), "utf-8"):
        try:
            return data.decode(codec)
        except (LookupError, UnicodeError, ValueError):
            pass
    return data.decode("cp1252", "replace")


DATE = re.compile(r"(?:\w{3,9},? )?\d{1,2} \w{3,9} \d{2,4} \d\d?:\d\d(?::\d\d)?(?: (?:[+-]\d{4}|\w{1,5}))?")


def century(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    if not (isinstance(mine, str) and isinstance(other, str)):
        return False
    (year, rest), (their_year, their_rest) = mine.split("-", 1), other.split("-", 1)
    return rest == their_rest and int(year) - int(their_year) in (-100, 1900)


def date_forms(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    """Without comments, odd blanks and dots, a leap second and a GMT before the offset the stdlib says the same; or
    it is ISO 8601."""
    value = stripped(pair.values("date")[0]) if pair.values("date") else ""
    value = re.sub(r"\s*:\s*", ":", " ".join(value.split())).strip(": ")
    if re.match(r"\d{4}-\d\d-\d\d", value):
        return True
    value = re.sub(r"([A-Za-z]{3})(?:\.| (?=,))", r"\1", re.sub(r":60\b", ":59", value))
    fixed = pair.email.__class__()
    fixed["Date"] = re.sub(r"(:\d\d) ?(?:GMT|UTC|UT|Z)? ?([+-]\d\d):?(\d\d)$", r"\1 \2\3", value)
    return bool(stdlib.read(fixed.as_bytes())["date"] == mine)


def shown_elsewhere(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    """What the stdlib takes for the text stands in one of our attachments."""
    wanted = letters(other) if isinstance(other, str) else ""
    return bool(wanted) and any(
        wanted in letters((one.content or b"").decode("utf-8", "replace")) for one in pair.message.attachments
    )


def several(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    if not isinstance(other, str) or not mine:
        return False
    return any(read(other) and read(other) in read(mine) != read(other) for read in (letters, plain_letters))


def from_html(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    html = pair.message.html
    return (
        not _lines(other if isinstance(other, str) else "").strip() and html is not None and mine == html_to_text(html)
    )


def line_ends(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    return not isinstance(other, Raised) and _lines(mine) == _lines(other)


def flowed(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    flowed = any(str(part.get_param("format", "")).lower() == "flowed" for part in pair.leaves)
    return flowed and isinstance(other, str) and letters(mine) == letters(other)


def plain_letters(text: str) -> str:
    return "".join(c for c in text if c.isascii() and c.isalnum())


def visible(text: str) -> str:
    return clean(text)[0]


def defect(*codes: str) -> Callable[[Pair, str, Any, Any], bool]:
    def explains(pair: Pair, field: str, mine: Any, other: Any) -> bool:
        return bool(pair.defects & set(codes))

    return explains


def redecoded(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    """A text of the stdlib's, decoded by what its label really means, says what ours says."""
    wanted = letters(mine or "")
    for part in pair.leaves:
        data: Any = part.get_payload(decode=True) or b""
        label = str(part.get_param("charset", "") or "").partition("(")[0].strip(" \"'").lower()
        meta = re.search(rb"charset=[\"']?([\w-]+)", data)
        for codec in (_SUPERSETS.get(label, label), meta[1].decode() if meta else "", "utf-8", "cp1252", "cp874"):
            try:
                text = data.decode(codec, "replace") if codec else ""
            except (LookupError, ValueError):
                continue
            if (wanted and letters(text) == wanted) or (field == "text" and letters(html_to_text(text)) == wanted):
                return True
    return False


def encodings(pair: Pair) -> set[str]:
    return {str(part.get("Content-Transfer-Encoding", "")).strip().lower() for part in pair.email.walk()}


ENCODINGS = ("base64", "quoted-printable", "x-uuencode", "uuencode", "uue", "x-uue")


_PARAMETERS = re.compile(
    r"\s*[\w.+-]+(?:/[\w.+-]+)?\s*(?:;\s*[\w*-]+\s*=\s*(?:\"(?:[^\"\\]|\\[\"\\])*\"|[^\s\";=]+)\s*)*;?\s*"
)


def odd_parameters(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    names = ("content-type", "content-disposition")
    said = [str(v) for part in pair.email.walk() for k, v in part.raw_items() if k.lower() in names]
    return any(not _PARAMETERS.fullmatch(one) or re.search(r"\*=(?![^;]*'[^;]*')", one) for one in said)


def blanks_at_end(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    def bare(text: str | None) -> list[str]:
        return [line.rstrip(" \t") for line in _lines(text).split("\n")]

    return "quoted-printable" in encodings(pair) and isinstance(other, str) and bare(mine) == bare(other)


def _entries(pair: Pair) -> Iterator[tuple[str, str, int | None]]:
    """The files as the stdlib has them, but a message inside is one file, whatever stands in it."""

    def walk(part: email.message.Message) -> Iterator[tuple[str, str, int | None]]:
        kind = part.get_content_type()
        if part.is_multipart() and not kind.startswith("message/"):
            for inside in part.get_payload():
                yield from walk(inside)  # type: ignore[arg-type]
        elif part.is_multipart():
            yield _filename(part), kind, None
        elif stdlib._attached(part) or kind not in (
            "text/plain",
            "text/html",
            "text/markdown",
            "text/enriched",
            "text/richtext",
        ):
            yield _filename(part), kind, len(part.get_payload(decode=True) or b"")

    yield from walk(pair.email)


_FILENAME = re.compile(r"\bfilename=(?:\"([^\"]*)\"?|([^;\r\n]*))", re.IGNORECASE)
_EXTENDED = re.compile(r"\bfilename\*=utf-8''([^;\r\n]+)", re.IGNORECASE)


def _filename(part: email.message.Message) -> str:
    """The name as the stdlib gives it, but for bytes outside of ASCII and for the form that RFC 6266 4.3 puts first."""
    disposition = next((str(v) for k, v in part.raw_items() if k.lower() == "content-disposition"), "")
    extended, plain = _EXTENDED.search(disposition), _FILENAME.search(disposition)
    if extended:
        return unquote(extended[1])
    if plain and is_8bit(disposition):
        return text_of_8bit(plain[1] or plain[2] or "")
    try:
        return _read_words((part.get_filename() or "").lstrip('"'))
    except (UnicodeError, LookupError):
        return ""


def files(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    """The same files: names made safe, or given where there was none; a message inside is one file."""
    theirs = list(_entries(pair))
    own = [one for one in mine if one[0] != "list-footer.txt"]
    return len(own) == len(theirs) and all(
        kind == their_kind
        and their_size in (size, None)
        and (not their_name or name == safe_name(their_name, kind, number))
        for number, ((name, kind, size), (their_name, their_kind, their_size)) in enumerate(
            zip(own, theirs, strict=True)
        )
    )


def without(*types: str) -> Callable[[Pair, str, Any, Any], bool]:
    def explains(pair: Pair, field: str, mine: Any, other: Any) -> bool:
        return bool({part.get_content_type() for part in pair.email.walk()} & set(types))

    return explains
