"""Cron expressions: wall-clock times of the five fields of crontab(5), or six with seconds first.

Names, ranges, steps, `L`, `LW` and `#` are cronsim's, which reproduces Debian's cron. Ours are the macros and
Quartz's `15W`, the weekday nearest to the 15th of the month.
"""

import calendar
import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta

from cronsim import CronSim, CronSimError

from services.chassis.errors import InvalidArgument

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
NEAREST = re.compile(r"([1-9]|[12][0-9]|3[01])W", re.IGNORECASE)
SATURDAY, SUNDAY = 5, 6


class BadCron(InvalidArgument):
    """The cron expression cannot be read: {problem}."""

    def __init__(self, problem: str, field: str = "schedule.timing.cron") -> None:
        super().__init__(problem=problem, field=field)


class _Cron(CronSim):
    """With weekdays nearest to a day of the month."""

    def __init__(self, expression: str, nearest: frozenset[int], bare: bool, after: datetime) -> None:
        super().__init__(expression, after)
        self._nearest = nearest
        if bare:
            self.days = set()

    def match_dom(self, d: date) -> bool:
        return super().match_dom(d) or any(d == nearest_weekday(d.year, d.month, n) for n in self._nearest)


def nearest_weekday(year: int, month: int, day: int) -> date | None:
    """Monday to Friday, in the same month. None where the month has no such day."""
    last = calendar.monthrange(year, month)[1]
    if day > last:
        return None
    wanted = date(year, month, day)
    if wanted.weekday() == SATURDAY:
        return wanted - timedelta(days=1) if day > 1 else wanted + timedelta(days=2)
    if wanted.weekday() == SUNDAY:
        return wanted + timedelta(days=1) if day < last else wanted - timedelta(days=2)
    return wanted


def wall_times(expression: str, after: datetime) -> Iterator[datetime]:
    """Naive times later than the naive `after`; ends when none follows within 50 years. Raises BadCron."""
    text = MACROS.get(expression.strip().lower(), expression)
    fields = text.split()
    if text.startswith("@"):
        raise BadCron(f"`{expression}` is none of {', '.join(MACROS)}")
    if len(fields) not in (5, 6):
        raise BadCron(f"it has {len(fields)} fields, not 5 or 6")
    nearest, bare = frozenset[int](), False
    at = len(fields) - 3
    terms = fields[at].split(",")
    if found := [term for term in terms if NEAREST.fullmatch(term)]:
        nearest = frozenset(int(term[:-1]) for term in found)
        others = [term for term in terms if term not in found]
        fields[at], bare = ",".join(others) or "1", not others
    try:
        return _Cron(" ".join(fields), nearest, bare, after)
    except CronSimError as error:
        raise BadCron(str(error)) from None
