"""Quiet hours: times of day, by the reader's own clock, when only security messages go out."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

from services.chassis.config import BadSetting

PATTERN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class QuietHours:
    """From `start` until `end`; over midnight when `end` is earlier. Equal: never."""

    start: time = time()
    end: time = time()

    def until(self, now: datetime, where: tzinfo) -> datetime:
        """When a message may go: `now` unless it is quiet there, else the end of the quiet.

        The end is that wall-clock time once daylight saving has had its say: one that is skipped in
        spring comes an hour later, one that happens twice in autumn is the first.
        """
        local = now.astimezone(where)
        clock = local.time().replace(tzinfo=None)
        if not self._covers(clock):
            return now
        day = local.date() + timedelta(days=1 if self.start > self.end and clock >= self.start else 0)
        end = datetime.combine(day, self.end, where).astimezone(UTC)
        return max(end, now)

    def _covers(self, clock: time) -> bool:
        if self.start <= self.end:
            return self.start <= clock < self.end
        return clock >= self.start or clock < self.end


def parse(text: str) -> QuietHours:
    """`22:00-08:00`, or nothing. Raises BadSetting."""
    if not text:
        return QuietHours()
    found = PATTERN.fullmatch(text)
    if not found:
        raise BadSetting("WEFT_NOTIFICATION_QUIET_HOURS must look like 22:00-08:00")
    a, b, c, d = (int(part) for part in found.groups())
    return QuietHours(time(a, b), time(c, d))
