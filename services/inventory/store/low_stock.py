"""Levels that fell low and of which no mail has told yet."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx, Database, execute
from services.inventory.domain.level import Level

ADD = """
insert into low_stock (sku, location_id, available, alert_at, at)
select sku, location_id, available, alert_at, $5
from unnest($1::text[], $2::uuid[], $3::bigint[], $4::bigint[]) as n (sku, location_id, available, alert_at)
order by sku collate "C", location_id
on conflict (sku, location_id) do update set available = excluded.available, alert_at = excluded.alert_at
"""
# What an earlier mail was about to tell when its sender died is told first, by that very mail.
CLAIM = """
update low_stock set mail_id = $1 where mail_id is null and not exists (
    select from low_stock where mail_id is not null
)
"""
CLAIMED = """
select s.mail_id, s.sku, s.available, s.alert_at, coalesce(l.name, '') as name, count(*) over () as levels
from low_stock s left join location l using (location_id)
where s.mail_id is not null order by s.available - s.alert_at, s.sku, name limit $1
"""
TOLD = "delete from low_stock where mail_id is not null"


async def add(tx: AnyTx, levels: Sequence[Level], now: datetime) -> None:
    rows = [(each.sku, each.location_id, each.available, each.alert_at) for each in levels]
    await execute(tx, ADD, *(list(column) for column in zip(*rows, strict=True)), now)


async def claim(db: Database, mail_id: UUID, most: int) -> Sequence[Any]:
    """What the next mail tells, `most` of it, the lowest first; `levels` counts all."""
    await db.execute(CLAIM, mail_id)
    return await db.fetch(CLAIMED, most)


async def told(db: Database) -> None:
    """What was claimed was told."""
    await db.execute(TOLD)
