"""What is forgotten when its time is over: spent codes, old counts, ended sessions, old activity."""

from datetime import timedelta

from services.identity.domain import (
    activity as activity_rules,
    api_key as api_key_rules,
    lockout,
    session as session_rules,
)
from services.identity.service.shared import Shared
from services.identity.store import activity, api_key, attempts, code, oauth, session

EVERY_S = 3600.0
CODES_KEPT = timedelta(days=1)  # A second use within it is refused as used; later as unknown: one answer.


async def upkeep(shared: Shared) -> None:
    """For ever."""
    while True:
        await forget(shared)
        await shared.clock.sleep(EVERY_S)


async def forget(shared: Shared) -> None:
    now = shared.clock.now()
    async with shared.db.transaction() as tx:
        await code.forget_older(tx, now - CODES_KEPT)
        await attempts.forget_older(tx, now - timedelta(days=lockout.KEPT_DAYS))
        await session.forget_older(tx, now - timedelta(days=session_rules.KEPT_DAYS))
        await oauth.forget_older(tx, now - CODES_KEPT)
        await api_key.forget_older(tx, now - timedelta(days=api_key_rules.KEPT_DAYS))
        await activity.forget_older(tx, now - timedelta(days=activity_rules.KEPT_DAYS))
