"""Usage: written in bulk, added up by meter."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from services.billing.domain.charge import NOTHING, Usage
from services.billing.domain.usage import UsageEvent
from services.chassis.db import AnyTx, fetch

COLUMNS = (
    ("subscription_id", "uuid"),
    ("event_id", "text"),
    ("meter", "text"),
    ("value", "numeric"),
    ("unique_key", "text"),
    ("at", "timestamptz"),
    ("counts_at", "timestamptz"),
    ("recorded_at", "timestamptz"),
)
WRITE = f"""
insert into usage_event ({", ".join(name for name, _ in COLUMNS)})
select * from unnest({", ".join(f"${n}::{kind}[]" for n, (_, kind) in enumerate(COLUMNS, 1))})
on conflict do nothing returning subscription_id, event_id
"""
WRITTEN = """
select subscription_id, event_id, meter, value, unique_key, at from usage_event
join unnest($1::uuid[], $2::text[]) as given (id, event) on subscription_id = id and event_id = event
"""
SEEN = """
select id, wanted.meter, count(*) as count, sum(value) as total, max(value) as largest,
    count(distinct unique_key) as different,
    (array_agg(value order by at desc, event_id desc))[1] as latest
from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[]) as wanted (id, meter, since, until)
join usage_event u on u.subscription_id = id and u.meter = wanted.meter
    and u.counts_at >= since and u.counts_at < until
group by 1, 2
"""
EVENTS = """
select id, wanted.meter, array_agg(value order by at, event_id) as values
from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[]) as wanted (id, meter, since, until)
join usage_event u on u.subscription_id = id and u.meter = wanted.meter
    and u.counts_at >= since and u.counts_at < until
group by 1, 2
"""
Asked = tuple[UUID, str, datetime, datetime]  # Subscription, meter, since, until.
Met = dict[tuple[UUID, str], Usage]


async def write(tx: AnyTx, events: Sequence[UsageEvent]) -> set[tuple[UUID, str]]:
    """Which of them are new."""
    columns = [[getattr(event, name) for event in events] for name, _ in COLUMNS]
    rows = await fetch(tx, WRITE, *columns)
    return {(row["subscription_id"], row["event_id"]) for row in rows}


async def written(tx: AnyTx, keys: Sequence[tuple[UUID, str]]) -> Mapping[tuple[UUID, str], Any]:
    """Those of these that are there."""
    rows = await fetch(tx, WRITTEN, [key[0] for key in keys], [key[1] for key in keys])
    return {(row["subscription_id"], row["event_id"]): row for row in rows}


async def seen(tx: AnyTx, asked: Sequence[Asked], by_event: Sequence[Asked] = ()) -> Met:
    """What meters saw, by subscription and meter; those that saw nothing are absent."""
    found: Met = {}
    if asked:
        for row in await fetch(tx, SEEN, *map(list, zip(*asked, strict=True))):
            found[row["id"], row["meter"]] = Usage(
                row["count"], row["total"], row["largest"], row["different"], row["latest"] or NOTHING
            )
    if by_event:
        for row in await fetch(tx, EVENTS, *map(list, zip(*by_event, strict=True))):
            values: list[Decimal] = row["values"]
            found[row["id"], row["meter"]] = Usage(
                len(values), sum(values, NOTHING), max(values), 0, values[-1], values
            )
    return found
