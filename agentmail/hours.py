"""Business hours: "in four working hours", in somebody's time zone, with weekends and holidays. Pure.

```python
office = BusinessHours("Europe/Madrid", holidays={date(2026, 12, 25)})
await thread.remind(at=office.add(datetime.now(UTC), timedelta(hours=4)))
```

Hours are what a wall clock shows; lengths are what a stop-watch shows. So a night shift is an hour shorter in the night
that summer time begins, and `add` counts it so. A time that the clock skips means the moment of the skip; of a time
that it shows twice, business opens at the first and closes at the second.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from .errors import BadInput

WEEKDAYS = (0, 1, 2, 3, 4)
"""Monday to Friday, as `date.weekday()` numbers them."""
_FURTHEST = 3_660
"""Days to look ahead; who is closed for ten years has closed."""
_MIDNIGHT = time(0)


class BusinessHours:
    """When somebody works. Every datetime given must be aware; every datetime returned is in `timezone`.

    Args:
        timezone: An IANA name, such as `Europe/Madrid`.
        opens, closes: By the wall clock. `closes=time(0)` is the end of the day. Closing before opening is the next
            morning: `opens=time(22), closes=time(6)`; such a shift belongs to the day that it begins on.
        weekdays: The days of work, Monday is 0.
        holidays: Dates without work.

    Raises:
        BadInput: the zone is unknown, or it is never open.
    """

    def __init__(
        self,
        timezone: str = "UTC",
        *,
        opens: time = time(9),
        closes: time = time(17),
        weekdays: Collection[int] = WEEKDAYS,
        holidays: Collection[date] = (),
    ) -> None:
        try:
            self.zone = ZoneInfo(timezone)
        except (KeyError, ValueError, OSError) as exc:
            raise BadInput(f"{timezone!r} is no time zone: it is a name such as 'Europe/Madrid'") from exc
        if not weekdays or not set(weekdays) <= set(range(7)):
            raise BadInput("weekdays are numbers from 0 (Monday) to 6, and at least one")
        if opens.tzinfo is not None or closes.tzinfo is not None:
            raise BadInput("opens and closes are times of the wall clock, without a time zone of their own")
        if opens == closes != _MIDNIGHT:
            raise BadInput("opens and closes are the same: for the whole day both are time(0)")
        self.opens, self.closes = opens, closes
        self.weekdays, self.holidays = frozenset(weekdays), frozenset(holidays)

    def __repr__(self) -> str:
        days = "".join(map(str, sorted(self.weekdays)))
        return f"BusinessHours({self.zone.key!r}, {self.opens:%H:%M}-{self.closes:%H:%M}, weekdays {days})"

    def is_open(self, at: datetime) -> bool:
        """Whether it is open at that moment. The moment of closing is closed."""
        moment = _aware(at)
        return any(start <= moment < end for start, end in self._spans(moment, days=2))

    def next_open(self, at: datetime) -> datetime:
        """`at`, when it is open then; else when it opens next."""
        return self.add(at, timedelta())

    def add(self, at: datetime, worked: timedelta) -> datetime:
        """The moment by which so much has been worked from `at` on: always one at which it is open, or just closes.

        `add(at, timedelta(hours=4))` on a Friday at 16:00, with an end at 17:00, is Monday at 12:00.

        Raises:
            BadInput: `worked` is negative, or it would take more than ten years.
        """
        moment, left = _aware(at), worked
        if left < timedelta():
            raise BadInput("add() counts forward: it needs a length of at least 0")
        for start, end in self._spans(moment, days=_FURTHEST):
            begin = max(start, moment)
            if begin < end and (left < end - begin or (left == end - begin and left > timedelta())):
                return (begin + left).astimezone(self.zone)
            left -= max(end - begin, timedelta())
        raise BadInput(f"{worked} of work from {at:%Y-%m-%d} on takes more than ten years in {self!r}")

    def between(self, start: datetime, end: datetime) -> timedelta:
        """How much is worked between two moments; nothing when `end` is not after `start`."""
        first, last = _aware(start), _aware(end)
        days = max(0, (last - first).days) + 3
        spans = self._spans(first, days=days) if last > first else iter(())
        return sum((max(min(e, last) - max(s, first), timedelta()) for s, e in spans), timedelta())

    def _spans(self, moment: datetime, *, days: int) -> Iterator[tuple[datetime, datetime]]:
        """(opens, closes) in UTC of each day of work, from the one before `moment`, since that shift may still run."""
        day = moment.astimezone(self.zone).date()
        ends_next_day = self.closes <= self.opens
        before = datetime.min.replace(tzinfo=UTC)
        for offset in range(-1, days):
            try:
                today = day + timedelta(days=offset)
                if today.weekday() not in self.weekdays or today in self.holidays:
                    continue
                last = today + timedelta(days=1) if ends_next_day else today
                # Two shifts meet in the hour that a clock shows twice; it is worked once.
                start, end = (
                    max(before, self._moment(today, self.opens, fold=0)),
                    self._moment(last, self.closes, fold=1),
                )
            except OverflowError:  # the end of the calendar
                return
            before = end
            yield start, end

    def _moment(self, day: date, clock: time, *, fold: int) -> datetime:
        """When the wall clock shows that, in UTC; the moment of the skip for what it never shows (PEP 495)."""
        wall = datetime.combine(day, clock.replace(fold=fold), self.zone)
        moment = wall.astimezone(UTC)
        if moment.astimezone(self.zone).replace(tzinfo=None, fold=0) == wall.replace(tzinfo=None, fold=0):
            return moment
        # In a gap fold 1 counts by the offset after it, which gives the earlier moment.
        low, high = sorted(wall.replace(fold=f).astimezone(UTC) for f in (0, 1))
        before = low.astimezone(self.zone).utcoffset()
        while high - low > timedelta(seconds=1):
            middle = low + (high - low) / 2
            if middle.astimezone(self.zone).utcoffset() == before:
                low = middle
            else:
                high = middle
        return high.replace(microsecond=0)


def _aware(at: datetime) -> datetime:
    """In UTC, where lengths are what they look like: Python subtracts local times of one zone by the wall clock."""
    if at.tzinfo is None:
        raise BadInput("a time without a time zone: give it one")
    return at.astimezone(UTC)
