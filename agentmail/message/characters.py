"""Characters that nobody sees: taken out of text before a model, a page or a terminal gets it.

Zero-width, bidirectional, tag and filler characters, variation selectors and control characters can carry whole
sentences that only a machine reads (Unicode tags, "emoji smuggling") or reorder what a person reads. Some scripts
need some of them: those stay, one at a time, only where the script puts them. Nothing is normalised: a body keeps
the letters it was written with.
"""

from __future__ import annotations

import re

_NEVER = (
    "\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f"  # C0 and C1 but tab, newline and NEL
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb"
    "\ud800-\udfff"  # half a character: no database stores it, no terminal prints it
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e001f\U000e0080-\U000e0fff"
)
_SOMETIMES = "\u200c\u200d\ufe0e\ufe0f\U000e0020-\U000e007f"
"""Joiners, emoji presentation and tags: their neighbours decide."""
_UNSEEN = re.compile(f"[{_NEVER}]+")
_BY_NEIGHBOUR = re.compile(f"[{_SOMETIMES}]+")
_ANY = re.compile(f"[{_NEVER}{_SOMETIMES}]+")
_LOOKED_AT = 200_000
"""Characters in which neighbours are looked at; behind them all of the unseen ones go."""
_LINE_ENDS = re.compile("\r\n?|[\x85\u2028\u2029]")
_BLANK = "\u2800"  # a Braille cell without dots
_SUSPECT = re.compile(f"[{_NEVER}{_SOMETIMES}\x85\u2028\u2029{_BLANK}]")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]+")

_ZWNJ, _ZWJ, _VS15, _VS16 = "\u200c", "\u200d", "\ufe0e", "\ufe0f"
_FLAG = "\U0001f3f4"
_FLAG_TAGS = frozenset(
    "".join(chr(0xE0000 + ord(letter)) for letter in region) + "\U000e007f" for region in ("gbeng", "gbsct", "gbwls")
)


def clean(text: str) -> tuple[str, int]:
    """`(text, removed)`: the text as a person sees it, and how many characters were taken out. Line ends become \\n."""
    if text.isascii() and text.isprintable():
        return text, 0
    text = _LINE_ENDS.sub("\n", text).replace(_BLANK, " ")
    if _ANY.search(text) is None:
        return text, 0
    before = len(text)
    head, rest = _UNSEEN.sub("", text[:_LOOKED_AT]), _ANY.sub("", text[_LOOKED_AT:])
    out: list[str] = []
    position = 0
    for match in _BY_NEIGHBOUR.finditer(head):
        start, end = match.span()
        out += (head[position:start], _needed(match[0], head[start - 1 : start], head[end : end + 1]))
        position = end
    text = "".join((*out, head[position:], rest))
    return text, before - len(text)


def without_controls(text: str) -> str:
    """Without control characters and halves of characters, which no database stores; everything else stays."""
    return _CONTROLS.sub("", text)


PLAIN = bytes(range(0x20, 0x7F)) + b"\n\r\t"
"""ASCII that `clean` leaves alone, but for line ends."""
HARMLESS_UTF8 = PLAIN + bytes({*range(0x80, 0xF5)} - {0xC2, 0xCD, 0xD8, 0xE1, 0xE2, 0xE3, 0xED, 0xEF, 0xF0, 0xF3})
"""The same and the bytes of characters in UTF-8 of which `clean` takes none: each of the others begins with a byte
that is left out here."""


_HARMLESS_KANA = HARMLESS_UTF8 + b"\xe3"
_FILLER = "\u3164"
"""The one character that begins with E3, as all of the kana do, and is taken out."""


def unharmless(text: str, data: bytes) -> bytes:
    """What of this text in UTF-8 may be part of a character that `clean` takes out; empty for most texts."""
    # One character is found in a text far faster than its three bytes are among those of kana.
    return data.translate(None, HARMLESS_UTF8 if _FILLER in text else _HARMLESS_KANA)


def needs_cleaning(text: str, *, html: bool = False) -> bool:
    """False only when `clean` would not change this text; for HTML, when `without_controls` would not.

    A bytes.translate over UTF-8 is ten times as fast as a pattern over the text, and settles it for most texts.
    """
    data = text.encode("utf-8", "surrogatepass")
    if not unharmless(text, data):
        return False
    rest = data.translate(None, PLAIN).decode("utf-8", "surrogatepass")  # short in most languages
    return is_suspect(rest, html=html)


def is_suspect(text: str, *, html: bool = False) -> bool:
    """Whether `clean` may take something out of this text; for HTML, whether `without_controls` does. Slow."""
    return (_CONTROLS if html else _SUSPECT).search(text) is not None


def on_one_line(text: str, limit: int = 1_000) -> str:
    """Cleaned, every run of white space one space, cut at `limit` characters: for a title or a name."""
    return " ".join(clean(text[: limit * 4])[0].split())[:limit]


def _needed(run: str, before: str, after: str) -> str:
    """What of a run of unseen characters its neighbours need in order to look right."""
    if before == _FLAG and run in _FLAG_TAGS:
        return run
    if _is_emoji(before):
        kept = ""
        if run[0] in (_VS15, _VS16):
            kept, run = run[0], run[1:]
        return kept + _ZWJ if run == _ZWJ and _is_emoji(after) else kept
    if run == _VS16 and before in "0123456789#*" and after == "\u20e3":  # keycaps
        return run
    if run in (_ZWNJ, _ZWJ):
        if _is_indic(before):
            return run
        if _is_arabic(before) and _is_arabic(after):
            return run
        if run == _ZWJ and (_is_arabic(before) or _is_arabic(after)):  # a letter in the form it has inside a word
            return run
    return ""


def _is_emoji(char: str) -> bool:
    return bool(char) and (
        "\U0001f000" <= char <= "\U0001faff"
        or "\u2190" <= char <= "\u2bff"
        or char in "\u00a9\u00ae\u203c\u2049\u2122\u2139\u3030\u303d\u3297\u3299\u20e3"
    )


def _is_indic(char: str) -> bool:
    """Scripts of South and South-East Asia that join with ZWJ and ZWNJ; Mongolian left out on purpose."""
    return bool(char) and ("\u0900" <= char <= "\u0dff" or "\u0f00" <= char <= "\u109f" or "\u1780" <= char <= "\u17d3")


def _is_arabic(char: str) -> bool:
    return bool(char) and (
        "\u0620" <= char <= "\u06ff"
        or "\u0710" <= char <= "\u074f"  # Syriac
        or "\u0750" <= char <= "\u077f"
        or "\u08a0" <= char <= "\u08ff"
        or "\ufb50" <= char <= "\ufdff"
        or "\ufe70" <= char <= "\ufefc"
    )
