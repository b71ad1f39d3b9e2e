"""What clients refused."""

from collections.abc import Sequence

from sqlalchemy import select

from services.chassis.db import AnyTx, Tx, execute, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.registry.domain.rejection import REJECTIONS_MAX, Rejection, Verdict, rejection_id

REJECTIONS = Listing(
    {
        "last_time": Field(Rejection.last_at),
        "node_id": Field(Rejection.node_id, order=False),
        "type_url": Field(Rejection.type_url, order=False),
        "rejection_id": Field(Rejection.rejection_id, order=False, filter=False),
    },
    order="last_time desc",
    unique="rejection_id",
)
WRITE = """
insert into rejection as known
    (rejection_id, node_id, type_url, version, message, times, first_at, last_at)
values ($1, $2, $3, $4, $5, 1, clock_timestamp(), clock_timestamp())
on conflict (rejection_id) do update set version = excluded.version, message = excluded.message,
    times = known.times + 1, last_at = excluded.last_at
returning (select before.version from rejection as before where before.rejection_id = $1) as before
"""
FORGET_OLDEST = """
delete from rejection where rejection_id in (
    select rejection_id from rejection order by last_at desc, rejection_id desc offset $1)
"""
FORGET = "delete from rejection where rejection_id = $1 returning true"


async def refused(tx: AnyTx, node_id: str, verdict: Verdict) -> bool:
    """Writes it down. Whether this version is refused for the first time."""
    key = rejection_id(node_id, verdict.type_url)
    rows = await fetch(tx, WRITE, key, node_id, verdict.type_url, verdict.version, verdict.message)
    await execute(tx, FORGET_OLDEST, REJECTIONS_MAX)
    return bool(rows[0]["before"] != verdict.version)


async def accepted(tx: AnyTx, node_id: str, type_url: str) -> bool:
    """Whether it had been refused before."""
    return bool(await fetch(tx, FORGET, rejection_id(node_id, type_url)))


async def page(tx: Tx, page: Page) -> tuple[Sequence[Rejection], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Rejection)))).all())
