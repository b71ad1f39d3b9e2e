"""Attribute rules: few, so they are read whole."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, text

from services.chassis.db import Database, Tx
from services.identity.domain.policy import POLICIES_MAX, Policy, PolicyNotFound, TooManyPolicies

LOCK = text("select pg_advisory_xact_lock(hashtextextended('identity.policy', 0))")
VERSION = (
    "select md5(coalesce(string_agg(policy_id || ':' || revision, ',' order by policy_id), '')) from policy"
)


async def get(tx: Tx, policy_id: UUID, *, lock: bool = False) -> Policy:
    """Raises PolicyNotFound."""
    found = await tx.get(Policy, policy_id, with_for_update=lock)
    if found is None:
        raise PolicyNotFound(policy_id=policy_id)
    return found


async def every(tx: Tx) -> Sequence[Policy]:
    """Oldest first."""
    return (await tx.scalars(select(Policy).order_by(Policy.policy_id).limit(POLICIES_MAX))).all()


async def version(db: Database) -> str:
    """Changes whenever a policy comes, goes, or says something else."""
    found: str = await db.fetchval(VERSION)
    return found


async def require_room(tx: Tx) -> None:
    """Nobody else creates one until `tx` ends. Raises TooManyPolicies."""
    await tx.execute(LOCK)
    if int(await tx.scalar(select(func.count()).select_from(Policy)) or 0) >= POLICIES_MAX:
        raise TooManyPolicies(max=POLICIES_MAX)
