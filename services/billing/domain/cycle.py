"""Where billing periods begin: boundaries that a wall clock shows, reckoned from one anchor.

Boundary k is the anchor plus k intervals, never the boundary before plus one, so that a subscription of the
31st is billed on the last day of a short month and on the 31st again after it. Times are of the customer's
zone: a wall time that a change to summer time leaves out moves on by the gap, one that comes twice is meant
the first time.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)
YEAR_MONTHS, WEEK_DAYS = 12, 7


class Unit(StrEnum):
    """What an interval is counted in."""

    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    QUARTER = "QUARTER"
    YEAR = "YEAR"


MONTHS = {Unit.MONTH: 1, Unit.QUARTER: 3, Unit.YEAR: YEAR_MONTHS}
DAYS = {Unit.DAY: 1, Unit.WEEK: WEEK_DAYS}
# Of a year, by which plans of different intervals are compared; a year has 365 days there, and 52 weeks.
A_YEAR = {
    Unit.DAY: Fraction(365),
    Unit.WEEK: Fraction(52),
    Unit.MONTH: Fraction(12),
    Unit.QUARTER: Fraction(4),
    Unit.YEAR: Fraction(1),
}


class Proration(StrEnum):
    """By what a part of a period is measured; a plan declares it."""

    SECOND = "SECOND"  # As Stripe does: elapsed seconds.
    DAY = "DAY"  # As Lago does: days of the calendar, the day of a change among those that follow.


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, its end excluded."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Cycle:
    """The endless row of a subscription's periods."""

    unit: Unit
    count: int
    anchor: datetime  # Naive: what the customer's clock showed.
    day: int  # Of the month, 1 to 31, as meant; the anchor's month may be shorter.
    tz: ZoneInfo

    def boundary(self, index: int) -> datetime:
        """When period `index` begins; the anchor's own is 0."""
        steps = index * self.count
        if self.unit in DAYS:
            local = self.anchor + timedelta(days=steps * DAYS[self.unit])
        else:
            local = self._month(steps * MONTHS[self.unit])
        return instant(local, self.tz)

    def _month(self, months: int) -> datetime:
        year, month = divmod(self.anchor.year * YEAR_MONTHS + self.anchor.month - 1 + months, YEAR_MONTHS)
        last = monthrange(year, month + 1)[1]
        return self.anchor.replace(year=year, month=month + 1, day=min(self.day, last))

    def around(self, at: datetime) -> Span:
        """The whole period that holds `at`."""
        index = self._guess(at)
        while self.boundary(index) > at:
            index -= 1
        while (end := self.boundary(index + 1)) <= at:
            index += 1
        return Span(self.boundary(index), end)

    def _guess(self, at: datetime) -> int:
        local = at.astimezone(self.tz).replace(tzinfo=None)
        if self.unit in DAYS:
            return (local - self.anchor).days // (DAYS[self.unit] * self.count)
        months = (local.year - self.anchor.year) * YEAR_MONTHS + local.month - self.anchor.month
        return months // (MONTHS[self.unit] * self.count)


def instant(local: datetime, tz: ZoneInfo) -> datetime:
    """When the clock of a zone shows `local`."""
    return local.replace(tzinfo=tz).astimezone(UTC)


def anniversary(unit: Unit, count: int, start: datetime, tz: ZoneInfo, by: Proration) -> Cycle:
    """Periods that begin as the first one did; by days, at midnight."""
    local = start.astimezone(tz).replace(tzinfo=None, microsecond=0)
    if by is Proration.DAY:
        local = local.replace(hour=0, minute=0, second=0)
    return Cycle(unit, count, local, local.day, tz)


def calendar(unit: Unit, count: int, start: datetime, tz: ZoneInfo) -> Cycle:
    """Periods of the calendar: weeks from Monday, months and quarters and years from their first day."""
    local = start.astimezone(tz).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
    if unit is Unit.WEEK:
        local -= timedelta(days=local.weekday())
    elif unit in MONTHS:
        length = MONTHS[unit] * count
        months = (local.year * YEAR_MONTHS + local.month - 1) // length * length
        local = local.replace(year=months // YEAR_MONTHS, month=months % YEAR_MONTHS + 1, day=1)
    return Cycle(unit, count, local, local.day, tz)


def on_day(day: int, unit: Unit, count: int, start: datetime, tz: ZoneInfo) -> Cycle:
    """Periods that begin on a chosen day of the month, at midnight, the first of them not after `start`."""
    local = start.astimezone(tz).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
    if min(day, monthrange(local.year, local.month)[1]) > local.day:
        local = local.replace(day=1) - DAY
    last = monthrange(local.year, local.month)[1]
    return Cycle(unit, count, local.replace(day=min(day, last)), day, tz)


def share(by: Proration, whole: Span, part: Span, tz: ZoneInfo) -> Fraction:
    """How much of `whole` is `part`, which lies in it. By days, the day of the end is not counted."""
    if part == whole:
        return Fraction(1)
    if by is Proration.SECOND:
        return Fraction((part.end - part.start) / timedelta.resolution) / Fraction(
            (whole.end - whole.start) / timedelta.resolution
        )
    all_days = (local_date(whole.end, tz) - local_date(whole.start, tz)).days
    return Fraction((local_date(part.end, tz) - local_date(part.start, tz)).days, all_days or 1)


def local_date(at: datetime, tz: ZoneInfo) -> date:
    return at.astimezone(tz).date()


def day_end(at: datetime, tz: ZoneInfo) -> datetime:
    """The midnight that ends the day of `at`: by days, a day that has begun is used."""
    tomorrow = local_date(at, tz) + DAY
    return instant(datetime(tomorrow.year, tomorrow.month, tomorrow.day), tz)  # noqa: DTZ001 - local
