"""The offset of a time zone that a calendar part defines itself (RFC 5545 3.6.5).

icalendar would keep such a definition for the whole process, under the name that the sender gave it, and expand its
rules: one mail would change how the next one is read. Here the one offset that is needed is worked out, and nothing
is kept. Only yearly rules of the forms that calendars write are understood.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta

_OFFSET = re.compile(r"([+-])(\d{2})(\d{2})(\d{2})?$")
_BYDAY = re.compile(r"([+-]?[1-5])(MO|TU|WE|TH|FR|SA|SU)$")
_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def offset(lines: Sequence[str], zone: str, moment: datetime) -> timedelta | None:
    """The UTC offset at a local `moment` in the zone of that name; None when it cannot be told."""
    best: tuple[datetime, timedelta] | None = None
    earliest: tuple[datetime, timedelta] | None = None
    for observance in _observances(lines, zone):
        begins = _datetime(observance.get("DTSTART", ""))
        after = _offset(observance.get("TZOFFSETTO", ""))
        before = _offset(observance.get("TZOFFSETFROM", ""))
        if begins is None or after is None:
            return None
        if before is not None and (earliest is None or begins < earliest[0]):
            earliest = begins, before
        onset = _last_onset(begins, observance.get("RRULE", ""), moment)
        if onset is not None and (best is None or onset > best[0]):
            best = onset, after
    chosen = best or earliest
    return chosen[1] if chosen else None


def _observances(lines: Sequence[str], zone: str) -> list[dict[str, str]]:
    """The STANDARD and DAYLIGHT parts of the zone of that name."""
    found: list[dict[str, str]] = []
    name = ""
    inside: dict[str, str] | None = None
    for line in lines:
        head, _, value = line.partition(":")
        key = head.partition(";")[0].strip().upper()
        value = value.strip()
        if key == "BEGIN":
            if value.upper() == "VTIMEZONE":
                name = ""
            inside = {} if value.upper() in {"STANDARD", "DAYLIGHT"} else None
        elif key == "END":
            if inside is not None and name == zone:
                found.append(inside)
            inside = None
        elif inside is not None:
            inside.setdefault(key, value)
        elif key == "TZID":
            name = value
    return found


def _last_onset(begins: datetime, rule: str, moment: datetime) -> datetime | None:
    """When this observance last began, at or before `moment`."""
    if not rule:
        return begins if begins <= moment else None
    parts = dict(part.upper().partition("=")[::2] for part in rule.split(";"))
    if parts.get("FREQ") != "YEARLY":
        return None
    until = _datetime(parts.get("UNTIL", "").rstrip("Z"))
    month = int(parts["BYMONTH"]) if parts.get("BYMONTH", "").isdecimal() else begins.month
    for year in (moment.year, moment.year - 1):
        day = _day(year, month, parts.get("BYDAY", ""), begins.day)
        if day is None:
            continue
        onset = datetime.combine(day, begins.time())
        if begins <= onset <= moment and (until is None or onset <= until):
            return onset
    return begins if begins <= moment else None


def _day(year: int, month: int, rule: str, fallback: int) -> date | None:
    """The date of "the last Sunday of March" and the like."""
    if not (1 <= month <= 12 and 1 <= year <= 9999):
        return None
    length = calendar.monthrange(year, month)[1]
    match = _BYDAY.match(rule)
    if match is None:
        return None if rule else date(year, month, min(fallback, length))
    nth, weekday = int(match[1]), _WEEKDAYS.index(match[2])
    if nth > 0:
        day = 1 + (weekday - date(year, month, 1).weekday()) % 7 + 7 * (nth - 1)
    else:
        day = length - (date(year, month, length).weekday() - weekday) % 7 + 7 * (nth + 1)
    return date(year, month, day) if 1 <= day <= length else None


def _datetime(text: str) -> datetime | None:
    try:
        return datetime.strptime(text[:15], "%Y%m%dT%H%M%S")  # noqa: DTZ007  local by definition
    except ValueError:
        return None


def _offset(text: str) -> timedelta | None:
    match = _OFFSET.match(text)
    if match is None:
        return None
    sign, hours, minutes, seconds = match.groups()
    length = timedelta(hours=int(hours), minutes=int(minutes), seconds=int(seconds or 0))
    if length >= timedelta(days=1):
        return None
    return -length if sign == "-" else length
