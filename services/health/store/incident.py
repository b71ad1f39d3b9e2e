"""Incidents, and what they cost."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from services.chassis.db import Tx, execute
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.health.domain.incident import FailedCaptures, Incident
from services.health.domain.refusals import UnknownIncident

INCIDENTS = Listing(
    {
        "open_time": Field(Incident.opened_at),
        "close_time": Field(Incident.closed_at, nullable=True, order=False),
        "capability": Field(Incident.capability, order=False),
        "worst": Field(
            Incident.worst, order=False, values={each: each for each in ("DEGRADED", "EMERGENCY")}
        ),
        "incident_id": Field(Incident.incident_id, order=False, filter=False),
    },
    order="open_time desc",
    unique="incident_id",
)
ADD = """
insert into failed_captures as known (incident_id, currency, amount_minor)
select incident_id, $1::text, $2::bigint from incident
where capability = any($3::text[]) and opened_at <= $4::timestamptz
    and (closed_at is null or closed_at >= $4::timestamptz)
on conflict (incident_id, currency) do update set amount_minor = known.amount_minor + excluded.amount_minor
"""
MEASURED = "update incident set impact = $2::text::jsonb where incident_id = $1"


async def find(tx: Tx, incident_id: UUID) -> Incident | None:
    return await tx.get(Incident, incident_id)


async def get(tx: Tx, incident_id: UUID) -> Incident:
    """Raises UnknownIncident."""
    row = await find(tx, incident_id)
    if row is None:
        raise UnknownIncident(incident_id=incident_id)
    return row


async def page(tx: Tx, page: Page) -> tuple[Sequence[Incident], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Incident)))).all())


async def captures(tx: Tx, incident_ids: Sequence[UUID]) -> dict[UUID, list[FailedCaptures]]:
    """By incident; of each, by currency."""
    wanted = select(FailedCaptures).where(FailedCaptures.incident_id.in_(incident_ids))
    found: dict[UUID, list[FailedCaptures]] = {}
    for row in await tx.scalars(wanted.order_by(FailedCaptures.currency)):
        found.setdefault(row.incident_id, []).append(row)
    return found


async def add_capture(
    tx: Any, currency: str, amount_minor: int, capabilities: Sequence[str], at: datetime
) -> None:
    """To each incident of these capabilities that went on then."""
    await execute(tx, ADD, currency, amount_minor, list(capabilities), at)


async def measured(tx: Tx, incident_id: UUID, impact: str) -> None:
    await execute(tx, MEASURED, incident_id, impact)
