"""What is long over: forgotten by and by, so that no table grows for ever."""

from datetime import timedelta

from services.chassis.clock import Clock
from services.chassis.db import Database

TIDY_EVERY_S = 600.0
FORGOTTEN_MAX = 1_000  # Rows of one statement: its locks are gone within milliseconds.
KEPT = timedelta(days=1)  # After a quote expired: whoever asks why still finds it.
OLD = (
    """delete from quote where quote_id in (
        select quote_id from quote where expires_at < $1 limit $2)""",
    """delete from segment_member where (customer_id, segment) in (
        select customer_id, segment from segment_member where valid_to < $1 limit $2)""",
)


class Tidying:
    """Deletes quotes that expired, and memberships that ended."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.round()
            await self._clock.sleep(TIDY_EVERY_S)

    async def round(self) -> None:
        """Until nothing is old."""
        before = self._clock.now() - KEPT
        for sql in OLD:
            while not (await self._db.execute(sql, before, FORGOTTEN_MAX)).endswith(" 0"):
                continue
