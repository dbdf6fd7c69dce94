"""Thread-Index and Thread-Topic: what Outlook without an Exchange mailbox groups by ([MS-OXOMSG] 2.2.1.2, 2.2.1.3).

A value is 22 bytes, 6 of time and 16 of GUID, and then 5 for each reply. Two layouts of the time exist: classic
(desktop Outlook, the top 48 bits of a FILETIME) and modern (0x01 and the next 40). The specification says that a
reply's delta counts from the header; 10,819 real values say that it counts from the reply before, beginning with the
header's six bytes *read the classic way* whatever their layout.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
HEADER = 22
LEVEL = 5
MAX_LEVELS = 200
"""Deeper chains stop growing; the conversation is found by the first 22 bytes alone."""


@dataclass(frozen=True)
class Level:
    """One reply."""

    dc: int
    """The delta's unit: 0 is 2**18 ticks of 100 ns, 1 is 2**23."""
    delta: int
    random: int
    time: datetime | None


@dataclass(frozen=True)
class ThreadIndex:
    """A decoded value."""

    variant: str
    """`modern`, `classic`, or `unknown` when neither reading gives a time that can be."""
    time: datetime | None
    guid: bytes
    levels: tuple[Level, ...]
    trailing: int
    """Bytes after the last whole level."""


def read(value: str) -> bytes | None:
    """The bytes of a header value; None when it is no Thread-Index. Unpadded and folded values are read."""
    text = "".join(value.split()).rstrip("=")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if len(data) >= HEADER else None


def write(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def decode(value: str) -> ThreadIndex | None:
    """What a value says; None when it is none."""
    data = read(value)
    if data is None:
        return None
    base = int.from_bytes(data[:6], "big") << 16
    modern_time = _when(int.from_bytes(data[1:6], "big") << 24)
    classic_time = _when(base)
    # A classic value read the modern way, and the other way round, lies centuries off.
    variant, header = "unknown", None
    for name, time in (("classic", classic_time), ("modern", modern_time)):
        if data[0] == 1 and header is None and time is not None and 1990 <= time.year <= 2050:
            variant, header = name, time
    levels: list[Level] = []
    body = data[HEADER:]
    ticks = base
    floor = _ticks(header) if header is not None else 0
    for i in range(0, len(body) - LEVEL + 1, LEVEL):
        word = int.from_bytes(body[i : i + 4], "big")
        dc, delta = word >> 31, word & 0x7FFF_FFFF
        ticks += delta << (23 if dc else 18)
        if not levels and variant == "modern":
            while ticks < floor:  # the first delta counts from the year 1831 and wraps
                ticks += 1 << (31 + 23)
        levels.append(Level(dc, delta, body[i + 4], _when(ticks) if header is not None else None))
    return ThreadIndex(variant, header, data[6:HEADER], tuple(levels), len(body) % LEVEL)


def fresh(now: datetime, guid: bytes) -> bytes:
    """The value of a first message: modern layout, the thread's GUID."""
    ticks = _ticks(now)
    return b"\x01" + ((ticks >> 24) & (2**40 - 1)).to_bytes(5, "big") + guid[:16]


def child(parent: bytes, now: datetime, random: int) -> bytes:
    """The value of a reply to the message with `parent`."""
    whole = parent[: HEADER + (len(parent) - HEADER) // LEVEL * LEVEL]
    if (len(whole) - HEADER) // LEVEL >= MAX_LEVELS:
        return whole
    base = int.from_bytes(whole[:6], "big") << 16
    for i in range(HEADER, len(whole), LEVEL):
        word = int.from_bytes(whole[i : i + 4], "big")
        base += (word & 0x7FFF_FFFF) << (23 if word >> 31 else 18)
    difference = max(0, _ticks(now) - base)
    coarse = bool((difference >> 32) & 0x00FE_0000)
    delta = (difference >> (23 if coarse else 18)) & 0x7FFF_FFFF
    return whole + ((coarse << 31) | delta).to_bytes(4, "big") + bytes([random & 0xFF])


def for_reply(chain: Sequence[tuple[str | None, datetime | None]], *, now: datetime, guid: bytes, random: int) -> str:
    """The Thread-Index of a reply.

    Args:
        chain: `(thread_index, sent_at)` of the message that is answered, then of its parent, and so on.
        guid: What the thread's GUID is to be when none of them has an index.

    The nearest one that has an index is extended by one level per hop, as Exchange does; a fresh GUID is never made
    when any of them has one, since that would be another conversation.
    """
    for hops, (value, _) in enumerate(chain):
        data = read(value) if value else None
        if data is not None:
            for _ in range(hops):
                data = child(data, now, random)
            return write(child(data, now, random))
    first = next((at for _, at in reversed(chain) if at is not None), None)
    begun = first if first is not None and first < now else now - timedelta(minutes=1)
    return write(child(fresh(begun, guid), now, random))


def _ticks(at: datetime) -> int:
    return (at.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1) * 10


def _when(ticks: int) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=ticks // 10)
    except OverflowError:
        return None
