"""The Date header: aware UTC, or None. A date that cannot be read is unknown, and never 1900."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_tz

_MONTHS = {m: i for i, m in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_FAST = re.compile(
    r"\s*(?:[A-Za-z]{3},\s*)?(\d{1,2})\s+([A-Za-z]{3})\s+(\d{4})\s+(\d\d):(\d\d)(?::(\d\d))?\s+([+-])(\d\d)(\d\d)\b"
)
MAX_LENGTH = 200


def read_date(value: str) -> datetime | None:
    """RFC 5322 3.3, the obsolete forms of 4.3 too; None when it cannot be read."""
    match = _FAST.match(value)
    try:
        if match is not None:
            day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = match.groups()
            offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
            if offset >= timedelta(hours=24):
                return None
            return datetime(
                int(year), _MONTHS[month.lower()], int(day), int(hour), int(minute), min(int(second or 0), 59),
                tzinfo=timezone(offset if sign == "+" else -offset),
            ).astimezone(UTC)  # fmt: skip
        parsed = parsedate_tz(value[:MAX_LENGTH])
        if parsed is None:
            return None
        year_, month_, day_, hour_, minute_, second_ = parsed[:6]
        zone = timedelta(seconds=parsed[9] or 0)
        if abs(zone) >= timedelta(hours=24):
            return None
        return datetime(year_, month_, day_, hour_, minute_, min(second_, 59), tzinfo=timezone(zone)).astimezone(UTC)
    except (ValueError, KeyError, OverflowError, IndexError, TypeError, AttributeError):
        return None
