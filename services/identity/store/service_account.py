"""Service accounts and their roles."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import delete, select, text

from services.chassis.db import Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.identity.domain.role import Role
from services.identity.domain.service_account import (
    ServiceAccount,
    ServiceAccountNotFound,
    ServiceAccountRole,
)
from services.identity.store import role as roles

PAGES = Listing(
    {
        "create_time": Field(ServiceAccount.created_at),
        "service_account_id": Field(ServiceAccount.service_account_id),
    },
    "create_time desc",
    "service_account_id",
)
CLAIM = text("select pg_advisory_xact_lock(hashtextextended('identity.service_account:' || :id, 0))")


async def page(tx: Tx, wanted: Page) -> tuple[Sequence[ServiceAccount], str]:
    """The page's rows, and the next page's token."""
    return wanted.cut((await tx.scalars(wanted.select(select(ServiceAccount)))).all())


async def claimed(tx: Tx, service_account_id: UUID) -> ServiceAccount | None:
    """Who has the id. None: it is free, and the caller's until `tx` ends."""
    await tx.execute(CLAIM, {"id": str(service_account_id)})
    return await tx.get(ServiceAccount, service_account_id)


async def get(tx: Tx, service_account_id: UUID, *, lock: bool = False) -> ServiceAccount:
    """Raises ServiceAccountNotFound."""
    found = await tx.get(ServiceAccount, service_account_id, with_for_update=lock)
    if found is None:
        raise ServiceAccountNotFound(service_account_id=service_account_id)
    return found


async def find(tx: Tx, service_account_id: UUID) -> ServiceAccount | None:
    return await tx.get(ServiceAccount, service_account_id)


async def roles_of(tx: Tx, service_account_id: UUID) -> Sequence[Role]:
    held = select(ServiceAccountRole.role).where(ServiceAccountRole.service_account_id == service_account_id)
    return (await tx.scalars(select(Role).where(Role.role.in_(held)).order_by(Role.role))).all()


async def names_of(tx: Tx, ids: Sequence[UUID]) -> Mapping[UUID, list[str]]:
    """Names of roles by service account."""
    query = select(ServiceAccountRole).where(ServiceAccountRole.service_account_id.in_(ids))
    names: dict[UUID, list[str]] = {each: [] for each in ids}
    for row in await tx.scalars(query.order_by(ServiceAccountRole.role)):
        names[row.service_account_id].append(row.role)
    return names


async def set_roles(tx: Tx, service_account_id: UUID, names: Sequence[str]) -> None:
    """Replaces them. Raises RoleNotFound."""
    for name in names:
        await roles.get(tx, name)
    mine = ServiceAccountRole.service_account_id == service_account_id
    await tx.execute(delete(ServiceAccountRole).where(mine))
    tx.add_all(ServiceAccountRole(service_account_id=service_account_id, role=name) for name in names)
