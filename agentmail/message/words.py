"""Header values as people read them: RFC 2047 encoded words decoded, on one line, without control characters."""

from __future__ import annotations

import binascii
import re

from .charsets import codec_of, decode, storable

MAX_WORDS = 2_000
"""Encoded words decoded in one value; the standard library takes 4 GB for some tens of thousands."""

_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?]*)\?=")
_UNFOLD = re.compile(r"\r?\n(?=[ \t])|\r?\n\Z")
# C0, DEL, C1, and the line ends that Python's splitlines and some clients know besides CR and LF.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")


def one_line(text: str) -> str:
    """A value on one line: control characters become one space, ends are stripped."""
    if text.isascii() and text.isprintable():
        return text.strip(" ")
    return storable(_CONTROL.sub(" ", text)).strip()


def raw_text(value: bytes) -> str:
    """A header value's bytes as text: UTF-8 when it is (RFC 6532), else Windows-1252; folds undone."""
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        text = decode(value, None)[0]
    return _UNFOLD.sub("", text) if "\n" in text else text


def decode_words(text: str) -> str:
    """RFC 2047 encoded words decoded; white space between two of them is not part of the text (6.2).

    Words of one charset that touch are decoded together: senders split characters of several bytes between words.
    """
    if "=?" not in text:
        return text
    out: list[str] = []
    position = 0
    pending: list[tuple[str, bytes]] = []
    for number, match in enumerate(_WORD.finditer(text)):
        if number >= MAX_WORDS:
            break
        between = text[position : match.start()]
        if between.strip() or not pending:
            out.append(_join(pending))
            pending = []
            out.append(between)
        charset, encoding, payload = match[1], match[2].lower(), match[3]
        data = _b(payload) if encoding == "b" else _q(payload)
        if data is None:
            out.append(_join(pending))
            pending = []
            out.append(match[0])
        else:
            pending.append((charset.lower().partition("*")[0], data))
        position = match.end()
    out.append(_join(pending))
    out.append(text[position:])
    return "".join(out)


def _join(pending: list[tuple[str, bytes]]) -> str:
    """Decode runs of one charset at once, except where the charset has a state of its own per word (ISO-2022)."""
    out = []
    i = 0
    while i < len(pending):
        charset = pending[i][0]
        j = i + 1
        if not (codec_of(charset) or "").startswith("iso-2022"):
            while j < len(pending) and pending[j][0] == charset:
                j += 1
        out.append(decode(b"".join(d for _, d in pending[i:j]), charset)[0])
        i = j
    return "".join(out)


def _b(payload: str) -> bytes | None:
    cleaned = re.sub(r"[^A-Za-z0-9+/]", "", payload.translate({0x2D: "+", 0x5F: "/"}))
    cleaned = cleaned[: len(cleaned) - (len(cleaned) % 4 == 1)]
    try:
        return binascii.a2b_base64(cleaned + "=" * (-len(cleaned) % 4))
    except (binascii.Error, ValueError):
        return None


def _q(payload: str) -> bytes:
    data = payload.encode("utf-8", "replace").replace(b"_", b" ")
    return _HEX.sub(lambda m: bytes.fromhex(m[1].decode("ascii")), data)
