"""Events of orders, as they were written."""

from collections.abc import Sequence
from typing import Any

from services.chassis.db import Database
from services.chassis.event_store import EVENTS
from services.chassis.events import COLUMNS

WATCHED_MAX = 200  # Events of one look; the next look follows at once.
PUBLISHED = "select coalesce(max(position), 0) from relay where service = 'order'"
LAST = "select coalesce(max(position), 0) from event"
SINCE = f"""
select {COLUMNS} from event
where position > $1 and position <= $2 and ($3 = '' or key = $3) and ($4 = '' or subject = $4)
order by position limit {WATCHED_MAX}
"""


async def events_of(db: Database, kind: str, order_id: str) -> Sequence[Any]:
    """Oldest first."""
    return await db.fetch(EVENTS, kind, order_id, 0)


async def published(db: Database) -> int:
    """The position up to which every event is published; whatever comes later has a higher one."""
    return int(await db.fetchval(PUBLISHED))


async def last(db: Database) -> int:
    """The highest position that there is."""
    return int(await db.fetchval(LAST))


async def since(db: Database, after: int, upto: int, order_id: str, customer_id: str) -> Sequence[Any]:
    """In the order of their positions; empty ids stand for any."""
    return await db.fetch(SINCE, after, upto, order_id, customer_id)
