"""Credit of customers."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select

from services.billing.domain.credit import Credit, Source, UnknownCredit
from services.chassis.db import AnyTx, Tx, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page

CREDITS = Listing(
    {
        "create_time": Field(Credit.created_at),
        "credit_id": Field(Credit.credit_id, order=False),
        "customer_id": Field(Credit.customer_id, order=False),
        "currency": Field(Credit.currency, order=False),
        "source": Field(Credit.source, order=False, values={each.value: each.value for each in Source}),
        "remaining": Field(Credit.remaining, order=False),
    },
    "create_time desc",
    "credit_id",
)
GRANT = """
insert into credit
    (credit_id, customer_id, currency, amount, remaining, source, reason, expires_at, created_at)
values ($1, $2, $3, $4, $4, $5, $6, $7, $8) on conflict do nothing returning credit_id
"""


async def grant(tx: AnyTx, row: Credit) -> bool:
    """False when its id is taken."""
    values = (row.credit_id, row.customer_id, row.currency, row.amount, row.source, row.reason)
    return bool(await fetch(tx, GRANT, *values, row.expires_at, row.created_at))


async def get(tx: Tx, credit_id: UUID) -> Credit:
    """Raises UnknownCredit."""
    row = await tx.get(Credit, credit_id)
    if row is None:
        raise UnknownCredit(credit_id=credit_id)
    return row


async def page(tx: Tx, page: Page, customer_id: UUID | None) -> tuple[Sequence[Credit], str]:
    """Rows, and the next page's token."""
    wanted = select(Credit)
    if customer_id:
        wanted = wanted.where(Credit.customer_id == customer_id)
    return page.cut((await tx.scalars(page.select(wanted))).all())
