"""Accounts by id and address."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select

from services.chassis.db import Tx
from services.identity.domain.user import ACTIVE, ERASED, EmailTaken, Person, UserNotFound, email_key


async def get(tx: Tx, user_id: UUID, *, lock: bool = False) -> Person:
    """Raises UserNotFound."""
    person = await tx.get(Person, user_id, with_for_update=lock)
    if person is None:
        raise UserNotFound(user_id=user_id)
    return person


async def living(tx: Tx, user_id: UUID, *, lock: bool = False) -> Person:
    """Raises UserNotFound for an erased one too."""
    person = await get(tx, user_id, lock=lock)
    if person.state == ERASED:
        raise UserNotFound(user_id=user_id)
    return person


async def many(tx: Tx, user_ids: Sequence[UUID]) -> Sequence[Person]:
    return (await tx.scalars(select(Person).where(Person.user_id.in_(user_ids)))).all()


async def by_key(tx: Tx, key: str) -> Person | None:
    """The account at an address, by the address's key."""
    return (await tx.scalars(select(Person).where(Person.email_key == key))).one_or_none()


async def active(tx: Tx, user_id: UUID) -> bool:
    return await tx.scalar(select(Person.state).where(Person.user_id == user_id)) == ACTIVE


async def require_free(tx: Tx, email: str) -> None:
    """Raises EmailTaken. A rival in flight is caught by the unique index."""
    if await by_key(tx, email_key(email)) is not None:
        raise EmailTaken
