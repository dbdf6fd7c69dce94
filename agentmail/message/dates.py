"""The Date header: aware UTC, or None. A date that cannot be read is unknown, never today and never 1900."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_tz
from functools import lru_cache

_MONTHS = {m: i for i, m in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_NUMBERS = {m.capitalize(): f"{i:02}" for m, i in _MONTHS.items()}
_FAST = re.compile(
    r"\s*(?:[A-Za-z]{3},\s*)?(\d{1,2})\s+([A-Za-z]{3})\s+(\d{4})\s+(\d\d):(\d\d)(?::(\d\d))?\s+([+-])(\d\d)(\d\d)(?!\d)",
    re.ASCII,
)
_ISO = re.compile(r"\s*(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.\d{1,9})?\s*(Z|[+-]\d\d:?\d\d)?\s*", re.ASCII)
_COMMENT = re.compile(r"\([^()]*\)")
_COLON = re.compile(r"(?<=\d) ?: ?(?=\d)")
_OFFSET = re.compile(r"(?<=:\d\d) ?(?:GMT|UTC|UT|Z)? ?([+-])(\d\d):?(\d\d)\Z", re.IGNORECASE)
"""Also as JavaScript writes it, "GMT+0100", and as ISO 8601 does, "+01:00": the stdlib reads both as UTC."""
_ABBREVIATED = re.compile(r"(?<=[a-z]{3})(?:\. ?| (?=,))", re.IGNORECASE)
"""The dot of "nov. 2026" and the blank of "Fri , 20"."""
_YEAR = re.compile(r"(?<=\d[ -])([a-z]{3,9}[ -])(\d{2,3})(?=[ ,]|\Z)", re.IGNORECASE)
MAX_LENGTH = 200


def read_date(value: str) -> datetime | None:
    """RFC 5322 3.3 and the obsolete forms of 4.3, asctime and ISO 8601; None when it cannot be read.

    A zone that is missing or unknown means UTC (RFC 5322 4.3). A leap second is shown as second 59.
    """
    if len(value) == 31:
        try:
            return _usual(value)
        except (ValueError, KeyError, OverflowError):
            pass
    try:
        match = _FAST.match(value)
        if match is not None:
            day, month, year, hour, minute, second, sign, hours, minutes = match.groups()
            offset = int(hours) * 60 + int(minutes)
            if offset >= 1_440:
                return None
            seconds = 0 if second is None else int(second)
            moment = datetime(
                int(year), _MONTHS[month.lower()], int(day), int(hour), int(minute), 59 if seconds == 60 else seconds,
                tzinfo=UTC,
            )  # fmt: skip
            if offset:
                moment = moment - timedelta(minutes=offset) if sign == "+" else moment + timedelta(minutes=offset)
            return moment
        value = value[:MAX_LENGTH]
        iso = _ISO.fullmatch(value)
        if iso is not None:
            zone = (iso[3] or "Z").replace("Z", "+00:00")
            return datetime.fromisoformat(f"{iso[1]}T{iso[2]}{zone}").astimezone(UTC)
        # Digits of other scripts mean nothing here, and int() would read them.
        parsed = parsedate_tz(_modern(value)) if value.isascii() else None
        if parsed is None:
            return None
        year_, month_, day_, hour_, minute_, second_ = parsed[:6]
        shift = parsed[9] or 0
        if abs(shift) >= 86_400:
            return None
        moment = datetime(year_, month_, day_, hour_, minute_, 59 if second_ == 60 else second_, tzinfo=UTC)
        return moment - timedelta(seconds=shift)
    except (ValueError, KeyError, OverflowError, IndexError, TypeError, AttributeError):
        return None


def _usual(value: str) -> datetime:
    """`Fri, 20 Nov 2026 09:14:00 +0100`, as nearly every program writes it; ValueError and others for the rest."""
    if value[19] != ":" or value[22] != ":":
        raise ValueError
    # Days and zones recur; the time of day is read each time.
    moment = datetime.fromisoformat(f"{_day(value[:17])}{value[17:25]}+00:00")
    offset = _zone(value[25:])
    return moment - offset if offset else moment


@lru_cache(maxsize=1_024)
def _day(text: str) -> str:
    if text[3:5] + text[7] + text[11] + text[16] != ",    " or not (text.isascii() and text[:3].isalpha()):
        raise ValueError
    return f"{text[12:16]}-{_NUMBERS[text[8:11]]}-{text[5:7]}T"


@lru_cache(maxsize=128)
def _zone(text: str) -> timedelta | None:
    """How far before UTC; None for UTC itself."""
    if text[0] != " " or not text.isascii():
        raise ValueError
    return datetime.fromisoformat(f"2000-01-01T00:00:00{text[1:4]}:{text[4:]}").utcoffset() or None


def _modern(value: str) -> str:
    """Without comments and the blanks of RFC 5322 4.3, and with a year of four digits; the stdlib cuts 1960 to 2060."""
    while (without := _COMMENT.sub(" ", value)) != value:
        value = without
    value = _ABBREVIATED.sub(lambda match: "" if match[0] == " " else " ", " ".join(value.split()))
    return _YEAR.sub(_century, _OFFSET.sub(r" \1\2\3", _COLON.sub(":", value.rstrip())))


def _century(match: re.Match[str]) -> str:
    year = int(match[2])
    return f"{match[1]}{year + (2000 if len(match[2]) == 2 and year < 50 else 1900)}"
