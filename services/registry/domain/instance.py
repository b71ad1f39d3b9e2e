"""Instances: rows, leases, refusals."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, NotFound, OutOfRange, ResourceExhausted
from services.registry.domain.row import Row

INSTANCES_MAX = 10_000  # Ten times what was measured; a client holds them all in memory.
LEASE = timedelta(seconds=15)  # Absence of a lease: three renewals may be lost on the way.
JUMP_S = 5.0  # What the sweeper may be late, or a clock off, without anybody being given more time.
CHANGES_KEPT = 10_000  # A watcher that was away for longer reads the whole again.


class UnknownInstance(NotFound):
    """There is no instance {instance_id}, or its lease has ended."""


class InstanceIdReused(AlreadyExists):
    """Instance {instance_id} registered with other settings."""


class TooManyInstances(ResourceExhausted):
    """The registry has {max} instances already."""


class TooManyStreams(ResourceExhausted):
    """This process serves {max} streams already."""


class RevisionOutOfRange(OutOfRange):
    """Changes after revision {after} are not known any more, or not yet; begin without a revision."""


class Instance(Row):
    """An instance whose lease has not ended."""

    __tablename__ = "instance"
    instance_id: Mapped[UUID] = mapped_column(primary_key=True)
    service: Mapped[str]
    address: Mapped[str]
    port: Mapped[int]
    version: Mapped[str]
    zone: Mapped[str]
    weight: Mapped[int]
    owner: Mapped[str]
    labels: Mapped[list[str]]  # `key=value`
    protocols: Mapped[list[str]]
    settings: Mapped[bytes]
    health: Mapped[str]
    revision: Mapped[int] = mapped_column(BigInteger)
    lease: Mapped[timedelta]
    registered_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class Change(Row):
    """What watchers are told of one instance."""

    __tablename__ = "instance_change"
    revision: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    service: Mapped[str]
    gone: Mapped[bool]
    body: Mapped[bytes]


@dataclass(frozen=True)
class Beat:
    """A moment by two clocks: the database's, which leases go by, and one that never jumps."""

    at: datetime
    elapsed_s: float


def trusted(last: Beat, now: Beat) -> bool:
    """Whether leases that ended since `last` may count as ended.

    Not if nobody could have renewed them, for the sweeper stood still, as a paused or starting process does;
    nor if the database's clock jumped, either way. Then all begin anew.
    """
    passed_s = now.elapsed_s - last.elapsed_s
    jumped_s = (now.at - last.at).total_seconds() - passed_s
    return passed_s <= JUMP_S and abs(jumped_s) <= JUMP_S
