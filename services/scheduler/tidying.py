"""What is long over: forgotten by and by, so that no table grows for ever."""

from datetime import timedelta

from services.chassis.clock import Clock
from services.chassis.db import Database

TIDY_EVERY_S = 600.0
FORGOTTEN_MAX = 1_000  # Rows of one statement: its locks are gone within milliseconds.
OLD = (
    """delete from schedule_run where run_id in (
        select run_id from schedule_run where ended_at < $1 limit $2)""",
    """delete from workflow_run where run_id in (
        select run_id from workflow_run where ended_at < $1 limit $2)""",
    """delete from webhook_delivery where delivery_id in (
        select delivery_id from webhook_delivery where due_at is null and created_at < $1 limit $2)""",
)


class Tidying:
    """Deletes what ended before `days` ago; with a run of a workflow go its tasks."""

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
            while not (await self._db.execute(sql, before, FORGOTTEN_MAX)).endswith(" 0"):
                continue
