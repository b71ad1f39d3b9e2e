"""Periods of statements and reports."""

from datetime import UTC, datetime

from services.chassis.errors import InvalidArgument
from services.ledger.domain.entry import day

MONTHS_MAX = 61  # Of one report: five years, and the month in which the sixth begins.


class PeriodRefused(InvalidArgument):
    """A period begins before it ends, in months that exist, and a report has at most 61 of them."""


def checked(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Raises PeriodRefused."""
    if start > end:
        raise PeriodRefused(field="start_time")
    return start, end


def month(text: str, field: str) -> datetime:
    """Its first moment, from `2011-01`. Raises PeriodRefused."""
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise PeriodRefused(field=field) from None


def days(from_month: str, to_month: str) -> tuple[int, int]:
    """The first day of the first month and of the month after the last. Raises PeriodRefused."""
    first, last = month(from_month, "from_month"), month(to_month, "to_month")
    months = (last.year - first.year) * 12 + last.month - first.month + 1
    if not 1 <= months <= MONTHS_MAX:
        raise PeriodRefused(field="to_month")
    after = datetime(last.year + last.month // 12, last.month % 12 + 1, 1, tzinfo=UTC)
    return day(first), day(after)
