"""What is long over: forgotten by and by, so that no table grows for ever."""

from datetime import timedelta

from services.chassis.clock import Clock
from services.chassis.db import Database

TIDY_EVERY_S = 600.0
FORGOTTEN_MAX = 1_000  # Rows of one statement: its locks are gone within milliseconds.
OLD = (
    """with old as (
        delete from reservation where reservation_id in (
            select reservation_id from reservation where state <> 'HELD' and updated_at < $1 limit $2)
        returning reservation_id
    ), lines as (delete from reservation_line l using old where l.reservation_id = old.reservation_id)
    select count(*) from old""",
    """with old as (
        delete from operation where operation_id in (
            select operation_id from operation where at < $1 limit $2)
        returning 1
    ) select count(*) from old""",
)


class Tidying:
    """Deletes reservations that ended before `days` ago, and the ids of requests as old. Movements stay."""

    def __init__(self, db: Database, clock: Clock, days: int) -> None:
        self._db, self._clock, self._age = db, clock, timedelta(days=days)

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.round()
            await self._clock.sleep(TIDY_EVERY_S)

    async def round(self) -> None:
        """Until nothing is old."""
        before = self._clock.now() - self._age
        for sql in OLD:
            while await self._db.fetchval(sql, before, FORGOTTEN_MAX):
                continue
