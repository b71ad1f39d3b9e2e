"""Disputes."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select

from services.chassis.db import Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.payment.domain.dispute import Dispute, UnknownDispute
from services.payment.domain.remote import DisputeState

DISPUTES = Listing(
    {
        "create_time": Field(Dispute.created_at),
        "dispute_id": Field(Dispute.dispute_id, order=False),
        "intent_id": Field(Dispute.intent_id, order=False),
        "state": Field(Dispute.state, order=False, values={each.value: each.value for each in DisputeState}),
        "gateway": Field(Dispute.gateway, order=False),
        "reason": Field(Dispute.reason, order=False),
    },
    "create_time desc",
    "dispute_id",
)


async def locked(tx: Tx, gateway: str, ref: str) -> Dispute | None:
    """By the gateway's id."""
    wanted = select(Dispute).where(Dispute.gateway == gateway, Dispute.gateway_ref == ref)
    return (await tx.scalars(wanted.with_for_update())).one_or_none()


async def get(tx: Tx, dispute_id: UUID) -> Dispute:
    """Raises UnknownDispute."""
    row = await tx.get(Dispute, dispute_id)
    if row is None:
        raise UnknownDispute(dispute_id=dispute_id)
    return row


async def page(tx: Tx, page: Page) -> tuple[Sequence[Dispute], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Dispute)))).all())
