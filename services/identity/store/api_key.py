"""API keys: kept, listed, and looked up with all that their owner may do."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, or_, select, text, update

from services.chassis.db import Database, Tx
from services.identity.domain.api_key import (
    KEPT_DAYS,
    KEYS_MAX,
    ApiKey,
    ApiKeyNotFound,
    ApiKeySecret,
    TooManyApiKeys,
)

LISTED_MAX = 200  # Twice the good ones that an owner may have: the rest are void ones.
LOCK = text("select pg_advisory_xact_lock(hashtextextended('identity.api_keys:' || :owner_id, 0))")

# One indexed read tells whether a key is good at this instant, whose it is, and what they may do now.
PRESENTED = """
select k.api_key_id, k.owner_id, k.scopes, k.created_at,
    array(select r.role from role r where r.role = 'user' and k.owner_kind = 'user'
        union select g.role from role_grant g where k.owner_kind = 'user' and g.user_id = k.owner_id
        union select s.role from service_account_role s
            where k.owner_kind = 'service_account' and s.service_account_id = k.owner_id) as roles,
    array(select unnest(r.permissions) from role r where
        (r.role = 'user' and k.owner_kind = 'user')
        or r.role in (select g.role from role_grant g where k.owner_kind = 'user' and g.user_id = k.owner_id)
        or r.role in (select s.role from service_account_role s
            where k.owner_kind = 'service_account' and s.service_account_id = k.owner_id)) as permissions
from api_key_secret secret
join api_key k using (api_key_id)
left join person p on k.owner_kind = 'user' and p.user_id = k.owner_id
left join service_account a on k.owner_kind = 'service_account' and a.service_account_id = k.owner_id
where secret.hash = $1 and k.api_key_id = $2
    and (secret.expires_at is null or secret.expires_at > $3)
    and k.revoked_at is null and (k.expires_at is null or k.expires_at > $3)
    and (p.state = 'active' or not a.disabled)
"""
USED = """
update api_key set last_used_at = used.at from unnest($1::text[], $2::timestamptz[]) as used (api_key_id, at)
where api_key.api_key_id = used.api_key_id
    and (last_used_at is null or last_used_at < used.at)
"""


async def presented(db: Database, hash_: bytes, api_key_id: str, now: datetime) -> Any:
    """None: the key is not good."""
    return await db.fetchrow(PRESENTED, hash_, api_key_id, now)


async def note_uses(db: Database, uses: Mapping[str, datetime]) -> None:
    await db.execute(USED, list(uses), list(uses.values()))


async def own(tx: Tx, owner_id: UUID, api_key_id: str) -> ApiKey:
    """The owner's key, locked. Raises ApiKeyNotFound for somebody else's too."""
    key = await tx.get(ApiKey, api_key_id, with_for_update=True)
    if key is None or key.owner_id != owner_id:
        raise ApiKeyNotFound(api_key_id=api_key_id)
    return key


async def of(tx: Tx, owner_id: UUID, now: datetime) -> Sequence[ApiKey]:
    """Newest first; void ones while they are kept."""
    kept = now - timedelta(days=KEPT_DAYS)
    alive = or_(ApiKey.revoked_at.is_(None), ApiKey.revoked_at > kept)
    fresh = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > kept)
    query = select(ApiKey).where(ApiKey.owner_id == owner_id, alive, fresh)
    return (await tx.scalars(query.order_by(ApiKey.created_at.desc()).limit(LISTED_MAX))).all()


async def good_ones(tx: Tx, owner_id: UUID) -> Sequence[ApiKey]:
    """Locked."""
    query = select(ApiKey).where(ApiKey.owner_id == owner_id, ApiKey.revoked_at.is_(None))
    return (await tx.scalars(query.order_by(ApiKey.api_key_id).with_for_update())).all()


async def require_room(tx: Tx, owner_id: UUID, now: datetime) -> None:
    """Nobody else makes one for the owner until `tx` ends. Raises TooManyApiKeys."""
    await tx.execute(LOCK, {"owner_id": str(owner_id)})
    fresh = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now)
    query = select(func.count()).select_from(ApiKey)
    query = query.where(ApiKey.owner_id == owner_id, ApiKey.revoked_at.is_(None), fresh)
    if int(await tx.scalar(query) or 0) >= KEYS_MAX:
        raise TooManyApiKeys(max=KEYS_MAX)


async def previous_ends(tx: Tx, ids: Sequence[str], now: datetime) -> Mapping[str, datetime]:
    """Until when the secret before the last is good, by key that has one."""
    query = select(ApiKeySecret.api_key_id, func.max(ApiKeySecret.expires_at))
    query = query.where(ApiKeySecret.api_key_id.in_(ids), ApiKeySecret.expires_at > now)
    found = (await tx.execute(query.group_by(ApiKeySecret.api_key_id))).all()
    return {api_key_id: ends for api_key_id, ends in found if ends is not None}


async def end_secrets(tx: Tx, api_key_id: str, at: datetime) -> None:
    """Every secret of the key is good until then at the latest; those that were void go."""
    mine = ApiKeySecret.api_key_id == api_key_id
    longer = or_(ApiKeySecret.expires_at.is_(None), ApiKeySecret.expires_at > at)
    shorten = update(ApiKeySecret).where(mine, longer).values(expires_at=at)
    await tx.execute(shorten.execution_options(synchronize_session=False))


async def forget_secrets(tx: Tx, api_key_id: str) -> None:
    await tx.execute(delete(ApiKeySecret).where(ApiKeySecret.api_key_id == api_key_id))


async def forget_older(tx: Tx, than: datetime) -> None:
    """Drops keys that were void by then, and secrets that were."""
    await tx.execute(delete(ApiKeySecret).where(ApiKeySecret.expires_at < than))
    gone = or_(ApiKey.revoked_at < than, ApiKey.expires_at < than)
    await tx.execute(delete(ApiKey).where(gone))


async def forget(tx: Tx, owner_id: UUID) -> None:
    """Drops every key of an owner, with its secrets."""
    await tx.execute(delete(ApiKey).where(ApiKey.owner_id == owner_id))
