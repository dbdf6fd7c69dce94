"""Content-Transfer-Encoding and uuencode: bytes back to what they were. Junk is skipped, as every client does."""

from __future__ import annotations

import binascii
import re
from typing import NamedTuple

from .words import base64_size, decode_base64

__all__ = ["base64_size", "decode", "take_files"]

_IDENTITY = frozenset(("", "7bit", "8bit", "binary", "8-bit", "7-bit", "none", "7bits", "8bits", "ascii", "utf-8"))
_BEGIN = re.compile(rb"^begin(?:-base64)?[ ][0-7]{3,4}[ ]([^\r\n]{1,300})\r?\n", re.MULTILINE)
_END = re.compile(rb"^end[ \t]*\r?$\n?", re.MULTILINE)
_BLANKS_AT_END = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\r?\Z)")  # tried once for each run of blanks: linear
_MAX_BLANK_ENDS = 100_000
"""Lines with blanks at their end that are looked at; no text has more, and each costs time."""
MAX_FILES = 100
"""Uuencoded files taken out of one text."""


class File(NamedTuple):
    """A file that stood in a text (uuencode)."""

    name: str
    content: bytes


def decode(data: bytes, encoding: str, defects: set[str]) -> bytes:
    """The bytes of a part; `encoding` in lower case."""
    if encoding == "base64":
        decoded, clean = decode_base64(data)
        if not clean:
            defects.add("bad-base64")
        return decoded
    if encoding == "quoted-printable":
        return _quoted_printable(data)
    if encoding in _IDENTITY:
        return data
    if encoding in ("x-uuencode", "uuencode", "x-uue", "uue"):
        begin = _BEGIN.search(data)
        if begin is None:
            defects.add("bad-uuencode")
            return data  # no such file begins here: better what stands there than what it would decode to
        return _uu(data[begin.end() :], defects)
    if encoding.startswith("quoted"):
        return _quoted_printable(data)
    if encoding.startswith("base64"):
        return decode(data, "base64", defects)
    defects.add("unknown-encoding")
    return data


def take_files(data: bytes, defects: set[str]) -> tuple[bytes, list[File]]:
    """`(text without them, the uuencoded files in it)`. Nothing is written anywhere."""
    files: list[File] = []
    kept: list[bytes] = []
    position = 0
    while len(files) < MAX_FILES:
        begin = _BEGIN.search(data, position)
        end = _END.search(data, begin.end()) if begin else None
        if begin is None or end is None:
            break
        content = _uu(data[begin.end() : end.start()], set())
        if content or end.start() == begin.end():
            kept.append(data[position : begin.start()])
            files.append(File(begin[1].decode("utf-8", "replace"), content))
        else:
            kept.append(data[position : end.end()])  # somebody wrote "begin 100 times" and "end"
        position = end.end()
    kept.append(data[position:])
    if files:
        defects.add("uuencoded")
    return b"".join(kept), files


def _quoted_printable(data: bytes) -> bytes:
    """RFC 2045 6.7 rule 3: blanks at the end of a line were added on the way. The stdlib's decoder keeps them."""
    decoded = binascii.a2b_qp(data)
    if not _blank_ends(decoded):
        return decoded  # blanks stay what they are, so there are none at the ends of the encoded lines either
    if 0 < _blank_ends(data) <= _MAX_BLANK_ENDS:
        decoded = binascii.a2b_qp(_BLANKS_AT_END.sub(b"", data))
    return decoded


def _blank_ends(data: bytes) -> int:
    """How many lines end in blanks."""
    ends = data.count(b" \n") + data.endswith((b" ", b"\t"))
    if 13 in data:  # a number is found at once; of bytes Python first tries whether they are one
        ends += data.count(b" \r")
    if 9 in data:
        ends += data.count(b"\t\n") + data.count(b"\t\r")
    return ends


def _uu(data: bytes, defects: set[str]) -> bytes:
    out: list[bytes] = []
    for line in data.replace(b"\r", b"").split(b"\n"):
        if line in (b"end", b"`", b" ", b""):
            if line == b"end":
                break
            continue
        try:
            out.append(binascii.a2b_uu(line))
        except binascii.Error:
            # Some encoders pad lines; the first byte says how much of the line counts.
            try:
                out.append(binascii.a2b_uu(line[: (((line[0] - 32) & 63) * 4 + 5) // 3]))
            except binascii.Error:
                defects.add("bad-uuencode")
                return b""
    return b"".join(out)
