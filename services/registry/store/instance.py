"""Instances."""

from collections.abc import Sequence, Set
from typing import Any
from uuid import UUID

from sqlalchemy import delete, exists, func, select

from services.chassis.db import Database, Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.registry.domain.instance import Instance, UnknownInstance
from services.registry.domain.row import State

EXPIRED_MAX = 500  # Leases ended by one transaction: its locks are gone within milliseconds.
INSTANCES = Listing(
    {
        "service": Field(Instance.service),
        "version": Field(Instance.version, order=False),
        "zone": Field(Instance.zone, order=False),
        "owner": Field(Instance.owner, order=False),
        "address": Field(Instance.address, order=False),
        "port": Field(Instance.port, order=False),
        "weight": Field(Instance.weight, order=False),
        "labels": Field(Instance.labels, order=False),
        "protocols": Field(Instance.protocols, order=False),
        "register_time": Field(Instance.registered_at),
        "health": Field(
            Instance.health,
            order=False,
            values={each: each for each in ("SERVING", "NOT_SERVING", "DRAINING")},
        ),
        "instance_id": Field(Instance.instance_id, order=False),
    },
    order="service",
    unique="instance_id",
)
# One statement, no other lock: the thousand instances of a mesh renew every five seconds each.
RENEW = """
update instance set expires_at = clock_timestamp() + lease
where instance_id = $1 and ($2::text = '' or health = $2::text) returning *
"""
BEGIN_ANEW = "update instance set expires_at = clock_timestamp() + lease"
ANY_EXPIRED = "select exists (select from instance where expires_at < clock_timestamp())"


async def many(tx: Tx, instance_ids: Set[UUID]) -> dict[UUID, Instance]:
    """Those of them that are there."""
    wanted = select(Instance).where(Instance.instance_id.in_(instance_ids)).with_for_update()
    return {row.instance_id: row for row in await tx.scalars(wanted)}


async def get(tx: Tx, instance_id: UUID, *, lock: bool = False) -> Instance:
    """Raises UnknownInstance."""
    row = await tx.get(Instance, instance_id, with_for_update=lock)
    if row is None:
        raise UnknownInstance(instance_id=instance_id)
    return row


async def count(tx: Tx) -> int:
    return int(await tx.scalar(select(func.count()).select_from(Instance)) or 0)


async def renew(db: Database, instance_id: UUID, health: str) -> Instance | None:
    """With a lease that begins now; None if there is none, or its health is another one."""
    row = await db.fetchrow(RENEW, instance_id, health)
    return Instance(**dict(row)) if row else None


async def page(tx: Tx, page: Page) -> tuple[Sequence[Instance], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Instance)))).all())


async def present(tx: Tx, service: str) -> tuple[int, Sequence[Instance]]:
    """All instances at one revision, by service: a transaction with one view of everything."""
    revision = (await tx.scalars(select(State))).one().revision
    wanted = select(Instance).order_by(Instance.service, Instance.instance_id)
    if service:
        wanted = wanted.where(Instance.service == service)
    return revision, (await tx.scalars(wanted)).all()


async def endpoints(tx: Tx) -> Sequence[Any]:
    """Of all instances what discovery needs."""
    row = Instance
    wanted = (row.instance_id, row.service, row.address, row.port, row.version, row.zone, row.weight)
    return (await tx.execute(select(*wanted, row.health, row.revision))).all()


async def serving(tx: Tx, service: str, version: str) -> bool:
    """Whether an instance of this version gets calls."""
    of_it = Instance.service == service, Instance.version == version, Instance.health == "SERVING"
    return bool(await tx.scalar(select(exists().where(*of_it))))


async def any_expired(db: Database) -> bool:
    return bool(await db.fetchval(ANY_EXPIRED))


async def expire(tx: Tx) -> Sequence[Instance]:
    """Deletes some whose lease has ended."""
    ended = (
        select(Instance.instance_id)
        .where(Instance.expires_at < func.clock_timestamp())
        .order_by(Instance.instance_id)
        .limit(EXPIRED_MAX)
        .with_for_update(skip_locked=True)
    )
    gone = delete(Instance).where(Instance.instance_id.in_(ended)).returning(Instance)
    return (await tx.scalars(gone, execution_options={"synchronize_session": False})).all()


async def begin_anew(db: Database) -> None:
    """Every lease begins now."""
    await db.execute(BEGIN_ANEW)
