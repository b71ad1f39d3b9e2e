"""The wall times of a recurrence, in order, from any moment on (RFC 5545 3.3.10).

Each period of the rule (year, month, week, day, or less) is expanded by filtering its days, and the days by
the times of a day, so that every BY part means the same whether it widens or narrows. The search is bounded:
python-dateutil never ends on rules that match nothing, counts the weeks of BYWEEKNO by calendar years, and
expands it to whole weeks where the day of DTSTART is meant.
"""

import calendar
import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import MAXYEAR, date, datetime, time, timedelta

from services.scheduler.domain.rrule import SUB_DAILY, Recurrence, Rule

EMPTY_PERIODS_MAX = 50_000  # In a row without a match: then none is coming. 137 years of days.
FRUITLESS_YEARS_MAX = 400  # The calendar repeats after as many.
DAY = timedelta(days=1)
UNITS = {"HOURLY": timedelta(hours=1), "MINUTELY": timedelta(minutes=1), "SECONDLY": timedelta(seconds=1)}


def wall_times(recurrence: Recurrence, after: datetime) -> Iterator[datetime]:
    """Later than the naive `after`, each once, rising."""
    sources: list[Iterator[datetime]] = [_of_rule(rule, recurrence.start, after) for rule in recurrence.rules]
    sources.append(iter(recurrence.dates))
    if not recurrence.rules:
        sources.append(iter([recurrence.start]))
    last = None
    for at in heapq.merge(*sources):
        if at > after and at != last and at not in recurrence.exceptions:
            yield at
        last = at


def _of_rule(rule: Rule, start: datetime, after: datetime) -> Iterator[datetime]:
    """Those of one rule; when it has no COUNT, the periods before `after` are passed over."""
    full = _completed(rule, start)
    found = _sub_daily if rule.frequency in SUB_DAILY else _daily_or_longer
    for number, at in enumerate(found(full, start, start if rule.count else max(start, after)), 1):
        if rule.until and at > rule.until:
            return
        yield at
        if number == rule.count:
            return


def _completed(rule: Rule, start: datetime) -> Rule:
    """With what the rule leaves to DTSTART written out."""
    numbers, weekdays = dict(rule.numbers), rule.weekdays
    names = set(numbers) & {"BYWEEKNO", "BYYEARDAY", "BYMONTHDAY"}
    if rule.frequency == "YEARLY" and not weekdays:
        if names == {"BYWEEKNO"}:
            weekdays = ((0, start.weekday()),)
        elif names <= {"BYMONTHDAY"}:
            numbers.setdefault("BYMONTH", (start.month,))
            numbers.setdefault("BYMONTHDAY", (start.day,))
    elif rule.frequency == "MONTHLY" and not names and not weekdays:
        numbers["BYMONTHDAY"] = (start.day,)
    elif rule.frequency == "WEEKLY" and not weekdays:
        weekdays = ((0, start.weekday()),)
    return replace(rule, numbers=_with_times(rule.frequency, numbers, start), weekdays=weekdays)


def _with_times(
    frequency: str, numbers: dict[str, tuple[int, ...]], start: datetime
) -> dict[str, tuple[int, ...]]:
    """Of units that are finer than the frequency."""
    if frequency not in SUB_DAILY:
        numbers.setdefault("BYHOUR", (start.hour,))
    if frequency not in ("MINUTELY", "SECONDLY"):
        numbers.setdefault("BYMINUTE", (start.minute,))
    if frequency != "SECONDLY":
        numbers.setdefault("BYSECOND", (start.second,))
    return numbers


@dataclass(frozen=True)
class _Period:
    """Some days, in order; ordinals of BYDAY count within `month` spans or the whole."""

    first: date
    days: int
    year: int  # Of the weeks, when they are counted.


def _daily_or_longer(rule: Rule, start: datetime, since: datetime) -> Iterator[datetime]:
    times = [
        time(hour, minute, second)
        for hour in sorted(rule.of("BYHOUR"))
        for minute in sorted(rule.of("BYMINUTE"))
        for second in sorted(rule.of("BYSECOND"))
    ]
    matches = _day_filter(rule)
    empty, last = 0, start.date()
    for period in _periods(rule, start.date(), since.date()):
        days = [period.first + n * DAY for n in range(period.days)]
        matching = [day for day in days if matches(day, period)]
        found = [datetime.combine(day, at) for day in matching for at in times]
        chosen = [at for at in _by_position(rule, found) if at >= start]
        yield from chosen
        empty, last = (0, days[-1]) if chosen else (empty + 1, last)
        if empty > EMPTY_PERIODS_MAX or period.first.year - last.year > FRUITLESS_YEARS_MAX:
            return


def _periods(rule: Rule, start: date, since: date) -> Iterator[_Period]:
    """Every interval-th period from that of `start` on, without most of those before `since`."""
    step = rule.interval
    if rule.frequency == "YEARLY":
        weeks = bool(rule.of("BYWEEKNO"))
        first = _week_year(start, rule.week_start) if weeks else start.year
        for year in range(first + max(0, since.year - 1 - first) // step * step, MAXYEAR - 1, step):
            yield (
                _weeks_of(year, rule.week_start) if weeks else _Period(date(year, 1, 1), _length(year), year)
            )
    elif rule.frequency == "MONTHLY":
        first = start.year * 12 + start.month - 1
        ahead = max(0, since.year * 12 + since.month - 1 - first) // step * step
        for month in range(first + ahead, (MAXYEAR - 1) * 12, step):
            year, number = month // 12, month % 12 + 1
            yield _Period(date(year, number, 1), calendar.monthrange(year, number)[1], year)
    else:
        days = 7 * step if rule.frequency == "WEEKLY" else step
        back = (start.weekday() - rule.week_start) % 7 if rule.frequency == "WEEKLY" else 0
        first_day = start.toordinal() - back
        ahead = max(0, since.toordinal() - first_day) // days * days
        for day in range(first_day + ahead, date(MAXYEAR - 1, 1, 1).toordinal(), days):
            began = date.fromordinal(day)
            yield _Period(began, 7 if rule.frequency == "WEEKLY" else 1, began.year)


def _length(year: int) -> int:
    return 366 if calendar.isleap(year) else 365


def _weeks_of(year: int, week_start: int) -> _Period:
    first = _first_week(year, week_start)
    return _Period(first, (_first_week(year + 1, week_start) - first).days, year)


def _first_week(year: int, week_start: int) -> date:
    """The first day of the first week that has four days in `year` (ISO 8601, for any first weekday)."""
    fourth = date(year, 1, 4)
    return fourth - (fourth.weekday() - week_start) % 7 * DAY


def _week_year(day: date, week_start: int) -> int:
    if day < _first_week(day.year, week_start):
        return day.year - 1
    return day.year + 1 if day >= _first_week(day.year + 1, week_start) else day.year


def _day_filter(rule: Rule) -> Callable[[date, _Period], bool]:
    """Whether a day of a period matches every BY part about days."""
    checks: list[Callable[[date, _Period], bool]] = []
    if months := set(rule.of("BYMONTH")):
        checks.append(lambda day, _: day.month in months)
    if weeks := set(rule.of("BYWEEKNO")):
        checks.append(lambda day, period: _counted((day - period.first).days // 7, period.days // 7, weeks))
    if year_days := set(rule.of("BYYEARDAY")):
        checks.append(lambda day, _: _counted(day.timetuple().tm_yday - 1, _length(day.year), year_days))
    if month_days := set(rule.of("BYMONTHDAY")):
        checks.append(
            lambda day, _: _counted(day.day - 1, calendar.monthrange(day.year, day.month)[1], month_days)
        )
    if rule.weekdays:
        by_month = rule.frequency == "MONTHLY" or (rule.frequency == "YEARLY" and bool(months))
        checks.append(lambda day, _: _weekday_matches(rule, day, by_month))
    return lambda day, period: all(check(day, period) for check in checks)


def _counted(index: int, length: int, numbers: set[int]) -> bool:
    """Whether the index-th of `length` is among numbers that count from 1, or from the end below 0."""
    return index + 1 in numbers or index - length in numbers


def _weekday_matches(rule: Rule, day: date, by_month: bool) -> bool:
    if (0, day.weekday()) in rule.weekdays:
        return True
    wanted = {ordinal for ordinal, weekday in rule.weekdays if weekday == day.weekday()}
    if not wanted:
        return False
    index = day.day - 1 if by_month else day.timetuple().tm_yday - 1
    length = calendar.monthrange(day.year, day.month)[1] if by_month else _length(day.year)
    return index // 7 + 1 in wanted or -((length - 1 - index) // 7 + 1) in wanted


def _by_position(rule: Rule, found: Sequence[datetime]) -> Sequence[datetime]:
    """BYSETPOS of one period."""
    positions = set(rule.of("BYSETPOS"))
    if not positions:
        return found
    return [at for index, at in enumerate(found) if _counted(index, len(found), positions)]


def _sub_daily(rule: Rule, start: datetime, since: datetime) -> Iterator[datetime]:
    """Hours, minutes or seconds; what cannot match is jumped over, a day, an hour or a minute at a time."""
    unit = UNITS[rule.frequency] * rule.interval
    matches, at = _day_filter(rule), start + max(timedelta(), (since - start) // unit * unit)
    spans = _spans(rule)
    empty = 0
    while at.year < MAXYEAR and empty <= EMPTY_PERIODS_MAX:
        upto = _mismatch(rule, matches, at)
        if upto is None:
            chosen = [each for each in _by_position(rule, _within(rule, at, spans)) if each >= start]
            yield from chosen
            empty, at = 0 if chosen else empty + 1, at + unit
        else:
            empty, at = empty + 1, at + max(unit, -(-(upto - at) // unit) * unit)


def _mismatch(rule: Rule, matches: Callable[[date, _Period], bool], at: datetime) -> datetime | None:
    """When the part of `at` that does not match ends. None: all match."""
    day = at.date()
    if not matches(day, _Period(day, 1, day.year)):
        return datetime.combine(day, time()) + DAY
    if rule.of("BYHOUR") and at.hour not in rule.of("BYHOUR"):
        return at.replace(minute=0, second=0) + UNITS["HOURLY"]
    if rule.frequency != "HOURLY" and rule.of("BYMINUTE") and at.minute not in rule.of("BYMINUTE"):
        return at.replace(second=0) + UNITS["MINUTELY"]
    if rule.frequency == "SECONDLY" and rule.of("BYSECOND") and at.second not in rule.of("BYSECOND"):
        return at + UNITS["SECONDLY"]
    return None


def _spans(rule: Rule) -> list[tuple[int | None, int | None]]:
    """Minutes and seconds that an hour, or seconds that a minute is widened to."""
    minutes = sorted(rule.of("BYMINUTE")) if rule.frequency == "HOURLY" else [None]
    seconds = sorted(rule.of("BYSECOND")) if rule.frequency != "SECONDLY" else [None]
    return [(minute, second) for minute in minutes for second in seconds]


def _within(rule: Rule, at: datetime, spans: Sequence[tuple[int | None, int | None]]) -> list[datetime]:
    return [
        at.replace(
            minute=at.minute if minute is None else minute, second=at.second if second is None else second
        )
        for minute, second in spans
    ]
