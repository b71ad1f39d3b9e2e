"""What is announced of subscriptions."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from services.billing.domain.plan import Terms
from services.billing.domain.subscription import Running, State
from weft.billing.v1 import events_pb2 as events
from weft.money.v1.money_pb2 import Money

PAYING = (State.ACTIVE,)


class Standing(NamedTuple):
    """What of a subscription is compared with what becomes of it."""

    state: State
    plan_id: UUID
    plan_version: int
    quantity: int
    monthly: int  # Minor units; nothing in trial and at rest.
    cancel_at: datetime | None


def standing(sub: Running, terms: Terms) -> Standing:
    monthly = terms.monthly(sub.quantity) if sub.state in PAYING else 0
    return Standing(sub.state, sub.plan_id, sub.plan_version, sub.quantity, monthly, sub.cancel_at)


def passed(before: Standing, sub: Running, terms: Terms, at: datetime) -> list[Any]:
    """The events that lead from `before` to how it stands now."""
    now = standing(sub, terms)
    if now.state is not before.state:
        return [_moved(before, now, sub, at)]
    if now[1:5] != before[1:5]:
        return [_changed(before, now, sub, at)]
    if now.cancel_at != before.cancel_at:
        scheduled = events.SubscriptionCancelScheduled(
            subscription_id=str(sub.subscription_id), customer_id=str(sub.customer_id)
        )
        if now.cancel_at:
            scheduled.cancel_time.FromDatetime(now.cancel_at)
        return [scheduled]
    return []


def _moved(before: Standing, now: Standing, sub: Running, at: datetime) -> Any:
    ids: dict[str, Any] = {"subscription_id": str(sub.subscription_id), "customer_id": str(sub.customer_id)}
    ids["effective_time"] = _stamp(at)
    if now.state is State.CANCELLED:
        return events.SubscriptionCancelled(**ids, monthly_before=_money(before.monthly, sub))
    if now.state is State.PAUSED:
        return events.SubscriptionPaused(**ids, monthly_before=_money(before.monthly, sub))
    if before.state is State.PAUSED:
        return events.SubscriptionResumed(**ids, monthly=_money(now.monthly, sub))
    if before.state is State.SCHEDULED:
        return events.SubscriptionStarted(
            **ids,
            plan_id=str(sub.plan_id),
            plan_version=sub.plan_version,
            quantity=sub.quantity,
            trial=now.state is State.TRIALING,
            monthly=_money(now.monthly, sub),
        )
    return _changed(before, now, sub, at)


def _changed(before: Standing, now: Standing, sub: Running, at: datetime) -> Any:
    return events.SubscriptionChanged(
        subscription_id=str(sub.subscription_id),
        customer_id=str(sub.customer_id),
        plan_id=str(sub.plan_id),
        plan_version=sub.plan_version,
        quantity=sub.quantity,
        monthly_before=_money(before.monthly, sub),
        monthly=_money(now.monthly, sub),
        effective_time=_stamp(at),
    )


def _money(minor: int, sub: Running) -> Money:
    return Money(amount_minor=minor, currency=sub.currency)


def _stamp(at: datetime) -> Timestamp:
    packed = Timestamp()
    packed.FromDatetime(at)
    return packed
