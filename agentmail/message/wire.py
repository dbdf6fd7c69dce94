"""Writing a message, strictly: ASCII headers, folded, checked byte by byte; MIME parts; nothing a receiver must guess.

Python's `EmailMessage` is not used for this. It rewrites ids longer than 78 columns inside References as encoded words
(every id of Exchange Online is), and before 3.11.10 it lets an encoded line break in an incoming subject through as a
new header line. See docs/decisions/0030-our-own-writer.md.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..errors import BadInput
from .models import Address
from .recipients import check_address
from .words import one_line

CRLF = b"\r\n"
WIDTH = 78
"""Columns that a header line should not exceed (RFC 5322 2.1.1); ids may, since they are never broken."""
LIMIT = 998
"""Bytes that no line may exceed."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*\Z")
_ATOM_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+\Z")
_TOKEN = re.compile(r"[A-Za-z0-9!#$&^_.+-]+\Z")
_PREFIX = re.compile(r"(?:Re|Fwd): (?=\S)")
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,100}/[a-z0-9!#$&^_.+-]{1,100}\Z")
_FRAGILE = re.compile(rb"(?m)^From |^\.|[ \t]$|[^\n\t\x20-\x7e]")
"""What some hop changes or trips over: mbox's "From ", a dot that begins a line, space that ends one, controls."""
_LONG = re.compile(rb"[^\n]{79}")
_TOO_LONG = re.compile(rb"[^\n]{1000}")
_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]*):(?: [\x20-\x7e]*)?\Z")
_FIELD_UTF8 = re.compile("([A-Za-z][A-Za-z0-9-]*):(?: [\x20-\x7e\u00a0-\u2027\u202a-\ud7ff\ue000-\U0010ffff]*)?\\Z")
_ADDRESS_FIELDS = frozenset(("From", "To", "Cc"))


# -- headers


class HeaderBlock:
    """The headers of one message, in order."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self.names: list[str] = []

    def add(self, name: str, value: bytes) -> None:
        """A value that is folded and encoded already."""
        if not _NAME.match(name):
            raise BadInput(f"{name!r} is no header name")
        self.names.append(name)
        self._lines.append(name.encode("ascii") + b": " + value + CRLF)

    def ids(self, name: str, ids: Sequence[str]) -> None:
        """Message-IDs, one a line, never broken and never encoded."""
        for i in ids:
            if not i.isascii() or not i.isprintable() or " " in i or len(i) > LIMIT - len(name) - 4:
                raise BadInput(f"{name}: {i[:100]!r} cannot be written as a Message-ID")
        if ids:
            self.add(name, b"\r\n ".join(i.encode("ascii") for i in ids))

    def token(self, name: str, value: str) -> None:
        """A value of printable ASCII that is short, or breaks at its spaces."""
        if not value.isascii() or not value.isprintable():
            raise BadInput(f"{name}: {value[:100]!r} is not printable ASCII")
        self.add(name, _folded(value, len(name) + 2))

    def text(self, name: str, value: str) -> None:
        """Any text on one line; encoded by RFC 2047 where it must be."""
        self.add(name, _unstructured(one_line(value), len(name) + 2))

    def addresses(self, name: str, people: Sequence[Address], *, utf8: bool = False) -> None:
        """Addresses, one a line."""
        if people:
            self.add(name, b",\r\n ".join(_mailbox(p, len(name) + 2, utf8=utf8) for p in people))

    def bytes(self) -> bytes:
        return b"".join(self._lines)


def check(raw: bytes, names: Sequence[str], *, utf8: bool = False) -> None:
    """Look once more at every byte of a finished message, trusting nothing that built it.

    The header block has exactly these names in this order, one each, printable ASCII (RFC 6532 UTF-8 in addresses only,
    and only with `utf8`); every line ends in CRLF and has under 999 bytes; there is no bare CR, LF or NUL, and the
    body is ASCII. So there is nothing that two receivers could read as two things (SMTP smuggling, CVE-2024-6923).

    Raises:
        BadInput: something is not so; nothing of it may be sent.
    """
    head, blank, body = raw.partition(b"\r\n\r\n")
    if not blank:
        raise BadInput("the message would have no end of its headers")
    found: list[str] = []
    for line in head.split(CRLF):
        text = line.decode("utf-8", "replace")
        if line[:1] in (b" ", b"\t"):
            field, text = found[-1] if found else "", f"X:{text}"
            if not text[2:].strip():
                raise BadInput("a header line would be empty")
        else:
            field = text.partition(":")[0]
            found.append(field)
        pattern = _FIELD_UTF8 if utf8 and field in _ADDRESS_FIELDS else _FIELD
        if "\ufffd" in text or pattern.match(text) is None:
            raise BadInput(f"header {field[:60]!r} would not be lines of printable ASCII")
    if found != list(names):
        raise BadInput("a header value would begin a header of its own")
    if len(set(found)) != len(found):
        raise BadInput("a header would stand twice")
    if not body.isascii() or b"\x00" in body:
        raise BadInput("the body would not be ASCII")
    lines = raw.count(CRLF)
    if raw.count(b"\r") != lines or raw.count(b"\n") != lines:
        raise BadInput("a line would not end in CRLF")
    if _TOO_LONG.search(raw):
        raise BadInput("a line would be longer than 998 bytes")


def _folded(value: str, column: int) -> bytes:
    """Break at single spaces where a line grows over the width; the spaces stay, so unfolding gives the value back."""
    lines: list[str] = []
    line = ""
    for word in value.split(" "):
        piece = word if not line and not lines else " " + word
        if line.strip() and word and column + len(line) + len(piece) > WIDTH:
            lines.append(line)
            line, column = piece, 0
        else:
            line += piece
    lines.append(line)
    return "\r\n".join(lines).encode("ascii")


def _unstructured(value: str, column: int) -> bytes:
    plain = value.isascii() and value.isprintable() and "=?" not in value and "  " not in value
    if plain and max(map(len, value.split(" "))) < WIDTH - 8:
        return _folded(value, column)
    # "Re: " stays readable for programs that look for it without decoding; what is behind it is encoded as a whole.
    prefix = match[0] if (match := _PREFIX.match(value)) else ""
    return prefix.encode("ascii") + b"\r\n ".join(_encoded_words(value[len(prefix) :], column + len(prefix)))


def _encoded_words(value: str, column: int = 0) -> list[bytes]:
    """RFC 2047 words of at most 75 columns, none of which breaks a character (section 5)."""
    words: list[bytes] = []
    chunk = b""
    room = max(20, WIDTH - column - 12)  # =?utf-8?b??= is 12 long
    for character in value:
        data = character.encode("utf-8", "replace")
        if 4 * ((len(chunk) + len(data) + 2) // 3) > min(room, 63):
            words.append(b"=?utf-8?b?" + base64.b64encode(chunk) + b"?=")
            chunk, room = b"", 63
        chunk += data
    words.append(b"=?utf-8?b?" + base64.b64encode(chunk) + b"?=")
    return words


def _mailbox(person: Address, column: int, *, utf8: bool) -> bytes:
    email = check_address(person.email, utf8=utf8).encode("utf-8")
    name = one_line(person.name)
    if not name:
        return email
    if name.isascii() and name.isprintable() and "=?" not in name and len(name) < WIDTH - column - 4:
        shown = name if _ATOM_PHRASE.match(name) and "  " not in name else quoted_string(name)
        # A quoted string is not broken: folding inside of it would change the name.
        between = b" <" if column + len(shown) + len(email) + 3 <= WIDTH else b"\r\n <"
        return shown.encode("ascii") + between + email + b">"
    return b"\r\n ".join(_encoded_words(name, column)) + b"\r\n <" + email + b">"


def quoted_string(text: str) -> str:
    """RFC 5322 3.2.4."""
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


# -- bodies


@dataclass(slots=True)
class MimePart:
    """A part to be written: `content` for a leaf, `children` for a multipart."""

    content_type: str
    parameters: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    children: list[MimePart] = field(default_factory=list)
    disposition: str = ""
    filename: str = ""
    content_id: str = ""
    text: bool = False
    """Content is UTF-8 text with LF line ends."""


def text_part(subtype: str, text: str) -> MimePart:
    """A text part; any kind of line end in it becomes one."""
    clean = text.replace("\r\n", "\n").replace("\r", "\n")
    if clean and not clean.endswith("\n"):
        clean += "\n"
    return MimePart(f"text/{subtype}", {"charset": "utf-8"}, clean.encode("utf-8"), text=True)


def media_type(given: str) -> str:
    """`type/subtype` in lower case; octet-stream for what is none, and for what may not be encoded (RFC 2046 5)."""
    name = given.partition(";")[0].strip().lower()
    if not _TYPE.match(name) or name.startswith(("multipart/", "message/")):
        return "application/octet-stream"
    return name


def multipart(subtype: str, children: Iterable[MimePart], **parameters: str) -> MimePart:
    return MimePart(f"multipart/{subtype}", dict(parameters), children=list(children))


def write(headers: HeaderBlock, part: MimePart, *, boundary: str, utf8: bool = False) -> bytes:
    """The whole message, checked. `boundary` seeds the boundaries; its randomness keeps them out of the content."""
    headers.add("MIME-Version", b"1.0")
    body_headers, body = _part(part, boundary, [0])
    for name, value in body_headers:
        headers.add(name, value)
    raw = headers.bytes() + CRLF + body
    check(raw, headers.names, utf8=utf8)
    return raw


def _part(part: MimePart, boundary: str, counter: list[int]) -> tuple[list[tuple[str, bytes]], bytes]:
    headers: list[tuple[str, bytes]] = []
    parameters = dict(part.parameters)
    encoding = b""
    if part.children:
        counter[0] += 1
        number = counter[0]
        sections = [_part(child, boundary, counter) for child in part.children]
        # "=_" occurs neither in quoted-printable nor in base64 (RFC 2045 6.7); 7bit text is looked at.
        mark = f"=_{boundary}.{number}"
        while any(mark.encode("ascii") in content for _, content in sections):
            mark += "x"
        parameters["boundary"] = mark
        line = b"--" + mark.encode("ascii")
        body = b"".join(line + CRLF + _lines(inner) + CRLF + content + CRLF for inner, content in sections)
        body += line + b"--" + CRLF
    else:
        encoding, body = _encode(part)
    headers.append(("Content-Type", part.content_type.encode("ascii") + _parameters(parameters)))
    if encoding:
        headers.append(("Content-Transfer-Encoding", encoding))
    if part.disposition:
        named = {"filename": part.filename} if part.filename else {}
        headers.append(("Content-Disposition", part.disposition.encode("ascii") + _parameters(named)))
    if part.content_id:
        headers.append(("Content-ID", b"<" + part.content_id.encode("ascii") + b">"))
    return headers, body


def _lines(headers: list[tuple[str, bytes]]) -> bytes:
    return b"".join(name.encode("ascii") + b": " + value + CRLF for name, value in headers)


def _parameters(parameters: dict[str, str]) -> bytes:
    out = b""
    for name, value in parameters.items():
        clean = one_line(value)
        if clean.isascii() and clean.isprintable() and "=?" not in clean and len(clean) <= 60:
            quoted = clean if _TOKEN.match(clean) else quoted_string(clean)
            out += f";\r\n {name}={quoted}".encode("ascii")
        else:
            out += _extended(name, clean)
    return out


def _extended(name: str, value: str) -> bytes:
    """RFC 2231 4.1: percent-encoded UTF-8 in numbered pieces, each short enough for a line."""
    safe = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_")
    units = [chr(b) if b in safe else f"%{b:02X}" for b in value.encode("utf-8", "replace")]
    pieces = [""]
    for unit in units:
        if len(pieces[-1]) + len(unit) > 50:
            pieces.append("")
        pieces[-1] += unit
    if len(pieces) == 1:
        return f";\r\n {name}*=utf-8''{pieces[0]}".encode("ascii")
    pieces[0] = f"utf-8''{pieces[0]}"
    return b"".join(f";\r\n {name}*{i}*={piece}".encode("ascii") for i, piece in enumerate(pieces))


def _encode(part: MimePart) -> tuple[bytes, bytes]:
    """The transfer encoding of a leaf: 7bit where it can, quoted-printable for text, base64 for the rest."""
    content = part.content
    if not part.text:
        return b"base64", _base64(content)
    if not content:
        return b"7bit", CRLF
    if content.isascii() and _FRAGILE.search(content) is None and _LONG.search(content) is None:
        return b"7bit", content.replace(b"\n", CRLF)
    ascii_only = content.decode("utf-8").encode("ascii", "ignore")
    if len(ascii_only) < 0.6 * len(content):
        return b"base64", _base64(content.replace(b"\n", CRLF))
    encoded = binascii.b2a_qp(content, istext=True)
    # A line "From " is changed by mbox writers, and a "." at the start by servers that count dots wrongly.
    encoded = re.sub(rb"(?m)^(?:F(?=rom )|\.)", lambda m: b"=%02X" % m[0][0], encoded)
    return b"quoted-printable", encoded.replace(b"\n", CRLF)


def _base64(content: bytes) -> bytes:
    encoded = base64.b64encode(content)
    return b"".join(encoded[i : i + 76] + CRLF for i in range(0, len(encoded), 76))
