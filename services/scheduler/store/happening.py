"""What happened to runs of workflows, as it was written."""

from collections.abc import Sequence
from typing import Any

from services.chassis.db import Database
from services.chassis.events import COLUMNS

WATCHED_MAX = 200  # Events of one look; the next look follows at once.
SPAN_MAX = 20_000  # Positions that one look passes: who comes back after long looks more than once.
PUBLISHED = "select coalesce(max(position), 0) from relay where service = 'scheduler'"
LAST = "select coalesce(max(position), 0) from event"
SINCE = f"""
select {COLUMNS} from event
where position > $1 and position <= $2 and type = any($3) and ($4 = '' or key = $4)
order by position limit {WATCHED_MAX}
"""


async def published(db: Database) -> int:
    """The position up to which every event is published; whatever comes later has a higher one."""
    return int(await db.fetchval(PUBLISHED))


async def last(db: Database) -> int:
    """The highest position that there is."""
    return int(await db.fetchval(LAST))


async def since(
    db: Database, span: tuple[int, int], types: Sequence[str], run_id: str
) -> tuple[Sequence[Any], int]:
    """Events behind the first position of `span`, in order, and how far that is; no `run_id`: of all runs."""
    after, upto = span[0], min(span[1], span[0] + SPAN_MAX)
    rows = await db.fetch(SINCE, after, upto, list(types), run_id)
    return rows, rows[-1]["position"] if len(rows) == WATCHED_MAX else upto
