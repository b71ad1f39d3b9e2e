"""The signing keys, changed by one process at a time."""

from collections.abc import Sequence

from sqlalchemy import select, text

from services.chassis.db import Tx
from services.identity.domain.signing_key import SigningKey

LOCK = text("select pg_advisory_xact_lock(hashtext('identity.signing_key'))")


async def lock_all(tx: Tx) -> Sequence[SigningKey]:
    """Every key; nobody else reads them so until `tx` ends."""
    await tx.execute(LOCK)
    return (await tx.scalars(select(SigningKey).order_by(SigningKey.signs_from))).all()
