"""Which roles there are, and who has them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, exists, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert

from services.chassis.db import Tx
from services.identity.domain.role import ADMIN, EVERYONE, Role, RoleGrant, RoleNotFound
from services.identity.domain.user import ACTIVE, Person


async def get(tx: Tx, role: str, *, lock: bool = False) -> Role:
    """Raises RoleNotFound."""
    found = await tx.get(Role, role, with_for_update=lock)
    if found is None:
        raise RoleNotFound(role=role)
    return found


async def every(tx: Tx) -> Sequence[Role]:
    return (await tx.scalars(select(Role).order_by(Role.built_in.desc(), Role.role))).all()


async def of(tx: Tx, user_id: UUID) -> Sequence[Role]:
    """What an account has, `user` included."""
    held = select(RoleGrant.role).where(RoleGrant.user_id == user_id)
    query = select(Role).where(or_(Role.role == EVERYONE, Role.role.in_(held))).order_by(Role.role)
    return (await tx.scalars(query)).all()


async def holders(tx: Tx, role: str) -> Sequence[UUID]:
    return (await tx.scalars(select(RoleGrant.user_id).where(RoleGrant.role == role))).all()


async def other_admins(tx: Tx, user_id: UUID) -> int:
    """Administrators that may sign in, but for `user_id`. Their role is locked until `tx` ends, so that
    two of them cannot leave at once."""
    await get(tx, ADMIN, lock=True)
    admins = select(func.count()).select_from(RoleGrant).join(Person, Person.user_id == RoleGrant.user_id)
    query = admins.where(RoleGrant.role == ADMIN, Person.state == ACTIVE, Person.user_id != user_id)
    return int(await tx.scalar(query) or 0)


async def count(tx: Tx) -> int:
    return int(await tx.scalar(select(func.count()).select_from(Role)) or 0)


async def take_from_all(tx: Tx, role: str) -> None:
    await tx.execute(delete(RoleGrant).where(RoleGrant.role == role))


async def take_all(tx: Tx, user_id: UUID) -> None:
    await tx.execute(delete(RoleGrant).where(RoleGrant.user_id == user_id))


async def is_admin(tx: Tx, user_id: UUID) -> bool:
    return await tx.get(RoleGrant, (user_id, ADMIN)) is not None


async def grant(tx: Tx, user_id: UUID, role: str, now: datetime) -> bool:
    """Whether the account did not have it."""
    row = insert(RoleGrant).values(user_id=user_id, role=role, granted_at=now)
    return await tx.scalar(row.on_conflict_do_nothing().returning(RoleGrant.role)) is not None


async def take(tx: Tx, user_id: UUID, role: str) -> bool:
    """Whether the account had it."""
    held = (RoleGrant.user_id == user_id, RoleGrant.role == role)
    return await tx.scalar(delete(RoleGrant).where(*held).returning(RoleGrant.role)) is not None


async def someone_has(tx: Tx, role: str) -> bool:
    return bool(await tx.scalar(select(exists().where(RoleGrant.role == role))))


async def claim(tx: Tx, role: str) -> bool:
    """Whether the name is free; if so it is the caller's until `tx` ends."""
    await tx.execute(
        text("select pg_advisory_xact_lock(hashtextextended('identity.role:' || :role, 0))"), {"role": role}
    )
    return await tx.get(Role, role) is None
