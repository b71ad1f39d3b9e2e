"""Subscriptions, to the wire."""

from services.billing.domain.subscription import Running, Subscription
from services.billing.service.stamps import stamp
from services.chassis.masks import etag
from weft.billing.v1 import subscription_messages_pb2 as pb


def at_once(effective_from: int) -> bool | None:
    """None: as the change is."""
    return {pb.EFFECTIVE_FROM_NOW: True, pb.EFFECTIVE_FROM_PERIOD_END: False}.get(
        pb.EffectiveFrom.ValueType(effective_from)
    )


def to_pb(row: Running | Subscription) -> pb.Subscription:
    made = pb.Subscription(
        subscription_id=str(row.subscription_id),
        customer_id=str(row.customer_id),
        plan_id=str(row.plan_id),
        plan_version=row.plan_version,
        quantity=row.quantity,
        state=pb.SubscriptionState.Value(f"SUBSCRIPTION_STATE_{row.state}"),
        currency=row.currency,
        time_zone=row.time_zone,
        start_time=stamp(row.start_at),
        trial_end_time=stamp(row.trial_end),
        period_start_time=stamp(row.period_start),
        period_end_time=stamp(row.period_end),
        next_bill_time=stamp(row.next_bill_at),
        cancel_time=stamp(row.cancel_at),
        pause_time=stamp(row.paused_at),
        end_time=stamp(row.ended_at),
        last_invoice_id=str(row.last_invoice_id or ""),
        problem=row.problem,
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at),
        etag=etag(row.revision),
    )
    if row.next_quantity is not None:
        planned = made.planned
        planned.plan_id = str(row.next_plan_id or row.plan_id)
        planned.plan_version = row.next_plan_version or row.plan_version
        planned.quantity = row.next_quantity
    return made
