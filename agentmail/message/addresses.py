"""Address headers: `Ana Ruiz <ana@x>, list: b@x, c@x;` into names and addresses. Linear, and never raises.

One pass over the tokens of RFC 5322 3.4, lenient where real mail is. What looks like an address but is not surely one
(two "@", an unclosed quote) comes out with an empty `email`: nobody may be trusted or written to by a guess.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .words import decode_words, one_line

MAX_ADDRESSES = 500

_FAST = re.compile(
    r'\s*(?:"([^"\\]*)"|([^"<>@,;:()\\\[\]]*?))\s*<([A-Za-z0-9.!#$%&\'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+)>\s*\Z'
)
_FAST_BARE = re.compile(r"\s*([A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+)\s*\Z")
# An encoded word is one token: a ":" or "," inside of it belongs to the name (RFC 2047 5, rule 3).
_TOKEN = re.compile(
    r'=\?[^?\s]{1,60}\?[bBqQ]\?[^?\s]*\?=|"(?:[^"\\]|\\.)*"?|\((?:[^()\\]|\\.)*\)|<[^<>]*>?|[,;:]|(?:(?!=\?)[^",;:<(])+|\(|=',
    re.DOTALL,
)
_ADDRESS = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|[^\s@<>()\[\],;:\\"]+)@(?:\[[^\]\s]*\]|[^\s@<>()\[\],;:\\"]+)\Z""")
_ROUTE = re.compile(r"\s*@[^:<>]*:")


class Parsed(NamedTuple):
    name: str
    email: str


def read_addresses(value: str) -> tuple[list[Parsed], list[str]]:
    """The addresses of a header value (unfolded, not yet decoded), and what was wrong with it."""
    match = _FAST.match(value)
    if match is not None:
        return [Parsed(_name(match[1] if match[1] is not None else match[2]), match[3])], []
    match = _FAST_BARE.match(value)
    if match is not None:
        return [Parsed("", match[1])], []
    return _slow(value)


def _slow(value: str) -> tuple[list[Parsed], list[str]]:
    found: list[Parsed] = []
    defects: list[str] = []
    words: list[str] = []  # of the name, or of a bare address
    comment = ""
    angle: str | None = None

    def finish() -> None:
        nonlocal words, comment, angle
        if angle is not None:
            email = _ROUTE.sub("", angle, count=1)
            _add("".join(words), email)
        elif text := "".join(words).strip():
            compact = re.sub(r"\s*([@.])\s*", r"\1", text)
            if _ADDRESS.match(compact):
                _add(comment, compact)
            elif "@" in text:
                # Something of the form `name ana@x`: the last word may be it, if it is alone in being one.
                head, _, last = text.rpartition(" ")
                if head and "@" not in head and _ADDRESS.match(last):
                    _add(head, last)
                else:
                    _add(text, "")
            else:
                _add(text, "")
        words, comment, angle = [], "", None

    def _add(name: str, email: str) -> None:
        email = re.sub(r"\s+", "", email) if '"' not in email else email.strip()
        if email and not _ADDRESS.match(email):
            name, email = (f"{name} {email}".strip() if name else email), ""
        if not email and "bad-address" not in defects:
            defects.append("bad-address")
        if name or email:
            found.append(Parsed(_name(name), one_line(email)))

    for token in _TOKEN.finditer(value):
        text = token[0]
        first = text[0]
        if first == '"':
            if len(text) == 1 or not text.endswith('"'):
                defects.append("bad-address") if "bad-address" not in defects else None
            following = value[token.end() : token.end() + 1]
            words.append(text if following == "@" else re.sub(r"\\(.)", r"\1", text.strip('"')))
        elif first == "(":
            comment = comment or text.strip("()")
        elif first == "<":
            if angle is None:
                angle = text.strip("<>")
            elif "bad-address" not in defects:
                defects.append("bad-address")
        elif first in ",;":
            finish()
        elif first == ":":
            words, comment, angle = [], "", None  # the name of a group (RFC 5322 3.4); its members follow
        else:
            words.append(text)
        if len(found) >= MAX_ADDRESSES:
            defects.append("too-many-addresses")
            return found, defects
    finish()
    return found[:MAX_ADDRESSES], defects


def _name(text: str) -> str:
    return one_line(decode_words(" ".join(text.split()) if not text.isprintable() or "  " in text else text)).strip(
        "\"' "
    )
