"""What an incident costs, as others tell it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from services.chassis.db import Tx
from services.chassis.events import Envelope
from services.health.domain.plan import Plan
from services.health.store import incident as store
from weft.payment.v1.events_pb2 import CaptureFailed


def captures(plan: Plan) -> Callable[[CaptureFailed, Envelope, Tx], Awaitable[None]]:
    """Adds a payment that could not be taken to the incidents, of what money depends on, of its time."""
    about = sorted(name for name, each in plan.capabilities.items() if each.money)

    async def count_capture(event: CaptureFailed, envelope: Envelope, tx: Tx) -> None:
        await store.add_capture(tx, event.amount.currency, event.amount.amount_minor, about, envelope.at)

    return count_capture
