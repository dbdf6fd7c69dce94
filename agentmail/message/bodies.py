"""The bytes of a text part to text that every database stores and every terminal can show.

Most texts are plain ASCII, or UTF-8 and windows-1252 without anything unseen. One `bytes.translate` finds that out,
ten times as fast as a pattern over the text would; everything else takes the long way.
"""

from __future__ import annotations

import codecs
import io
from functools import lru_cache

from . import charsets
from .characters import PLAIN, clean, is_suspect, needs_cleaning, unharmless, without_controls

MAX_TEXT = 4_000_000
"""Characters of text, and of HTML, that a Message carries; a longer body is cut there. The raw bytes keep the rest."""
_MAX_BYTES = 4 * MAX_TEXT
"""Of one text part, decoded from its transfer encoding: no charset needs more than four for a character."""
_WIDE = ("utf_16", "utf_32")
"""Charsets in which a byte 10 is no line end."""
_STATEFUL = ("iso2022", "hz", "utf_7", *_WIDE)
"""Charsets in which an ASCII byte need not be an ASCII letter."""


def read_text(data: bytes, charset: str | None, defects: set[str], *, html: bool) -> str:
    """The text of a part, decoded from its transfer encoding before, with "\\n" at its line ends."""
    codec = charsets.codec_of(charset) if charset else None
    if len(data) > _MAX_BYTES:
        defects.add("text-cut")
        end = 0 if codec is not None and codec.startswith(_WIDE) else data.rfind(b"\n", 0, _MAX_BYTES) + 1
        data = data[: end or _MAX_BYTES]
    text = None if codec is not None and _is_stateful(codec) else _harmless(data, charset, codec, html=html)
    if text is not None:
        if "\r" in text:
            text = _lines(text)
        return text if len(text) <= MAX_TEXT else _cut(text, defects)
    text, defect, cut = charsets.decode(data, charset)
    if defect:
        defects.add(defect)
    if cut:
        defects.add("text-cut")
    if text[:1] == "\ufeff":
        text = text[1:]
    text = _cut(_lines(text) if "\r" in text else text, defects)
    if not needs_cleaning(text, html=html):
        return text
    if html:
        return without_controls(text)
    text, removed = clean(text)
    if removed:
        defects.add("unseen-characters")
    return text


def is_plain(charset: str | None, kind: str) -> bool:
    """Whether line ends may be changed before the text is decoded: it says the same then."""
    if not charset:
        return kind != "text/html"  # where the page itself may name it, within so many bytes
    codec = charsets.codec_of(charset)
    return codec is None or not _is_stateful(codec)


# ---------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=128)
def _is_stateful(codec: str) -> bool:
    return codec.startswith(_STATEFUL)


def _harmless(data: bytes, charset: str | None, codec: str | None, *, html: bool) -> str | None:
    """The text when nothing in it has to be repaired or removed, but for its line ends; None when something may."""
    if codec in ("utf_8", "ascii") or not charset:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return None
        if text.isascii():  # a flag of the string, where the bytes would be looked at once more
            return None if data.translate(None, PLAIN) else text
        return text if not unharmless(text, data) or _seen(data, html=html) else None
    if data.isascii():
        return None if data.translate(None, PLAIN) else data.decode("ascii")
    if codec is None:
        return None
    if codec != "cp1252" and codec.startswith(charsets.ONE_BYTE):
        try:
            return codecs.charmap_decode(data, "strict", _letters_of(codec))[0]  # looks and decodes in one pass
        except UnicodeDecodeError:
            return None
    if data.translate(None, _letters(codec)):
        return None
    if codec == "cp1252":
        codec = "latin_1"  # the same but for 80 to 9F, which are no letters of it here, and far faster
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _seen(data: bytes, *, html: bool) -> bool:
    """Whether all characters of UTF-8 can be seen; only those that are not ASCII are looked at."""
    try:
        rest = data.translate(None, PLAIN).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not rest.startswith("\ufeff") and not is_suspect(rest, html=html)


@lru_cache(maxsize=64)
def _letters(codec: str) -> bytes:
    """The bytes that are by themselves characters which are never taken out, whatever stands beside them."""
    return PLAIN + bytes(byte for byte in range(0xA0 if codec == "cp1252" else 0x80, 0x100) if _is_letter(byte, codec))


@lru_cache(maxsize=64)
def _letters_of(codec: str) -> str:
    """For each byte of a charset of single bytes its character; U+FFFE, which means none, for those not in _letters."""
    letters = _letters(codec)
    return "".join(bytes((byte,)).decode(codec) if byte in letters else "\ufffe" for byte in range(0x100))


def _is_letter(byte: int, codec: str) -> bool:
    try:
        return not needs_cleaning(bytes((byte,)).decode(codec))
    except UnicodeDecodeError:
        return False


def _lines(text: str) -> str:
    """With "\\n" for "\\r\\n" and "\\r": one pass in C, where str.replace would search twice."""
    return io.IncrementalNewlineDecoder(None, translate=True).decode(text, final=True)


def _cut(text: str, defects: set[str]) -> str:
    if len(text) <= MAX_TEXT:
        return text
    defects.add("text-cut")
    return text[:MAX_TEXT]
