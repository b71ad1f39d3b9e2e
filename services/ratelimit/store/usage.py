"""What was counted: who used how much, and what is forgotten."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, select

from services.chassis.db import Database, Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.ratelimit.domain.limit import RateLimit
from services.ratelimit.domain.row import QuotaCount, RateBucket

RATES = Listing({"tat": Field(RateBucket.tat), "key": Field(RateBucket.key)}, order="tat desc", unique="key")
QUOTAS = Listing(
    {"used": Field(QuotaCount.used), "key": Field(QuotaCount.key)}, order="used desc", unique="key"
)
FULL_S = 600  # A bucket that has been full for so long is forgotten, and what it refused with it.
ENDED_D = 7  # What was used of a quota can be asked for so long after its period.
SWEEP = (
    f"""
    delete from rate_bucket where ctid in (
        select ctid from rate_bucket
        where tat < (extract(epoch from clock_timestamp())::bigint - {FULL_S}) * 1000000000
        limit 10000 for update skip locked
    )
    """,
    f"""
    delete from quota_count where ctid in (
        select ctid from quota_count where ends_at < clock_timestamp() - interval '{ENDED_D} days'
        limit 10000 for update skip locked
    )
    """,
)
FORGET = """
with personal as (select rate_limit_id from rate_limit where key_kind = 'USER'),
    rates as (delete from rate_bucket where key = $1 and rate_limit_id in (select * from personal))
delete from quota_count where key = $1 and rate_limit_id in (select * from personal)
"""


async def rates(tx: Tx, limit: RateLimit, page: Page) -> tuple[Sequence[RateBucket], str]:
    """Rows, and the next page's token."""
    wanted = select(RateBucket).where(
        RateBucket.rate_limit_id == limit.rate_limit_id, RateBucket.generation == limit.generation
    )
    return page.cut((await tx.scalars(page.select(wanted))).all())


async def quotas(tx: Tx, limit: RateLimit, page: Page) -> tuple[Sequence[QuotaCount], str]:
    """Rows, and the next page's token."""
    wanted = select(QuotaCount).where(
        QuotaCount.rate_limit_id == limit.rate_limit_id, QuotaCount.generation == limit.generation
    )
    return page.cut((await tx.scalars(page.select(wanted))).all())


async def clear(tx: Tx, rate_limit_id: UUID, key: str = "") -> None:
    """Of one key, or of all."""
    for table in (RateBucket, QuotaCount):
        gone = delete(table).where(table.rate_limit_id == rate_limit_id)
        await tx.execute(gone.where(table.key == key) if key else gone)


async def sweep(db: Database) -> None:
    """Forgets what says nothing any more; the rest of a great many at the next time."""
    for statement in SWEEP:
        await db.execute(statement)
