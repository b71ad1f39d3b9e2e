"""Where orders, shipments, returns and refunds may stand, and what may follow what."""

from collections.abc import Mapping
from enum import StrEnum

from services.chassis.errors import FailedPrecondition


class IllegalTransition(FailedPrecondition):
    """The {thing} {id} is {state}; it cannot be {wanted}."""


class OrderState(StrEnum):
    PENDING = "PENDING"
    AWAITING_PAYMENT = "AWAITING_PAYMENT"
    CONFIRMED = "CONFIRMED"
    PARTIALLY_SHIPPED = "PARTIALLY_SHIPPED"
    SHIPPED = "SHIPPED"
    COMPLETED = "COMPLETED"
    RETURNED = "RETURNED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"


class ShipmentState(StrEnum):
    PENDING = "PENDING"
    SHIPPED = "SHIPPED"
    DELIVERED = "DELIVERED"
    REFUSED = "REFUSED"


class ReturnState(StrEnum):
    REQUESTED = "REQUESTED"
    APPROVED = "APPROVED"
    REFUSED = "REFUSED"
    WITHDRAWN = "WITHDRAWN"
    RECEIVED = "RECEIVED"
    REFUNDED = "REFUNDED"


class RefundState(StrEnum):
    REQUESTED = "REQUESTED"
    REFUNDED = "REFUNDED"
    FAILED = "FAILED"


S, G, R = OrderState, ShipmentState, ReturnState
OPEN = frozenset({S.CONFIRMED, S.PARTIALLY_SHIPPED, S.SHIPPED, S.COMPLETED})  # It is sold.
# What may follow what; every pair that is not here is refused.
ORDERS: Mapping[OrderState, frozenset[OrderState]] = {
    S.PENDING: frozenset({S.AWAITING_PAYMENT, S.CONFIRMED, S.CANCELLING, S.CANCELLED}),
    S.AWAITING_PAYMENT: frozenset({S.CONFIRMED, S.CANCELLING, S.CANCELLED}),
    S.CONFIRMED: frozenset({S.PARTIALLY_SHIPPED, S.SHIPPED, S.COMPLETED, S.CANCELLING}),
    S.PARTIALLY_SHIPPED: frozenset({S.SHIPPED}),
    S.SHIPPED: frozenset({S.COMPLETED, S.RETURNED}),
    S.COMPLETED: frozenset({S.RETURNED}),
    S.RETURNED: frozenset(),
    S.CANCELLING: frozenset({S.CANCELLED}),
    S.CANCELLED: frozenset(),
}
SHIPMENTS: Mapping[ShipmentState, frozenset[ShipmentState]] = {
    G.PENDING: frozenset({G.SHIPPED, G.REFUSED}),
    G.SHIPPED: frozenset({G.DELIVERED}),
    G.DELIVERED: frozenset(),
    G.REFUSED: frozenset(),
}
RETURNS: Mapping[ReturnState, frozenset[ReturnState]] = {
    R.REQUESTED: frozenset({R.APPROVED, R.REFUSED, R.WITHDRAWN}),
    R.APPROVED: frozenset({R.RECEIVED, R.REFUSED, R.WITHDRAWN}),
    R.REFUSED: frozenset(),
    R.WITHDRAWN: frozenset(),
    R.RECEIVED: frozenset({R.REFUNDED}),
    R.REFUNDED: frozenset(),
}
SHIPPABLE = frozenset({OrderState.CONFIRMED, OrderState.PARTIALLY_SHIPPED})
RETURNABLE = frozenset({OrderState.PARTIALLY_SHIPPED, OrderState.SHIPPED, OrderState.COMPLETED})
GONE = frozenset({OrderState.CANCELLING, OrderState.CANCELLED})


def require(allowed: bool, thing: str, thing_id: str, state: str, wanted: str) -> None:
    """Raises IllegalTransition unless it is `allowed`."""
    if not allowed:
        raise IllegalTransition(thing=thing, id=thing_id, state=state, wanted=wanted)
