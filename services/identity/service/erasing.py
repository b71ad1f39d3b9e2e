"""Erasure of an account: sessions end with their events first, then everything personal goes, at once."""

from services.chassis.db import Tx
from services.chassis.events import emit
from services.identity.domain.user import Person
from services.identity.service.proving import Prover
from services.identity.service.shared import Shared
from services.identity.store import (
    activity,
    api_key,
    attempts,
    code,
    credential,
    oauth,
    passkey,
    provider,
    role,
    session,
)
from weft.identity.v1.events_pb2 import RevocationCause, UserDeleted


async def erase(tx: Tx, shared: Shared, prover: Prover, person: Person) -> None:
    """The id stays, so that nobody ever gets it again. The person's row is locked."""
    subject, user_id, email_key = str(person.user_id), person.user_id, person.email_key or ""
    await shared.issuer.end_all(tx, subject, RevocationCause.REVOCATION_CAUSE_USER_DELETED)
    await attempts.forget(tx, prover.account_key(email_key), prover.second_key(person))
    await tx.flush()
    await session.forget(tx, subject)
    await credential.forget(tx, user_id)
    await passkey.forget(tx, user_id)
    await oauth.forget_user(tx, user_id)
    await provider.forget_user(tx, user_id)
    await api_key.forget(tx, user_id)
    await role.take_all(tx, user_id)
    await code.void(tx, subject)
    await code.forget_registrations(tx, email_key)
    await activity.forget(tx, user_id)
    person.erase(shared.clock.now())
    await emit(tx, UserDeleted(user_id=subject))
