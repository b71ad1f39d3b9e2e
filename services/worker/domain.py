"""A pool: its row, what may change of it, and its refusals."""

from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum
from typing import Any, ClassVar

from sqlalchemy import DateTime, Integer, SmallInteger, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.chassis.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted

POOLS_MAX = 200  # Each is looked at every few seconds, and has processes of its own.


class State(IntEnum):
    """weft.worker.v1.PoolState."""

    ACTIVE = 1
    DRAINING = 2


class UnknownPool(NotFound):
    """There is no pool {pool}."""


class PoolExists(AlreadyExists):
    """The name {pool} is taken by a pool with other settings."""


class TooManyPools(ResourceExhausted):
    """There are {max} pools already."""


class BoundsRefused(InvalidArgument):
    """The number of workers is refused: {rule}."""


class ModuleRefused(InvalidArgument):
    """No pool may name the module {module}: WEFT_WORKER_MODULES does not cover it."""


class NothingToRun(InvalidArgument):
    """A pool has at least one queue and one module."""


def check_modules(modules: Sequence[str], allowed: Sequence[str]) -> None:
    """Raises ModuleRefused: what a pool names is imported, so not everything may be."""
    if not modules:
        raise NothingToRun(field="settings.modules")
    for module in modules:
        if not any(module == each or module.startswith(f"{each}.") for each in allowed):
            raise ModuleRefused(module=module, field="settings.modules")


def check_bounds(least: int, most: int) -> None:
    """Raises BoundsRefused."""
    if least > most:
        rule = f"workers_min ({least}) is above workers_max ({most})"
        raise BoundsRefused(rule=rule, field="settings.scaling")


class Row(DeclarativeBase):
    """A row of this service's database."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text,
        int: Integer,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
    }


class Pool(Row):
    """A pool as it stands."""

    __tablename__ = "pool"
    pool: Mapped[str] = mapped_column(primary_key=True)
    settings: Mapped[dict[str, Any]]  # weft.worker.v1.PoolSettings as JSON, with nothing absent.
    state: Mapped[int] = mapped_column(SmallInteger)
    workers_wanted: Mapped[int]
    resize_time: Mapped[datetime]  # When that number changed last.
    revision: Mapped[int]  # Rises with each change.
    create_time: Mapped[datetime]
    update_time: Mapped[datetime]

    def change(self, settings: dict[str, Any], now: datetime) -> None:
        self.settings = settings
        self._touch(now)

    def turn(self, state: State, now: datetime) -> bool:
        """Drains or resumes it. Returns whether that is a change."""
        if self.state == state:
            return False
        self.state = state
        self._touch(now)
        return True

    def resize(self, workers: int, now: datetime) -> bool:
        """Wants so many workers from now on. Returns whether that is a change."""
        if self.workers_wanted == workers:
            return False
        self.workers_wanted, self.resize_time = workers, now
        self._touch(now)
        return True

    def _touch(self, now: datetime) -> None:
        self.revision, self.update_time = self.revision + 1, now
