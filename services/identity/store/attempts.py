"""Counting attempts: each by one statement, so that parallel ones are all counted."""

from datetime import datetime, timedelta

from sqlalchemy import case, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from services.chassis.db import Tx
from services.identity.domain.lockout import Attempts, Policy, Window


async def take(tx: Tx, key: bytes, policy: Policy, now: datetime) -> int:
    """Counts an attempt that begins, and sets the rest that follows if it fails. Returns the count; 0: the
    account rests, and nothing was counted."""
    free = or_(Attempts.locked_until.is_(None), Attempts.locked_until <= now)
    row = insert(Attempts).values(key=key, count=1, since=now, last_at=now)
    add = row.on_conflict_do_update(
        index_elements=["key"], set_={"count": Attempts.count + 1, "last_at": now}, where=free
    )
    count = await tx.scalar(add.returning(Attempts.count))
    if count is None:
        return 0
    held = (await tx.scalars(select(Attempts).where(Attempts.key == key))).one()
    held.locked_until = policy.locked_until(count, now)
    return int(count)


async def give_back(tx: Tx, key: bytes) -> None:
    """Uncounts an attempt that was not looked at after all."""
    statement = update(Attempts).where(Attempts.key == key, Attempts.count > 0)
    await tx.execute(statement.values(count=Attempts.count - 1, locked_until=None))


async def within(tx: Tx, key: bytes, window: Window, now: datetime) -> bool:
    """Counts one more; whether it is still within the window's bound."""
    over = Attempts.since <= now - timedelta(seconds=window.seconds)
    row = insert(Attempts).values(key=key, count=1, since=now, last_at=now)
    counted = {
        "count": case((over, 1), else_=Attempts.count + 1),
        "since": case((over, now), else_=Attempts.since),
        "last_at": now,
    }
    add = row.on_conflict_do_update(index_elements=["key"], set_=counted)
    return int(await tx.scalar(add.returning(Attempts.count)) or 0) <= window.count


async def full(tx: Tx, key: bytes, window: Window, now: datetime) -> bool:
    """Whether the window's bound is reached, counting nothing."""
    since = now - timedelta(seconds=window.seconds)
    query = select(Attempts.count).where(Attempts.key == key, Attempts.since > since)
    return int(await tx.scalar(query) or 0) >= window.count


async def forget(tx: Tx, *keys: bytes) -> None:
    await tx.execute(delete(Attempts).where(Attempts.key.in_(keys)))


async def forget_older(tx: Tx, than: datetime) -> None:
    """Counts that nobody added to for long; but not a lock that only a reset opens."""
    rests = or_(Attempts.locked_until.is_(None), Attempts.locked_until < than)
    await tx.execute(delete(Attempts).where(Attempts.last_at < than, rests))
