"""Outside providers, and the accounts that they are linked to."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, func, select, text

from services.chassis.db import Tx
from services.identity.domain.provider import (
    PROVIDERS_MAX,
    Provider,
    ProviderExists,
    ProviderLink,
    ProviderNotFound,
)

LOCK = text("select pg_advisory_xact_lock(hashtextextended('identity.provider', 0))")
LINK_LOCK = text("select pg_advisory_xact_lock(hashtextextended('identity.provider_link:' || :key, 0))")


async def get(tx: Tx, provider_id: UUID, *, lock: bool = False) -> Provider:
    """Raises ProviderNotFound."""
    found = await tx.get(Provider, provider_id, with_for_update=lock)
    if found is None:
        raise ProviderNotFound(provider_id=provider_id)
    return found


async def offered(tx: Tx, provider_id: UUID) -> Provider:
    """Raises ProviderNotFound for a disabled one too."""
    found = await get(tx, provider_id)
    if found.disabled:
        raise ProviderNotFound(provider_id=provider_id)
    return found


async def every(tx: Tx) -> Sequence[Provider]:
    """Oldest first."""
    return (await tx.scalars(select(Provider).order_by(Provider.provider_id).limit(PROVIDERS_MAX))).all()


async def require_room(tx: Tx, issuer: str, client_id: str) -> None:
    """Nobody else creates one until `tx` ends. Raises ProviderExists."""
    await tx.execute(LOCK)
    same = select(Provider.provider_id).where(Provider.issuer == issuer, Provider.client_id == client_id)
    count = int(await tx.scalar(select(func.count()).select_from(Provider)) or 0)
    if count >= PROVIDERS_MAX or await tx.scalar(same) is not None:
        raise ProviderExists


async def lock_link(tx: Tx, provider_id: UUID, subject: str) -> ProviderLink | None:
    """The link of an outside account, or the place of one; nobody else takes it until `tx` ends."""
    await tx.execute(LINK_LOCK, {"key": f"{provider_id}:{subject}"})
    return await tx.get(ProviderLink, (provider_id, subject))


async def link_of(tx: Tx, provider_id: UUID, user_id: UUID) -> ProviderLink | None:
    mine = (ProviderLink.provider_id == provider_id, ProviderLink.user_id == user_id)
    return (await tx.scalars(select(ProviderLink).where(*mine))).one_or_none()


async def links(tx: Tx, user_id: UUID) -> Sequence[tuple[ProviderLink, Provider]]:
    query = select(ProviderLink, Provider).join(Provider, Provider.provider_id == ProviderLink.provider_id)
    query = query.where(ProviderLink.user_id == user_id).order_by(ProviderLink.created_at)
    return [(row[0], row[1]) for row in (await tx.execute(query.limit(PROVIDERS_MAX))).all()]


async def forget_user(tx: Tx, user_id: UUID) -> None:
    await tx.execute(delete(ProviderLink).where(ProviderLink.user_id == user_id))
