"""Billing profiles."""

from uuid import UUID

from services.billing.domain.profile import BillingParty, BillingProfile, UnknownProfile
from services.chassis.db import Tx


async def get(tx: Tx, customer_id: UUID, *, lock: bool = False) -> BillingProfile:
    """Raises UnknownProfile."""
    row = await tx.get(BillingProfile, customer_id, with_for_update=lock, populate_existing=lock)
    if row is None:
        raise UnknownProfile(customer_id=customer_id)
    return row


async def party(tx: Tx, customer_id: UUID) -> BillingParty | None:
    """None: it was erased."""
    return await tx.get(BillingParty, customer_id)
