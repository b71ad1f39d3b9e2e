"""Billing profiles."""

from typing import Any
from uuid import UUID

from services.billing.domain.profile import BillingParty, BillingProfile, UnknownProfile
from services.chassis.db import AnyTx, Tx, execute, fetch


async def get(tx: Tx, customer_id: UUID, *, lock: bool = False) -> BillingProfile:
    """Raises UnknownProfile."""
    row = await tx.get(BillingProfile, customer_id, with_for_update=lock, populate_existing=lock)
    if row is None:
        raise UnknownProfile(customer_id=customer_id)
    return row


async def party(tx: Tx, customer_id: UUID) -> BillingParty | None:
    """None: it was erased."""
    return await tx.get(BillingParty, customer_id)


async def standing(tx: AnyTx, customer_id: UUID) -> str:
    """Raises UnknownProfile."""
    rows = await fetch(tx, "select standing from billing_profile where customer_id = $1", customer_id)
    if not rows:
        raise UnknownProfile(customer_id=customer_id)
    return str(rows[0]["standing"])


async def lock(tx: AnyTx, customer_id: UUID) -> Any:
    """The profile's row; coupons, credit and standing of a customer change under its lock.

    Raises UnknownProfile.
    """
    rows = await fetch(tx, "select * from billing_profile where customer_id = $1 for update", customer_id)
    if not rows:
        raise UnknownProfile(customer_id=customer_id)
    return rows[0]


async def erase(tx: AnyTx, customer_id: UUID) -> None:
    """What is personal."""
    await execute(tx, "delete from billing_party where customer_id = $1", customer_id)
