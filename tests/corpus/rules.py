"""Why ours and the stdlib's reading of a mail may differ: `RULES`, each with its reason and a look for proof.

A rule is not "they differ": it looks at the bytes, or works out what the stdlib would have said without that one
fault. The first that explains a difference counts, so what is narrow stands before what is wide.
"""

from __future__ import annotations

import base64
import email.message
import quopri
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from email.errors import MissingHeaderBodySeparatorDefect
from typing import Any, NamedTuple
from urllib.parse import unquote

from agentmail.message.characters import clean
from agentmail.message.filenames import safe_name
from agentmail.message.identifiers import MAX_IDS, MISSING_DOMAIN
from agentmail.message.text import html_to_text

from . import stdlib
from .pair import Pair
from .stdlib import Raised

_IDS = ("message_id", "in_reply_to", "references")
_PEOPLE = ("from", "to", "cc")
_HEADERS = (*_IDS, *_PEOPLE, "subject", "date")
_BODIES = ("text", "html")
_ALL = (*_HEADERS, *_BODIES, "attachments")


class Rule(NamedTuple):
    name: str
    fields: Sequence[str]
    why: str
    explains: Callable[[Pair, str, Any, Any], bool]


# -- what the rules look at -------------------------------------------------------------------------------------------


def _letters(text: str) -> str:
    """Letters and digits alone: equal when two readings differ in blanks, quotes, controls and unseen characters."""
    return "".join(c for c in unicodedata.normalize("NFKC", text) if c.isalnum())


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _is_8bit(text: str) -> bool:
    return any("\udc80" <= c <= "\udcff" for c in text)


def _8bit_text(text: str) -> str:
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


def _same_people(mine: Any, other: Any) -> bool:
    return [email for _, email in mine] == [email for _, email in other]


def _named_alike(mine: Any, other: Any) -> bool:
    return _same_people(mine, other) and all(
        _letters(a) == _letters(b) for (a, _), (b, _) in zip(mine, other, strict=True)
    )


def _nobody(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    if isinstance(other, Raised):
        return False
    return mine == [one for one in other if any(one)] or (not mine and "@" not in stripped(pair.value(field)))


def _stated(mine: Any) -> list[Any]:
    return [one for one in mine if one[1]]


def _emails_stand_there(pair: Pair, field: str, mine: Any) -> bool:
    """Every address of ours stands in the header, letter for letter but for blanks and comments."""
    there = _letters(" ".join(_8bit_text(stripped(value)) for value in pair.values(field)))
    return bool(mine) and all(_letters(stripped(where)) in there for _, where in mine)


_COMMENT = re.compile(r"\([^()]*\)")


def stripped(text: str) -> str:
    while (without := _COMMENT.sub("", text)) != text:
        text = without
    return text


def _lines(text: str | None) -> str:
    return (text or "").replace("\r\n", "\n").replace("\r", "\n")


def _header_block(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    """The difference is gone, or another rule explains it, once the block is in order."""
    if pair.is_tidied:
        return False
    other = pair.tidied.theirs[field]
    return bool(mine == other) or any(
        field in rule.fields and rule.explains(pair.tidied, field, mine, other) for rule in RULES
    )


# -- the rules --------------------------------------------------------------------------------------------------------


def _ids_stand_there(pair: Pair, field: str, mine: Any) -> bool:
    value = pair.value(field)
    there = (
        _letters(value)
        + _letters(_read_words(_8bit_text(value)))
        + _letters(_8bit_text(value))
        + _letters(stripped(value))
    )
    found = [mine] if isinstance(mine, str) else mine
    if not found:
        return re.search(r"<[^<>\s]+@[^<>\s]+>", value) is None
    return "=?" in value or all(_letters(one) in there for one in found)


def _id_once(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    own = {pair.message.message_id, *pair.message.other_ids}
    said = dict.fromkeys([*other, *re.findall(r"<[^<>\s]*>", pair.value(field))])
    return field != "message_id" and mine == [one for one in said if one not in own and re.fullmatch(r"<[^<>]*>", one)]


def _synthetic(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    return field == "message_id" and mine.endswith(f"@{MISSING_DOMAIN}>") and not re.search(r"[^<>@\s]@[^<>@\s]", other)


def _tidy_header(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    return isinstance(other, str) and " ".join(_printable(other).split()) == " ".join(mine.split())


def _printable(text: str) -> str:
    return "".join(
        " " if c in "\t\r\n\x0b\x0c\x85\u2028\u2029" else c
        for c in text
        if c in "\t\r\n\x0b\x0c\x85\u2028\u2029" or unicodedata.category(c) != "Cc"
    )


def _words(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    """Encoded words read leniently, in the charsets that they really are in: then the letters are the same."""
    value = pair.value(field)
    if "=?" not in value:
        return False
    read = _letters(_read_words(_8bit_text(value)))
    said = [mine] if isinstance(mine, str) else [who for who, _ in mine if who]
    if field != "subject" and not (isinstance(other, Raised) or _same_people(mine, other)):
        return False
    return "unknown-charset" in pair.defects or all(_letters(one) in read for one in said)


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


_DATE = re.compile(r"(?:\w{3,9},? )?\d{1,2} \w{3,9} \d{2,4} \d\d?:\d\d(?::\d\d)?(?: (?:[+-]\d{4}|\w{1,5}))?")


def _century(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    if not (isinstance(mine, str) and isinstance(other, str)):
        return False
    (year, rest), (their_year, their_rest) = mine.split("-", 1), other.split("-", 1)
    return rest == their_rest and int(year) - int(their_year) in (-100, 1900)


def _date_forms(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    """Without comments, blanks around colons and a leap second the stdlib says the same; or it is ISO 8601."""
    value = stripped(pair.values("date")[0]) if pair.values("date") else ""
    value = re.sub(r"\s*:\s*", ":", " ".join(value.split())).strip(": ")
    if re.match(r"\d{4}-\d\d-\d\d", value):
        return True
    fixed = pair.email.__class__()
    fixed["Date"] = re.sub(r":60\b", ":59", value)
    return bool(stdlib.read(fixed.as_bytes())["date"] == mine)


def _shown_elsewhere(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    """What the stdlib takes for the text stands in one of our attachments."""
    wanted = _letters(other) if isinstance(other, str) else ""
    return bool(wanted) and any(
        wanted in _letters((one.content or b"").decode("utf-8", "replace")) for one in pair.message.attachments
    )


def _several(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    if not isinstance(other, str) or not mine:
        return False
    return any(read(other) and read(other) in read(mine) != read(other) for read in (_letters, _ascii))


def _from_html(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    html = pair.message.html
    return (
        not _lines(other if isinstance(other, str) else "").strip() and html is not None and mine == html_to_text(html)
    )


def _line_ends(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    return not isinstance(other, Raised) and _lines(mine) == _lines(other)


def _flowed(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    flowed = any(str(part.get_param("format", "")).lower() == "flowed" for part in pair.leaves)
    return flowed and isinstance(other, str) and _letters(mine) == _letters(other)


def _ascii(text: str) -> str:
    return "".join(c for c in text if c.isascii() and c.isalnum())


def _visible(text: str) -> str:
    return clean(text)[0]


def _defect(*codes: str) -> Callable[[Pair, str, Any, Any], bool]:
    def explains(pair: Pair, field: str, mine: Any, other: Any) -> bool:
        return bool(pair.defects & set(codes))

    return explains


def _redecoded(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    """A text of the stdlib's, decoded by what its label really means, says what ours says."""
    wanted = _letters(mine or "")
    for part in pair.leaves:
        data: Any = part.get_payload(decode=True) or b""
        label = str(part.get_param("charset", "") or "").partition("(")[0].strip(" \"'").lower()
        meta = re.search(rb"charset=[\"']?([\w-]+)", data)
        for codec in (_SUPERSETS.get(label, label), meta[1].decode() if meta else "", "utf-8", "cp1252", "cp874"):
            try:
                text = data.decode(codec, "replace") if codec else ""
            except (LookupError, ValueError):
                continue
            if (wanted and _letters(text) == wanted) or (field == "text" and _letters(html_to_text(text)) == wanted):
                return True
    return False


def _encodings(pair: Pair) -> set[str]:
    return {str(part.get("Content-Transfer-Encoding", "")).strip().lower() for part in pair.email.walk()}


_ENCODINGS = ("base64", "quoted-printable", "x-uuencode", "uuencode", "uue", "x-uue")


_PARAMETERS = re.compile(
    r"\s*[\w.+-]+(?:/[\w.+-]+)?\s*(?:;\s*[\w*-]+\s*=\s*(?:\"(?:[^\"\\]|\\[\"\\])*\"|[^\s\";=]+)\s*)*;?\s*"
)


def _odd_parameters(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    names = ("content-type", "content-disposition")
    said = [str(v) for part in pair.email.walk() for k, v in part.raw_items() if k.lower() in names]
    return any(not _PARAMETERS.fullmatch(one) or re.search(r"\*=(?![^;]*'[^;]*')", one) for one in said)


def _blanks_at_end(pair: Pair, field: str, mine: Any, other: Any) -> bool:
    def bare(text: str | None) -> list[str]:
        return [line.rstrip(" \t") for line in _lines(text).split("\n")]

    return "quoted-printable" in _encodings(pair) and isinstance(other, str) and bare(mine) == bare(other)


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
    if plain and _is_8bit(disposition):
        return _8bit_text(plain[1] or plain[2] or "")
    try:
        return _read_words((part.get_filename() or "").lstrip('"'))
    except (UnicodeError, LookupError):
        return ""


def _files(pair: Pair, field: str, mine: Any, other: Any) -> bool:
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


def _without(*types: str) -> Callable[[Pair, str, Any, Any], bool]:
    def explains(pair: Pair, field: str, mine: Any, other: Any) -> bool:
        return bool({part.get_content_type() for part in pair.email.walk()} & set(types))

    return explains


RULES = (
    Rule(
        "part-header-block",
        [*_BODIES, "attachments"],
        "The same among the headers of a part.",
        lambda p, f, m, o: any(
            isinstance(d, MissingHeaderBodySeparatorDefect) for part in p.email.walk() for d in part.defects
        ),
    ),
    Rule(
        "synthetic-id",
        ["message_id"],
        "RFC 5256 step 1.A: a message without an id gets one.",
        _synthetic,
    ),
    Rule(
        "id-cut",
        ["message_id"],
        "An id whose bracket never closes is none.",
        lambda p, f, m, o: m.endswith(f"@{MISSING_DOMAIN}>") and re.search(r"<[^<>]*@[^<>]*>", _8bit_text(o)) is None,
    ),
    Rule(
        "header-twice",
        [*_IDS],
        "RFC 5322 3.6 allows one; where there are two, the ids of both count.",
        lambda p, f, m, o: len(p.values(f)) > 1 and _ids_stand_there(p, f, m),
    ),
    Rule("id-once", _IDS, "Repeated ids, and the message's own, are no ancestors.", _id_once),
    Rule(
        "id-limit",
        ["references", "in_reply_to"],
        "At most 100, the first and the last.",
        lambda p, f, m, o: len(m) == MAX_IDS and len(o) > MAX_IDS and m == [o[0], *o[1 - MAX_IDS :]],
    ),
    Rule(
        "id-syntax",
        _IDS,
        "RFC 5322 4.5.4: phrases, comments and commas between ids; folds and quotes inside; brackets left out; the "
        "encoded words that CPython makes of long ids (python/cpython#79986).",
        lambda p, f, m, o: _ids_stand_there(p, f, m),
    ),
    Rule(
        "id-of-a-person",
        ["in_reply_to"],
        'RFC 822: "Message from Ana <ana@x>": an address behind a phrase names a person.',
        lambda p, f, m, o: not m and re.search(r"[^\s<,][^<]*<[A-Za-z._+-]+@[^<>]+>", p.value(f)) is not None,
    ),
    Rule(
        "date-raised",
        ["date"],
        "What is no date is None; the stdlib raises.",
        lambda p, f, m, o: isinstance(o, Raised) and m is None,
    ),
    Rule(
        "date-guessed",
        ["date"],
        "What does not keep to RFC 5322 3.3 or 4.3 may be unknown, where the stdlib guesses.",
        lambda p, f, m, o: m is None and _DATE.fullmatch(" ".join(stripped(p.values("date")[0]).split())) is None,
    ),
    Rule(
        "date-century",
        ["date"],
        "RFC 5322 4.3: 50 to 99 is the last century, and three digits count from 1900.",
        _century,
    ),
    Rule("date-forms", ["date"], "RFC 5322 4.3: comments and blanks; a leap second; ISO 8601.", _date_forms),
    Rule(
        "date-zone",
        ["date"],
        "A zone with text behind it is a zone; the stdlib drops it and takes the time as UTC.",
        lambda p, f, m, o: re.search(r":\d\d\s+[+-]\d{4}\S", p.value(f)) is not None,
    ),
    Rule(
        "one-line",
        ["subject"],
        "A header is one line without controls: the stdlib keeps folds, line breaks and NUL.",
        _tidy_header,
    ),
    Rule(
        "raw-8-bit",
        ["subject", *_PEOPLE],
        "RFC 6532: raw bytes are UTF-8 (or Windows-1252); the stdlib shows replacement characters.",
        lambda p, f, m, o: (
            _is_8bit(p.value(f))
            and (
                _emails_stand_there(p, f, m) if f != "subject" else _letters(m) == _letters(_8bit_text(p.values(f)[0]))
            )
        ),
    ),
    Rule(
        "empty-address",
        _PEOPLE,
        "The stdlib gives an address without name and address for an empty place and a group without members.",
        _nobody,
    ),
    Rule(
        "comment-is-no-name",
        _PEOPLE,
        "RFC 5322 3.2.2: a comment beside a name is none.",
        lambda p, f, m, o: (
            not isinstance(o, Raised) and "(" in p.value(f) and _same_people(m, [one for one in o if any(one)])
        ),
    ),
    Rule(
        "name-tidied",
        _PEOPLE,
        "Single quotes around a name, controls and unseen characters are no part of it.",
        lambda p, f, m, o: not isinstance(o, Raised) and _named_alike(m, o),
    ),
    Rule(
        "bad-address",
        _PEOPLE,
        "CVE-2023-27043: what could be read as two addresses, or is none, has no address with us.",
        lambda p, f, m, o: "bad-address" in p.defects and all(_emails_stand_there(p, f, [one]) for one in _stated(m)),
    ),
    Rule(
        "bracket-wins",
        _PEOPLE,
        "An address in front of a bracket is a name, and not a recipient.",
        lambda p, f, m, o: (
            not isinstance(o, Raised) and all(one in [w for _, w in o] for _, one in m) and _emails_stand_there(p, f, m)
        ),
    ),
    Rule(
        "stray-mark",
        _PEOPLE,
        "A bracket, an @ or a control in a name that nobody quoted: the stdlib ends the name or the address there.",
        lambda p, f, m, o: (
            re.search(r"[<>()\[\]@=\x00-\x1f]", "".join(who for who, _ in m) + re.sub(r"[\r\n\t]", "", p.value(f)))
            is not None
            and _emails_stand_there(p, f, m)
        ),
    ),
    Rule(
        "words-raise",
        ["subject", *_PEOPLE],
        "The stdlib raises on a charset that it does not have and on bytes that are not of the charset they claim.",
        lambda p, f, m, o: isinstance(o, Raised) and "=?" in p.value(f),
    ),
    Rule(
        "words",
        ["subject", *_PEOPLE],
        "Encoded words as every client reads them: letters cut in two, blanks inside, a language, charsets "
        "under the name of their subset, no charset at all.",
        _words,
    ),
    Rule("line-ends", _BODIES, "Lines of a text end in LF.", _line_ends),
    Rule("text-from-html", ["text"], "Without a plain text it is what a person sees of the HTML.", _from_html),
    Rule(
        "several-texts",
        _BODIES,
        "Several texts that a mail shows one below the other are all of it; the stdlib's recipe takes the first.",
        _several,
    ),
    Rule("flowed", ["text"], "RFC 3676: lines that the sender's program broke.", _flowed),
    Rule(
        "not-the-text",
        _BODIES,
        "Texts of a message inside, of an attachment or of a list's footer are not the message's.",
        _shown_elsewhere,
    ),
    Rule(
        "blanks-at-end",
        _BODIES,
        "RFC 2045 6.7: blanks at the end of a quoted-printable line are not part of it.",
        _blanks_at_end,
    ),
    Rule(
        "unseen-characters",
        _BODIES,
        "Characters that nobody sees, NUL and escapes are no text.",
        lambda p, f, m, o: (
            "unseen-characters" in p.defects and isinstance(o, str) and _letters(m) == _letters(_visible(o))
        ),
    ),
    Rule(
        "charset",
        _BODIES,
        "Labels mean what browsers take them for (WHATWG); a wrong or missing one is UTF-8 or Windows-1252; a byte "
        "order mark is no text.",
        _redecoded,
    ),
    Rule(
        "base64",
        [*_BODIES, "attachments"],
        "RFC 2045 6.8: junk is skipped and padding supplied; the stdlib gives the text undecoded.",
        _defect("bad-base64"),
    ),
    Rule(
        "uuencode",
        [*_BODIES, "attachments"],
        "Uuencoded files in a text are files.",
        _defect("uuencoded", "bad-uuencode"),
    ),
    Rule(
        "encoding-name",
        [*_BODIES, "attachments"],
        "RFC 2045 6.1: a comment behind the name of an encoding; a misspelt name that can mean only one.",
        lambda p, f, m, o: any(
            re.match(r"(base64|quoted|x-uu|uu).", one) and one not in _ENCODINGS for one in _encodings(p)
        ),
    ),
    Rule(
        "no-boundary",
        [*_BODIES, "attachments"],
        "A boundary that is missing is guessed, one that never comes makes the whole a text.",
        _defect("no-boundary", "no-last-boundary"),
    ),
    Rule(
        "content-type",
        [*_BODIES, "attachments"],
        "RFC 2045 5.1: a comment in Content-Type; 5.2: one that cannot be read is text.",
        lambda p, f, m, o: (
            "bad-content-type" in p.defects or any("(" in str(part.get("Content-Type", "")) for part in p.email.walk())
        ),
    ),
    Rule(
        "two-content-types",
        [*_BODIES, "attachments"],
        "Two that differ: programs show different mails.",
        _defect("two-content-types"),
    ),
    Rule(
        "text-kinds",
        [*_BODIES, "attachments"],
        "text/markdown, text/enriched and text/richtext are text to read.",
        _without("text/markdown", "text/enriched", "text/richtext"),
    ),
    Rule(
        "files",
        ["attachments"],
        "Names are safe on every system, and there is always one; what stands in a message inside is its own.",
        _files,
    ),
    Rule(
        "charset-broken",
        _BODIES,
        "Bytes that are not of their charset: what is ASCII says the same.",
        lambda p, f, m, o: (
            "bad-charset" in p.defects
            and isinstance(o, str)
            and abs(len(_ascii(m)) - len(_ascii(o))) <= len(p.raw.translate(None, bytes(range(128))))
        ),
    ),
    Rule(
        "jis-lines",
        _BODIES,
        "RFC 1468: a line of ISO-2022-JP ends in ASCII, so the escape that is missing is not looked for in the next.",
        lambda p, f, m, o: (
            "bad-charset" in p.defects
            and any(part.get_content_charset("").startswith("iso-2022-jp") for part in p.leaves)
        ),
    ),
    Rule(
        "lone-cr",
        [*_BODIES, "attachments"],
        "Among the headers and boundaries of parts a CR alone is a blank, and CR CR LF one line end.",
        lambda p, f, m, o: re.search(rb"\r(?!\n)", p.raw) is not None,
    ),
    Rule(
        "begins-with-a-blank",
        _ALL,
        "RFC 5322 2.2.3: what begins with a blank goes on from a header that is not there, so it is text.",
        lambda p, f, m, o: p.raw[:1] in (b" ", b"\t") and "no-headers" in p.defects,
    ),
    Rule(
        "named-text",
        [*_BODIES, "attachments"],
        "A name on the first text of a mail makes no file of it.",
        lambda p, f, m, o: any(
            part.get_param("name") and part.get_content_type() in ("text/plain", "text/html") for part in p.email.walk()
        ),
    ),
    Rule(
        "type-tidied",
        [*_BODIES, "attachments"],
        "Controls and bytes outside of ASCII are no part of a type.",
        lambda p, f, m, o: any(
            re.search(r"[\x00-\x08\x0e-\x1f\x7f\udc80-\udcff]", str(v))
            for part in p.email.walk()
            for k, v in part.raw_items()
            if k.lower() == "content-type"
        ),
    ),
    Rule(
        "end-at-once",
        [*_BODIES, "attachments"],
        "A multipart ends at its last boundary, right behind another one too.",
        lambda p, f, m, o: re.search(rb"--([^\r\n]+)\r?\n--\1", p.raw) is not None,
    ),
    Rule(
        "parameter-tail",
        [*_BODIES, "attachments"],
        "What follows the closing quote of a parameter is not part of it.",
        lambda p, f, m, o: any(
            re.search(r'="[^"]*"[^;\s]', str(part.get("Content-Type", ""))) for part in p.email.walk()
        ),
    ),
    Rule(
        "name-8-bit",
        ["attachments"],
        "RFC 6532: raw bytes in a name are UTF-8 or Windows-1252.",
        lambda p, f, m, o: (
            any(_is_8bit(str(v)) for part in p.email.walk() for _, v in part.raw_items())
            and not isinstance(o, Raised)
            and [one[2] for one in m] == [one[2] for one in o]
        ),
    ),
    Rule(
        "odd-parameters",
        [*_BODIES, "attachments"],
        "A Content-Type or disposition that does not keep to RFC 2045 5.1 is read as far as it goes.",
        _odd_parameters,
    ),
    Rule(
        "parameters",
        ["attachments"],
        "RFC 2231: what follows a gap is not part of a name; of two names the first counts; a codec is no charset.",
        _defect("bad-parameter", "repeated-parameter", "unknown-charset"),
    ),
    Rule(
        "header-block",
        _ALL,
        "The stdlib ends the headers at the first line that is none (RFC 5322 4.5 allows a blank before the colon; a "
        "byte order mark or blank lines in front; a name outside ASCII), and a line at a CR alone.",
        _header_block,
    ),
)
