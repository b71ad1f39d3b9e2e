"""Spans of time in which something holds."""

from dataclasses import dataclass
from datetime import datetime

from services.chassis.errors import InvalidArgument


class ValidityRefused(InvalidArgument):
    """What holds until {valid_to} cannot hold from {valid_from} on."""


@dataclass(frozen=True, slots=True)
class Validity:
    """From the first moment on, until before the last; None is without bound."""

    since: datetime | None = None
    until: datetime | None = None

    def check(self, field: str) -> None:
        """Raises ValidityRefused."""
        if self.since and self.until and self.until <= self.since:
            raise ValidityRefused(valid_from=self.since, valid_to=self.until, field=field)

    def begun(self, at: datetime) -> bool:
        return self.since is None or self.since <= at

    def over(self, at: datetime) -> bool:
        return self.until is not None and self.until <= at

    def covers(self, at: datetime) -> bool:
        return self.begun(at) and not self.over(at)
