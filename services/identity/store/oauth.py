"""OAuth clients, their secrets, consents, waiting devices, and the sessions that clients hold."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, or_, select, text, update

from services.chassis.db import Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.identity.domain.code import OneUseCode
from services.identity.domain.device import WAITING, DeviceAuthorization
from services.identity.domain.oauth_client import (
    SECRETS_MAX,
    ClientNotFound,
    OAuthClient,
    OAuthClientSecret,
    OAuthConsent,
)
from services.identity.domain.session import RefreshToken, Session

CONSENTS_MAX = 200  # Listed in one answer; people let in a handful of applications.
PAGES = Listing({"client_id": Field(OAuthClient.client_id)}, "client_id", "client_id")
CONSENT_LOCK = text("select pg_advisory_xact_lock(hashtextextended('identity.consent:' || :key, 0))")


async def page(tx: Tx, wanted: Page) -> tuple[Sequence[OAuthClient], str]:
    """The page's rows, and the next page's token."""
    return wanted.cut((await tx.scalars(wanted.select(select(OAuthClient)))).all())


async def find(tx: Tx, client_id: str) -> OAuthClient | None:
    return await tx.get(OAuthClient, client_id)


async def get(tx: Tx, client_id: str, *, lock: bool = False) -> OAuthClient:
    """Raises ClientNotFound."""
    found = await tx.get(OAuthClient, client_id, with_for_update=lock)
    if found is None:
        raise ClientNotFound(client_id=client_id)
    return found


async def has_secret(tx: Tx, client_id: str, hash_: bytes, now: datetime) -> bool:
    """Whether the secret is the client's and good."""
    fresh = or_(OAuthClientSecret.expires_at.is_(None), OAuthClientSecret.expires_at > now)
    query = select(OAuthClientSecret.hash).where(
        OAuthClientSecret.hash == hash_, OAuthClientSecret.client_id == client_id, fresh
    )
    return await tx.scalar(query) is not None


async def end_secrets(tx: Tx, client_id: str, at: datetime, now: datetime) -> None:
    """Every secret is good until then at the latest; void ones go, and the oldest beyond the bound."""
    mine = OAuthClientSecret.client_id == client_id
    longer = or_(OAuthClientSecret.expires_at.is_(None), OAuthClientSecret.expires_at > at)
    shorten = update(OAuthClientSecret).where(mine, longer).values(expires_at=at)
    await tx.execute(shorten.execution_options(synchronize_session=False))
    await tx.execute(delete(OAuthClientSecret).where(mine, OAuthClientSecret.expires_at <= now))
    newest = select(OAuthClientSecret.hash).where(mine).order_by(OAuthClientSecret.created_at.desc())
    kept = newest.limit(SECRETS_MAX - 1)
    await tx.execute(delete(OAuthClientSecret).where(mine, OAuthClientSecret.hash.not_in(kept)))


async def consent(tx: Tx, user_id: UUID, client_id: str) -> OAuthConsent | None:
    return await tx.get(OAuthConsent, (user_id, client_id))


async def lock_consent(tx: Tx, user_id: UUID, client_id: str) -> OAuthConsent | None:
    """The consent, or the place of one; nobody else changes it until `tx` ends."""
    await tx.execute(CONSENT_LOCK, {"key": f"{user_id}:{client_id}"})
    return await tx.get(OAuthConsent, (user_id, client_id), populate_existing=True)


async def consents(tx: Tx, user_id: UUID) -> Sequence[tuple[OAuthConsent, OAuthClient]]:
    """Newest first."""
    query = select(OAuthConsent, OAuthClient).join(
        OAuthClient, OAuthClient.client_id == OAuthConsent.client_id
    )
    query = query.where(OAuthConsent.user_id == user_id).order_by(OAuthConsent.granted_at.desc())
    return [(row[0], row[1]) for row in (await tx.execute(query.limit(CONSENTS_MAX))).all()]


async def open_sessions(tx: Tx, client_id: str, subject: str | None = None) -> Sequence[Session]:
    """Sessions that a client holds, of one subject or of all; locked."""
    query = select(Session).where(Session.client_id == client_id, Session.ended_at.is_(None))
    if subject is not None:
        query = query.where(Session.subject == subject)
    return (await tx.scalars(query.order_by(Session.session_id).with_for_update())).all()


async def lock_code(tx: Tx, code_id: UUID) -> OneUseCode | None:
    return await tx.get(OneUseCode, code_id, with_for_update=True, populate_existing=True)


async def void_codes(tx: Tx, purpose: str, client_id: str, subject: str | None = None) -> None:
    """Unused codes of a client are void, of one subject or of all."""
    mine = (
        OneUseCode.purpose == purpose,
        OneUseCode.used_at.is_(None),
        OneUseCode.data["client_id"].astext == client_id,
    )
    statement = delete(OneUseCode).where(*mine)
    if subject is not None:
        statement = statement.where(OneUseCode.subject == subject)
    await tx.execute(statement.execution_options(synchronize_session=False))


async def device(tx: Tx, hash_: bytes) -> DeviceAuthorization | None:
    """Locked."""
    return await tx.get(DeviceAuthorization, hash_, with_for_update=True)


async def device_by_user_code(tx: Tx, hash_: bytes, now: datetime) -> DeviceAuthorization | None:
    """One that waits, locked."""
    waiting = (
        DeviceAuthorization.user_code_hash == hash_,
        DeviceAuthorization.state == WAITING,
        DeviceAuthorization.expires_at > now,
    )
    return (await tx.scalars(select(DeviceAuthorization).where(*waiting).with_for_update())).one_or_none()


async def forget_user(tx: Tx, user_id: UUID) -> None:
    await tx.execute(delete(OAuthConsent).where(OAuthConsent.user_id == user_id))
    await tx.execute(delete(DeviceAuthorization).where(DeviceAuthorization.user_id == user_id))


async def forget_older(tx: Tx, than: datetime) -> None:
    """Drops devices that gave up, and secrets that are void."""
    await tx.execute(delete(DeviceAuthorization).where(DeviceAuthorization.expires_at < than))
    await tx.execute(delete(OAuthClientSecret).where(OAuthClientSecret.expires_at < than))


async def refresh_token(tx: Tx, hash_: bytes) -> RefreshToken | None:
    return await tx.get(RefreshToken, hash_)
