"""Transfers with their lines."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from services.chassis.db import AnyTx, Tx, execute, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.inventory.domain.transfer import Transfer, UnknownTransfer

COLUMNS = "transfer_id, from_location_id, to_location_id, state, reference, created_at, updated_at"
ADD = f"""
insert into transfer ({COLUMNS}) values ($1, $2, $3, 'IN_TRANSIT', $4, $5, $5)
on conflict do nothing returning transfer_id
"""
ADD_LINES = """
insert into transfer_line (transfer_id, sku, units, received)
select $1, sku, units, 0 from unnest($2::text[], $3::bigint[]) as l (sku, units)
"""
GET = f"select {COLUMNS} from transfer where transfer_id = $1"
LINES = """
select transfer_id, sku, units, received from transfer_line
where transfer_id = any($1::uuid[]) order by sku
"""
END = "update transfer set state = $2, updated_at = $3 where transfer_id = $1"
ARRIVE = """
update transfer_line l set received = n.received from unnest($2::text[], $3::bigint[]) as n (sku, received)
where l.transfer_id = $1 and l.sku = n.sku
"""
TRANSFERS = Listing(
    {
        "create_time": Field(Transfer.created_at),
        "state": Field(Transfer.state, order=False),
        "from_location_id": Field(Transfer.from_location_id, order=False),
        "to_location_id": Field(Transfer.to_location_id, order=False),
        "reference": Field(Transfer.reference, order=False),
        "transfer_id": Field(Transfer.transfer_id, order=False),
    },
    "create_time desc",
    "transfer_id",
)


async def add(tx: AnyTx, transfer: Transfer, lines: Mapping[str, int]) -> bool:
    """False when its id is taken."""
    head = (transfer.transfer_id, transfer.from_location_id, transfer.to_location_id, transfer.reference)
    if not await fetch(tx, ADD, *head, transfer.created_at):
        return False
    await execute(tx, ADD_LINES, transfer.transfer_id, list(lines), list(lines.values()))
    return True


async def get(tx: AnyTx, transfer_id: UUID, *, lock: bool = False) -> Any:
    """The row. Raises UnknownTransfer."""
    rows = await fetch(tx, GET + (" for update" if lock else ""), transfer_id)
    if not rows:
        raise UnknownTransfer(transfer_id=transfer_id)
    return rows[0]


async def lines(tx: AnyTx, transfer_ids: Sequence[UUID]) -> dict[UUID, list[Any]]:
    """By transfer, by SKU."""
    found: dict[UUID, list[Any]] = {each: [] for each in transfer_ids}
    for row in await fetch(tx, LINES, list(transfer_ids)):
        found[row["transfer_id"]].append(row)
    return found


async def end(tx: AnyTx, transfer_id: UUID, state: str, received: Mapping[str, int], now: datetime) -> None:
    """It is locked."""
    await execute(tx, END, transfer_id, state, now)
    await execute(tx, ARRIVE, transfer_id, list(received), list(received.values()))


async def page(tx: Tx, page: Page) -> tuple[Sequence[Transfer], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Transfer)))).all())
