"""What servers answer, read without trust: SEARCH, FETCH and response codes. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple

from imapclient.imap_utf7 import decode as decode_utf7
from imapclient.imap_utf7 import encode as encode_utf7

MONTHS = {m: i for i, m in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_DATE = re.compile(rb'INTERNALDATE "([ \d]\d)-(\w{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)"', re.IGNORECASE)
_UID = re.compile(rb"(?:\(|[ ])UID (\d{1,10})(?!\d)", re.IGNORECASE)
_SIZE = re.compile(rb"RFC822\.SIZE (\d+)", re.IGNORECASE)
_FLAGS = re.compile(rb"FLAGS \(([^()]*)\)", re.IGNORECASE)
_MODSEQ = re.compile(rb"MODSEQ \((\d+)\)", re.IGNORECASE)
_LITERAL = re.compile(rb"BODY\[[^\]]*\](?:<\d+>)? \{\d+\}\Z", re.IGNORECASE)
_QUOTED = re.compile(rb'BODY\[[^\]]*\](?:<\d+>)? "((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_NIL = re.compile(rb"BODY\[[^\]]*\](?:<\d+>)? NIL", re.IGNORECASE)
_MSGID = re.compile(rb"X-GM-MSGID (\d{1,20})", re.IGNORECASE)
_THRID = re.compile(rb"X-GM-THRID (\d{1,20})", re.IGNORECASE)
_LABELS = re.compile(rb'X-GM-LABELS \(((?:"(?:[^"\\]|\\.)*"|[^()"])*)\)', re.IGNORECASE)
_LABEL = re.compile(rb'"((?:[^"\\]|\\.)*)"|(\{\d+\})|([^\s"{}]+)')
_ESCAPED = re.compile(rb"\\(.)")
_LISTED = re.compile(
    rb'\((?P<flags>[^()]*)\) (?P<between>"(?:[^"\\]|\\.)*"|NIL) (?P<name>.+)', re.IGNORECASE | re.DOTALL
)
_RANGE = re.compile(rb"(\d{1,10})(?::(\d{1,10}))?")
_CODE = re.compile(r"\[([A-Z][A-Z0-9-]*)(?: ([^\]]*))?\]", re.IGNORECASE)
_BACKOFF = re.compile(r"Backoff Time: (\d+) milliseconds", re.IGNORECASE)

LARGEST_UID = 2**32 - 1
"""RFC 9051 9, uniqueid."""
COMMAND_BYTES = 4_000
"""A longer set of uids makes Courier hang up (8 KB) and Dovecot refuse (64 KB)."""


@dataclass(frozen=True, slots=True)
class Gmail:
    """What Gmail says of a message beside IMAP (X-GM-EXT-1)."""

    msgid: str
    """X-GM-MSGID in hexadecimal: the same in all its mailboxes."""
    thrid: str
    labels: tuple[str, ...]
    """Its system labels begin with a backslash: `\\Inbox`, `\\Sent`, `\\Draft`."""


class Fetched(NamedTuple):
    """One FETCH response. `uid` is always there; the rest is None when the server left it out.

    Two for each message of a first sync: a NamedTuple is made in a sixth of the time of a frozen dataclass.
    """

    uid: int
    size: int | None = None
    received_at: datetime | None = None
    flags: tuple[str, ...] | None = None
    body: bytes | None = None
    """`b""` when the server said NIL."""
    modseq: int | None = None
    gmail: Gmail | None = None


def said(data: Sequence[object]) -> str:
    """The words of a refusal."""
    return " ".join(d.decode("ascii", "replace") for d in data if isinstance(d, bytes)) or "refused without a reason"


def first_number(data: Sequence[object] | None, *, bits: int) -> int | None:
    """The first of imaplib's values of a response; None when it is no number, or none that IMAP has (RFC 9051 9)."""
    word = data[0] if data else None
    if not isinstance(word, bytes) or not word.isdigit() or len(word) > 20:
        return None
    number = int(word)
    return number if number < 1 << bits else None


def list_answer(data: Sequence[object]) -> Iterable[tuple[str, frozenset[str], str]]:
    """LIST lines as `(name, attributes in lower case, delimiter)`, without those that nobody can make sense of."""
    for head, literals, _ in _responses([one for one in data if one is not None]):
        line = _LISTED.match(head.strip())
        if line is None:
            continue
        name = literals[0][1] if literals else _unquoted(line["name"])
        text = mailbox_name(name) if name is not None else None
        if text is not None:
            attributes = frozenset(line["flags"].decode("ascii", "replace").lower().split())
            yield text, attributes, (_unquoted(line["between"]) or b"").decode("ascii", "replace")


def _unquoted(word: bytes) -> bytes | None:
    """A string or an atom; None for NIL."""
    if word.startswith(b'"') and word.endswith(b'"') and len(word) > 1:
        return _ESCAPED.sub(rb"\1", word[1:-1])
    return None if word.upper() == b"NIL" else word


def mailbox_name(said: bytes | str | None) -> str | None:
    """A mailbox's name out of modified UTF-7 (RFC 3501 5.1.3); None for NIL, and for what could not be said back."""
    raw = said if isinstance(said, bytes) else str(said or "").encode("utf-8", "replace")
    try:
        name = decode_utf7(raw)
    except (ValueError, LookupError):
        return None
    if not name or any(ord(c) < 32 for c in name):
        return None
    return name if encode_utf7(name) == raw else None


def search_answer(data: Sequence[bytes | None], *, at_least: int = 1, at_most: int | None = None) -> list[int] | None:
    """The uids of all SEARCH lines, sorted, once each, without those that were not asked for; None without a line.

    `n:*` also finds the last message when its uid is below n (RFC 9051 9, seq-range).
    """
    lines = [line for line in data if line is not None]
    if not lines:
        return None
    found: set[int] = set()
    for line in lines:
        text = re.sub(rb"\(MODSEQ \d+\)", b"", line, flags=re.IGNORECASE)
        found.update(int(word) for word in text.split() if len(word) <= 10 and word.isdigit())
    return sorted(uid for uid in found if at_least <= uid <= (LARGEST_UID if at_most is None else at_most))


def vanished_answer(data: Sequence[bytes | None]) -> list[tuple[int, int]]:
    """The uids of VANISHED lines as sorted ranges that do not touch (RFC 7162 3.2.10).

    Ranges stay ranges: a server may say `1:4294967295` of a mailbox that never held a hundred messages.
    """
    found: list[tuple[int, int]] = []
    for line in data:
        for first, last in _RANGE.findall((line or b"").rpartition(b" ")[2]):
            low, high = sorted((int(first), int(last or first)))
            found.append((low, high))
    joined: list[tuple[int, int]] = []
    for low, high in sorted(found):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return joined


def within(uids: Iterable[int], ranges: Sequence[tuple[int, int]]) -> list[int]:
    """Which of the uids lie in one of the sorted ranges."""
    lows = [low for low, _ in ranges]
    return [u for u in uids if (i := bisect_right(lows, u)) and u <= ranges[i - 1][1]]


def fetch_answers(data: Sequence[object], wanted: Collection[int] | None) -> dict[int, Fetched]:
    """FETCH responses by uid. Those without a uid, or for uids that nobody asked for, are not ours (RFC 9051 7.5.2)."""
    found: dict[int, Fetched] = {}
    for head, literals, tail in _responses(data):
        text = head + b" " + tail
        uid = _UID.search(text)
        if uid is None or int(uid[1]) > LARGEST_UID or (wanted is not None and int(uid[1]) not in wanted):
            continue
        one = Fetched(
            uid=int(uid[1]), size=_number(_SIZE, text), received_at=_date(text), flags=_flags(text),
            body=_body(text, literals), modseq=_number(_MODSEQ, text), gmail=_gmail(text, literals),
        )  # fmt: skip
        before = found.get(one.uid)
        found[one.uid] = one if before is None else joined(before, one)
    return found


def joined(a: Fetched, b: Fetched) -> Fetched:
    """A server may say things about one message in several responses; the later one wins."""
    return Fetched(
        a.uid, b.size if b.size is not None else a.size, b.received_at or a.received_at,
        b.flags if b.flags is not None else a.flags, b.body if b.body is not None else a.body,
        b.modseq if b.modseq is not None else a.modseq, b.gmail or a.gmail,
    )  # fmt: skip


def _responses(data: Sequence[object]) -> Iterable[tuple[bytes, list[tuple[bytes, bytes]], bytes]]:
    """imaplib's list put together again: `(what stands around the literals, [(before, literal)…], the rest)`."""
    head = b""
    literals: list[tuple[bytes, bytes]] = []
    for item in data:
        if isinstance(item, tuple):
            before, literal = item
            literals.append((before, literal))
            # The literal's place keeps its marker, so that nothing behind it can be taken for part of it.
            head += b" " + before
        elif isinstance(item, bytes):
            if literals:
                yield head, literals, item
            else:
                yield item, [], b""
            head, literals = b"", []


def _body(text: bytes, literals: list[tuple[bytes, bytes]]) -> bytes | None:
    for before, literal in literals:
        if _LITERAL.search(before):
            return literal
    if quoted := _QUOTED.search(text):
        return _ESCAPED.sub(rb"\1", quoted[1])
    return b"" if _NIL.search(text) else None


def _gmail(text: bytes, literals: list[tuple[bytes, bytes]]) -> Gmail | None:
    msgid = _MSGID.search(text)
    if msgid is None:
        return None
    thrid, listed = _THRID.search(text), _LABELS.search(text)
    said = iter([literal for before, literal in literals if not _LITERAL.search(before)])
    names: list[bytes] = []
    for quoted, literal, bare in _LABEL.findall(listed[1] if listed else b""):
        names.append(_ESCAPED.sub(rb"\1", quoted) if quoted else next(said, b"") if literal else bare)
    labels = tuple(sorted({decode_utf7(name) for name in names if name}))
    return Gmail(f"{int(msgid[1]):x}", f"{int(thrid[1]):x}" if thrid else "", labels)


def _number(pattern: re.Pattern[bytes], text: bytes) -> int | None:
    match = pattern.search(text)
    return int(match[1]) if match else None


def _flags(text: bytes) -> tuple[str, ...] | None:
    match = _FLAGS.search(text)
    return tuple(match[1].decode("ascii", "replace").split()) if match else None


def _date(text: bytes) -> datetime | None:
    """INTERNALDATE in UTC; None when there is none or it names no moment."""
    match = _DATE.search(text)
    if match is None:
        return None
    day, month, year, hour, minute, second, sign, zone_h, zone_m = match.groups()
    offset = timedelta(hours=int(zone_h), minutes=int(zone_m))
    try:
        zone = timezone(-offset if sign == b"-" else offset)
        number = MONTHS[month.decode().lower()]
        at = datetime(int(year), number, int(day), int(hour), int(minute), min(int(second), 59), tzinfo=zone)
        return at.astimezone(UTC)
    except (ValueError, KeyError, OverflowError):
        return None


def uid_sets(uids: Sequence[int], *, most: int = 500) -> Iterable[list[int]]:
    """Sorted uids in pieces that a command can name: at most `most`, at most 4 KB when written as ranges."""
    piece: list[int] = []
    size = 0
    for uid in uids:
        step = 0 if piece and uid == piece[-1] + 1 else len(str(uid)) * 2 + 2
        if piece and (len(piece) >= most or size + step > COMMAND_BYTES):
            yield piece
            piece, size = [], 0
            step = len(str(uid)) * 2 + 2
        piece.append(uid)
        size += step
    if piece:
        yield piece


def written(uids: Sequence[int]) -> str:
    """Sorted uids as a sequence set: `1:3,7`. Only uids that are given are ever in it."""
    ranges: list[list[int]] = []
    for uid in uids:
        if ranges and uid == ranges[-1][1] + 1:
            ranges[-1][1] = uid
        else:
            ranges.append([uid, uid])
    return ",".join(f"{a}:{b}" if a != b else str(a) for a, b in ranges)


def response_code(text: str) -> tuple[str, str]:
    """`NO [THROTTLED] slow down` -> `("THROTTLED", "")`; empty when there is none."""
    match = _CODE.search(text)
    return (match[1].upper(), match[2] or "") if match else ("", "")


def asked_pause(text: str) -> float | None:
    """Seconds that the server asked us to wait, in Exchange's words."""
    match = _BACKOFF.search(text)
    return int(match[1]) / 1000 if match else None
