"""The header block of a message or a part: found, unfolded, split into fields. Bounded before anything is decoded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from . import charsets

MAX_HEADERS = 1_000
MAX_BLOCK = 256 * 1024
"""Bytes of a header block."""
MAX_HEADER = 64 * 1024
"""Characters of one header."""

_USUAL_STARTS = frozenset(b"ACDEGHILMORSTUVWX")
"""Letters that headers begin with, but for F: a first line "From " is no header."""
_PLAIN = bytes(range(0x20, 0x7F)) + b"\n"
_NAME = re.compile(r"[!-9;-~]+")
_KNOWN = re.compile(
    r"(?:^|\n)(?:from|to|cc|subject|date|message-id|received|mime-version|content-[a-z-]+|return-path|reply-to)[ \t]*:",
    re.IGNORECASE,
)


_USUAL_NAMES = {
    name: name.lower()
    for name in (
        *("From", "To", "Cc", "CC", "Bcc", "Reply-To", "Sender", "Subject", "Date", "Message-ID", "Message-Id"),
        *("In-Reply-To", "References", "Received", "Return-Path", "Delivered-To", "MIME-Version", "Mime-Version"),
        *("Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "Content-ID", "Content-Language"),
        *("DKIM-Signature", "Received-SPF", "Authentication-Results", "ARC-Seal", "ARC-Message-Signature"),
        *("ARC-Authentication-Results", "Thread-Index", "Thread-Topic", "User-Agent", "X-Mailer", "Precedence"),
        *("Auto-Submitted", "List-Id", "List-ID", "List-Post", "List-Help", "List-Archive", "List-Unsubscribe"),
    )
}
"""Names of headers as programs write them, and in lower case."""
_USUAL_SIZE = 8_192
_MAX_REMEMBERED = 100


class Block(NamedTuple):
    """The fields of a header block and where its body begins."""

    fields: list[tuple[str, str]]
    """`(name, value)` in order: unfolded and stripped, encoded words not decoded. 8-bit bytes are decoded."""
    by_name: dict[str, list[str]]
    """All values of each name, in lower case."""
    body: int
    clean: bool
    """True when every value is plain: printable ASCII without encoded words."""
    printable: bool
    """True when every value is printable ASCII."""


_made = tuple.__new__
"""Of a NamedTuple, at a third of the price of calling its class, which is a function in Python."""


def by_name(fields: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """All values of each name, in lower case."""
    found: dict[str, list[str]] = {}
    for name, value in fields:
        key = _USUAL_NAMES.get(name) or name.lower()
        if key in found:
            found[key].append(value)
        else:
            found[key] = [value]
    return found


def read(raw: bytes, start: int, end: int, defects: set[str], *, outermost: bool = False) -> Block:
    """The header block in `raw[start:end]`."""
    if outermost and (start >= end or raw[start] not in _USUAL_STARTS):
        start = _skip_envelope(raw, start, end, defects)
    # Nearly every mail ends its headers within so many bytes, and its lines in LF.
    stop = raw.find(b"\n\n", start, end if end - start < _USUAL_SIZE else start + _USUAL_SIZE)
    body = stop + 2
    if stop < 0 or raw[start] == 10 or raw.find(b"\r", start, stop) >= 0:
        stop, body = _extent(raw, start, end, defects)
        if stop - start > MAX_BLOCK:
            defects.add("headers-cut")
            stop = max(raw.rfind(b"\n", start, start + MAX_BLOCK), start)
        head = raw[start:stop].replace(b"\r\n", b"\n")
    else:
        head = raw[start:stop]
    if 9 in head:  # three times as fast as b"\t" in head, where Python first tries whether that is a number
        head = head.replace(b"\t", b" ")  # tabs mean no more than blanks in any header
    local8 = printable = False
    if head.isascii():
        text = head.decode("ascii")
        printable = not head.translate(None, _PLAIN)
    else:
        try:
            text = head.decode("utf-8")  # RFC 6532
        except UnicodeDecodeError:
            text = head.decode("latin-1")  # each line will be decoded by itself
            local8 = True
    clean = printable and ("?" not in text or "=?" not in text)
    text = text.replace("\n ", " ")  # unfolding (RFC 5322 2.2.3)
    if not local8 and len(text) <= MAX_HEADER:
        block = _usual(text, body, clean=clean, printable=printable)
        if block is not None:
            return block
    return _lines(
        raw, start, end, text, body, defects, outermost=outermost, local8=local8, clean=clean, printable=printable
    )


# ---------------------------------------------------------------------------------------------------------------------


def _usual(text: str, body: int, *, clean: bool, printable: bool) -> Block | None:
    """The fields where each line is one; None when that is not so, and `_lines` says what each of them is.

    Nearly every mail. What `_lines` looks at line by line is settled here by the name being a usual one.
    """
    lines = text.split("\n", MAX_HEADERS + 1)
    if not lines[-1]:
        lines.pop()
    if len(lines) > MAX_HEADERS:
        return None
    fields: list[tuple[str, str]] = []
    given: dict[str, list[str]] = {}
    usual = _USUAL_NAMES
    for line in lines:
        name, colon, value = line.partition(": ")
        key = usual.get(name)
        if key is None or not colon:
            name, colon, value = line.partition(":")
            key = usual.get(name) or (_key(name) if len(name) <= _MAX_REMEMBERED else "")
            if not key or not colon:
                return None
        value = value.strip(" ")
        fields.append((name, value))
        if key in given:
            given[key].append(value)
        else:
            given[key] = [value]
    return _made(Block, (fields, given, body, clean, printable))


@lru_cache(maxsize=2_048)
def _key(name: str) -> str:
    """The name in lower case, "" when it is none."""
    return name.lower() if _NAME.fullmatch(name) else ""


def _lines(
    raw: bytes,
    start: int,
    end: int,
    text: str,
    body: int,
    defects: set[str],
    *,
    outermost: bool,
    local8: bool,
    clean: bool,
    printable: bool,
) -> Block:
    """Line by line, where some line is no header, or too long, or in some 8-bit charset."""
    fields: list[tuple[str, str]] = []
    position = 0
    last_known = -1  # where the last line that is surely a header begins; looked for once, or it would be quadratic
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if colon and ((name.replace("-", "").isalnum() and name.isascii()) or _NAME.fullmatch(name.rstrip(" "))):
            if len(value) > MAX_HEADER:
                defects.add("header-cut")
                value = value[:MAX_HEADER]
            if local8 and not value.isascii():
                value, defect, _ = charsets.decode(value.encode("latin-1"), None)
                if defect:
                    defects.add(defect)
            if len(fields) >= MAX_HEADERS:
                defects.add("too-many-headers")
                break
            fields.append((name.rstrip(" "), value.strip(" ")))
        elif line and not line.isspace():
            if outermost and not fields:
                # It does not begin with a header, so all of it is text.
                defects.add("no-headers")
                return Block([], {}, start, clean=True, printable=True)
            defects.add("bad-header")
            if last_known < 0:
                last_known = max((match.end() for match in _KNOWN.finditer(text)), default=0)
            if last_known <= position + len(line) and not (colon and _is_base64(fields)):
                # What follows is text that no blank line parts from the headers (as every MTA reads it). A name with
                # a blank in it is none over base64: it would be taken for a part of that.
                return Block(fields, by_name(fields), _at_line(raw, start, end, line), clean, printable)
        position += len(line) + 1
    return Block(fields, by_name(fields), body, clean, printable)


def _skip_envelope(raw: bytes, start: int, end: int, defects: set[str]) -> int:
    """Past the byte order mark, the blank lines and the line of an mbox that some programs leave in front."""
    if raw.startswith(b"\xef\xbb\xbf", start):
        start += 3
    if raw[start : start + 1] in (b"\n", b"\r"):
        first = start
        while raw[first : first + 1] in (b"\n", b"\r") and first < start + 100:
            first += 1
        line = raw[first : first + 200].partition(b"\n")[0].decode("latin-1")
        if _KNOWN.match(line):
            defects.add("leading-blank-lines")
            start = first
    opening = raw[start : start + 200]
    if opening.startswith((b"From ", b">From ")) and not opening.partition(b" ")[2].lstrip(b" ").startswith(b":"):
        after = raw.find(b"\n", start, end)
        start = end if after < 0 else after + 1
    return start


def _extent(raw: bytes, start: int, end: int, defects: set[str]) -> tuple[int, int]:
    """`(end of the headers, start of the body)`: at the first blank line, whichever way lines end."""
    if raw.startswith(b"\n", start, end):
        return start, start + 1
    if raw.startswith(b"\r\n", start, end):
        return start, start + 2
    # Look for the kind of line end that the first line has, so that a search in vain does not read the whole mail.
    first = raw.find(b"\n", start, end)
    cr = first > start and raw[first - 1] == 13
    if cr:
        crlf = raw.find(b"\n\r\n", first, end)
        lf = raw.find(b"\n\n", first, end if crlf < 0 else crlf + 1)
    else:
        lf = raw.find(b"\n\n", start, end)
        stop = end if lf < 0 else lf + 1
        cr = raw.find(b"\r", start, stop) >= 0
        crlf = raw.find(b"\n\r\n", start, stop) if cr else -1
    found = [at for at in (lf, crlf) if at >= 0]
    odd = raw.find(b"\n\r\r\n", start, min(found, default=end)) if cr else -1
    if odd >= 0:  # a program that made CRLF of CRLF
        return odd, odd + 4
    if lf >= 0 and not 0 <= crlf < lf:  # the first of them, where both kinds occur
        return lf, lf + 2
    if crlf >= 0:
        return crlf - (raw[crlf - 1] == 13), crlf + 3
    defects.add("no-blank-line")
    return end, end


def _is_base64(fields: list[tuple[str, str]]) -> bool:
    return any(name.lower() == "content-transfer-encoding" and value.lower() == "base64" for name, value in fields)


def _at_line(raw: bytes, start: int, end: int, line: str) -> int:
    """Where a line that is no header begins in the bytes; the end when it cannot be found again.

    It was unfolded, and its tabs became blanks.
    """
    wanted, cr, _ = line[:100].partition("\r")
    whole = rb"(?=\s*?(?:[\r\n]|\Z))" if len(line) < 100 and not cr else b""
    for encoding in ("utf-8", "latin-1"):
        try:
            words = wanted.encode(encoding).split(b" ")
        except UnicodeEncodeError:
            continue
        pattern = rb"(?:\r?\n)?[ \t]".join(map(re.escape, words)) + whole
        found = re.compile(rb"^" + pattern, re.MULTILINE).search(raw, start, end)
        if found is not None:
            return found.start()
    return end
