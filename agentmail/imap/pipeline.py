"""UID FETCH straight off the wire, and the next one asked for before this one is answered.

imaplib takes each line through eight expressions and a dictionary, 30 µs a message; and it has one command under way,
so at 20 ms every batch costs a round trip in which nobody sends. Here the common form of an answer is one expression,
and whatever else a server says goes the way through imaplib.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .answers import MONTHS, Fetched, fetch_answers, joined, written

if TYPE_CHECKING:
    from .wire import Wire

LINE = 1_000_000
"""Bytes of one line; imaplib's own limit."""
_COMMON = re.compile(
    rb'\* \d+ FETCH \(UID (\d{1,10}) FLAGS \(([^()"{]*)\) '
    rb'INTERNALDATE "([ \d]\d-\w{3}-\d{4} \d\d:\d\d:\d\d [+-]\d{4})" '
    rb"RFC822\.SIZE (\d{1,19})(?:\)|(?: BODY\[\](?:<0>)? (?:\{(\d{1,19})\}|(NIL)\))))\r\n\Z"
)
"""What Dovecot, Cyrus and Courier say to FACTS and WHOLE, in the order they were asked."""
_ANNOUNCED = re.compile(rb"\{(\d{1,19})\}\Z")
_made = tuple.__new__
"""Of a NamedTuple, at a third of the price of calling its class, which is a function in Python."""
Each = Callable[[Fetched], None]
"""Gets each message as soon as it is here, in the thread that reads. It returns soon, and never raises."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A UID FETCH: which uids (None: those that the written set finds), and what of them."""

    uids: tuple[int, ...]
    items: str
    low: int | None = None
    """Everything from this uid on (to `high`, or the end), instead of `uids`."""
    high: int | None = None

    @property
    def command(self) -> bytes:
        which = written(self.uids) if self.low is None else f"{self.low}:{self.high if self.high is not None else '*'}"
        return f"UID FETCH {which} {self.items}".encode("ascii")


@dataclass(slots=True)
class Ahead:
    """A command that was sent before the one in front of it was answered.

    Dovecot answers what it got in one go before it completes any of it, so answers to this one come during the other.
    """

    tag: bytes
    asked: Asked
    found: dict[int, Fetched] = field(default_factory=dict)
    completed: bytes | None = None
    """The rest of its tagged line, when that came early too."""
    each: Each | None = None
    wanted: frozenset[int] | None = field(init=False)
    """None: whatever the server says."""

    def __post_init__(self) -> None:
        self.wanted = frozenset(self.asked.uids) if self.asked.low is None else None


class Refused(Exception):
    """NO to a FETCH. What came before it is in `found`."""

    def __init__(self, reason: str, found: dict[int, Fetched]) -> None:
        super().__init__(reason)
        self.found = found


def fetched(wire: Wire, asked: Asked, then: Asked | None = None, each: Each | None = None) -> dict[int, Fetched]:
    """In the worker thread: the answer by uid. `then` is asked for in advance; the next call should be for it.

    `each` may work on a message while the server sends the next one: a second thread for that would wait 5 ms for the
    interpreter at every read.

    Raises:
        Refused: the server said NO.
        IMAP4.error, IMAP4.abort, OSError: as any other command.
    """
    if wire.ahead is not None and wire.ahead.asked == asked:
        this, wire.ahead = wire.ahead, None
    else:
        wire.settle()
        this = Ahead(_send(wire, asked), asked)
    if then is not None:
        wire.ahead = Ahead(_send(wire, then), then)
    this.each = each
    if each is not None:
        for early in this.found.values():
            each(early)
    _answer(wire, this)
    return _completed(wire, this)


def ask(wire: Wire, asked: Asked) -> bytes:
    """Ask, and leave the answer to the next `fetched`; the tag that ends it."""
    wire.settle()
    wire.ahead = Ahead(_send(wire, asked), asked)
    return wire.ahead.tag


def discard(wire: Wire, unwanted: Ahead) -> None:
    """Read what was asked for in advance and is not wanted any more."""
    unwanted.wanted = frozenset()
    _answer(wire, unwanted)


def _send(wire: Wire, asked: Asked) -> bytes:
    for kind in ("OK", "NO", "BAD"):
        wire.untagged_responses.pop(kind, None)
    tag = bytes(wire._new_tag())  # noqa: SLF001
    try:
        wire.send(tag + b" " + asked.command + b"\r\n")
    except OSError as exc:
        raise wire.abort(f"socket error: {exc}") from exc
    return tag


@lru_cache(maxsize=1_024)
def _moment(text: bytes) -> datetime | None:
    """INTERNALDATE in UTC, of its 26 bytes; None when there is no such moment. Each is said twice: with the size, and
    again with the body.
    """
    month = MONTHS.get(text[3:6].decode("ascii", "replace").lower(), 0)
    try:
        at = datetime(int(text[7:11]), month, int(text[:2]), int(text[12:14]), int(text[15:17]),
                      min(int(text[18:20]), 59), tzinfo=_zone(text[21:]))  # fmt: skip
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=64)
def _zone(text: bytes) -> timezone:
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:]))
    if not offset:
        return UTC
    return timezone(-offset if text[:1] == b"-" else offset)


@lru_cache(maxsize=64)
def _words(flags: bytes) -> tuple[str, ...]:
    return tuple(flags.decode("ascii", "replace").split())


def _answer(wire: Wire, this: Ahead) -> None:
    """Read until `this` is completed. What answers the command behind it is kept for that one."""
    stream, mine, common = wire.stream, this.tag + b" ", _COMMON.match
    read, readline = stream.read, stream.readline
    found, wanted, each = this.found, this.wanted, this.each
    while this.completed is None:
        line = readline(LINE + 1)
        usual = common(line)
        if usual is None:
            _unusual(wire, line, this, mine)
            continue
        uid, flags, moment, size, literal, nil = usual.groups()
        body: bytes | None = None
        if literal is not None:
            length = int(literal)
            wire.spend(len(line) + length)  # before anybody allocates for it
            body = read(length)
            if len(body) != length:
                raise wire.abort("socket error: EOF")
            tail = readline(LINE + 1)
            wire.spend(len(tail))
            if tail != b")\r\n":
                _general(wire, [(line[:-2], body)], tail, this)
                continue
        else:
            wire.spend(len(line))
            if nil is not None:
                body = b""
        number = int(uid)
        one = _made(Fetched, (number, int(size), _moment(moment), _words(flags), body, None, None))
        if number in found or (wanted is not None and number not in wanted):
            _keep(wire, one, this)
            continue
        found[number] = one
        if each is not None:
            each(one)


def _unusual(wire: Wire, line: bytes, this: Ahead, mine: bytes) -> None:
    """A line that is no answer in the common form: the end of a command, another form, or news."""
    if not line.endswith(b"\r\n"):
        raise wire.abort("socket error: EOF" if len(line) <= LINE else f"got more than {LINE} bytes")
    wire.spend(len(line))
    if line.startswith(mine):
        wire.tagged_commands.pop(this.tag, None)
        this.completed = line[len(mine) :]
    elif wire.ahead is not None and line.startswith(wire.ahead.tag + b" "):
        wire.tagged_commands.pop(wire.ahead.tag, None)
        wire.ahead.completed = line[len(wire.ahead.tag) + 1 :]
    elif b" FETCH " in line[:20].upper():
        _general(wire, [], line, this)
    else:
        wire.pushed = line  # what imaplib knows about: EXISTS, EXPUNGE, BYE, nonsense
        wire._get_response()  # noqa: SLF001


def _keep(wire: Wire, one: Fetched, this: Ahead) -> None:
    for command in (this, wire.ahead):
        if command is not None and (command.wanted is None or one.uid in command.wanted):
            before = command.found.get(one.uid)
            command.found[one.uid] = one if before is None else joined(before, one)
            if command.each is not None:
                command.each(command.found[one.uid])
            return


def _completed(wire: Wire, this: Ahead) -> dict[int, Fetched]:
    wire._check_bye()  # noqa: SLF001
    text = this.completed or b""
    kind = text[:3].upper().strip()
    reason = text.strip().decode("ascii", "replace")
    if kind == b"NO":
        raise Refused(reason, this.found)
    if kind != b"OK":
        raise wire.error(f"UID FETCH: {reason}")
    return this.found


def _general(wire: Wire, literals: list[Any], line: bytes, this: Ahead) -> None:
    """One response of any form, with as many literals as there are, in the shape that imaplib gives it."""
    while True:
        if not line.endswith(b"\r\n"):
            raise wire.abort("socket error: EOF")
        rest = line[:-2]
        if literals and rest[:1] not in {b")", b" "}:
            raise wire.abort(f"a literal that is not as long as it was announced, before {rest[:40]!r}")
        announced = _ANNOUNCED.search(rest)
        if announced is None:
            break
        literals.append((rest, _literal(wire, int(announced[1]))))
        line = wire.readline()
    for one in fetch_answers([*literals, rest], None).values():
        _keep(wire, one, this)


def _literal(wire: Wire, size: int) -> bytes:
    body = wire.read(size)
    if len(body) != size:
        raise wire.abort("socket error: EOF")
    return body
