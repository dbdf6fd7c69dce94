"""Message-IDs: read them out of headers as people really write them, compare them, make new ones.

An id is a string with its angle brackets, `"<a@b>"`. It is opaque (RFC 5322 3.6.4): two ids are the same when
`normalise` says the same of both, and case counts (RFC 5256 2.2).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime
from functools import lru_cache
from secrets import token_bytes
from typing import Literal, NamedTuple

from ..errors import BadInput
from .domains import ascii_domain
from .words import decode_words

MAX_IDS = 100
"""Of one header. What is more is left out in the middle: the first names the thread, the last ones the parents."""
MISSING_DOMAIN = "missing.invalid"
"""Where we put the ids of messages that came without one (RFC 2606: `.invalid` never resolves)."""
MAX_ID = 996
"""Characters between the brackets. A longer one fits on no line of mail (RFC 5322 2.1.1), so no sender made it."""
_MAX_VALUE = 65_536


class Found(NamedTuple):
    """The ids in a header value."""

    ids: tuple[str, ...] = ()
    """With angle brackets, each once, in the order they stand, fit to be written into a header again."""
    bare: tuple[str, ...] = ()
    """Tokens that look like ids but stood without brackets, given brackets here.

    Trap: in In-Reply-To and References they may be anything, so believe one only when a stored message owns it.
    For kind `own` they are in `ids` as well.
    """
    cut: bool = False
    """True when there were more than MAX_IDS."""


_CLEAN = re.compile(r"\s*(?:<[^\s<>()\"\\,@:;\x00-\x1f\x7f-\x9f]+@[^\s<>()\"\\,@:;\x00-\x1f\x7f-\x9f]+>[\s,]*)+")
_ALONE = re.compile(r"<[A-Za-z0-9._+$=/-]++@[A-Za-z0-9._-]++>")
_USUAL = re.compile(rf"{_ALONE.pattern}(?: +{_ALONE.pattern})*+")
"""The commonest part of what _CLEAN matches, at a third of its price: no category has to be looked up."""
_ANGLE = re.compile(r"<\s*\"(?:[^\"\\<]|\\.)*\"\s*@[^<>]*>|<[^<>]*>")
_SIMPLE = re.compile(r"<[^<>]*>")
_UNSAFE = re.compile("[\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ud800-\udfff]+")
_INNER_COMMENT = re.compile(r"(?:^|(?<=\s))\([^()<>]*\)(?=\s|$)")
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*)\"@(.*)", re.DOTALL)
_ATEXT = re.compile(r"[^\s<>()\"\\,:;@\[\]\x00-\x1f\x7f-\x9f]+")
_BARE = re.compile(r"[^\s<>@()\"\[\]]+@[^\s<>@()\"\[\]]+")
_MARKS = re.compile(r"\\.|[()<>]", re.DOTALL)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z._+-]{0,40}@[A-Za-z][A-Za-z0-9.-]*\.[A-Za-z]{2,}")


def find_ids(value: str, kind: Literal["own", "in-reply-to", "references"]) -> Found:
    """The ids in the value of a Message-ID, In-Reply-To or References header. Never raises; linear.

    Phrases and comments are skipped (RFC 5322 4.5.4). White space inside brackets is taken out: it came from folding.
    Of nested brackets the innermost count. An id without "@" is found too, though it can only be trusted when a
    stored message owns it. In In-Reply-To an address that follows a phrase ("Message from Ana <ana@x> of …") is left
    out, since it names a person.
    """
    if is_id(value):
        return Found((value,))
    value = value[:_MAX_VALUE]
    if _USUAL.fullmatch(value):
        return _found(value.split(" ") if "  " not in value else value.split())
    if _CLEAN.fullmatch(value):
        return _found(_SIMPLE.findall(value))
    if "=?" in value and "=?" in _SIMPLE.sub("", value):
        value = decode_words(value)  # CPython encodes long ids, brackets and all; inside of brackets it is the id
    if "(" in value:
        value = _without_comments(value)
    ids: list[str] = []
    people: list[str] = []
    phrase_end = 0
    for match in _ANGLE.finditer(value):
        found = _tidy(match[0][1:-1])
        if found is None:
            continue
        phrase = value[phrase_end : match.start()]
        phrase_end = match.end()
        if kind == "in-reply-to" and phrase.strip(" \t\r\n,") and _ADDRESS.fullmatch(found):
            people.append(f"<{found}>")
            continue
        ids.append(f"<{found}>")
    if len(people) > 1 and not ids:
        ids = people[-1:]  # "Message from Ana <ana@x> of … <id@y>": the id comes last
    if ids or "<" in value:
        return _found(ids)
    tokens = value.replace(",", " ").split()
    if not tokens or not all(map(_BARE.fullmatch, tokens)):
        return Found()
    tidied = [f"<{found}>" for token in tokens if (found := _tidy(token))]
    bare = _found(tidied)
    return Found(bare.ids if kind == "own" else (), bare.ids, bare.cut)


def is_id(value: str) -> bool:
    """Whether the value is surely one id and nothing else: most are. False says nothing."""
    return len(value) < 200 and _ALONE.fullmatch(value) is not None


def normalise(message_id: str) -> str:
    """The form to compare by, and to store as a key: quoting of the left side undone (RFC 5256 2.2), case kept.

    Trap: it is for comparing only. What it gives may hold characters that no header may carry.
    """
    inner = message_id.strip()
    if inner[:1] == "<" and inner[-1:] == ">":
        inner = inner[1:-1]
    if inner[:1] == '"':
        match = _QUOTED.fullmatch(inner)
        if match:
            inner = re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL) + "@" + match[2]
    return f"<{inner}>"


# -- making -----------------------------------------------------------------------------------------------------------

MAX_MADE = 64
"""Characters of an id that we make, where the domain has room: no library folds it, whatever it believes of lines."""
_ALPHABET = b"abcdefghijklmnopqrstuvwxyz234567"
_LETTERS = _ALPHABET * 8
"""A letter for each byte, by its low five bits: random bytes become random letters in one bytes.translate."""
_RANDOM = 26
"""Letters: 130 random bits."""
_TAG = 16
"""Letters: 80 bits."""
_KEYED = re.compile(r"<([a-z2-7]{26})([a-z2-7]{16})(?:\.[0-9]{1,12})?@([A-Za-z0-9.-]{1,253})>")
_ROOM = MAX_MADE - len("<@>") - _RANDOM - _TAG
"""Letters of a domain that leaves room for these. Beside a longer one stands one number in fewer letters."""
_BOTH_CASES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = [a + b for a in _BOTH_CASES for b in _BOTH_CASES]
_VALUES = {letter: value for value, letter in enumerate(_BOTH_CASES)}
_SHORT = 22
"""Letters of both cases: 128 random bits."""
_SHORT_KEYED = 33
"""Letters of both cases: 128 random bits and a tag of 68."""
_SHORT_TAG = 68
_KEYED_SHORT = re.compile(r"<([0-9A-Za-z]{33})@([A-Za-z0-9.-]{1,253})>")
_DOMAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*")


def make_message_id(
    domain: str, *, secret: bytes | None = None, now: datetime | None = None, token: bytes | None = None
) -> str:
    """A new id, `"<…@domain>"`, with at least 128 random bits, of letters and digits left of the "@".

    It has at most 64 characters when the domain has at most 28 (39 without a secret); beside a longer one the left
    side is as short as it can be. Upper case is used only where 64 characters ask for it.

    Args:
        domain: The sending domain. Written in lower case, in punycode when it is not ASCII.
        secret: At least 16 bytes. The id then also carries a tag that only the holder of the secret can make (80
            bits; 68 beside a domain of more than 19 characters), so that `is_ours` tells it from an invented one.
            Trap: a tag does not make it secret; everybody who got the mail knows it.
        now: When given, and when the id stays within 64 characters, the time (Unix seconds) is part of it.
        token: 16 random bytes (of more, the first 16 count); the system's when left out.

    Raises:
        BadInput: The domain cannot stand in an id; the secret or the token is too short.
    """
    domain = _checked(domain)
    if token is not None:
        if len(token) < 16:
            raise BadInput(f"token must have 16 bytes, not {len(token)}")
        token = token[:16]
    if secret is None:
        token = token or token_bytes(16)
        left = token.hex()
        if len(left) + len(domain) + len("<@>") > MAX_MADE:
            left = _base62(int.from_bytes(token, "big"), _SHORT)
    elif len(domain) <= _ROOM:
        drawn = token_bytes(_RANDOM).translate(_LETTERS) if token is None else _base32(token)
        left = (drawn + _tag(drawn, domain, secret)).decode("ascii")
    else:
        left = _short_keyed(token or token_bytes(16), domain, secret)
    if now is not None:
        timed = f"{left}.{int(now.timestamp())}"
        if len(timed) + len(domain) + 3 <= MAX_MADE:
            left = timed
    return f"<{left}@{domain}>"


def is_ours(message_id: str, secret: bytes) -> bool:
    """Whether `make_message_id` made this id with this secret. Anything else, broken ids too, is False."""
    match = _KEYED.fullmatch(message_id)
    if match is not None:
        expected = _tag(match[1].encode("ascii"), match[3].lower(), secret)
        return hmac.compare_digest(match[2].encode("ascii"), expected)
    match = _KEYED_SHORT.fullmatch(message_id)
    if match is None or len(match[2]) <= _ROOM:
        return False  # the shorter tag counts only where there is no room for the longer one
    number = 0
    for letter in match[1]:
        number = number * len(_BOTH_CASES) + _VALUES[letter]
    random = number >> _SHORT_TAG
    if random >> 128:
        return False
    made = _short_keyed(random.to_bytes(16, "big"), match[2].lower(), secret)
    return hmac.compare_digest(match[1].encode("ascii"), made.encode("ascii"))


# ---------------------------------------------------------------------------------------------------------------------


def _found(ids: list[str]) -> Found:
    if len(ids) > 1:
        ids = list(dict.fromkeys(ids))
    cut = len(ids) > MAX_IDS
    if cut:
        ids = [ids[0], *ids[1 - MAX_IDS :]]
    if len(ids) == 1 and len(ids[0]) <= MAX_ID:
        return Found((ids[0],))
    return Found(tuple([one for one in ids if len(one) <= MAX_ID + 2]), (), cut)


def _tidy(inner: str) -> str | None:
    """What stands between brackets as an id, or None when nothing is left of it."""
    inner = inner.strip()
    if inner[:1] == '"':
        # Keep white space that is quoted: it is part of the id.
        head, at, right = inner.rpartition("@")
        head = head.rstrip()
        if at and len(head) > 2 and head[-1] == '"':
            local = re.sub(r"\\(.)", r"\1", head[1:-1], flags=re.DOTALL)
            local = re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+", "", local)
            right = _UNSAFE.sub("", right)
            if _ATEXT.fullmatch(local):
                inner = f"{local}@{right}"
            else:
                # Unquoted it could not be written into a header again.
                local = local.replace("\\", "\\\\").replace('"', '\\"')
                return f'"{local}"@{right}' if right else None
    if "(" in inner:
        inner = _INNER_COMMENT.sub(" ", inner)
    inner = _UNSAFE.sub("", inner)
    return inner if inner.strip("@") else None


def _without_comments(value: str) -> str:
    """The value without comments (RFC 5322 3.2.2), which nest; brackets protect what is in them. One pass."""
    out: list[str] = []
    depth = position = start = 0
    angle = False
    for match in _MARKS.finditer(value):
        mark = match[0]
        if mark == "(" and not angle:
            if depth == 0:
                out.append(value[position : match.start()])
                start = position = match.start()
            depth += 1
        elif mark == ")" and depth:
            depth -= 1
            if depth == 0:
                out.append(" ")
                position = match.end()
        elif depth == 0 and mark in "<>":
            angle = mark == "<"
    if depth:
        out.append(value[start:])  # never closed: not a comment
    else:
        out.append(value[position:])
    return "".join(out)


@lru_cache(maxsize=256)
def _checked(domain: str) -> str:
    """A dotted ASCII name: Gmail and others refuse ids whose right side is anything else."""
    text = domain.rstrip(".").lower()
    if not text.isascii():
        text = ascii_domain(text) or ""
    if not 0 < len(text) <= 253 or not _DOMAIN.fullmatch(text):
        raise BadInput(f"not a domain that can stand in a Message-ID: {domain[:100]!r}")
    return text


def _tag(drawn: bytes, domain: str, secret: bytes) -> bytes:
    """A keyed digest (RFC 7693 2.9) over the domain and the random letters, as letters."""
    return _digest(drawn, domain, secret).translate(_LETTERS)


def _short_keyed(token: bytes, domain: str, secret: bytes) -> str:
    """16 random bytes and their tag as one number."""
    tag = int.from_bytes(_digest(token, domain, secret), "big") & ((1 << _SHORT_TAG) - 1)
    return _base62(int.from_bytes(token, "big") << _SHORT_TAG | tag, _SHORT_KEYED)


def _digest(drawn: bytes, domain: str, secret: bytes) -> bytes:
    state = _keyed(domain, secret).copy()
    state.update(drawn)
    return state.digest()


@lru_cache(maxsize=64)
def _keyed(domain: str, secret: bytes) -> hashlib.blake2b:
    """The digest's state before the random letters. Only ever copied: preparing it costs as much as the rest."""
    if len(secret) < 16:
        raise BadInput("the secret of Message-IDs needs at least 16 bytes")
    key = secret if len(secret) <= 64 else hashlib.blake2b(secret).digest()
    return hashlib.blake2b(domain.encode("ascii") + b"\0", key=key, digest_size=_TAG, person=b"message-id")


def _base32(token: bytes) -> bytes:
    """16 bytes as 26 letters, without padding (RFC 4648 6)."""
    number = int.from_bytes(token, "big") << 2
    return bytes([_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5)])


def _base62(number: int, letters: int) -> str:
    """The number in letters of both cases, the highest first."""
    out: list[str] = []
    for _ in range((letters + 1) // 2):
        number, pair = divmod(number, len(_PAIRS))
        out.append(_PAIRS[pair])
    return "".join(reversed(out))[-letters:]
