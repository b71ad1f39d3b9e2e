"""Locations."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import select

from services.chassis.db import AnyTx, Tx, execute, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.inventory.domain.location import Location, LocationInUse, UnknownLocation

LOCATIONS = Listing(
    {
        "priority": Field(Location.priority),
        "name": Field(Location.name),
        "country": Field(Location.country),
        "sellable": Field(Location.for_sale, order=False),
        "location_id": Field(Location.location_id, order=False),
    },
    "priority",
    "location_id",
)
# Shared locks: a location that is used now is not deleted meanwhile.
KNOWN = "select location_id from location where location_id = any($1::uuid[]) order by 1 for key share"
FIRST = "select location_id from location where for_sale order by priority, location_id limit 1"
FORGET_EMPTY = """
delete from stock where location_id = $1 and on_hand = 0 and reserved = 0 and incoming = 0
"""
USED = """
select exists (select from stock where location_id = $1) or exists (
    select from transfer where state = 'IN_TRANSIT' and $1 in (from_location_id, to_location_id)
) as used
"""


async def add(tx: Tx, location: Location) -> bool:
    """False when its id is taken."""
    fields = [column.key for column in Location.__table__.columns]
    names, places = ", ".join(fields), ", ".join(f"${n}" for n in range(1, len(fields) + 1))
    sql = f"insert into location ({names}) values ({places}) on conflict do nothing returning 1"
    return bool(await fetch(tx, sql, *(getattr(location, field) for field in fields)))


async def get(tx: Tx, location_id: UUID, *, lock: bool = False) -> Location:
    """Raises UnknownLocation."""
    row = await tx.get(Location, location_id, with_for_update=lock, populate_existing=True)
    if row is None:
        raise UnknownLocation(location_id=location_id)
    return row


async def page(tx: Tx, page: Page) -> tuple[Sequence[Location], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Location)))).all())


async def known(tx: AnyTx, location_ids: Collection[UUID]) -> set[UUID]:
    """Those that exist; they stay until `tx` ends."""
    return {row["location_id"] for row in await fetch(tx, KNOWN, list(location_ids))}


async def require(tx: AnyTx, location_ids: Collection[UUID]) -> None:
    """Raises UnknownLocation; they stay until `tx` ends."""
    for missing in set(location_ids) - await known(tx, location_ids):
        raise UnknownLocation(location_id=missing)


async def first(tx: AnyTx) -> UUID:
    """Where stock is taken from first. Raises UnknownLocation when nothing is for sale anywhere."""
    rows = await fetch(tx, FIRST)
    if not rows:
        raise UnknownLocation(location_id="")
    found: UUID = rows[0]["location_id"]
    return found


async def delete(tx: Tx, location: Location) -> None:
    """It is locked. Raises LocationInUse."""
    await execute(tx, FORGET_EMPTY, location.location_id)
    if (await fetch(tx, USED, location.location_id))[0]["used"]:
        raise LocationInUse(location_id=location.location_id)
    await tx.delete(location)
