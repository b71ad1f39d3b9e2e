"""What meters saw: events that come late, twice, or from the future."""

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.billing.domain.row import Row
from services.billing.domain.subscription import Running, State
from services.chassis.errors import AlreadyExists, FailedPrecondition

LATE_MAX = timedelta(days=62)  # Two months: later ones are settled by people.
EARLY_MAX = timedelta(minutes=5)  # Clocks differ by less.


class UsageIdReused(AlreadyExists):
    """Usage event {event_id} was recorded with other words."""


class UsageRefused(FailedPrecondition):
    """Usage event {event_id} is not taken: {problem}."""


class UsageEvent(Row):
    """One event."""

    __tablename__ = "usage_event"
    subscription_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(primary_key=True)
    meter: Mapped[str]
    value: Mapped[Decimal]
    unique_key: Mapped[str]
    at: Mapped[datetime]
    counts_at: Mapped[datetime]
    recorded_at: Mapped[datetime]


def counts_at(sub: Running, event_id: str, at: datetime, now: datetime) -> datetime:
    """When it is billed: with its own period, or with the one that runs if that is billed already.

    Usage of a trial is free, however late it comes. Raises UsageRefused. The subscription is locked, so that
    no bill overtakes what is being recorded.
    """
    if problem := _problem(sub, at, now):
        raise UsageRefused(event_id=event_id, problem=problem)
    if sub.usage_start is None or (sub.trial_end and at < sub.trial_end):
        return at
    return max(at, sub.usage_start)


def _problem(sub: Running, at: datetime, now: datetime) -> str:
    if at > now + EARLY_MAX:
        return "its time has not come"
    if at < now - LATE_MAX:
        return f"it is older than {LATE_MAX.days} days"
    if at < sub.start_at:
        return "the subscription had not begun"
    if sub.state is State.CANCELLED:
        return "the subscription has ended"
    if sub.paused_at and at >= sub.paused_at:
        return "the subscription rests"
    return ""
