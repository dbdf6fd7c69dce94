"""Invitations as calendars send them, and as attackers do."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmail.message.calendar import Attendee, Invitation, invitation


def part(*lines: str, method: str = "REQUEST", zone: str = "") -> bytes:
    """A calendar part with one event."""
    text = f"BEGIN:VCALENDAR\nPRODID:x\nVERSION:2.0\nMETHOD:{method}\n{zone}BEGIN:VEVENT\nUID:one@example.org\n"
    return (text + "\n".join(lines) + "\nEND:VEVENT\nEND:VCALENDAR\n").replace("\n", "\r\n").encode()


def test_a_request_is_read_whole() -> None:
    ics = part(
        "DTSTAMP:20260501T080000Z",
        "SEQUENCE:2",
        "SUMMARY:Kick-off\\, first\\n round",
        "LOCATION:Room 4\\; second floor",
        "DTSTART:20260505T100000Z",
        "DTEND:20260505T103000Z",
        'ORGANIZER;CN="Ben Okri":mailto:ben@example.org',
        'ATTENDEE;CN="Ruiz, Ana";PARTSTAT=NEEDS-ACTION;RSVP=TRUE:mailto:ana@example.org',
        "ATTENDEE;PARTSTAT=TENTATIVE:MAILTO:cleo@example.org",
    )
    expected = Invitation(
        method="request",
        uid="one@example.org",
        sequence=2,
        title="Kick-off, first round",
        location="Room 4; second floor",
        start=datetime(2026, 5, 5, 10, tzinfo=UTC),
        end=datetime(2026, 5, 5, 10, 30, tzinfo=UTC),
        organizer="ben@example.org",
        attendees=(
            Attendee(email="ana@example.org", name="Ruiz, Ana"),
            Attendee(email="cleo@example.org", answer="tentative"),
        ),
    )
    assert expected == invitation(ics, "REQUEST")


def test_outlook_com_answers_without_an_organizer_in_windows_time() -> None:
    """Found in the wild: no ORGANIZER, and a Windows zone name without a definition."""
    ics = part(
        "ATTENDEE;PARTSTAT=ACCEPTED;CN=Ana:mailto:ana@example.org",
        "COMMENT;LANGUAGE=en:Gladly",
        "DTSTART;TZID=W. Europe Standard Time:20260505T120000",
        "DTEND;TZID=W. Europe Standard Time:20260505T123000",
        method="REPLY",
    )
    answer = invitation(ics, None)
    assert answer is not None
    assert ("reply", "", "Gladly") == (answer.method, answer.organizer, answer.comment)
    assert "accepted" == answer.attendees[0].answer
    assert datetime(2026, 5, 5, 10, tzinfo=UTC) == answer.start
    assert "W. Europe Standard Time" == answer.timezone
    assert not answer.floating


ZONE = """BEGIN:VTIMEZONE
TZID:Our Own Zone
BEGIN:STANDARD
DTSTART:16010101T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:16010101T020000
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3
END:DAYLIGHT
END:VTIMEZONE
"""


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        ("20260505T120000", datetime(2026, 5, 5, 10, tzinfo=UTC)),
        ("20260115T120000", datetime(2026, 1, 15, 11, tzinfo=UTC)),
        ("20260329T015959", datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC)),
        ("20260329T030000", datetime(2026, 3, 29, 1, tzinfo=UTC)),
        ("20261025T030000", datetime(2026, 10, 25, 2, tzinfo=UTC)),
    ],
)
def test_a_zone_that_the_part_defines_itself(local: str, utc: datetime) -> None:
    found = invitation(part(f"DTSTART;TZID=Our Own Zone:{local}", zone=ZONE), None)
    assert found is not None
    assert (utc, False) == (found.start, found.floating)


def test_a_zone_of_one_mail_is_unknown_in_the_next() -> None:
    """Nothing is kept: otherwise one sender could move another sender's meetings."""
    invitation(part("DTSTART;TZID=Our Own Zone:20260505T120000", zone=ZONE), None)
    found = invitation(part("DTSTART;TZID=Our Own Zone:20260505T120000"), None)
    assert found is not None
    assert found.floating


def test_a_known_name_means_what_it_means_everywhere() -> None:
    """A definition that calls Berlin something else is not believed."""
    moved = ZONE.replace("Our Own Zone", "Europe/Berlin").replace("+0200", "+1100")
    found = invitation(part("DTSTART;TZID=Europe/Berlin:20260505T120000", zone=moved), None)
    assert found is not None
    assert datetime(2026, 5, 5, 10, tzinfo=UTC) == found.start


def test_whole_days_and_lengths() -> None:
    day = invitation(part("DTSTART;VALUE=DATE:20260505"), None)
    assert day is not None
    assert day.all_day
    assert datetime(2026, 5, 5, tzinfo=UTC) == day.start
    assert datetime(2026, 5, 6, tzinfo=UTC) == day.end
    hour = invitation(part("DTSTART:20260505T100000Z", "DURATION:PT90M"), None)
    assert hour is not None
    assert datetime(2026, 5, 5, 11, 30, tzinfo=UTC) == hour.end


def test_a_time_without_a_zone_says_so() -> None:
    found = invitation(part("DTSTART:20260505T100000"), None)
    assert found is not None
    assert found.floating
    assert datetime(2026, 5, 5, 10, tzinfo=UTC) == found.start


def test_a_counter_proposal_and_a_cancellation() -> None:
    proposed = "DTSTART:20260506T100000Z", "X-MS-OLK-ORIGINALSTART:20260505T100000Z"
    counter = invitation(part(*proposed, method="COUNTER"), None)
    assert counter is not None
    assert ("counter", datetime(2026, 5, 6, 10, tzinfo=UTC)) == (counter.method, counter.start)
    cancel = invitation(part("STATUS:CANCELLED", "SEQUENCE:3", method="CANCEL"), "CANCEL")
    assert cancel is not None
    assert ("cancel", 3, None) == (cancel.method, cancel.sequence, cancel.start)


def test_the_method_of_the_part_wins_over_the_header() -> None:
    assert (found := invitation(part(method="CANCEL"), "REQUEST")) and found.method == "cancel"
    without = part().replace(b"METHOD:REQUEST\r\n", b"")
    assert (found := invitation(without, "Request")) and found.method == "request"
    assert (found := invitation(without, None)) and found.method == "publish"


def test_folded_lines_bare_line_feeds_and_another_charset() -> None:
    folded = part("SUMMARY:Kick\r\n -off")
    assert (found := invitation(folded, None)) and found.title == "Kick-off"
    assert (found := invitation(part("SUMMARY:x").replace(b"\r\n", b"\n"), None)) and found.title == "x"
    assert (found := invitation("\ufeff".encode() + part("SUMMARY:é"), None)) and found.title == "é"
    assert (found := invitation(part("SUMMARY:é").decode().encode("latin-1"), None)) and found.title == "é"
    assert (found := invitation(part("SUMMARY:é").decode().encode("utf-16"), None)) and found.title == "é"


def test_what_cannot_be_seen_is_taken_out() -> None:
    found = invitation(part("SUMMARY:Hi\u200b\u202e there\x00", "LOCATION:a\\nb"), None)
    assert found is not None
    assert ("Hi there", "a b") == (found.title, found.location)


def test_addresses_that_are_none_are_left_out() -> None:
    found = invitation(
        part(
            "ORGANIZER:invalid:nomail",
            "ATTENDEE:mailto:",
            "ATTENDEE:mailto:a b@example.org",
            "ATTENDEE:mailto:a@example.org\\,b@example.org",
            "ATTENDEE;EMAIL=dora@example.org:urn:uuid:1",
        ),
        None,
    )
    assert found is not None
    assert "" == found.organizer
    assert ["dora@example.org"] == [attendee.email for attendee in found.attendees]


def test_a_meeting_that_repeats_is_not_expanded() -> None:
    found = invitation(part("DTSTART:20260505T100000Z", "RRULE:FREQ=SECONDLY"), None)
    assert found is not None
    assert found.recurring
    assert datetime(2026, 5, 5, 10, tzinfo=UTC) == found.start


BROKEN = {
    "nothing": b"",
    "no calendar": b"hello",
    "no event": b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n",
    "a to-do": b"BEGIN:VCALENDAR\r\nBEGIN:VTODO\r\nUID:x\r\nEND:VTODO\r\nEND:VCALENDAR\r\n",
    "no uid": part().replace(b"UID:one@example.org\r\n", b"SUMMARY:x\r\n"),
    "an event outside": b"BEGIN:VEVENT\r\nUID:x\r\nEND:VEVENT\r\n",
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_parts_are_none(case: str) -> None:
    assert invitation(BROKEN[case], "REQUEST") is None


HALF_BROKEN = {
    "a start that is no date": "DTSTART:yesterday",
    "a start beyond all calendars": "DTSTART:99999999T999999Z",
    "a length beyond all calendars": "DTSTART:99991231T235959Z\r\nDURATION:P99999999W",
    "a sequence that is no number": "SEQUENCE:many",
    "a sequence that is too large": f"SEQUENCE:{'9' * 400}",
    "a zone that is nowhere": "DTSTART;TZID=../../etc/passwd:20260505T100000",
    "a line without a colon": "SUMMARY",
    "a parameter without an end": 'ATTENDEE;CN="x:mailto:a@example.org',
    "a start in lower case": "DTSTART:20260505t100000z",
    "the year 0": "DTSTART:00000101T000000Z",
    "a zone that is a directory": "DTSTART;TZID=Europe:20260505T100000",
    "a zone of 3,000 letters": f"DTSTART;TZID={'A' * 3_000}:20260505T100000",
    "the first year": "DTSTART;TZID=Asia/Tokyo:00010101T000000",
}


@pytest.mark.parametrize("case", HALF_BROKEN)
def test_a_broken_property_is_left_out(case: str) -> None:
    """Who sent the rest said something all the same."""
    found = invitation(part("SUMMARY:Kick-off", HALF_BROKEN[case], method="CANCEL"), None)
    assert found is not None
    assert (found.uid, found.title, found.method) == ("one@example.org", "Kick-off", "cancel")


def test_one_time_of_a_meeting_that_repeats() -> None:
    """A cancellation of it is not one of the meeting."""
    lines = ("DTSTART:20260512T120000Z", "RECURRENCE-ID;TZID=Europe/Berlin:20260512T120000", "STATUS:CANCELLED")
    found = invitation(part(*lines, method="CANCEL"), None)
    assert found is not None
    assert found.occurrence == datetime(2026, 5, 12, 10, tzinfo=UTC)


def test_a_zone_under_a_vendors_name_is_read_without_a_warning() -> None:
    """Warnings are errors here: outsiders must not be able to make a process print them."""
    found = invitation(part("DTSTART;TZID=/mozilla.org/20050126_1/Europe/Berlin:20260505T100000"), None)
    assert found is not None
    assert found.start == datetime(2026, 5, 5, 8, tzinfo=UTC)


def test_an_event_is_closed_by_the_end_of_the_part() -> None:
    found = invitation(b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:x\r\nSUMMARY:cut", None)
    assert found is not None
    assert "cut" == found.title


def test_a_bomb_of_events_is_counted_not_read() -> None:
    event = b"BEGIN:VEVENT\r\nUID:two\r\nEND:VEVENT\r\n"
    bomb = part("SUMMARY:first").replace(b"END:VCALENDAR\r\n", event * 20_000 + b"END:VCALENDAR\r\n")
    found = invitation(bomb, None)
    assert found is not None
    assert "first" == found.title
    assert found.events > 10_000


def test_a_bomb_of_attendees_is_cut() -> None:
    found = invitation(part(*(f"ATTENDEE:mailto:a{number}@example.org" for number in range(20_000))), None)
    assert found is not None
    assert 200 <= len(found.attendees) <= 300


LINES = st.sampled_from(
    [
        "BEGIN:VCALENDAR",
        "END:VCALENDAR",
        "BEGIN:VEVENT",
        "END:VEVENT",
        "BEGIN:VTIMEZONE",
        "END:VTIMEZONE",
        "BEGIN:STANDARD",
        "TZID:Z",
        "TZOFFSETTO:+0100",
        "RRULE:FREQ=YEARLY;BYDAY=5SU;BYMONTH=2",
        "DTSTART;TZID=Z:20260101T000000",
        "UID:x",
        " folded",
        "ATTENDEE;PARTSTAT=X:mailto:a@b.example",
        "METHOD:REQUEST",
    ]
)


@given(st.lists(LINES | st.text(max_size=40), max_size=20))
def test_never_raises(lines: list[str]) -> None:
    text = "\r\n".join(["BEGIN:VCALENDAR", "BEGIN:VEVENT", "UID:x", *lines])
    invitation(text.encode("utf-8", "surrogatepass"), None)
    invitation("\r\n".join(lines).encode("utf-8", "surrogatepass"), "REQUEST")


@given(st.binary(max_size=200))
def test_any_bytes(ics: bytes) -> None:
    invitation(ics, None)
