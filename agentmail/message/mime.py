"""The MIME tree of a message, found by searching for boundaries and not line by line.

Limits come before any library sees the bytes (depth, parts, header block, parameters). A part that goes over a limit
is kept whole as one opaque part, so nothing is lost; the tree only ends there.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from .charsets import decode
from .words import decode_words, one_line, raw_text

MAX_DEPTH = 50
MAX_PARTS = 1_000
MAX_HEADERS = 1_000
MAX_HEADER_BLOCK = 256 * 1024
MAX_HEADER = 64 * 1024
MAX_PARAMETERS = 128
MAX_BOUNDARY = 1_000

_HEADER = re.compile(rb"([!-9;-~]+)[ \t]*:[ \t]*((?:[^\r\n]|\r(?!\n)|\r?\n[ \t])*)\r?\n?")
_BLANK = re.compile(rb"\r?\n\r?\n")
_TYPE = re.compile(r"\s*([A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+)")
_PARAMETER = re.compile(
    r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|([^\s;"]*(?:[ \t]+(?![^\s=;"]+\s*=)[^\s;"]+)*))', re.DOTALL
)
_CONTINUED = re.compile(r"(.+?)\*(\d{1,4})(\*?)\Z")

Headers = list[tuple[str, bytes]]


@dataclass(slots=True)
class Part:
    """A node of the tree; `body` is still encoded."""

    headers: Headers
    content_type: str
    parameters: dict[str, str]
    body: memoryview
    encoding: str
    disposition: str = ""
    filename: str = ""
    content_id: str | None = None
    children: list[Part] = field(default_factory=list)

    @property
    def is_multipart(self) -> bool:
        return self.content_type.startswith("multipart/") and bool(self.children)


def split_headers(data: memoryview, defects: set[str]) -> tuple[Headers, memoryview]:
    """The header fields of a block of mail, and its body."""
    head = bytes(data[: MAX_HEADER_BLOCK + 4])
    start = 0
    if head.startswith((b"From ", b">From ")):  # an mbox line
        start = head.find(b"\n") + 1 or len(head)
    if head.startswith((b"\n", b"\r\n"), start):
        return [], data[start + (1 if head.startswith(b"\n", start) else 2) :]
    blank = _BLANK.search(head, start)
    if blank is not None:
        end, body_at = blank.start(), blank.end()
        body = data[body_at:]
    elif len(data) > MAX_HEADER_BLOCK:
        # Headers without end: read what the limit allows, and look for the body behind it.
        defects.add("headers-cut")
        end = MAX_HEADER_BLOCK
        rest = bytes(data[end:])
        blank = _BLANK.search(rest)
        body = data[end + blank.end() :] if blank is not None else data[len(data) :]
    else:
        end, body = len(head), data[len(data) :]
        defects.add("no-blank-line")
    headers: Headers = []
    position = start
    while position < end:
        match = _HEADER.match(head, position, end)
        if match is None:
            line_end = head.find(b"\n", position, end)
            line = head[position : line_end if line_end >= 0 else end]
            if not headers and line.strip() and b":" not in line:
                # The first line is no header: all of it is body.
                defects.add("no-headers")
                return [], data[position:]
            if line.strip():
                defects.add("bad-header")
            if line_end < 0:
                break
            position = line_end + 1
            continue
        if match.end() == position:
            break
        value = match[2]
        if len(value) > MAX_HEADER:
            defects.add("header-cut")
            value = value[:MAX_HEADER]
        headers.append((match[1].decode("ascii"), value))
        position = match.end()
        if len(headers) >= MAX_HEADERS:
            if position < end:
                defects.add("too-many-headers")
            break
    return headers, body


def build(headers: Headers, body: memoryview, defects: set[str]) -> Part:
    """The tree below a message's headers. Iterative: nothing a sender writes decides how deep we recurse."""
    root = _part(headers, body, "text/plain", defects)
    count = 1
    waiting = [(root, 1)]
    while waiting:
        part, depth = waiting.pop()
        if not part.content_type.startswith("multipart/"):
            continue
        if depth >= MAX_DEPTH:
            defects.add("too-deep")
            continue
        boundary = part.parameters.get("boundary", "")
        if not boundary or len(boundary) > MAX_BOUNDARY:
            defects.add("no-boundary")
            continue
        default = "message/rfc822" if part.content_type == "multipart/digest" else "text/plain"
        for section in _sections(part.body, boundary.rstrip(" ").encode("utf-8", "replace"), defects):
            if count >= MAX_PARTS:
                defects.add("too-many-parts")
                break
            count += 1
            # What is wrong with the headers of a part is no news: a part need not have any.
            inner_headers, inner_body = split_headers(section, set())
            child = _part(inner_headers, inner_body, default, defects)
            part.children.append(child)
            waiting.append((child, depth + 1))
    return root


def _sections(body: memoryview, boundary: bytes, defects: set[str]) -> Iterator[memoryview]:
    """What stands between the boundary lines (RFC 2046 5.1.1). A missing last boundary ends at the end."""
    data = bytes(body)
    mark = b"--" + boundary
    position = 0 if data.startswith(mark) else data.find(b"\n" + mark) + 1
    if position == 0 and not data.startswith(mark):
        defects.add("no-boundary")
        return
    while True:
        after = position + len(mark)
        line_end = data.find(b"\n", after)
        rest = data[after : line_end if line_end >= 0 else len(data)]
        if rest.startswith(b"--") and not rest[2:].strip():
            return
        if rest.strip():
            # Another boundary that only begins like ours: not a line of ours.
            position = data.find(b"\n" + mark, after) + 1
            if position == 0:
                return
            continue
        if line_end < 0:
            return
        start = line_end + 1
        follow = start - 1
        while True:
            follow = data.find(b"\n" + mark, follow)
            if follow < 0:
                defects.add("no-last-boundary")
                yield body[start:]
                return
            tail_end = data.find(b"\n", follow + 1 + len(mark))
            tail = data[follow + 1 + len(mark) : tail_end if tail_end >= 0 else len(data)].strip()
            if tail in {b"", b"--"}:
                break
            follow += 1
        end = follow - 1 if follow > start and data[follow - 1 : follow] == b"\r" else follow
        yield body[start : max(start, end)]
        position = follow + 1


def _part(headers: Headers, body: memoryview, default: str, defects: set[str]) -> Part:
    content_type, parameters, encoding = default, {}, ""
    disposition, filename, content_id = "", "", None
    seen_type = False
    for name, value in headers:
        if len(name) < 10 or name[:8].lower() != "content-":
            continue
        lower = name.lower()
        if lower == "content-type":
            if seen_type:
                defects.add("two-content-types")
                continue
            seen_type = True
            text = raw_text(value)
            match = _TYPE.match(text)
            if match is not None:
                content_type = match[1].lower()
                parameters = read_parameters(text[match.end() :], defects)
            elif text.strip().lower().startswith("text"):
                content_type, parameters = "text/plain", read_parameters(text, defects)
            else:
                content_type, parameters = "application/octet-stream", read_parameters(text, defects)
                defects.add("bad-content-type")
        elif lower == "content-transfer-encoding":
            encoding = raw_text(value).partition(";")[0].strip().lower()
        elif lower == "content-disposition":
            text = raw_text(value)
            disposition = text.partition(";")[0].strip().lower()
            given = read_parameters(text[len(text.partition(";")[0]) :], defects)
            filename = given.get("filename", "")
        elif lower == "content-id":
            content_id = one_line(raw_text(value)).strip("<>") or None
    return Part(
        headers,
        content_type,
        parameters,
        body,
        encoding,
        disposition,
        filename or parameters.get("name", ""),
        content_id,
    )


def read_parameters(text: str, defects: set[str]) -> dict[str, str]:
    """`; name=value` pairs, RFC 2231 continuations and charsets joined; bounded."""
    if not text.strip("; \t\r\n"):
        return {}
    plain: dict[str, str] = {}
    pieces: dict[str, dict[int, tuple[str, bool]]] = {}
    if not text.lstrip().startswith(";"):
        text = ";" + text
    for number, match in enumerate(_PARAMETER.finditer(text)):
        if number >= MAX_PARAMETERS:
            defects.add("too-many-parameters")
            break
        name = match[1].lower()
        value = re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else (match[3] or "").strip()
        continued = _CONTINUED.match(name)
        if continued is not None:
            pieces.setdefault(continued[1], {}).setdefault(int(continued[2]), (value, bool(continued[3])))
        elif name.endswith("*"):
            pieces.setdefault(name[:-1], {}).setdefault(0, (value, True))
        elif name in plain:
            if plain[name] != value:
                defects.add("repeated-parameter")
        else:
            plain[name] = value
    for name, numbered in pieces.items():
        plain[name] = _joined(numbered, defects)
    return {
        name: one_line(decode_words(value)) if name in {"name", "filename"} else value for name, value in plain.items()
    }


def _joined(numbered: dict[int, tuple[str, bool]], defects: set[str]) -> str:
    """RFC 2231 3 and 4: pieces in the order of their numbers, percent-decoded where they say so."""
    charset: str | None = None
    data: list[bytes] = []
    for expected, number in enumerate(sorted(numbered)):
        if number != expected:
            defects.add("bad-parameter")
        value, encoded = numbered[number]
        if encoded:
            if charset is None and value.count("'") >= 2:
                charset, _, value = value.split("'", 2)
            data.append(unquote_to_bytes(value))
        else:
            data.append(value.encode("utf-8", "replace"))
    return decode(b"".join(data), charset or None)[0]


# -- transfer encodings

_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]+")
_WHOLE_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_UU_BEGIN = re.compile(rb"^begin[ \t]+[0-7]{3,4}[ \t]+([^\r\n]*)\r?\n", re.MULTILINE)


def decoded(part: Part, defects: set[str]) -> bytes:
    """The body's bytes. Junk in it is skipped, as every client does, and named."""
    data = bytes(part.body)
    encoding = part.encoding
    if encoding == "base64":
        return _base64(data, defects)
    if encoding in {"quoted-printable", "quopri", "quoted printable"}:
        return binascii.a2b_qp(data)
    if encoding in {"x-uuencode", "uuencode", "x-uue", "uue"}:
        return _uu(data, defects)
    if encoding not in {"", "7bit", "8bit", "binary", "8-bit", "7-bit"}:
        defects.add("unknown-encoding")
    return data


def _base64(data: bytes, defects: set[str]) -> bytes:
    compact = data.translate(None, b"\r\n \t")
    if len(compact) % 4 == 0 and _WHOLE_BASE64.fullmatch(compact):
        return binascii.a2b_base64(compact)
    return _base64_with_junk(compact, defects)


def _base64_with_junk(data: bytes, defects: set[str]) -> bytes:
    defects.add("bad-base64")
    cleaned = _NOT_BASE64.sub(b"", data)
    out = []
    for piece in re.split(rb"=+", cleaned):
        whole = piece[: len(piece) - (len(piece) % 4 == 1)]
        out.append(binascii.a2b_base64(whole + b"=" * (-len(whole) % 4)))
    return b"".join(out)


def _uu(data: bytes, defects: set[str]) -> bytes:
    begin = _UU_BEGIN.search(data)
    lines = data[begin.end() if begin else 0 :].splitlines()
    out = []
    for line in lines:
        if line.strip() in {b"end", b"`", b""}:
            break
        try:
            out.append(binascii.a2b_uu(line))
        except binascii.Error:
            # Some encoders pad lines; count what the length byte asks for (as the standard library does).
            wanted = (((line[0] - 32) & 63) * 4 + 5) // 3
            try:
                out.append(binascii.a2b_uu(line[:wanted]))
            except binascii.Error:
                defects.add("bad-uuencode")
    return b"".join(out)
