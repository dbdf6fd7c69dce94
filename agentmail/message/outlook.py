"""Thread-Index and Thread-Topic: what Outlook without an Exchange mailbox groups by ([MS-OXOMSG] 2.2.1.2, 2.2.1.3).

A value is 22 bytes, 6 of time and 16 of GUID, and then 5 for each reply. Two layouts of the time exist: classic
(desktop Outlook, the top 48 bits of a FILETIME) and modern (0x01 and the next 40). The specification says that a
reply's delta counts from the header; 10,819 real values say that it counts from the reply before, beginning with the
header's six bytes *read the classic way* whatever their layout.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
HEADER = 22
LEVEL = 5
MAX_LEVELS = 100
"""Deeper chains are cut and stop growing, so that the value stays one line; the first 22 bytes name the conversation.
Exchange ends a conversation at about as many messages anyway."""


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
    if len(value) > 65_536:
        return None
    text = "".join(value.split()).rstrip("=")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if len(data) >= HEADER else None


def write(data: bytes) -> str:
    """The header value of these bytes."""
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
        while ticks < floor:  # the first delta of a modern value counts from the year 1831, and wraps
            ticks += 1 << (31 + 23)
        levels.append(Level(dc, delta, body[i + 4], _when(ticks) if header is not None else None))
    return ThreadIndex(variant, header, data[6:HEADER], tuple(levels), len(body) % LEVEL)


def fresh(now: datetime, guid: bytes, *, classic: bool = False) -> bytes:
    """The value of a first message: the thread's GUID behind the time, in Exchange's layout or desktop Outlook's."""
    ticks = _ticks(now)
    if classic:
        return (ticks >> 16).to_bytes(6, "big") + guid[:16]
    return b"\x01" + ((ticks >> 24) & (2**40 - 1)).to_bytes(5, "big") + guid[:16]


def child(parent: bytes, now: datetime, random: int) -> bytes:
    """The value of a reply to the message with `parent`."""
    deep = (len(parent) - HEADER) // LEVEL
    whole = parent[: HEADER + min(deep, MAX_LEVELS) * LEVEL]
    if deep >= MAX_LEVELS:
        return whole
    base = int.from_bytes(whole[:6], "big") << 16
    for i in range(HEADER, len(whole), LEVEL):
        word = int.from_bytes(whole[i : i + 4], "big")
        base += (word & 0x7FFF_FFFF) << (23 if word >> 31 else 18)
    difference = max(0, _ticks(now) - base)
    coarse = bool((difference >> 32) & 0x00FE_0000)
    delta = (difference >> (23 if coarse else 18)) & 0x7FFF_FFFF
    return whole + ((coarse << 31) | delta).to_bytes(4, "big") + bytes([random & 0xFF])


def _ticks(at: datetime) -> int:
    return (at.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1) * 10


def _when(ticks: int) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=ticks // 10)
    except OverflowError:
        return None
