"""Business hours against a stop-watch that counts every minute, in zones with every kind of clock change."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentmail import BusinessHours
from agentmail.errors import BadInput

# By whole hours at 1:00 UTC, at 2:00 local time, by half an hour, at midnight, a day that never was, and none at all.
ZONES = ("Europe/Madrid", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Pacific/Apia", "Asia/Kolkata")
QUARTERS = [time(h, m) for h in range(24) for m in (0, 15, 30, 45)]


def offices() -> st.SearchStrategy[BusinessHours]:
    def build(zone: str, opens: time, closes: time, weekdays: frozenset[int], off: frozenset[int]) -> BusinessHours:
        if opens == closes:
            opens = closes = time(0)
        holidays = {date(2011, 12, 20) + timedelta(days=n) for n in off}
        return BusinessHours(zone, opens=opens, closes=closes, weekdays=weekdays, holidays=holidays)

    return st.builds(
        build, st.sampled_from(ZONES), st.sampled_from(QUARTERS), st.sampled_from(QUARTERS),
        st.frozensets(st.integers(0, 6), min_size=1), st.frozensets(st.integers(0, 30), max_size=6),
    )  # fmt: skip


MOMENTS = st.datetimes(datetime(2010, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)).map(
    lambda at: at.replace(second=0, microsecond=0, minute=at.minute // 15 * 15)
)
LENGTHS = st.integers(0, 150).map(lambda quarters: timedelta(minutes=15 * quarters))
MADRID = BusinessHours("Europe/Madrid", opens=time(1, 30), closes=time(5), weekdays=range(7))
ROUND_THE_CLOCK = BusinessHours("Europe/Madrid", opens=time(2, 45), closes=time(2, 30), weekdays=range(7))
SPRING, AUTUMN = datetime(2026, 3, 28, 20, 0, tzinfo=UTC), datetime(2026, 10, 24, 20, 0, tzinfo=UTC)


@given(offices(), MOMENTS, LENGTHS)
@example(MADRID, SPRING, timedelta(hours=2))
@example(MADRID, AUTUMN, timedelta(hours=4))
@example(BusinessHours("Pacific/Apia", weekdays=range(7)), datetime(2011, 12, 29, 0, 0, tzinfo=UTC), timedelta(days=1))
def test_adding_and_measuring_undo_each_other(office: BusinessHours, at: datetime, worked: timedelta) -> None:
    end = office.add(at, worked)
    assert end >= at
    assert office.between(at, end) == worked
    assert end.tzinfo is office.zone
    if worked:  # it ends while it is open, or at the moment of closing
        assert office.is_open(end.astimezone(UTC) - timedelta(seconds=1))
    else:
        assert office.is_open(end)


@given(offices(), MOMENTS, LENGTHS, LENGTHS)
def test_two_lengths_are_their_sum(office: BusinessHours, at: datetime, a: timedelta, b: timedelta) -> None:
    if b:
        assert office.add(office.add(at, a), b) == office.add(at, a + b)
    assert office.add(at, a) <= office.add(at, a + b)


@given(offices(), MOMENTS)
@example(ROUND_THE_CLOCK, AUTUMN)  # the shift that ends at the second 2:30 overlaps the one from the first 2:45
def test_measuring_is_counting_the_open_minutes(office: BusinessHours, at: datetime) -> None:
    """A model that knows nothing of intervals: look at the door every quarter of an hour, for two days."""
    quarter = timedelta(minutes=15)
    seen = sum(office.is_open(at + n * quarter) for n in range(192)) * quarter
    assert office.between(at, at + 192 * quarter) == seen


@given(offices(), MOMENTS)
def test_far_from_a_clock_change_the_wall_clock_decides(office: BusinessHours, at: datetime) -> None:
    local = at.astimezone(office.zone)
    offsets = {(at + timedelta(hours=h)).astimezone(office.zone).utcoffset() for h in range(-48, 49, 12)}
    if len(offsets) > 1:
        return
    day, shown = local.date(), local.time()
    works = [d.weekday() in office.weekdays and d not in office.holidays for d in (day, day - timedelta(days=1))]
    if office.opens < office.closes:
        expected = works[0] and office.opens <= shown < office.closes
    else:
        expected = (works[0] and shown >= office.opens) or (works[1] and shown < office.closes)
    assert office.is_open(at) == expected


def madrid(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=ZoneInfo("Europe/Madrid"))  # type: ignore[misc, arg-type]


def test_a_friday_afternoon_goes_on_on_monday_behind_the_holiday() -> None:
    office = BusinessHours("Europe/Madrid", holidays={date(2026, 11, 23)})
    assert office.add(madrid(2026, 11, 20, 16, 0), timedelta(hours=4)) == madrid(2026, 11, 24, 12, 0)
    assert office.next_open(madrid(2026, 11, 21, 3, 0)) == madrid(2026, 11, 24, 9, 0)
    assert office.add(madrid(2026, 11, 20, 16, 0), timedelta(hours=1)) == madrid(2026, 11, 20, 17, 0)


def test_a_night_in_which_the_clock_changes_is_shorter_or_longer() -> None:
    night = BusinessHours("Europe/Madrid", opens=time(22), closes=time(6), weekdays=range(7))
    spans = [(3, 28), (10, 24), (6, 1)]
    lengths = [night.between(madrid(2026, m, d, 22, 0), madrid(2026, m, d + 1, 6, 0)) for m, d in spans]
    assert lengths == [timedelta(hours=7), timedelta(hours=9), timedelta(hours=8)]


def test_a_time_that_the_clock_skips_is_the_moment_of_the_skip() -> None:
    early = BusinessHours("Europe/Madrid", opens=time(2, 30), closes=time(5), weekdays=range(7))
    assert early.next_open(madrid(2026, 3, 29, 0, 0)) == madrid(2026, 3, 29, 3, 0)


def test_of_a_time_that_the_clock_shows_twice_opening_means_the_first_and_closing_the_second() -> None:
    midnight, noon = madrid(2026, 10, 25, 0, 0), madrid(2026, 10, 25, 12, 0)
    early = BusinessHours("Europe/Madrid", opens=time(0), closes=time(2, 30), weekdays=range(7))
    late = BusinessHours("Europe/Madrid", opens=time(2, 30), closes=time(12), weekdays=range(7))
    assert early.between(midnight, noon) == timedelta(hours=3, minutes=30)
    assert late.between(midnight, noon) == timedelta(hours=10, minutes=30)


@pytest.mark.parametrize(
    "wrong",
    [{"timezone": "Madrid"}, {"weekdays": ()}, {"weekdays": (7,)}, {"opens": time(9), "closes": time(9)}],
    ids=str,
)
def test_hours_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        BusinessHours(**wrong)  # type: ignore[arg-type]


def test_questions_that_mean_nothing_are_refused() -> None:
    office = BusinessHours()
    for ask in (
        lambda: office.add(datetime(2026, 1, 5), timedelta(hours=1)),
        lambda: office.add(SPRING, -timedelta(hours=1)),
        lambda: office.add(SPRING, timedelta(days=9_000)),
    ):
        with pytest.raises(BadInput):
            ask()
