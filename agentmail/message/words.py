"""Encoded words (RFC 2047) and the one line that a header value is."""

from __future__ import annotations

import binascii
import re
from functools import lru_cache

from . import charsets

_WORD = re.compile(r"=\?([^?\s]{1,80})\?([bBqQ])\?(.*?)\?=", re.DOTALL)
_BREAKS = re.compile("[\r\n\x0b\x0c\x85\u2028\u2029](?: *+[\r\n\x0b\x0c\x85\u2028\u2029])*+ *+")
"""Line ends and the blanks between and behind them; a pattern that begins with blanks would be quadratic."""
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]+")
_MAX_PIECES = 1_000
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_DIGITS = _BASE64[:-1]
_BLANKS = b"\n\r \t"
_JUNK = bytes(byte for byte in range(256) if byte not in _BASE64)


def one_line(text: str) -> str:
    """The value without line breaks of any kind, controls and halves of characters; tabs become blanks.

    Nothing else is changed: invisible characters may be part of a name or a subject in many scripts.
    """
    if not text.isprintable():
        pieces = _BREAKS.split(text.replace("\t", " "))
        text = _CONTROLS.sub("", " ".join([piece.rstrip(" ") for piece in pieces]) if len(pieces) > 1 else pieces[0])
    return text.strip()


def decode_words(value: str, defects: set[str] | None = None) -> str:
    """`value` with its encoded words decoded, on one line. What cannot be decoded stays as it was written.

    White space between two encoded words is not shown (RFC 2047 6.2). Neighbours in the same charset are joined
    before they are decoded, since many senders cut in the middle of a letter (against RFC 2047 5).
    """
    if "=?" not in value or "?=" not in value:
        return one_line(value)
    text, wrong = _remembered(value) if len(value) <= _MAX_REMEMBERED else _decoded(value)
    if defects is not None:
        defects.update(wrong)
    return text


def _decoded(value: str) -> tuple[str, frozenset[str]]:
    last = value.rfind("?=")
    defects: set[str] = set()
    out: list[str] = []
    pending: list[bytes] = []
    charset = ""
    position = 0
    # Every word ends before `last`, so no search for an end runs to the end of the value in vain: linear.
    for match in _WORD.finditer(value, 0, last + 2):
        data = _payload(match[2], match[3])
        if data is None:
            continue
        label = match[1].partition("*")[0].lower()  # RFC 2231 5: =?utf-8*en?q?…
        between = value[position : match.start()]
        if pending and not (between == "" or between.isspace()):
            out.append(_text(pending, charset, defects))
            pending = []
        if not pending:
            out.append(between)
        elif label != charset:
            out.append(_text(pending, charset, defects))
            pending = []
        pending.append(data)
        charset = label
        position = match.end()
    if pending:
        out.append(_text(pending, charset, defects))
    out.append(value[position:])
    return one_line("".join(out)), frozenset(defects)


_MAX_REMEMBERED = 500
_remembered = lru_cache(maxsize=1_024)(_decoded)
"""A subject is read for itself and among the headers, and again in every answer."""


def decode_base64(data: bytes) -> tuple[bytes, bool]:
    """`(bytes, clean)`: as much as can be had. Junk is skipped, missing padding supplied, pieces are joined."""
    data = compact(data)
    padding = data[-2:].count(b"=")
    try:
        decoded = binascii.a2b_base64(data)
        if len(decoded) == len(data) // 4 * 3 - padding and len(data) % 4 == 0:
            return decoded, True  # had there been anything else in it, it would be shorter
    except binascii.Error:
        pass
    out: list[bytes] = []
    # Padding in the middle ends a piece: mail that was put together from several encoded files.
    for piece in re.split(rb"=+", data.translate(None, _JUNK), maxsplit=_MAX_PIECES):
        digits = piece.replace(b"=", b"")
        if len(digits) % 4 == 1:
            digits = digits[:-1]
        out.append(binascii.a2b_base64(digits + b"=" * (-len(digits) % 4)))
    return b"".join(out), False


def compact(data: bytes) -> bytes:
    """Without white space. One character at a time: bytes.replace is faster at it than bytes.translate."""
    for blank in (b"\n", b"\r", b" ", b"\t"):
        data = data.replace(blank, b"")
    return data


def base64_size(data: bytes) -> int | None:
    """How many bytes base64 stands for, with white space in it or without; None when anything else is in it."""
    rest = data.translate(None, _DIGITS)
    padding = rest.translate(None, _BLANKS)
    size = len(data) - len(rest) + len(padding)
    if size % 4 or len(padding) > 2 or padding.strip(b"=") or not data.rstrip(_BLANKS).endswith(padding):
        return None
    return size // 4 * 3 - len(padding)


# ---------------------------------------------------------------------------------------------------------------------


def _payload(encoding: str, text: str) -> bytes | None:
    raw = text.encode("utf-8", "surrogatepass")
    if encoding in "qQ":
        return binascii.a2b_qp(raw, header=True)
    if not raw.isascii():
        return None
    return decode_base64(raw)[0]


def _text(pieces: list[bytes], charset: str, defects: set[str]) -> str:
    text, defect, _ = charsets.decode(b"".join(pieces), charset)
    if defect:
        defects.add(defect)
    return text
