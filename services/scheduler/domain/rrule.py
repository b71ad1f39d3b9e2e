"""Recurrences as iCalendar writes them (RFC 5545 3.8.5): DTSTART, RRULE, RDATE and EXDATE, read and checked.

Times are naive, of the schedule's own zone: a TZID in the text must be that zone, and a UTC time is converted
to it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from services.chassis.errors import InvalidArgument
from services.scheduler.domain.zoned import wall

LINES_MAX = 50  # Nobody writes more by hand; all of them are read for each run.
DATES_MAX = 1_000  # RDATEs and EXDATEs together.
LIST_MAX = 366  # Values of one BY part: BYYEARDAY has this many.
COUNT_MAX = 10_000  # A rule with COUNT is expanded from its start each time.
INTERVAL_MAX = 100_000
FREQUENCIES = ("SECONDLY", "MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY")
DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
RANGES = {  # RFC 5545 3.3.10: allowed numbers; True: negative ones count from the end.
    "BYSECOND": (0, 59, False),
    "BYMINUTE": (0, 59, False),
    "BYHOUR": (0, 23, False),
    "BYMONTHDAY": (1, 31, True),
    "BYYEARDAY": (1, 366, True),
    "BYWEEKNO": (1, 53, True),
    "BYMONTH": (1, 12, False),
    "BYSETPOS": (1, 366, True),
}
SUB_DAILY = frozenset({"SECONDLY", "MINUTELY", "HOURLY"})
WEEKDAY = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)")
STAMP = re.compile(r"(\d{8})(?:T(\d{6})(Z)?)?")
LINE = re.compile(r"(DTSTART|RRULE|RDATE|EXDATE)((?:;[^:]*)?):(.*)", re.IGNORECASE)


class BadRecurrence(InvalidArgument):
    """The recurrence cannot be read: {problem}."""

    def __init__(self, problem: str, field: str = "schedule.timing.recurrence") -> None:
        super().__init__(problem=problem, field=field)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One RRULE."""

    frequency: str
    interval: int
    count: int  # 0: no bound.
    until: datetime | None
    week_start: int  # Monday is 0.
    numbers: Mapping[str, tuple[int, ...]]  # By BY part.
    weekdays: tuple[tuple[int, int], ...]  # Ordinal (0: every) and day.

    def of(self, part: str) -> tuple[int, ...]:
        return self.numbers.get(part, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """A set of wall times."""

    start: datetime
    rules: tuple[Rule, ...]
    dates: tuple[datetime, ...]
    exceptions: frozenset[datetime]


def parse(text: str, tz: ZoneInfo) -> Recurrence:
    """Raises BadRecurrence."""
    unfolded = re.sub(r"\r?\n[ \t]", "", text.strip())  # RFC 5545 3.1.
    lines = [line.strip() for line in unfolded.splitlines() if line.strip()]
    if len(lines) > LINES_MAX:
        raise BadRecurrence(f"it has more than {LINES_MAX} lines")
    found: dict[str, list[str]] = {"DTSTART": [], "RRULE": [], "RDATE": [], "EXDATE": []}
    all_day = False
    for line in lines:
        matched = LINE.fullmatch(line)
        if not matched:
            raise BadRecurrence(f"`{line[:40]}` is none of {', '.join(found)}")
        kind, parameters, value = matched[1].upper(), matched[2].upper(), matched[3]
        all_day |= kind == "DTSTART" and "VALUE=DATE" in parameters.split(";")
        _require_zone(matched[2], tz)
        found[kind] += [value] if kind == "RRULE" else value.split(",")
    if len(found["DTSTART"]) != 1:
        raise BadRecurrence("it needs one DTSTART")
    if len(found["RDATE"]) + len(found["EXDATE"]) > DATES_MAX:
        raise BadRecurrence(f"it has more than {DATES_MAX} dates")
    start = stamp(found["DTSTART"][0], tz)
    all_day |= "T" not in found["DTSTART"][0].upper()
    return Recurrence(
        start=start,
        rules=tuple(rule(text, tz, all_day=all_day) for text in found["RRULE"]),
        dates=tuple(sorted(stamp(each, tz) for each in found["RDATE"])),
        exceptions=frozenset(stamp(each, tz) for each in found["EXDATE"]),
    )


def _require_zone(parameters: str, tz: ZoneInfo) -> None:
    for parameter in parameters.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.upper() == "TZID" and value.strip('"') != tz.key:
            raise BadRecurrence(f"its TZID {value} is not the schedule's time zone")
        if name.upper() not in ("TZID", "VALUE") or value.upper() == "PERIOD":
            raise BadRecurrence(f"`{parameter}` is no parameter that is known here")


def stamp(text: str, tz: ZoneInfo) -> datetime:
    """A DATE or DATE-TIME as wall time. Raises BadRecurrence."""
    matched = STAMP.fullmatch(text.strip().upper())
    day, time, utc = matched.groups() if matched else ("", None, None)
    try:
        at = datetime.strptime(day + (time or "000000"), "%Y%m%d%H%M%S")  # noqa: DTZ007 - a wall time
    except ValueError:
        raise BadRecurrence(f"`{text[:40]}` is no date and no time") from None
    return wall(at.replace(tzinfo=UTC), tz) if utc else at


def rule(text: str, tz: ZoneInfo, *, all_day: bool = False) -> Rule:
    """One RRULE's value. Raises BadRecurrence."""
    parts: dict[str, str] = {}
    for part in text.strip().upper().strip(";").split(";"):
        name, sign, value = part.partition("=")
        if not sign or not value or name in parts:
            raise BadRecurrence(f"`{part[:40]}` is no rule part, or stands twice")
        parts[name] = value
    frequency = parts.pop("FREQ", "")
    if frequency not in FREQUENCIES:
        raise BadRecurrence(f"FREQ is none of {', '.join(FREQUENCIES)}")
    made = Rule(
        frequency=frequency,
        interval=_number(parts.pop("INTERVAL", "1"), "INTERVAL", INTERVAL_MAX),
        count=_number(parts.pop("COUNT"), "COUNT", COUNT_MAX) if "COUNT" in parts else 0,
        until=stamp(parts.pop("UNTIL"), tz) if "UNTIL" in parts else None,
        week_start=_day(parts.pop("WKST", "MO")),
        weekdays=_weekdays(parts.pop("BYDAY", "")),
        numbers={name: _numbers(name, value) for name, value in parts.items()},
    )
    _check(made)
    return _without_times(made) if all_day else made


def _check(made: Rule) -> None:
    """RFC 5545 3.3.10: what may not stand beside what."""
    if made.count and made.until:
        raise BadRecurrence("COUNT and UNTIL exclude each other")
    if made.of("BYWEEKNO") and made.frequency != "YEARLY":
        raise BadRecurrence("BYWEEKNO needs FREQ=YEARLY")
    if made.of("BYYEARDAY") and made.frequency in ("DAILY", "WEEKLY", "MONTHLY"):
        raise BadRecurrence("BYYEARDAY cannot stand beside FREQ=DAILY, WEEKLY or MONTHLY")
    if made.of("BYMONTHDAY") and made.frequency == "WEEKLY":
        raise BadRecurrence("BYMONTHDAY cannot stand beside FREQ=WEEKLY")
    if any(n for n, _ in made.weekdays) and (
        made.frequency not in ("MONTHLY", "YEARLY") or made.of("BYWEEKNO")
    ):
        raise BadRecurrence("a BYDAY with a number needs FREQ=MONTHLY or YEARLY, and no BYWEEKNO")
    if made.of("BYSETPOS") and not made.weekdays and set(made.numbers) == {"BYSETPOS"}:
        raise BadRecurrence("BYSETPOS needs another BY part")


def _without_times(made: Rule) -> Rule:
    """RFC 5545 3.3.10: a DTSTART that is a date has no use for hours, minutes and seconds."""
    kept = {
        name: each for name, each in made.numbers.items() if name not in ("BYHOUR", "BYMINUTE", "BYSECOND")
    }
    return Rule(
        frequency=made.frequency,
        interval=made.interval,
        count=made.count,
        until=made.until,
        week_start=made.week_start,
        numbers=kept,
        weekdays=made.weekdays,
    )


def _number(text: str, name: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= len(text) <= 6 or not 1 <= int(text) <= most:
        raise BadRecurrence(f"{name} is a number from 1 to {most}")
    return int(text)


def _numbers(name: str, text: str) -> tuple[int, ...]:
    if name not in RANGES:
        raise BadRecurrence(f"`{name[:40]}` is no rule part that is known here")
    least, most, signed = RANGES[name]
    values: Sequence[str] = text.split(",")
    if len(values) > LIST_MAX:
        raise BadRecurrence(f"{name} has more than {LIST_MAX} values")
    made = []
    for value in values:
        digits = value.lstrip("+-") if signed else value
        fits = re.fullmatch(r"[+-]?\d{1,3}", value, re.ASCII) and digits.isdigit()
        if not fits or not least <= int(digits) <= most:
            raise BadRecurrence(f"`{value[:40]}` is no value of {name}")
        made.append(int(value))
    return tuple(dict.fromkeys(made))


def _day(text: str) -> int:
    if text not in DAYS:
        raise BadRecurrence(f"`{text[:40]}` is no day of the week")
    return DAYS.index(text)


def _weekdays(text: str) -> tuple[tuple[int, int], ...]:
    made = []
    for value in text.split(",") if text else []:
        matched = WEEKDAY.fullmatch(value)
        ordinal = int(matched[1] or 0) if matched else 99
        if not matched or abs(ordinal) > 53 or (matched[1] and not ordinal):
            raise BadRecurrence(f"`{value[:40]}` is no value of BYDAY")
        made.append((ordinal, DAYS.index(matched[2])))
    return tuple(dict.fromkeys(made))
