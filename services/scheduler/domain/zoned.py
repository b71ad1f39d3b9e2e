"""Wall-clock times as instants, where clocks are set forward (a gap) and back (an overlap).

A wall time in a gap happens on no clock, one in an overlap on two. What then holds is declared by whoever
made the schedule. The defaults are those of RFC 5545 3.3.5: a time in a gap is read by the offset before it,
and of two times the first counts.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from services.chassis.errors import InvalidArgument

SHIFT_MAX = timedelta(hours=25)  # Samoa's clocks once jumped by a whole day, others by minutes to hours.
ZONE_CHARS_MAX = 64  # The longest name of the tz database has half as many.


class Gap(StrEnum):
    """What becomes of a wall time that a clock skips."""

    SHIFT = "SHIFT"
    SKIP = "SKIP"


class Overlap(StrEnum):
    """Which of two equal wall times counts."""

    FIRST = "FIRST"
    SECOND = "SECOND"
    BOTH = "BOTH"


class UnknownTimeZone(InvalidArgument):
    """`{time_zone}` is no time zone of the IANA database."""

    def __init__(self, time_zone: str, field: str = "schedule.time_zone") -> None:
        super().__init__(time_zone=time_zone, field=field)


Walls = Callable[[datetime], Iterator[datetime]]  # Naive times later than a naive one, rising.


def zone(name: str) -> ZoneInfo:
    """Raises UnknownTimeZone."""
    try:
        if len(name) > ZONE_CHARS_MAX:
            raise UnknownTimeZone(name[:ZONE_CHARS_MAX])
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnknownTimeZone(name) from None


def wall(at: datetime, tz: ZoneInfo) -> datetime:
    """What a clock there shows; naive."""
    return at.astimezone(tz).replace(tzinfo=None, fold=0)


def instants(shown: datetime, tz: ZoneInfo, gap: Gap, overlap: Overlap) -> list[datetime]:
    """The moments that the naive `shown` stands for, in UTC, rising."""
    before, after = _offsets(shown, tz)
    earlier, later = shown - before, shown - after
    if before < after:
        chosen = [earlier] if gap is Gap.SHIFT else []
    elif before > after:
        chosen = {Overlap.FIRST: [earlier], Overlap.SECOND: [later], Overlap.BOTH: [earlier, later]}[overlap]
    else:
        chosen = [earlier]
    return [each.replace(tzinfo=UTC) for each in chosen]


def following(walls: Walls, after: datetime, tz: ZoneInfo, gap: Gap, overlap: Overlap) -> datetime | None:
    """The first instant later than `after` of the wall times that `walls` yields. None: there is none."""
    best: datetime | None = None
    for shown in walls(_from(after, tz)):
        ahead = [each for each in instants(shown, tz, gap, overlap) if each > after]
        best = min([*ahead, best] if best else ahead, default=None)
        # No later wall time stands for an earlier instant than this one read by the largest offset here.
        if best and (shown - max(_offsets(shown, tz))).replace(tzinfo=UTC) >= best:
            break
    return best


def _offsets(shown: datetime, tz: ZoneInfo) -> tuple[timedelta, timedelta]:
    """PEP 495: equal, or those before and after the change that `shown` falls into."""
    first, second = (shown.replace(tzinfo=tz, fold=fold).utcoffset() for fold in (0, 1))
    assert first is not None
    assert second is not None
    return first, second


def _from(after: datetime, tz: ZoneInfo) -> datetime:
    """The wall time after which all candidates lie: earlier than what the clock shows near a change."""
    shown = wall(after, tz)
    low, high = after - SHIFT_MAX, after + SHIFT_MAX
    here, there = _offset(low, tz), _offset(high, tz)
    if here == there:
        return shown
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        low, high = (middle, high) if _offset(middle, tz) == here else (low, middle)
    size = abs(there - here)
    if not high - size - timedelta(seconds=1) <= after <= high + size:
        return shown
    return after.astimezone(UTC).replace(tzinfo=None) + min(here, there)


def _offset(at: datetime, tz: ZoneInfo) -> timedelta:
    offset = at.astimezone(tz).utcoffset()
    assert offset is not None
    return offset
