"""Invitations: iTIP over mail (RFC 5546, RFC 6047).

A calendar part is written by an outsider: it can hold 50,000 events, a rule that repeats every second for ever, or
an organizer that is not the sender. So only what an `Invitation` needs is picked out of it, within limits, before
icalendar sees it, and nothing is ever expanded. Whoever acts on one compares `organizer` and `attendees` with the
verified sender first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

from pydantic import BaseModel, ConfigDict

from . import vtimezone
from .characters import on_one_line

_MAX_BYTES = 1 << 20
_MAX_LINE = 4_096
_MAX_EVENT_LINES = 300
"""Attendees, mostly. The property lines of an event after these are not read."""
_MAX_ZONES = 2
_MAX_ZONE_LINES = 100
_KEPT = frozenset(
    (
        *("UID", "SEQUENCE", "SUMMARY", "DTSTART", "DTEND", "DURATION", "LOCATION", "ORGANIZER", "ATTENDEE"),
        *("STATUS", "COMMENT", "RECURRENCE-ID"),
    )
)
_ZONED = frozenset(("DTSTART", "DTEND", "RECURRENCE-ID"))
_ZONE_KEPT = frozenset(("TZID", "DTSTART", "TZOFFSETFROM", "TZOFFSETTO", "RRULE", "BEGIN", "END"))
_TIMED = re.compile(r"(?:DTSTART|DTEND|DURATION|RECURRENCE-ID)\b", re.IGNORECASE)
_VENDORS = re.compile(
    r"(;TZID=\"?)/[^\";:]{0,100}?/((?:Africa|America|Antarctica|Arctic|Asia|Atlantic|Australia|Europe|Indian|Pacific|Etc)/)",
    re.IGNORECASE,
)
"""Before the name of a zone, as Mozilla and Evolution write it; icalendar would print a warning about each."""
_ANSWERS = frozenset(("accepted", "declined", "tentative", "delegated"))


class Attendee(BaseModel):
    model_config = ConfigDict(frozen=True)

    email: str
    name: str = ""
    answer: str = "needs-action"
    """accepted, declined, tentative, delegated or needs-action."""


class Invitation(BaseModel):
    """One event of a calendar part.

    Traps: outlook.com leaves ORGANIZER out of a reply, so match a reply by `uid`, the attendee's address and the
    verified sender. A reply whose sender is not that attendee is somebody else's claim.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    """request, reply, cancel, counter, publish …"""
    uid: str
    sequence: int = 0
    title: str = ""
    start: datetime | None = None
    """Aware, UTC; midnight UTC of the first day when `all_day`. For a counter: the proposed start."""
    end: datetime | None = None
    """Aware, UTC, exclusive."""
    location: str = ""
    organizer: str = ""
    """An address, or "" when it is missing."""
    attendees: tuple[Attendee, ...] = ()
    all_day: bool = False
    timezone: str = ""
    """The zone the times were written in, by the name the sender gave it; "" for UTC or none at all."""
    floating: bool = False
    """True when the times carry no zone that we know: they were read as UTC and are probably wrong by hours."""
    recurring: bool = False
    """True when the event repeats; `start` is its first time. Repeats are not expanded."""
    occurrence: datetime | None = None
    """For a change, answer or cancellation of one time of an event that repeats: when that time was to be
    (RECURRENCE-ID), aware, UTC. Trap: such a cancellation leaves all other times as they are."""
    comment: str = ""
    """What an attendee wrote beside the answer."""
    events: int = 1
    """How many events the part holds. Only the first is described here."""


def invitation(ics: bytes, method_hint: str | None = None) -> Invitation | None:
    """The first event of a text/calendar part; None when there is none, or it cannot be read.

    `method_hint` is the `method` parameter of the Content-Type; it counts when the part itself names no method.
    """
    picked = _pick(_decode(ics[:_MAX_BYTES]))
    if picked is None:
        return None
    from icalendar import Calendar  # 80 modules and 3 MB, and most mail has no calendar in it

    method, lines, zones, events, recurring = picked
    found = None
    for kept in (lines, [line for line in lines if not _TIMED.match(line)]):
        try:
            found = _read(Calendar.from_ical, kept, zones)
            break
        except Exception:  # noqa: BLE001, S112  icalendar raises what its parts raise: a zone's name even an OSError
            continue
    if found is None:
        return None
    name = on_one_line(method or method_hint or "publish", 40).casefold()
    return found.model_copy(update={"method": name, "events": events, "recurring": recurring})


# ---------------------------------------------------------------------------------------------------------------------


def _decode(ics: bytes) -> str:
    if ics.startswith((b"\xff\xfe", b"\xfe\xff")):
        return ics.decode("utf-16", "replace")
    try:
        return ics.decode("utf-8-sig")
    except UnicodeDecodeError:
        return ics.decode("latin-1")


def _pick(text: str) -> tuple[str, list[str], list[str], int, bool] | None:
    """`(method, lines of the first event, lines of its zones, number of events, repeats)` in one pass."""
    method = ""
    event: list[str] = []
    zones: list[str] = []
    zone: list[str] = []
    events = zone_count = 0
    recurring = False
    path: list[str] = []
    for line in _unfold(text):
        name = line.partition(":")[0].partition(";")[0].strip().upper()
        if name == "BEGIN":
            if len(path) < 10:
                path.append(_component(line))
            if path == ["VCALENDAR", "VEVENT"]:
                events += 1
            elif path[:2] == ["VCALENDAR", "VTIMEZONE"]:
                zone.append(line)
        elif name == "END":
            component = _component(line)
            if path[:2] == ["VCALENDAR", "VTIMEZONE"]:
                zone.append(line)
                if component == "VTIMEZONE":
                    if zone_count < _MAX_ZONES and len(zone) <= _MAX_ZONE_LINES:
                        zones += zone
                        zone_count += 1
                    zone = []
            if path and path[-1] == component:
                path.pop()
        elif path == ["VCALENDAR"] and name == "METHOD" and not method:
            method = line.partition(":")[2].strip()
        elif path == ["VCALENDAR", "VEVENT"] and events == 1:
            if name in _KEPT and len(event) < _MAX_EVENT_LINES:
                event.append(_VENDORS.sub(r"\1\2", line, count=1) if name in _ZONED else line)
            recurring = recurring or name in {"RRULE", "RDATE"}
        elif path[:2] == ["VCALENDAR", "VTIMEZONE"] and name in _ZONE_KEPT and len(zone) <= _MAX_ZONE_LINES:
            zone.append(line)
    return (method, event, zones, events, recurring) if event else None


def _component(line: str) -> str:
    return line.partition(":")[2].strip().upper()[:40]


def _unfold(text: str) -> list[str]:
    """Content lines (RFC 5545 3.1), each cut at a limit. A line that begins with a blank continues the one before."""
    lines: list[str] = []
    for raw in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if raw[:1] in (" ", "\t") and lines:
            if len(lines[-1]) < _MAX_LINE:
                lines[-1] += raw[1:_MAX_LINE]
        elif raw:
            lines.append(raw[:_MAX_LINE])
    return lines


def _read(understood: Callable[[str], Any], lines: list[str], zones: list[str]) -> Invitation | None:
    text = "\r\n".join(("BEGIN:VCALENDAR", "VERSION:2.0", "BEGIN:VEVENT", *lines, "END:VEVENT", "END:VCALENDAR", ""))
    events = understood(text).walk("VEVENT")
    if not events:
        return None
    event = events[0]
    uid = on_one_line(_text(event, "UID"))
    if not uid:
        return None
    begin = _moment(event, "DTSTART", zones)
    finish = _moment(event, "DTEND", zones)
    start, end = _utc(begin), _utc(finish)
    all_day = begin is not None and not isinstance(begin, datetime)
    if end is None and start is not None:
        length = _time(_one(event, "DURATION"))
        if isinstance(length, timedelta) and length < _UNTIL_THE_END - start:
            end = start + length
        elif all_day:
            end = start + timedelta(days=1)  # RFC 5545 3.6.1
    parameters = getattr(_one(event, "DTSTART"), "params", {}) if begin is not None else {}
    return Invitation(
        method="",
        uid=uid,
        sequence=_number(_one(event, "SEQUENCE")),
        title=on_one_line(_text(event, "SUMMARY")),
        start=start,
        end=end,
        location=on_one_line(_text(event, "LOCATION")),
        organizer=_address(_one(event, "ORGANIZER")),
        attendees=_attendees(event),
        all_day=all_day,
        timezone=on_one_line(str(parameters.get("TZID", "")), 100),
        occurrence=_utc(_moment(event, "RECURRENCE-ID", zones)),
        floating=isinstance(begin, datetime) and begin.tzinfo is None,
        comment=on_one_line(_text(event, "COMMENT")),
    )


_UNTIL_THE_END = datetime.max.replace(tzinfo=UTC)


def _one(event: Any, name: str) -> Any:
    value = event.get(name)
    return value[0] if isinstance(value, list) and value else value


def _time(prop: Any) -> Any:
    """The time that a property holds; None when icalendar could not read it, which it says only when asked."""
    try:
        return getattr(prop, "dt", None)
    except Exception:  # noqa: BLE001  icalendar.error.BrokenCalendarProperty, in the versions that have it
        return None


def _text(event: Any, name: str) -> str:
    value = _one(event, name)
    return "" if value is None else str(value)


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int) and 0 <= value < 2**31 else 0


def _moment(event: Any, name: str, zones: list[str]) -> date | datetime | None:
    """A date, or a time: naive only when its zone is unknown to icalendar and to the part itself."""
    prop = _one(event, name)
    value = _time(prop)
    if isinstance(value, datetime) and value.tzinfo is None:
        zone = str(getattr(prop, "params", {}).get("TZID", ""))
        ahead = vtimezone.offset(zones, zone, value) if zone else None
        return value if ahead is None else value.replace(tzinfo=timezone(ahead))
    return value if isinstance(value, date) else None


def _utc(moment: date | None) -> datetime | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        return datetime.combine(moment, time(), UTC)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # the first or the last day of the calendar
        return None


def _attendees(event: Any) -> tuple[Attendee, ...]:
    values = event.get("ATTENDEE", [])
    found: list[Attendee] = []
    for value in values if isinstance(values, list) else [values]:
        email = _address(value)
        if not email:
            continue
        parameters = getattr(value, "params", {})
        answer = str(parameters.get("PARTSTAT", "")).casefold()
        name = on_one_line(str(parameters.get("CN", "")), 200)
        found.append(Attendee(email=email, name=name, answer=answer if answer in _ANSWERS else "needs-action"))
    return tuple(found)


def _address(value: Any) -> str:
    """The address of a calendar user, or "": `mailto:a@b`, or what stands in EMAIL= beside another kind of address."""
    if value is None:
        return ""
    parameters = getattr(value, "params", {})
    for text in (str(value), str(parameters.get("EMAIL", ""))):
        email = on_one_line(text, 400)
        if email[:7].casefold() == "mailto:":
            email = email[7:].partition("?")[0]
        if "@" in email and len(email) <= 320 and not set(email) & set(' <>",;:\\'):
            return email
    return ""
