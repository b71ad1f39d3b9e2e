"""Traffic policies."""

from collections.abc import Sequence

from sqlalchemy import func, select

from services.chassis.db import Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.registry.domain.traffic_policy import TrafficPolicy, UnknownTrafficPolicy

POLICIES = Listing({"service": Field(TrafficPolicy.service)}, order="service", unique="service")


async def find(tx: Tx, service: str) -> TrafficPolicy | None:
    return await tx.get(TrafficPolicy, service)


async def get(tx: Tx, service: str) -> TrafficPolicy:
    """Raises UnknownTrafficPolicy."""
    row = await find(tx, service)
    if row is None:
        raise UnknownTrafficPolicy(service=service)
    return row


async def count(tx: Tx) -> int:
    return int(await tx.scalar(select(func.count()).select_from(TrafficPolicy)) or 0)


async def page(tx: Tx, page: Page) -> tuple[Sequence[TrafficPolicy], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(TrafficPolicy)))).all())


async def every(tx: Tx) -> Sequence[TrafficPolicy]:
    return (await tx.scalars(select(TrafficPolicy))).all()
