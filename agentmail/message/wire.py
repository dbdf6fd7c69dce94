"""Writing a message, strictly: ASCII headers, folded, checked byte by byte; MIME parts; nothing a receiver must guess.

Python's `EmailMessage` is not used for this. It rewrites ids longer than 78 columns inside References as encoded words
(every id of Exchange Online is), and before 3.11.10 it lets an encoded line break in an incoming subject through as a
new header line. See docs/decisions/0030-own-writer.md.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..errors import BadInput
from .models import Address
from .words import one_line

CRLF = b"\r\n"
WIDTH = 78
"""Columns that a header line should not exceed (RFC 5322 2.1.1); ids may, since they are never broken."""
LIMIT = 998
"""Bytes that no line may exceed."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*\Z")
_ATOM_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+\Z")
_LOCAL = re.compile(r"""(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+|"(?:[ !#-\[\]-~]|\\[ -~])*")\Z""")
_DOMAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*\Z")
_LITERAL = re.compile(r"\[[A-Za-z0-9.:]+\]\Z")
_TOKEN = re.compile(r"[A-Za-z0-9!#$&^_.+-]+\Z")
_SAFE_HEADER_BLOCK = re.compile(
    rb"(?:[A-Za-z][A-Za-z0-9-]*: ?[\x20-\x7e]*\r\n(?:[ \t]+[\x21-\x7e][\x20-\x7e\t]*\r\n)*)+\Z"
)


def check_address(text: str, *, utf8: bool = False) -> str:
    """The address as it goes on the wire, its domain in ASCII (IDNA), or BadInput.

    Nothing is cut or guessed: what is not `local@domain` is refused (parsers that repair have sent mail to others).

    Args:
        utf8: Allow a local part that is not ASCII; the server must offer SMTPUTF8 (RFC 6531).
    """
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise BadInput(f"address {one_line(text)!r} contains a control character")
    local, at, domain = text.strip().rpartition("@")
    if not at or not local or not domain:
        raise BadInput(f"address {text!r} is not local@domain")
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError as exc:
            raise BadInput(f"address {text!r}: {domain!r} is no domain name") from exc
    if not (_DOMAIN.match(domain) or _LITERAL.match(domain)) or len(domain) > 255:
        raise BadInput(f"address {text!r}: {domain!r} is no domain name")
    if local.isascii():
        if not _LOCAL.match(local) or len(local) > 64 or (local[0] != '"' and (".." in f".{local}." and local != ".")):
            raise BadInput(f"address {text!r}: {local!r} is no local part")
    elif not utf8 or any(c.isspace() or c in '"\\<>()[],;:@' for c in local):
        raise BadInput(f"address {text!r} needs SMTPUTF8, which is not in use: its part before the @ must be ASCII")
    return f"{local}@{domain}"


# -- headers


class HeaderBlock:
    """The headers of one message, in order; each is checked when it is added, and all again at the end."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self.names: list[str] = []

    def add(self, name: str, value: bytes) -> None:
        if not _NAME.match(name):
            raise BadInput(f"{name!r} is no header name")
        self.names.append(name)
        self._lines.append(name.encode("ascii") + b": " + value + CRLF)

    def ids(self, name: str, ids: Sequence[str]) -> None:
        """Message-IDs, one a line, never broken and never encoded."""
        for i in ids:
            if not i.isascii() or not i.isprintable() or " " in i or len(i) > LIMIT - len(name) - 4:
                raise BadInput(f"{name}: {i!r} cannot be written as a Message-ID")
        if ids:
            self.add(name, b"\r\n ".join(i.encode("ascii") for i in ids))

    def token(self, name: str, value: str) -> None:
        """A value of printable ASCII that is short, or breaks at its spaces."""
        if not value.isascii() or not value.isprintable():
            raise BadInput(f"{name}: {value!r} is not printable ASCII")
        self.add(name, _folded(value, len(name) + 2))

    def text(self, name: str, value: str) -> None:
        """Any text on one line; encoded by RFC 2047 where it must be."""
        self.add(name, _unstructured(one_line(value), len(name) + 2))

    def addresses(self, name: str, people: Sequence[Address], *, utf8: bool = False) -> None:
        if people:
            self.add(name, b",\r\n ".join(_mailbox(p, len(name) + 2, utf8=utf8) for p in people))

    def bytes(self) -> bytes:
        """The block, after a last look at every byte: only our names, only printable ASCII, no line too long."""
        block = b"".join(self._lines)
        ascii_only = block.isascii()
        if ascii_only and not _SAFE_HEADER_BLOCK.match(block):
            raise BadInput("a header would not be one line of printable ASCII")
        found = re.findall(rb"(?m)^([A-Za-z][A-Za-z0-9-]*):", block)
        if [n.decode("ascii") for n in found] != self.names:
            raise BadInput("a header value would begin a header of its own")
        if any(len(line) > LIMIT for line in block.split(CRLF)):
            raise BadInput("a header line would be longer than 998 bytes")
        return block


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
    words = value.split(" ")
    plain = value.isascii() and value.isprintable() and "=?" not in value
    if plain and "  " not in value and max((len(w) for w in words), default=0) < LIMIT - 100:
        return _folded(value, column)
    return b"\r\n ".join(_encoded_words(value, column))


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
    if name.isascii() and name.isprintable() and "=?" not in name and len(name) + column + len(email) < WIDTH * 3:
        shown = name if _ATOM_PHRASE.match(name) else '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
        # A quoted string is not broken: folding inside of it would change the name.
        return shown.encode("ascii") + b" <" + email + b">"
    return b"\r\n ".join(_encoded_words(name[:400], column)) + b"\r\n <" + email + b">"


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
    clean = text.replace("\r\n", "\n").replace("\r", "\n")
    if clean and not clean.endswith("\n"):
        clean += "\n"
    return MimePart(f"text/{subtype}", {"charset": "utf-8"}, clean.encode("utf-8", "replace"), text=True)


def multipart(subtype: str, children: Iterable[MimePart], **parameters: str) -> MimePart:
    return MimePart(f"multipart/{subtype}", dict(parameters), children=list(children))


def write(headers: HeaderBlock, part: MimePart, *, boundary: str) -> bytes:
    """The whole message. `boundary` seeds the boundaries; its randomness is what keeps them out of the content."""
    headers.add("MIME-Version", b"1.0")
    body_headers, body = _part(part, boundary, [0])
    for name, value in body_headers:
        headers.add(name, value)
    return headers.bytes() + CRLF + body


def _part(part: MimePart, boundary: str, counter: list[int]) -> tuple[list[tuple[str, bytes]], bytes]:
    headers: list[tuple[str, bytes]] = []
    parameters = dict(part.parameters)
    if part.children:
        counter[0] += 1
        mark = f"={boundary}-{counter[0]}"
        parameters["boundary"] = mark
        sections = [_part(child, boundary, counter) for child in part.children]
        body = b"".join(
            b"--" + mark.encode("ascii") + CRLF + _lines(inner) + CRLF + content + CRLF for inner, content in sections
        )
        body += b"--" + mark.encode("ascii") + b"--" + CRLF
        encoding = b""
    else:
        encoding, body = _encode(part)
    headers.append(("Content-Type", part.content_type.encode("ascii") + _parameters(parameters)))
    if encoding and encoding != b"7bit":
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
        if clean.isascii() and len(clean) <= 60:
            quoted = clean if _TOKEN.match(clean) else '"' + re.sub(r'(["\\])', r"\\\1", clean) + '"'
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
    lines = content.split(b"\n")
    # A line "From " is changed by mbox writers, and white space at an end by others.
    fragile = any(line.startswith(b"From ") or line.endswith((b" ", b"\t")) for line in lines)
    if content.isascii() and not fragile and b"\x00" not in content and max(map(len, lines)) <= WIDTH:
        return b"7bit", content.replace(b"\n", CRLF)
    ascii_share = sum(b < 128 for b in content) / max(1, len(content))
    if ascii_share < 0.6:
        return b"base64", _base64(content.replace(b"\n", CRLF))
    encoded = binascii.b2a_qp(content, istext=True)
    encoded = re.sub(rb"(?m)^From ", b"=46rom ", encoded)
    return b"quoted-printable", encoded.replace(b"\r\n", b"\n").replace(b"\n", CRLF)


def _base64(content: bytes) -> bytes:
    encoded = base64.b64encode(content)
    return b"".join(encoded[i : i + 76] + CRLF for i in range(0, len(encoded), 76))
