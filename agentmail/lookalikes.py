"""Domains that the eye takes for another one: letters of other scripts, "rn" for "m", a hyphen, one letter changed."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_LOOKS = {
    "a": "аɑαᴀ", "b": "ьвƅʙβ", "c": "сϲҫᴄ", "d": "ԁđɗᴅ", "e": "3еєεҽᴇ", "f": "ƒ", "g": "ɡցɢ", "h": "һнհħʜ",
    "i": "іıιɩɪ", "j": "јϳᴊ", "k": "кκқᴋ", "l": "1ӏłʟǀ", "m": "мᴍ", "n": "пոηŋɴ", "o": "0оοօøσסᴏ", "p": "рρᴘ",
    "q": "ԛզ", "r": "гʀ", "s": "5ѕςʂꜱ", "t": "тτŧᴛ", "u": "սυᴜ", "v": "νѵᴠ", "w": "ԝωᴡ", "x": "хχ",
    "y": "уγүʏ", "z": "ƶᴢ",
}  # fmt: skip
_SHAPES = str.maketrans({c: letter for letter, likes in _LOOKS.items() for c in likes} | {"-": None, "ß": "ss"})
_PROVIDERS = frozenset(
    "aol.com email.com fastmail.com gmail.com gmx.com gmx.de gmx.net googlemail.com hotmail.com icloud.com live.com "
    "mail.com mail.ru outlook.com proton.me protonmail.com rocketmail.com web.de yahoo.com yandex.ru ymail.com "
    "zoho.com".split()
)
"""Where everybody has an address. Some differ in a letter; none imitates another one."""
_SECOND = frozenset("ac co com edu go gob gouv gov gv ltd me mil ne net nom or org plc sch".split())
"""What stands before a country as a part of its ending: `co.uk`, `com.br`."""
_SHARED = frozenset(("onmicrosoft.com",))
"""Endings under which anybody gets a name."""


def look_alike(domain: str, familiar: Iterable[str]) -> str | None:
    """The familiar domain that this one could be mistaken for, or None.

    One name under two endings is none: `acme.it` and `acme.lt` are mostly one company, in two countries.
    """
    if domain in _PROVIDERS:
        return None
    shape, end = _shape(domain), _end(domain)
    for other in sorted(familiar):
        if not other or other == domain or len(other) <= 4:
            continue
        if (end == _end(other) and shape == _shape(other)) or _one_apart(domain, other) or _worn(domain, other):
            return other
    return None


def _shape(domain: str) -> str:
    """What the eye sees: accents off, look-alikes folded, "rn" as "m"."""
    text = ".".join(map(_as_shown, domain.lower().split(".")))
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    folded = bare.translate(_SHAPES)
    return folded.replace("rn", "m").replace("vv", "w").replace("cl", "d").replace("i", "l")


def _as_shown(label: str) -> str:
    """Not by Python's codec, which refuses names with letters that IDNA 2003 had not."""
    if label.startswith("xn--"):
        try:
            return label[4:].encode("ascii").decode("punycode").lower()
        except UnicodeError:
            pass
    return label


def _end(domain: str) -> str:
    return domain.rpartition(".")[2]


def _registered(domain: str) -> str:
    """The part that somebody bought: what stands below it is theirs."""
    labels = domain.split(".")
    country = len(labels[-1]) == 2 and labels[-2:-1] and labels[-2] in _SECOND
    return ".".join(labels[-3 if country or ".".join(labels[-2:]) in _SHARED else -2 :])


def _one_apart(a: str, b: str) -> bool:
    """One letter changed, added, left out, or two neighbours swapped, in a name long enough to matter."""
    if min(len(a), len(b)) < 8 or abs(len(a) - len(b)) > 1 or _end(a) != _end(b) or _registered(a) == _registered(b):
        return False
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    x, y = a[start:], b[start:]
    return x[1:] == y[1:] or x[1:] == y or x == y[1:] or (x[:2] == y[1::-1] and x[2:] == y[2:])


def _worn(domain: str, other: str) -> bool:
    """`acme.test.evil.test`, `acme.test-login.test`: the whole of the other one in front of somebody else's.
    `acme.com.br` is a country's.
    """
    _, found, rest = f".{domain}.".partition(f".{other}")
    return "." in other and bool(found) and (rest[0] == "-" or (rest[0] == "." and len(rest) > 4))
