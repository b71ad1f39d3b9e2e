"""Passwords and second factors of accounts."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, exists, func, select, update

from services.chassis.db import Tx
from services.identity.domain.password import Password
from services.identity.domain.second_factor import RecoveryCode, Totp


async def password(tx: Tx, user_id: UUID, *, lock: bool = False) -> Password | None:
    return await tx.get(Password, user_id, with_for_update=lock)


async def put_password(tx: Tx, new: Password) -> None:
    """Sets or replaces it."""
    await tx.merge(new)


async def upgrade_hash(tx: Tx, user_id: UUID, old: str, new: str) -> None:
    """Replaces a hash by one of ours, unless the password was changed meanwhile."""
    same = (Password.user_id == user_id, Password.hash == old)
    statement = update(Password).where(*same).values(hash=new)
    await tx.execute(statement.execution_options(synchronize_session=False))


async def totp(tx: Tx, user_id: UUID, *, lock: bool = False) -> Totp | None:
    return await tx.get(Totp, user_id, with_for_update=lock)


async def has_second_factor(tx: Tx, user_id: UUID) -> bool:
    """Whether a sign-in by password asks for a second step."""
    query = select(exists().where(Totp.user_id == user_id, Totp.confirmed_at.is_not(None)))
    return bool(await tx.scalar(query))


async def use_step(tx: Tx, user_id: UUID, step: int, now: datetime) -> bool:
    """Takes the TOTP step: a code is good once, and so is none older than it."""
    fresh = (Totp.user_id == user_id, Totp.last_step < step)
    statement = update(Totp).where(*fresh).values(last_step=step, last_used_at=now).returning(Totp.user_id)
    return await tx.scalar(statement.execution_options(synchronize_session=False)) is not None


async def use_recovery_code(tx: Tx, hash_: bytes, now: datetime) -> bool:
    """Spends the code."""
    fresh = (RecoveryCode.hash == hash_, RecoveryCode.used_at.is_(None))
    statement = update(RecoveryCode).where(*fresh).values(used_at=now).returning(RecoveryCode.user_id)
    return await tx.scalar(statement.execution_options(synchronize_session=False)) is not None


async def recovery_codes_left(tx: Tx, user_id: UUID) -> int:
    query = select(func.count()).select_from(RecoveryCode)
    return int(
        await tx.scalar(query.where(RecoveryCode.user_id == user_id, RecoveryCode.used_at.is_(None))) or 0
    )


async def replace_recovery_codes(tx: Tx, user_id: UUID, hashes: Sequence[bytes]) -> None:
    await tx.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    tx.add_all(RecoveryCode(hash=hash_, user_id=user_id, used_at=None) for hash_ in hashes)


async def forget_second_factors(tx: Tx, user_id: UUID) -> None:
    await tx.execute(delete(Totp).where(Totp.user_id == user_id))
    await tx.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))


async def forget(tx: Tx, user_id: UUID) -> None:
    """Every credential of an account."""
    await forget_second_factors(tx, user_id)
    await tx.execute(delete(Password).where(Password.user_id == user_id))
