"""Disputes: a customer's bank takes money back, and may have to return it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import NotFound
from services.payment.domain.intent import Intent
from services.payment.domain.remote import DisputeState, RemoteDispute
from services.payment.domain.row import Row


class UnknownDispute(NotFound):
    """There is no dispute {dispute_id}."""


class Dispute(Row):
    """A dispute of a payment."""

    __tablename__ = "dispute"
    dispute_id: Mapped[UUID] = mapped_column(primary_key=True)
    intent_id: Mapped[UUID]
    gateway: Mapped[str]
    gateway_ref: Mapped[str]
    currency: Mapped[str]
    amount: Mapped[int]
    fee: Mapped[int]
    reason: Mapped[str]
    state: Mapped[str]
    respond_by: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


def follow(
    intent: Intent, row: Dispute | None, found: RemoteDispute, now: datetime
) -> tuple[Dispute, list[DisputeState]]:
    """The dispute as it stands now, and what is to be told, oldest first; its payment's sum goes along.

    What was decided stays so, whatever is heard later. One that is heard of when it is decided was open once.
    """
    told = []
    if row is None:
        row = _opened(intent, found, now)
        intent.disputed += row.amount
        told.append(DisputeState.OPEN)
    if row.state == DisputeState.OPEN and found.state != DisputeState.OPEN:
        row.state, row.updated_at = found.state, now
        if found.state == DisputeState.WON:
            intent.disputed -= row.amount
        told.append(found.state)
    return row, told


def _opened(intent: Intent, found: RemoteDispute, now: datetime) -> Dispute:
    return Dispute(
        dispute_id=intent.own(f"dispute {found.ref}"),
        intent_id=intent.intent_id,
        gateway=intent.gateway,
        gateway_ref=found.ref,
        currency=intent.currency,
        amount=min(found.amount, intent.amount),  # Its capture may be heard of later.
        fee=found.fee,
        reason=found.reason,
        state=DisputeState.OPEN,
        respond_by=found.respond_by,
        created_at=now,
        updated_at=now,
    )
