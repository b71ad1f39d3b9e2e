"""Calls taken out of buckets and quotas: many keys by one statement, each as domain/gcra.py has it.

Rows are locked in the order of their keys, so statements of several deciders wait for each other and never in
a circle. The clock is the database's, the only one that all deciders share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from services.chassis.db import Database
from services.ratelimit.domain import gcra
from services.ratelimit.domain.gcra import Taken
from services.ratelimit.domain.limit import Limit

CLOCK = "coalesce($8::bigint, (extract(epoch from clock_timestamp()) * 1000000000)::bigint)"
BASE = "rate_base(had.tat, excluded.at, excluded.tolerance)"
GRANTED = f"rate_granted(excluded.asked, {BASE}, excluded.at, excluded.emission, excluded.tolerance)"
TAKE_RATE = f"""
insert into rate_bucket as had
    (rate_limit_id, generation, key, refused, at, emission, tolerance, asked, granted, tat)
select id, generation, key, refused, at, emission, tolerance, asked, granted, at + granted * emission
from (
    select id, generation, key, refused, at, emission, tolerance, asked,
        rate_granted(asked, at, at, emission, tolerance) as granted
    from unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
            as wanted (id, generation, key, asked, refused, emission, tolerance),
        (select {CLOCK} as at offset 0) as clock
) as new
order by id, generation, key
on conflict (rate_limit_id, generation, key) do update set
    granted = {GRANTED},
    tat = {BASE} + excluded.emission * {GRANTED},
    refused = had.refused + excluded.refused,
    at = excluded.at, emission = excluded.emission, tolerance = excluded.tolerance, asked = excluded.asked
returning rate_limit_id, generation, key, granted, tat, at
"""
USED = "quota_used(had.used, had.period, excluded.period)"
ALLOWED = f"least(excluded.asked, greatest(0, excluded.quota - {USED}))"
TAKE_QUOTA = f"""
insert into quota_count as had
    (rate_limit_id, generation, key, refused, period, ends_at, quota, asked, granted, used)
select id, generation, key, refused, begins::date, (begins + span) at time zone 'utc', quota, asked,
    least(asked, quota), least(asked, quota)
from (
    select id, generation, key, refused, quota, asked, date_trunc(unit, at) as begins,
        ('1 ' || unit)::interval as span
    from unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[])
            as wanted (id, generation, key, asked, refused, quota, unit),
        (select timestamp 'epoch' + {CLOCK} / 1000 * interval '1 microsecond' as at offset 0) as clock
) as new
order by id, generation, key
on conflict (rate_limit_id, generation, key) do update set
    granted = {ALLOWED},
    used = {USED} + {ALLOWED},
    period = greatest(had.period, excluded.period), ends_at = greatest(had.ends_at, excluded.ends_at),
    refused = had.refused + excluded.refused, quota = excluded.quota, asked = excluded.asked
returning rate_limit_id, generation, key, granted, used, period,
    (extract(epoch from ends_at) * 1000000000)::bigint - {CLOCK} as remains
"""
GIVE_BACK = """
update quota_count set used = greatest(0, used - back.calls)
from unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::date[])
    as back (id, generation, key, calls, period)
where rate_limit_id = id and quota_count.generation = back.generation and quota_count.key = back.key
    and quota_count.period = back.period
"""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a decider wants for one key."""

    limit: Limit
    key: str
    calls: int
    refused: int = 0  # Calls that it refused since it asked before.


@dataclass(frozen=True, slots=True)
class Back:
    """Calls of a quota that were taken and not spent."""

    limit: Limit
    key: str
    calls: int
    period: int  # They are of this one only.


async def take(db: Database, asks: Sequence[Ask], at: int | None = None) -> list[Taken]:
    """What each is granted. No key comes twice. `at` is the time, where it is not the database's."""
    found: dict[tuple[UUID, int, str], Taken] = {}
    rates = [ask for ask in asks if not ask.limit.calendar]
    quotas = [ask for ask in asks if ask.limit.calendar]
    if rates:
        bounds = [[a.limit.emission_ns for a in rates], [a.limit.tolerance_ns for a in rates]]
        by_key = {_key(ask): ask.limit for ask in rates}
        for row in await db.fetch(TAKE_RATE, *_columns(rates), *bounds, at):
            limit = by_key[tuple(row)[:3]]
            found[tuple(row)[:3]] = gcra.rate(
                row["granted"], row["tat"], row["at"], limit.emission_ns, limit.tolerance_ns
            )
    if quotas:
        units = [[a.limit.requests for a in quotas], [a.limit.unit.lower() for a in quotas]]
        left = {_key(ask): ask.limit.requests for ask in quotas}
        for row in await db.fetch(TAKE_QUOTA, *_columns(quotas), *units, at):
            found[tuple(row)[:3]] = _quota(row, left[tuple(row)[:3]])
    return [found[_key(ask)] for ask in asks]


async def give_back(db: Database, backs: Sequence[Back]) -> None:
    """What was not spent may be taken anew, if its period is still the one that is counted."""
    limits = [back.limit for back in backs]
    await db.execute(
        GIVE_BACK,
        [limit.rate_limit_id for limit in limits],
        [limit.generation for limit in limits],
        [back.key for back in backs],
        [back.calls for back in backs],
        [date.fromordinal(back.period) for back in backs],
    )


def _key(ask: Ask) -> tuple[UUID, int, str]:
    return ask.limit.rate_limit_id, ask.limit.generation, ask.key


def _columns(asks: Sequence[Ask]) -> list[list[Any]]:
    return [
        [ask.limit.rate_limit_id for ask in asks],
        [ask.limit.generation for ask in asks],
        [ask.key for ask in asks],
        [ask.calls for ask in asks],
        [ask.refused for ask in asks],
    ]


def _quota(row: Any, quota: int) -> Taken:
    left, remains = max(0, quota - row["used"]), max(0, row["remains"])
    return Taken(
        granted=row["granted"],
        left=left,
        wait_ns=0 if left else remains,
        full_ns=remains,
        period=row["period"].toordinal(),
    )
