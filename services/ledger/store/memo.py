"""Keys of memos."""

from collections.abc import Collection
from datetime import datetime

from services.chassis.db import AnyTx, Database, fetch
from services.chassis.sealing import Seal
from services.ledger.domain.memo import new_key

FIND = "select owner_id, sealed_key from memo_key where owner_id = any($1::text[])"
KEEP = """
insert into memo_key (owner_id, sealed_key, created_at) values ($1, $2, $3)
on conflict (owner_id) do nothing returning owner_id
"""
SHRED = "delete from memo_key where owner_id = $1 returning owner_id"


async def keys(source: Database | AnyTx, seal: Seal, owners: Collection[str]) -> dict[str, bytes]:
    """Of those who have one."""
    if not owners:
        return {}
    wanted = list(owners)
    rows = await (source.fetch(FIND, wanted) if isinstance(source, Database) else fetch(source, FIND, wanted))
    return {row["owner_id"]: seal.open(row["sealed_key"], row["owner_id"].encode()) for row in rows}


async def ensure_keys(tx: AnyTx, seal: Seal, owners: Collection[str], now: datetime) -> dict[str, bytes]:
    """Of all of them. Whoever calls holds the head, so nobody shreds one meanwhile."""
    found = await keys(tx, seal, owners)
    for owner in sorted(set(owners) - found.keys()):
        found[owner] = new_key()
        await fetch(tx, KEEP, owner, seal.seal(found[owner], owner.encode()), now)
    return found


async def shred(tx: AnyTx, owner: str) -> bool:
    """False when there was none."""
    return bool(await fetch(tx, SHRED, owner))
