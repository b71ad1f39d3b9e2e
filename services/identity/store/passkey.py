"""Passkeys by account and by credential."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, exists, func, select, text

from services.chassis.db import Tx
from services.identity.domain.passkey import PASSKEYS_MAX, Passkey, PasskeyNotFound, TooManyPasskeys

LOCK = text("select pg_advisory_xact_lock(hashtextextended('identity.passkeys:' || :user_id, 0))")


async def of(tx: Tx, user_id: UUID) -> Sequence[Passkey]:
    """Oldest first."""
    query = select(Passkey).where(Passkey.user_id == user_id).order_by(Passkey.passkey_id)
    return (await tx.scalars(query.limit(PASSKEYS_MAX))).all()


async def own(tx: Tx, user_id: UUID, passkey_id: UUID) -> Passkey:
    """The account's passkey, locked. Raises PasskeyNotFound for somebody else's too."""
    passkey = await tx.get(Passkey, passkey_id, with_for_update=True)
    if passkey is None or passkey.user_id != user_id:
        raise PasskeyNotFound(passkey_id=passkey_id)
    return passkey


async def by_credential(tx: Tx, credential_id: bytes, *, lock: bool = False) -> Passkey | None:
    query = select(Passkey).where(Passkey.credential_id == credential_id)
    return (await tx.scalars(query.with_for_update() if lock else query)).one_or_none()


async def require_room(tx: Tx, user_id: UUID) -> None:
    """Nobody else adds one to the account until `tx` ends. Raises TooManyPasskeys."""
    await tx.execute(LOCK, {"user_id": str(user_id)})
    query = select(func.count()).select_from(Passkey).where(Passkey.user_id == user_id)
    if int(await tx.scalar(query) or 0) >= PASSKEYS_MAX:
        raise TooManyPasskeys(max=PASSKEYS_MAX)


async def has_any(tx: Tx, user_id: UUID) -> bool:
    return bool(await tx.scalar(select(exists().where(Passkey.user_id == user_id))))


async def forget(tx: Tx, user_id: UUID) -> None:
    await tx.execute(delete(Passkey).where(Passkey.user_id == user_id))
