"""VAT checks."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, update

from services.billing.domain.tax import NumberState
from services.billing.domain.tax_number import UnknownVatCheck, VatCheck
from services.chassis.db import AnyTx, Database, Tx, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page

CHECKS = Listing(
    {"create_time": Field(VatCheck.created_at), "check_id": Field(VatCheck.check_id, order=False)},
    "create_time desc",
    "check_id",
)
# The last answer for each number. An answer older than it may be is none; INVALID does not age.
KNOWN = """
select distinct on (vat_number) vat_number, state from vat_check
where vat_number = any($1) and answered_at is not null and (state = 'INVALID' or answered_at > $2)
order by vat_number, answered_at desc
"""
DUE = """
select check_id from vat_check where retry_at <= $1 order by retry_at limit $2
"""
DUE_MAX = 20  # Asked in one round; VIES takes few at once.


async def known(
    source: Database | AnyTx, numbers: Collection[str], since: datetime
) -> Mapping[str, NumberState]:
    """What registers said of the numbers; those nobody answered for are absent."""
    args: tuple[Any, ...] = (KNOWN, list(numbers), since)
    rows = await (source.fetch(*args) if isinstance(source, Database) else fetch(source, *args))
    return {row["vat_number"]: NumberState(row["state"]) for row in rows}


async def get(tx: Tx, check_id: UUID, *, lock: bool = False) -> VatCheck:
    """Raises UnknownVatCheck."""
    row = await tx.get(VatCheck, check_id, with_for_update=lock, populate_existing=lock)
    if row is None:
        raise UnknownVatCheck(check_id=check_id)
    return row


async def due(db: Database, now: datetime) -> Sequence[UUID]:
    return [row["check_id"] for row in await db.fetch(DUE, now, DUE_MAX)]


async def page(tx: Tx, page: Page, customer_id: UUID | None) -> tuple[Sequence[VatCheck], str]:
    """Rows, and the next page's token."""
    wanted = page.select(select(VatCheck))
    if customer_id:
        wanted = wanted.where(VatCheck.customer_id == customer_id)
    return page.cut((await tx.scalars(wanted)).all())


async def erase(tx: Tx, customer_id: UUID) -> None:
    """Takes away what is personal; what was found out and when stays as evidence."""
    await tx.execute(
        update(VatCheck)
        .where(VatCheck.customer_id == customer_id)
        .values(vat_number="", trader_name="", trader_address="", retry_at=None)
    )
