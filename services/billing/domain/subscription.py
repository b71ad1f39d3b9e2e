"""Subscriptions: rows, states, and what their callers can do wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Integer
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from services.billing.domain.cycle import Cycle, Span, Unit
from services.billing.domain.profile import zone
from services.billing.domain.row import Row
from services.billing.domain.totals import Line
from services.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound


class UnknownSubscription(NotFound):
    """There is no subscription {subscription_id}."""


class SubscriptionIdReused(AlreadyExists):
    """Subscription {subscription_id} was made with other settings."""


class SubscriptionRefused(InvalidArgument):
    """The request breaks a rule: {problem}."""


class SubscriptionTransitionRefused(FailedPrecondition):
    """Subscription {subscription_id} is {state}: it cannot {verb}."""


class CurrencyDiffers(FailedPrecondition):
    """Subscription {subscription_id} is in {currency}; plan {plan_id} is in {other}."""


class ChangesBlocked(FailedPrecondition):
    """Customer {customer_id} is {standing}: what is overdue is paid first."""


class State(StrEnum):
    """Where a subscription stands."""

    SCHEDULED = "SCHEDULED"
    TRIALING = "TRIALING"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    CANCELLED = "CANCELLED"


# What may be done in which state.
VERBS: Mapping[str, frozenset[State]] = {
    "change": frozenset({State.SCHEDULED, State.TRIALING, State.ACTIVE}),
    "pause": frozenset({State.ACTIVE}),
    "resume": frozenset({State.PAUSED}),
    "cancel": frozenset({State.SCHEDULED, State.TRIALING, State.ACTIVE, State.PAUSED}),
    "cancel at the end of its period": frozenset({State.TRIALING, State.ACTIVE}),
    "be kept": frozenset({State.TRIALING, State.ACTIVE}),
}


class Subscription(Row):
    """A subscription, as lists read it."""

    __tablename__ = "subscription"
    subscription_id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID]
    plan_id: Mapped[UUID]
    plan_version: Mapped[int] = mapped_column(Integer)
    quantity: Mapped[int]
    state: Mapped[str]
    currency: Mapped[str]
    time_zone: Mapped[str]
    billing_day: Mapped[int | None] = mapped_column(Integer)
    trial_days: Mapped[int | None] = mapped_column(Integer)
    start_at: Mapped[datetime]
    trial_end: Mapped[datetime | None]
    anchor: Mapped[datetime | None] = mapped_column(DateTime)
    anchor_day: Mapped[int | None] = mapped_column(Integer)
    period_start: Mapped[datetime | None]
    period_end: Mapped[datetime | None]
    terms_start: Mapped[datetime | None]
    usage_start: Mapped[datetime | None]
    next_bill_at: Mapped[datetime | None]
    cancel_at: Mapped[datetime | None]
    paused_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    next_plan_id: Mapped[UUID | None]
    next_plan_version: Mapped[int | None] = mapped_column(Integer)
    next_quantity: Mapped[int | None]
    billed: Mapped[list[Any]] = mapped_column(JSONB)
    pending: Mapped[list[Any]] = mapped_column(JSONB)
    last_invoice_id: Mapped[UUID | None]
    problem: Mapped[str]
    retry_at: Mapped[datetime | None]
    held_at: Mapped[datetime | None]
    digest: Mapped[bytes]
    revision: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


@dataclass(slots=True)
class Advance:
    """What was billed in advance, and may have to be given back in part."""

    charge: str
    amount: int  # Before coupons.
    net: int
    tax_category: str
    start: datetime
    end: datetime
    invoice_id: str = ""
    position: int = 0


@dataclass(slots=True, kw_only=True)
class Running:
    """A subscription in the hand of who bills or changes it; its row is locked."""

    subscription_id: UUID
    customer_id: UUID
    plan_id: UUID
    plan_version: int
    quantity: int
    state: State
    currency: str
    time_zone: str
    billing_day: int | None
    trial_days: int | None
    start_at: datetime
    trial_end: datetime | None = None
    anchor: datetime | None = None
    anchor_day: int | None = None
    period_start: datetime | None = None
    period_end: datetime | None = None
    terms_start: datetime | None = None  # Of what is charged in arrears: since when it is as it is now.
    usage_start: datetime | None = None  # Usage before it is billed.
    next_bill_at: datetime | None = None
    cancel_at: datetime | None = None
    paused_at: datetime | None = None
    ended_at: datetime | None = None
    next_plan_id: UUID | None = None
    next_plan_version: int | None = None
    next_quantity: int | None = None
    billed: list[Advance] = field(default_factory=list)
    pending: list[Line] = field(default_factory=list)  # For the next invoice.
    last_invoice_id: UUID | None = None
    problem: str = ""
    retry_at: datetime | None = None
    held_at: datetime | None = None  # Of a change whose invoice waits for the buyer's VAT number.
    digest: bytes = b""
    revision: int = 1
    created_at: datetime
    updated_at: datetime

    def may(self, verb: str) -> None:
        """Raises SubscriptionTransitionRefused."""
        if self.state not in VERBS[verb]:
            raise SubscriptionTransitionRefused(
                subscription_id=self.subscription_id, state=self.state, verb=verb
            )

    def cycle(self, unit: Unit, count: int) -> Cycle:
        """Its periods; it has begun to pay."""
        assert self.anchor
        assert self.anchor_day
        return Cycle(unit, count, self.anchor, self.anchor_day, zone(self.time_zone))

    @property
    def period(self) -> Span:
        assert self.period_start
        assert self.period_end
        return Span(self.period_start, self.period_end)

    def schedule(self, plan_id: UUID | None, version: int | None, quantity: int | None) -> None:
        """What it becomes with its next period; None: it stays as it is."""
        self.next_plan_id, self.next_plan_version, self.next_quantity = plan_id, version, quantity

    def end(self, at: datetime) -> None:
        self.state, self.ended_at, self.next_bill_at = State.CANCELLED, at, None
        self.cancel_at = self.cancel_at or at
        self.schedule(None, None, None)
