"""UID FETCH straight off the wire, and the next one asked for before this one is answered.

imaplib takes each line through eight expressions and a dictionary, 30 µs a message; and it has one command under way,
so at 20 ms every batch costs a round trip in which nobody sends. Here the common form of an answer is one expression,
and whatever else a server says goes the way through imaplib.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .answers import MONTHS, Fetched, fetch_answers, joined, written

if TYPE_CHECKING:
    from .wire import Wire

LINE = 1_000_000
"""Bytes of one line; imaplib's own limit."""
_COMMON = re.compile(
    rb'\* \d+ FETCH \(UID (\d{1,10}) FLAGS \(([^()"{]*)\) INTERNALDATE "([ \d]\d)-(\w{3}-\d{4}) (\d\d):(\d\d):(\d\d) '
    rb'([+-]\d{4})" RFC822\.SIZE (\d{1,19})(?:\)|(?: BODY\[\](?:<0>)? (?:\{(\d{1,19})\}|(NIL)\))))\r\n\Z'
)
"""What Dovecot, Cyrus and Courier say to FACTS and WHOLE, in the order they were asked."""
_ANNOUNCED = re.compile(rb"\{(\d{1,19})\}\Z")


@dataclass(frozen=True, slots=True)
class Asked:
    """A UID FETCH: which uids (None: those that the written set finds), and what of them."""

    uids: Sequence[int]
    items: str
    low: int | None = None
    """Everything from this uid on (to `high`, or the end), instead of `uids`."""
    high: int | None = None

    @property
    def command(self) -> bytes:
        which = written(self.uids) if self.low is None else f"{self.low}:{self.high if self.high is not None else '*'}"
        return f"UID FETCH {which} {self.items}".encode("ascii")


class Refused(Exception):
    """NO to a FETCH. What came before it is in `found`."""

    def __init__(self, reason: str, found: dict[int, Fetched]) -> None:
        super().__init__(reason)
        self.found = found


def fetched(wire: Wire, asked: Asked, then: Asked | None = None) -> dict[int, Fetched]:
    """In the worker thread: the answer by uid. `then` is asked for in advance; the next call should be for it.

    Raises:
        Refused: the server said NO.
        IMAP4.error, IMAP4.abort, OSError: as any other command.
    """
    if wire.ahead is not None and wire.ahead[1] == asked:
        tag, wire.ahead = wire.ahead[0], None
    else:
        wire.settle()
        tag = _send(wire, asked)
    if then is not None:
        wire.ahead = (_send(wire, then), then)
    return _answer(wire, tag, None if asked.low is not None else frozenset(asked.uids))


def discard(wire: Wire, tag: bytes) -> None:
    """Read what was asked for in advance and is not wanted any more."""
    try:
        _answer(wire, tag, frozenset())
    except Refused:
        pass


def _send(wire: Wire, asked: Asked) -> bytes:
    for kind in ("OK", "NO", "BAD"):
        wire.untagged_responses.pop(kind, None)
    tag = bytes(wire._new_tag())  # noqa: SLF001
    try:
        wire.send(tag + b" " + asked.command + b"\r\n")
    except OSError as exc:
        raise wire.abort(f"socket error: {exc}") from exc
    return tag


def _common(line: bytes) -> tuple[Fetched | None, int | None]:
    """The response in a line of the common form, and the size of the literal that follows it."""
    match = _COMMON.match(line)
    if match is None:
        return None, None
    uid, flags, day, month, hour, minute, second, zone, size, literal, nil = match.groups()
    number, year = _month(month)
    try:
        at = datetime(year, number, int(day), int(hour), int(minute), min(int(second), 59), tzinfo=_zone(zone))
        at = at.astimezone(UTC)
    except (ValueError, OverflowError):
        at = None
    one = Fetched(int(uid), int(size), at, _words(flags), b"" if nil is not None else None)
    return one, int(literal) if literal is not None else None


@lru_cache(maxsize=64)
def _month(text: bytes) -> tuple[int, int]:
    return MONTHS.get(text[:3].decode("ascii", "replace").lower(), 0), int(text[4:])


@lru_cache(maxsize=64)
def _zone(text: bytes) -> timezone:
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:]))
    if not offset:
        return UTC
    return timezone(-offset if text[:1] == b"-" else offset)


@lru_cache(maxsize=64)
def _words(flags: bytes) -> tuple[str, ...]:
    return tuple(flags.decode("ascii", "replace").split())


def _answer(wire: Wire, tag: bytes, wanted: Collection[int] | None) -> dict[int, Fetched]:
    found: dict[int, Fetched] = {}
    stream, mine = wire.stream, tag + b" "
    while True:
        line = stream.readline(LINE + 1)
        if not line.endswith(b"\r\n"):
            raise wire.abort("socket error: EOF" if len(line) <= LINE else f"got more than {LINE} bytes")
        wire.spend(len(line))
        one, size = _common(line)
        if one is not None:
            if size is not None:
                body = wire.read(size)
                tail = stream.readline(LINE + 1)
                wire.spend(len(tail))
                if len(body) != size or tail != b")\r\n":
                    if len(body) != size or not tail.endswith(b"\r\n"):
                        raise wire.abort("socket error: EOF")
                    _general(wire, [(line[:-2], body)], tail[:-2], wanted, found)
                    continue
                one = Fetched(one.uid, one.size, one.received_at, one.flags, body)
            if wanted is None or one.uid in wanted:
                found[one.uid] = one if one.uid not in found else joined(found[one.uid], one)
        elif line.startswith(mine):
            wire.tagged_commands.pop(tag, None)
            return _completed(wire, line[len(mine) :], found)
        elif b" FETCH " in line[:20].upper():
            _general(wire, [], line[:-2], wanted, found)
        else:
            wire.pushed = line  # what imaplib knows about: EXISTS, EXPUNGE, BYE, nonsense
            wire._get_response()  # noqa: SLF001


def _completed(wire: Wire, text: bytes, found: dict[int, Fetched]) -> dict[int, Fetched]:
    wire._check_bye()  # noqa: SLF001
    kind = text[:3].upper().strip()
    reason = text.strip().decode("ascii", "replace")
    if kind == b"NO":
        raise Refused(reason, found)
    if kind != b"OK":
        raise wire.error(f"UID FETCH: {reason}")
    return found


def _general(
    wire: Wire, literals: list[Any], rest: bytes, wanted: Collection[int] | None, found: dict[int, Fetched]
) -> None:
    """One response of any form, with as many literals as there are, in the shape that imaplib gives it."""
    while announced := _ANNOUNCED.search(rest):
        body = wire.read(int(announced[1]))
        if len(body) != int(announced[1]):
            raise wire.abort("socket error: EOF")
        literals.append((rest, body))
        rest = wire.readline()
        if not rest.endswith(b"\r\n"):
            raise wire.abort("socket error: EOF")
        rest = rest[:-2]
    for uid, one in fetch_answers([*literals, rest], wanted).items():
        found[uid] = one if uid not in found else joined(found[uid], one)
