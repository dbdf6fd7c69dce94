"""Content-Type and Content-Disposition: a value and its parameters (RFC 2045 5.1, RFC 2183, RFC 2231)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import unquote_to_bytes

from . import charsets
from .words import decode_words, one_line

MAX_PARAMETERS = 128
"""Of one header, RFC 2231 pieces counted one by one."""
NONE: Mapping[str, str] = MappingProxyType({})

_PARAMETER = re.compile(r"\s*([^\s=;\"]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"[^;]*|([^;]*))|[^;]+", re.DOTALL)
_PIECE = re.compile(r"(.+?)\*(?:(\d{1,4})(\*?))?")
_PLAIN = re.compile(r"([A-Za-z0-9!#$&^_.+/-]+)\s*;\s*([A-Za-z-]+)\s*=\s*(?:\"([^\"\\=]*)\"|([^\s;\"=]+))\s*;?\s*")


def read(value: str, defects: set[str]) -> tuple[str, Mapping[str, str]]:
    """`(token in lower case, parameters)`. Names are in lower case, values decoded and on one line.

    Of a parameter given twice the first counts. A quoted string that never ends is read up to the next semicolon.
    """
    if len(value) > 120:
        return _read(value, defects)
    token, parameters, wrong = _short(value)
    defects.update(wrong)
    return token, parameters


@lru_cache(maxsize=1_024)
def _short(value: str) -> tuple[str, Mapping[str, str], tuple[str, ...]]:
    """Mails share most of these headers, letter for letter."""
    defects: set[str] = set()
    token, parameters = _read(value, defects)
    return token, MappingProxyType(dict(parameters)), tuple(defects)


def _read(value: str, defects: set[str]) -> tuple[str, Mapping[str, str]]:
    match = _PLAIN.fullmatch(value)
    if match is not None:
        return match[1].lower(), {match[2].lower(): match[4] if match[3] is None else match[3]}
    token, semicolon, rest = value.partition(";")
    if not semicolon and "=" in token:
        rest, token = token, ""  # parameters without the value in front
    if "(" in token:
        token = token.partition("(")[0]  # a comment (RFC 2045 5.1)
    return one_line(token).lower(), _parameters(rest, defects) if rest else NONE


def _parameters(text: str, defects: set[str]) -> dict[str, str]:
    plain: dict[str, str] = {}
    pieces: dict[str, dict[int, tuple[str, bool]]] = {}
    for number, match in enumerate(_PARAMETER.finditer(text)):
        if number >= MAX_PARAMETERS:
            defects.add("too-many-parameters")
            break
        if match[1] is None:
            continue
        name = match[1].lower()
        if match[2] is not None:
            value = re.sub(r"\\(.)", r"\1", match[2], flags=re.DOTALL) if "\\" in match[2] else match[2]
        else:
            value = match[3].strip().strip('"')
            if value.endswith(")") and not name.startswith(("name", "filename")):
                value = value.partition("(")[0].rstrip()  # a comment; names of files do hold parentheses
        piece = _PIECE.fullmatch(name) if "*" in name else None
        if piece is not None:
            encoded = piece[2] is None or piece[3] == "*"
            pieces.setdefault(piece[1], {}).setdefault(int(piece[2] or 0), (value, encoded))
        elif name not in plain:
            plain[name] = value
        elif plain[name] != value:
            defects.add("repeated-parameter")
    for name, numbered in pieces.items():
        plain[name] = _joined(numbered, defects)  # RFC 6266 4.3, and every client: the extended form wins
    return {name: one_line(decode_words(value)) for name, value in plain.items()}


def _joined(numbered: Mapping[int, tuple[str, bool]], defects: set[str]) -> str:
    """RFC 2231 3 and 4: pieces in the order of their numbers, percent-decoded where they say so."""
    charset = ""
    data: list[bytes] = []
    for expected, number in enumerate(sorted(numbered)):
        if number != expected:
            defects.add("bad-parameter")
            break  # a piece is missing: what follows belongs to something else
        value, encoded = numbered[number]
        if encoded and number == 0 and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        data.append(unquote_to_bytes(value) if encoded else value.encode("utf-8", "replace"))
    text, defect, _ = charsets.decode(b"".join(data), charset or None)
    if defect:
        defects.add(defect)
    return text
