"""A queue: its row, what may change of it, and its refusals."""

from datetime import datetime
from enum import IntEnum
from typing import Any, ClassVar

from sqlalchemy import BigInteger, DateTime, Integer, SmallInteger, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.chassis.errors import AlreadyExists, FailedPrecondition, NotFound

QUEUES_MAX = 500  # Each has a few consumers in JetStream, and every worker and enqueuer knows them all.
LANES, LANES_MAX = 16, 256  # More lanes than workers share the load; each is a consumer in JetStream.
DEFAULT = "default"


class Kind(IntEnum):
    """weft.queue.v1.QueueKind."""

    REAL_TIME = 1
    BATCH = 2
    FIFO = 3


class Openness(IntEnum):
    """weft.queue.v1.QueueState."""

    ACTIVE = 1
    PAUSED = 2
    DRAINING = 3


class UnknownQueue(NotFound):
    """There is no queue {queue}."""


class QueueExists(AlreadyExists):
    """The name {queue} is taken by a queue of another kind or with other settings."""


class TooManyQueues(FailedPrecondition):
    """There are {max} queues already."""


class LanesFixed(FailedPrecondition):
    """Queue {queue} has open jobs: neither its lanes nor whether it is keyed can change."""


class QueueNotEmpty(FailedPrecondition):
    """Queue {queue} has open jobs."""


class QueueNeeded(FailedPrecondition):
    """Queue {queue} is needed: it is the default, or a routing rule names it."""


class QueueDraining(FailedPrecondition):
    """Queue {queue} is draining: it takes no jobs in."""


class Row(DeclarativeBase):
    """A row of this service's database."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text,
        int: BigInteger,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
    }


class Queue(Row):
    """A queue as it stands."""

    __tablename__ = "queue"
    queue: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[int] = mapped_column(SmallInteger)
    settings: Mapped[dict[str, Any]]  # weft.queue.v1.QueueSettings as JSON, with nothing absent.
    state: Mapped[int] = mapped_column(SmallInteger)
    note: Mapped[str]
    keyed: Mapped[bool]
    lanes: Mapped[int] = mapped_column(Integer)  # 0: it is not keyed.
    revision: Mapped[int] = mapped_column(Integer)  # Rises with each change.
    purged_sequence: Mapped[int] = mapped_column(default=0)  # Up to there jobs may have been purged.
    create_time: Mapped[datetime]
    update_time: Mapped[datetime]

    def refuse_other(self, kind: int, settings: dict[str, Any]) -> None:
        """Raises QueueExists unless kind and settings are as here."""
        if (self.kind, self.settings) != (kind, settings):
            raise QueueExists(queue=self.queue)

    def turn(self, state: Openness, note: str, now: datetime) -> bool:
        """Pauses, drains or resumes it. Returns whether that is a change."""
        if (self.state, self.note) == (state, note):
            return False
        self.state, self.note = state, note
        self.revision, self.update_time = self.revision + 1, now
        return True

    def change(self, settings: dict[str, Any], lanes: int, now: datetime, *, empty: bool) -> bool:
        """Takes settings over. Returns whether they are others. Raises LanesFixed."""
        if lanes != self.lanes and not empty:
            raise LanesFixed(queue=self.queue)
        if settings == self.settings:
            return False
        self.settings, self.lanes, self.keyed = settings, lanes, bool(lanes)
        self.revision, self.update_time = self.revision + 1, now
        return True


def lanes_of(kind: int, per_key: int, lanes: int) -> int:
    """Lanes of a queue with such settings; 0 unless it is keyed."""
    return (lanes or LANES) if kind == Kind.FIFO or per_key else 0
