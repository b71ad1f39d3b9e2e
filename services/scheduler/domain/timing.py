"""When a schedule runs: the next nominal time after a moment, by its rule, zone, window and calendar.

A nominal time is what names a run. Jitter comes on top of it when the run is fired, and is the same at every
replica: it is derived from the schedule's id and the nominal time.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import groupby
from uuid import UUID
from zoneinfo import ZoneInfo

from services.chassis.errors import InvalidArgument
from services.scheduler.domain import cron, expansion, rrule
from services.scheduler.domain.zoned import Gap, Overlap, Walls, following, wall

CLOSED_DAYS_MAX = 366  # In a row; a calendar that is closed for longer moves nothing across.
CLOSED_RUNS_MAX = 1_000  # Closed days met in a row before a schedule is taken to have no next run.
MOVED_MAX = 2_000  # Runs of closed days that one open day takes over; one a minute is 1,440.
DAY, INSTANT = timedelta(days=1), timedelta(microseconds=1)
LAST_YEAR = 9_000  # Arithmetic near year 9999 overflows.


class Kind(StrEnum):
    """How the times are given."""

    CRON = "CRON"
    INTERVAL = "INTERVAL"
    ONCE = "ONCE"
    RECURRENCE = "RECURRENCE"


class OnClosed(StrEnum):
    """What becomes of a run on a day that the calendar has closed."""

    SKIP = "SKIP"
    NEXT = "NEXT"
    PREVIOUS = "PREVIOUS"


class TimingRefused(InvalidArgument):
    """The timing breaks a rule: {problem}."""

    def __init__(self, problem: str, field: str = "schedule.timing") -> None:
        super().__init__(problem=problem, field=field)


Open = Callable[[date], bool]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """All that decides the nominal times of a schedule."""

    kind: Kind
    text: str = ""  # The cron expression, or the recurrence.
    every: timedelta = timedelta()
    anchor: datetime  # INTERVAL counts from it; ONCE is it.
    tz: ZoneInfo
    gap: Gap = Gap.SHIFT
    overlap: Overlap = Overlap.FIRST
    starts_at: datetime | None = None
    ends_at: datetime | None = None  # Exclusive.
    open: Open | None = None  # Of the calendar; None: every day.
    on_closed: OnClosed = OnClosed.SKIP

    def check(self) -> None:
        """Raises BadCron, BadRecurrence, TimingRefused."""
        if self.starts_at and self.ends_at and self.starts_at >= self.ends_at:
            raise TimingRefused("the window ends before it starts", "schedule.timing.end_time")
        if self.kind in (Kind.INTERVAL, Kind.ONCE):
            if self.open and self.on_closed is not OnClosed.SKIP:
                raise TimingRefused(
                    "only cron and recurrence are moved to open days", "schedule.timing.on_closed"
                )
            return
        next(self._walls(datetime(2000, 1, 1)), None)  # noqa: DTZ001 - any wall time

    def next(self, after: datetime) -> datetime | None:
        """The first nominal time later than `after`, in UTC. None: there is none."""
        after = after.astimezone(UTC)
        if self.starts_at and after < self.starts_at:
            after = self.starts_at - INSTANT
        if after.year > LAST_YEAR:
            return None
        found = self._next(after)
        return None if found is None or (self.ends_at and found >= self.ends_at) else found

    def upcoming(self, after: datetime, most: int) -> Iterator[datetime]:
        """At most `most` nominal times later than `after`."""
        for _ in range(most):
            found = self.next(after)
            if found is None:
                return
            yield found
            after = found

    def _next(self, after: datetime) -> datetime | None:
        if self.kind is Kind.ONCE:
            return self.anchor if self.anchor > after and self._open_at(self.anchor) else None
        if self.kind is Kind.INTERVAL:
            return self._next_interval(after)
        return following(self._open_walls, after, self.tz, self.gap, self.overlap)

    def _open_at(self, at: datetime) -> bool:
        return self.open is None or self.open(wall(at, self.tz).date())

    def _next_interval(self, after: datetime) -> datetime | None:
        for _ in range(CLOSED_RUNS_MAX):
            at = self.anchor + max(0, (after - self.anchor) // self.every + 1) * self.every
            if self._open_at(at):
                return at
            midnight = datetime.combine(wall(at, self.tz).date() + DAY, time(), self.tz)
            after = max(at, midnight.astimezone(UTC) - INSTANT)
        return None

    def _walls(self, after: datetime) -> Iterator[datetime]:
        if self.kind is Kind.CRON:
            return cron.wall_times(self.text, after)
        return expansion.wall_times(rrule.parse(self.text, self.tz), after)

    def _open_walls(self, after: datetime) -> Iterator[datetime]:
        if self.open is None:
            return self._walls(after)
        if self.on_closed is OnClosed.SKIP:
            return _skipping(self._walls, self.open, after)
        return _moving(self._walls, self.open, after, back=self.on_closed is OnClosed.PREVIOUS)


def jittered(schedule_id: UUID, nominal: datetime, jitter: timedelta) -> datetime:
    """When the run of `nominal` is fired: up to `jitter` later, the same wherever it is computed."""
    if not jitter:
        return nominal
    digest = hashlib.sha256(schedule_id.bytes + nominal.isoformat().encode()).digest()
    share = int.from_bytes(digest[:8]) / 2**64
    return nominal + timedelta(milliseconds=int(share * (jitter / timedelta(milliseconds=1))))


def _skipping(walls: Walls, is_open: Open, after: datetime) -> Iterator[datetime]:
    """Without those of closed days."""
    found, closed = walls(after), 0
    while (at := next(found, None)) is not None:
        if is_open(at.date()):
            closed = 0
            yield at
            continue
        closed += 1
        reopens = _nearest_open(at.date(), is_open, DAY)
        if reopens is None or closed > CLOSED_RUNS_MAX:
            return
        found = walls(datetime.combine(reopens, time()) - INSTANT)


def _moving(walls: Walls, is_open: Open, after: datetime, *, back: bool) -> Iterator[datetime]:
    """With those of closed days at the same time of the nearest open day; equal ones become one."""
    step = -DAY if back else DAY
    since = after.date() if back else _nearest_open(after.date() - DAY, is_open, -DAY)
    if since is None:
        return
    start = datetime.combine(since if back else since + DAY, time()) - INSTANT
    for target, group in groupby(walls(start), key=lambda at: _nearest_open(at.date(), is_open, step)):
        if target is None:
            return
        times = {at.time() for at, _ in zip(group, range(MOVED_MAX), strict=False)}
        yield from (at for at in (datetime.combine(target, each) for each in sorted(times)) if at > after)


def _nearest_open(day: date, is_open: Open, step: timedelta) -> date | None:
    """`day`, or the first open one in steps from it. None: there is none within CLOSED_DAYS_MAX."""
    for _ in range(CLOSED_DAYS_MAX):
        if is_open(day):
            return day
        day += step
    return None
