"""Accounts by id and address."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select, text

from services.chassis.db import Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.identity.domain.password import Password
from services.identity.domain.user import (
    ACTIVE,
    DISABLED,
    ERASED,
    Person,
    UserNotFound,
    email_key,
)

LISTING = Listing(
    {
        "create_time": Field(Person.created_at),
        "email": Field(Person.email, nullable=True),
        "state": Field(
            Person.state, order=False, values={name.upper(): name for name in (ACTIVE, DISABLED, ERASED)}
        ),
        "user_id": Field(Person.user_id),
    },
    order="create_time desc",
    unique="user_id",
)


async def page(tx: Tx, page: Page) -> Sequence[Person]:
    """One row more than the page has, when there are more."""
    return (await tx.scalars(page.select(select(Person)))).all()


async def get(tx: Tx, user_id: UUID, *, lock: bool = False) -> Person:
    """Raises UserNotFound."""
    person = await tx.get(Person, user_id, with_for_update=lock)
    if person is None:
        raise UserNotFound(user_id=user_id)
    return person


async def hold(tx: Tx, *subjects: str) -> None:
    """Locks the accounts of these ids until `tx` ends, in one order; ids of no account are passed over.

    Whoever locks sessions or writes activity holds the account first, so that no two wait for each other.
    """
    ids = [UUID(subject) for subject in subjects if subject]
    query = select(Person.user_id).where(Person.user_id.in_(ids)).order_by(Person.user_id)
    await tx.execute(query.with_for_update(key_share=True))


async def living(tx: Tx, user_id: UUID, *, lock: bool = False) -> Person:
    """Raises UserNotFound for an erased one too."""
    person = await get(tx, user_id, lock=lock)
    if person.state == ERASED:
        raise UserNotFound(user_id=user_id)
    return person


async def by_key(tx: Tx, key: str) -> Person | None:
    """The account at an address, by the address's key."""
    return (await tx.scalars(select(Person).where(Person.email_key == key))).one_or_none()


async def active(tx: Tx, user_id: UUID) -> bool:
    return await tx.scalar(select(Person.state).where(Person.user_id == user_id)) == ACTIVE


async def with_password(tx: Tx, key: str) -> tuple[Person | None, Password | None]:
    """The account at an address and its password: one query, whether there is any."""
    query = select(Person, Password).outerjoin(Password, Password.user_id == Person.user_id)
    row = (await tx.execute(query.where(Person.email_key == key))).one_or_none()
    return (row[0], row[1]) if row else (None, None)


async def claim_email(tx: Tx, email: str) -> bool:
    """Whether the address is free; if so it is the caller's until `tx` ends."""
    key = email_key(email)
    await tx.execute(CLAIM, {"key": key})
    return await by_key(tx, key) is None


CLAIM = text("select pg_advisory_xact_lock(hashtextextended('identity.email:' || :key, 0))")
