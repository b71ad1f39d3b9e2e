"""Which days have partitions of their own, and which of them to ask.

A query of one partition is planned in a tenth of a millisecond, one of all of them in ten: reads that must
be fast name the partition. What no day has is in the partition `default`.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from services.chassis.db import Database
from services.queue.domain.job import enqueued_at, floor_id

BY_JOB = ("job", "job_final", "attempt", "placement")  # Their primary keys begin with the job.
TABLES = (*BY_JOB, "job_label")  # Partitioned by day.
LEAST, MOST = UUID(int=0), UUID(int=2**128 - 1)
OTHER = "default"

PARTITIONS = """
select child.relname from pg_inherits join pg_class child on child.oid = inhrelid
where inhparent = 'job'::regclass and child.relname <> 'job_default'
"""


class Segment(NamedTuple):
    """Ids from `low` up to `high` (excluded), all in the partitions of one suffix."""

    suffix: str
    low: UUID
    high: UUID


class Days:
    """Read at the start and every few seconds: days are made long before ids fall into them."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: list[date] = []

    @property
    def known(self) -> Sequence[date]:
        """Oldest first."""
        return self._known

    async def read(self) -> None:
        names = [row["relname"] for row in await self._db.fetch(PARTITIONS)]
        self._known = sorted(datetime.strptime(name[-8:], "%Y%m%d").date() for name in names)  # noqa: DTZ007

    def suffix(self, job_id: UUID) -> str:
        """Where a job is."""
        day = enqueued_at(job_id).date()
        return suffix_of(day) if day in self._known else OTHER

    def segments(self, before: UUID, least: UUID) -> Iterator[Segment]:
        """All ids from `before` (excluded) down to `least`, in descending order."""
        high = MOST
        for segment in (*reversed([_segment(day) for day in self._known]), Segment("", LEAST, LEAST)):
            for each in (Segment(OTHER, segment.high, high), segment):
                low, top = max(each.low, least), min(each.high, before)
                if low < top and each.suffix:
                    yield Segment(each.suffix, low, top)
            high = segment.low


def suffix_of(day: date) -> str:
    return f"{day:%Y%m%d}"


def bounds(day: date) -> tuple[UUID, UUID]:
    """The least id of a day, and of the next."""
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return floor_id(begin), floor_id(begin + timedelta(days=1))


def _segment(day: date) -> Segment:
    return Segment(suffix_of(day), *bounds(day))
