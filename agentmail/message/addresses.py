"""Address headers: `Ana Ruiz <ana@x>, list: b@x, c@x;` as names and addresses (RFC 5322 3.4, 4.4). One linear pass.

Lenient where only the name suffers, strict where the address would be a guess: what could be read as two addresses
comes out with an empty `email`, so that nobody trusts it or writes to it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .characters import clean
from .words import decode_words, one_line

MAX_ADDRESSES = 500
"""Of one header."""
MAX_NAME = 1_000
_MAX_EMAIL = 320
"""64 for the local part, 255 for the domain and the "@" (RFC 5321 4.5.3.1)."""

_ATOM = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]++@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
_ONE = re.compile(rf"\s*(?:\"([^\"\\]*)\"|([^\"<>@,;:()\\\[\]=]*?))\s*<({_ATOM})>\s*,?\s*")
_BARE = re.compile(rf"\s*({_ATOM})\s*(?:,\s*|\Z)")
_USUAL = re.compile(rf"(?:\"([^\"\\]*+)\" ?|([^\"<>@,;:()\\\[\]=]*+))<({_ATOM})>|({_ATOM})")
_TOKEN = re.compile(
    r"=\?[^?\s]{1,80}\?[bBqQ]\?[^?\"<>]*\?=|\"(?:[^\"\\]|\\.)*\"|<\s*\"(?:[^\"\\<]|\\.)*\"\s*@[^<>\"]*>|<[^<>\"]*>"
    r"|\\.|[^\s\"<>,;:()\\@=]+|\s+|.",
    re.DOTALL,
)
_LOCAL = r"(?:\"(?:[^\"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*\"|[^\s@<>()\[\],;:\\\"\x00-\x1f\x7f-\x9f]+)"
_DOMAIN = r"(?:\[[^\[\]\s\\]*\]|[^\s@<>()\[\],;:\\\"\x00-\x1f\x7f-\x9f]+)"
_ADDRESS = re.compile(f"{_LOCAL}@{_DOMAIN}")
_ROUTE = re.compile(r"\s*@[^:<>\"]*:")
_AROUND = re.compile(r" ?([.@]) ?")


class Parsed(NamedTuple):
    name: str
    email: str


_made = tuple.__new__
"""Of a NamedTuple, at a third of the price of calling its class, which is a function in Python."""


def read_addresses(value: str) -> tuple[list[Parsed], list[str]]:
    """The addresses of a header value (unfolded, not yet decoded), and the codes of what was wrong with it."""
    found: list[Parsed] = []
    if "  " in value:
        value = " ".join(value.split())  # or a long run of blanks would be searched again from each of them
    position, end = 0, len(value)
    while position < end:
        match = _ONE.match(value, position)
        if match is not None and (match.end() == end or "," in value[match.end(3) : match.end()]):
            found.append(Parsed(_name(match[1] if match[2] is None else match[2]), match[3]))
        else:
            match = _BARE.match(value, position)
            if match is None:
                return _Reader(found).read(value[position:])
            found.append(Parsed("", match[1]))
        position = match.end()
        if len(found) >= MAX_ADDRESSES and position < end:
            return found, ["too-many-addresses"]
    return found, []


def read_usual(value: str) -> Parsed | None:
    """What `read_addresses` reads in a value that is nothing but `Ana Ruiz <ana@x>`, `"Ana" <ana@x>` or `ana@x`.

    A list of such values with `", "` between them is the list of what each of them is: no part of them holds a comma
    that is not between two addresses, for a quoted string that went on behind it would not be one of these.
    """
    match = _USUAL.fullmatch(value)
    if match is None or "  " in value:
        return None
    quoted, plain, email, bare = match.groups()
    return _made(Parsed, ("", bare) if email is None else (_name(plain if quoted is None else quoted), email))


# ---------------------------------------------------------------------------------------------------------------------


class _Reader:
    """The slow way: every token of the header, once."""

    def __init__(self, found: list[Parsed]) -> None:
        self.found = found
        self.defects: list[str] = []
        self._reset()

    def _reset(self) -> None:
        self.words: list[str] = []
        self.plain: list[str] = []  # the same without quoted strings undone: it may be an address
        self.comments: list[str] = []
        self.angles: list[str] = []

    def read(self, value: str) -> tuple[list[Parsed], list[str]]:
        depth = 0
        last = value.rfind(")")
        comment: list[str] = []
        for match in _TOKEN.finditer(value):
            piece = match[0]
            first = piece[0]
            if depth:
                # A comment (RFC 5322 3.2.2) nests; quotes mean nothing in it.
                if first in "\"<":
                    depth += piece.count("(") - piece.count(")")
                else:
                    depth += (piece == "(") - (piece == ")")
                if depth > 0:
                    comment.append(piece)
                else:
                    depth = 0
                    self.comments.append("".join(comment))
                    comment = []
            elif first == "(" and match.start() < last:
                depth = 1
            elif first == '"' and len(piece) > 1:
                self.words.append(re.sub(r"\\(.)", r"\1", piece[1:-1], flags=re.DOTALL))
                self.plain.append(piece)
            elif first == "<" and len(piece) > 1:
                self.angles.append(piece[1:-1])
            elif piece in (",", ";"):
                self._finish()
                if len(self.found) >= MAX_ADDRESSES:
                    self._wrong("too-many-addresses")
                    return self.found, self.defects
            elif piece == ":" and not self.angles and "@" not in self.plain:
                self._reset()  # what stood before was the name of a group; its members follow
            else:
                self.words.append(piece)
                self.plain.append(piece)
        if depth:
            self._wrong("bad-address")
            self.words.append("(" + "".join(comment))
        self._finish()
        return self.found, self.defects

    def _wrong(self, code: str) -> None:
        if code not in self.defects:
            self.defects.append(code)

    def _finish(self) -> None:
        words, plain = "".join(self.words).strip(), "".join(self.plain).strip()
        if len(self.angles) == 1 and not self._begins_another():
            email = self.angles[0]
            email = _ROUTE.sub("", email, count=1) if email.lstrip().startswith("@") else email
            self._add(words or " ".join(self.comments), _tidy(email), shown=self.angles[0])
        elif self.angles:
            # Two addresses for one person: programs disagree on which of them counts, so neither does.
            self._wrong("bad-address")
            self._add(" ".join([words, *(f"<{angle}>" for angle in self.angles)]), "")
        elif plain:
            email = _tidy(plain)
            if _ADDRESS.fullmatch(email) or "@" not in plain:
                self._add(" ".join(self.comments) if "@" in plain else words, email if "@" in plain else "")
            else:
                head, _, last = plain.rpartition(" ")
                alone = "@" not in head and _ADDRESS.fullmatch(last)
                self._add(head.strip('" ') if alone else words, last if alone else "")
        self._reset()

    def _begins_another(self) -> bool:
        """Whether an address stands behind a bracket that never closes: `Ana <ana@x <ben@y>`."""
        return "<" in self.plain and "@" in self.plain[self.plain.index("<") :]

    def _add(self, name: str, email: str, shown: str = "") -> None:
        if email and (len(email) > _MAX_EMAIL or not _ADDRESS.fullmatch(email)):
            name, email = f"{name} <{shown or email}>".strip(), ""
        if not email:
            self._wrong("bad-address")
        name = _name(name)
        if name or email:
            self.found.append(Parsed(name, one_line(email)))


def _tidy(email: str) -> str:
    """Without the white space and comments that the obsolete syntax allows around "." and "@" (RFC 5322 4.4)."""
    email = email.strip()
    if "(" in email and '"' not in email:
        email = re.sub(r"\([^()]*\)", "", email).strip()
    # Blanks one at a time, or the search for those around a dot would be quadratic.
    return _AROUND.sub(r"\1", " ".join(email.split())) if '"' not in email else email


def _name(text: str) -> str:
    if text.isascii() and text.isprintable() and "=?" not in text and "  " not in text:
        return text.strip(" '")[:MAX_NAME]
    text = decode_words(" ".join(text[: MAX_NAME * 8].split()))
    return " ".join(clean(text)[0].split()).strip(" '")[:MAX_NAME]
