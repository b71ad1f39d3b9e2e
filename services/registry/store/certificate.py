"""Certificates, and the authorities that signed them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, text

from services.chassis.db import AnyTx, Tx, execute
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.registry.domain.certificate import (
    FORGOTTEN_AFTER,
    REVOKED_FORGOTTEN_AFTER,
    Authority,
    Certificate,
    UnknownCertificate,
)

CERTIFICATES = Listing(
    {
        "expire_time": Field(Certificate.ends_at),
        "serial": Field(Certificate.serial, order=False),
        "service": Field(Certificate.service, order=False),
        "instance_id": Field(Certificate.instance_id, order=False),
        "revoke_time": Field(Certificate.revoked_at, order=False, nullable=True),
    },
    order="expire_time desc",
    unique="serial",
)
LOCK = 0x63657274  # "cert": one maker of authorities at a time.
FORGET_MAX = 100  # Many times as many as come while these go.
FORGET = """
delete from certificate where serial in (
    select serial from certificate
    where ends_at < $1::timestamptz and (revoked_at is null or ends_at < $2::timestamptz)
    order by ends_at limit $3)
"""


async def alone(tx: Tx) -> None:
    """Nobody else makes an authority until `tx` ends."""
    await tx.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})


async def authorities(tx: Tx, now: datetime) -> Sequence[Authority]:
    """Those that have not ended, roots too."""
    return (await tx.scalars(select(Authority).where(Authority.ends_at > now))).all()


async def signed(tx: Tx, now: datetime) -> set[UUID]:
    """Authorities that signed something which is still good."""
    wanted = select(Certificate.authority_id).where(Certificate.ends_at > now).distinct()
    return set((await tx.scalars(wanted)).all())


async def live(tx: Tx, service: str, now: datetime) -> int:
    """How many of the service have not ended."""
    wanted = select(func.count()).where(Certificate.service == service, Certificate.ends_at > now)
    return int(await tx.scalar(wanted) or 0)


async def revoked(tx: Tx, service: str, instance_id: UUID) -> bool:
    wanted = select(Certificate.serial).where(
        Certificate.instance_id == instance_id,
        Certificate.service == service,
        Certificate.revoked_at.is_not(None),
    )
    return await tx.scalar(wanted.limit(1)) is not None


async def get(tx: Tx, serial: str) -> Certificate:
    """Locked until `tx` ends. Raises UnknownCertificate."""
    row = await tx.get(Certificate, serial, with_for_update=True)
    if row is None:
        raise UnknownCertificate(serial=serial)
    return row


async def page(tx: Tx, page: Page) -> tuple[Sequence[Certificate], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Certificate)))).all())


async def forget(tx: AnyTx, now: datetime) -> None:
    """Some of those that ended long ago."""
    await execute(tx, FORGET, now - FORGOTTEN_AFTER, now - REVOKED_FORGOTTEN_AFTER, FORGET_MAX)
