"""Billing runs: everything that is due by a moment is invoiced."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.billing.domain.row import Row
from services.chassis.errors import AlreadyExists, InvalidArgument, NotFound


class UnknownRun(NotFound):
    """There is no billing run {run_id}."""


class RunIdReused(AlreadyExists):
    """Billing run {run_id} is up to another time."""


class RunRefused(InvalidArgument):
    """The run breaks a rule: {problem}."""


class RunState(StrEnum):
    """Where a run stands."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"


class BillingRun(Row):
    """A run."""

    __tablename__ = "billing_run"
    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    as_of: Mapped[datetime]
    state: Mapped[str]
    invoices: Mapped[int]
    subscriptions: Mapped[int]
    failures: Mapped[int]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
