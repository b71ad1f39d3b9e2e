"""Calendars: which days are open."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from uuid import UUID

import holidays
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from services.scheduler.domain.row import Row

RANGE_DAYS_MAX = 366  # Of one question; a page of days is read whole into memory.
YEARS_CACHED_MAX = 200  # Countries times years; one takes about 20 kB.
WEEK = frozenset(range(1, 8))


class UnknownCalendar(NotFound):
    """There is no calendar {calendar_id}."""


class CalendarIdReused(AlreadyExists):
    """Calendar {calendar_id} was made with other settings."""


class CalendarInUse(FailedPrecondition):
    """{schedules} schedules use the calendar {calendar_id}."""


class CalendarRefused(InvalidArgument):
    """The calendar breaks a rule: {problem}."""


class DaysRefused(InvalidArgument):
    """A range has two real dates, the second at most {days} days after the first."""

    def __init__(self, field: str) -> None:
        super().__init__(days=RANGE_DAYS_MAX, field=field)


class Calendar(Row):
    """A calendar."""

    __tablename__ = "calendar"
    calendar_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    settings: Mapped[bytes]
    revision: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


@dataclass(frozen=True, kw_only=True)
class Days:
    """What a calendar says of any day."""

    closed_weekdays: frozenset[int]  # ISO: Monday is 1.
    country: str
    subdivision: str
    closed: Mapping[date, str]
    opened: frozenset[date]

    def check(self) -> None:
        """Raises CalendarRefused."""
        if self.closed_weekdays >= WEEK:
            raise CalendarRefused(problem="one day of the week is open", field="settings.closed_weekdays")
        if self.subdivision and not self.country:
            raise CalendarRefused(problem="a subdivision is part of a country", field="settings.subdivision")
        if self.country:
            try:
                _public(self.country, self.subdivision, 2026)
            except NotImplementedError:
                field = "settings.subdivision" if _knows(self.country) else "settings.country"
                raise CalendarRefused(problem="its holidays are not known here", field=field) from None

    def reason(self, day: date) -> str | None:
        """Why it is closed, which may be empty. None: it is open."""
        if day in self.opened:
            return None
        if day in self.closed:
            return self.closed[day]
        if self.country and (holiday := _public(self.country, self.subdivision, day.year).get(day)):
            return holiday
        return "weekday" if day.isoweekday() in self.closed_weekdays else None

    def open(self, day: date) -> bool:
        return self.reason(day) is None

    def closed_between(self, first: date, last: date) -> Iterator[tuple[date, str]]:
        for n in range((last - first).days + 1):
            day = first + timedelta(days=n)
            if (reason := self.reason(day)) is not None:
                yield day, reason


def day(text: str, field: str) -> date:
    """Raises CalendarRefused."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CalendarRefused(problem=f"{text} is no date", field=field) from None


def days_of(first: str, last: str) -> tuple[date, date]:
    """A range that may be asked for. Raises DaysRefused."""
    try:
        made = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError:
        raise DaysRefused(field="from_date") from None
    if not 0 <= (made[1] - made[0]).days <= RANGE_DAYS_MAX:
        raise DaysRefused(field="to_date")
    return made


def _knows(country: str) -> bool:
    try:
        _public(country, "", 2026)
    except NotImplementedError:
        return False
    return True


@lru_cache(maxsize=YEARS_CACHED_MAX)
def _public(country: str, subdivision: str, year: int) -> Mapping[date, str]:
    """Public holidays. Raises NotImplementedError for what the library does not know."""
    return dict(holidays.country_holidays(country, subdiv=subdivision or None, years=year))
