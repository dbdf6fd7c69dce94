"""Text to the words that search compares: the same for the index and for the query, on both databases.

The databases' own ways to cut text into words differ from each other and between versions (PostgreSQL takes
`foo/invoice.pdf` for one word, SQLite finds nothing inside a run of Chinese). So text is cut here, and the databases
get words between spaces. Changing anything in this file changes what the index holds: it needs a migration that
rebuilds the index (`retention.reindex`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from ..message.models import Message

INDEXED = 100_000
"""Characters of a message's text that can be found. (A tsvector holds no more than 1 MB.)"""
LONGEST = 64
"""Characters of a word that count; what is longer is no word of a language."""

HAS_ATTACHMENT = "\ue000a"
EVERY = "\ue000e"
"""A word that every message has, so that a query of nothing but `-word` has something to subtract from."""
# Words of our own begin with a private-use character, which no text can bring in: `normalised` drops it.

_ASCII = bytes(ord(chr(c).lower()) if c < 128 and chr(c).isalnum() else 32 for c in range(256))
"""For `bytes.translate`, which looks each byte up in a table; of a str Python asks a dict."""
_NO_WORD = re.compile(r"[\W_]+")
_ACCENTS = re.compile("[\u0300-\u036f]+")
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff])"
)
"""Scripts that are written without spaces (and Hangul, whose endings stick to the word): each character is a word, and
a word of a query is a phrase of them, so that any part of a run can be found."""
_LONG = re.compile(rf"([^ ]{{{LONGEST}}})[^ ]+")
_TOO_LONG = re.compile(rf" [^ ]{{{LONGEST + 1}}}")
"""Whether `_LONG` has anything to cut: looked at from blanks only, which is four times as quick."""
_SHAPE = bytes(32 if c == 32 else 120 for c in range(256))
_TOO_LONG_SHAPE = b"x" * (LONGEST + 1)
"""The same of bytes, all words made of x: to find one string is quicker by far than to match a pattern."""


@dataclass(frozen=True, slots=True)
class IndexText:
    """What the index holds of one message: words between spaces, by where they stand."""

    subject: str
    sender: str
    recipients: str
    body: str
    marks: str


def normalised(text: str) -> str:
    """Lower case, without accents, everything that is no letter or digit a space, unspaced scripts spaced."""
    if text.isascii():
        data = text.encode("ascii").translate(_ASCII)
        text = data.decode("ascii")
        return _LONG.sub(r"\1", text) if _TOO_LONG_SHAPE in data.translate(_SHAPE) else text
    try:
        text = text.translate(_LETTERS)
    except _DependsOnNeighboursError:
        text = _spelled_out(text)
    return _LONG.sub(r"\1", text) if _TOO_LONG.search(f" {text}") else text


def _spelled_out(text: str) -> str:
    text = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    text = _NO_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold())
    return _UNSPACED.sub(r" \1 ", text)


class _DependsOnNeighboursError(Exception):
    """A character that may become one with the character before it: a vowel sign, a voiced mark, a jamo."""


class _Letters(dict[int, str]):
    """What each character becomes, worked out when it is met first: three times as quick as five passes over a text.

    It holds at most one entry for each character there is. Between words it may leave more than one space.
    """

    def __missing__(self, code: int) -> str:
        char = chr(code)
        parts = _ACCENTS.sub("", unicodedata.normalize("NFKD", char.casefold()))
        if parts and (unicodedata.category(parts[0])[0] == "M" or "\u1160" <= parts[0] <= "\u11ff"):
            raise _DependsOnNeighboursError
        self[code] = became = _spelled_out(char)
        return became


_LETTERS = _Letters()


def index_text(message: Message) -> IndexText:
    """The words of a message."""
    sender = message.sender
    names = " ".join(a.name for a in message.attachments)
    text = message.text[:INDEXED]
    return IndexText(
        subject=normalised(message.subject[:2_000]),
        sender=normalised(f"{sender.name} {sender.email}"[:1_000]) if sender is not None else "",
        recipients=normalised(" ".join(f"{a.name} {a.email}" for a in message.recipients[:200])[:10_000]),
        body=normalised(f"{text}\n{names[:10_000]}" if names else text),
        marks=f"{EVERY} {HAS_ATTACHMENT}" if message.attachments else EVERY,
    )


_LAST_POSITION = 16_383
"""PostgreSQL keeps no higher one; phrases beyond it are found less exactly."""
_SHORT = _LAST_POSITION
"""Words of a text that takes the short way."""


_PLACES = 250
"""Of one word PostgreSQL keeps 256 positions."""
_LARGEST = 1_000_000
"""Bytes of a tsvector; PostgreSQL refuses more than 2^20."""


def tsvector(text: IndexText) -> str:
    """The literal of a tsvector: written here, because PostgreSQL's parser would cut the words again, its own way."""
    weighted = (
        ("A", text.subject), ("B", text.sender), ("C", text.recipients), ("", text.body), ("A", text.marks),
    )  # fmt: skip
    parts = [(weight, part.split()) for weight, part in weighted]
    count = sum(len(words) + 3 for _, words in parts)
    if count > _SHORT or 10 * count + 4 * sum(len(part) for _, part in weighted) > _LARGEST:
        return _long_tsvector(parts)
    places: dict[str, list[str]] = defaultdict(list)
    start = 1
    for weight, words in parts:
        numbers = _numbers()[start : start + len(words)]
        for word, number in zip(words, [n + weight for n in numbers] if weight else numbers, strict=True):
            places[word].append(number)
        start += max(len(words), 1) + 2  # no phrase reaches from one part into the next
    return " ".join([f"{word}:{','.join(at[:_PLACES])}" for word, at in places.items()])


@cache
def _numbers() -> list[str]:
    """Every position in digits: writing them out was half of the work."""
    return list(map(str, range(_LAST_POSITION + 1)))


def _long_tsvector(parts: Sequence[tuple[str, Sequence[str]]]) -> str:
    """The same, within PostgreSQL's limits: what does not fit has no place, and then no word."""
    places: dict[str, list[str]] = {}
    room = _LARGEST
    start = 1
    for weight, words in parts:
        position = start
        for position, word in enumerate(words, start):
            at = places.get(word)
            if at is None:
                if (room := room - len(word.encode()) - 8) < 0:
                    continue
                at = places[word] = []
            if len(at) < _PLACES and position <= _LAST_POSITION:
                room -= 2
                at.append(f"{position}{weight}")
        start = position + 3
    return " ".join(f"{word}:{','.join(at)}" if at else word for word, at in places.items())
