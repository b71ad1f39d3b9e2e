"""Dunning: what is done about an invoice that is not paid, and when.

A policy is a row of steps, each so many days from the invoice's date (attempts) or its due date (the rest).
The chase begins when the invoice is finalised and finishes once: paid, void, written off or given up.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Integer
from sqlalchemy.orm import Mapped, mapped_column

from services.billing.domain.profile import Collection, Standing
from services.billing.domain.row import Row
from services.chassis.errors import AlreadyExists, InvalidArgument, NotFound

FIRST_ATTEMPT = timedelta()
GIVE_UP_DAYS = 30
STEPS_MAX = 100  # Of one chase; 20 attempts and 20 reminders are the most that a policy may have.


class UnknownDunningPolicy(NotFound):
    """There is no dunning policy {policy_id}."""


class DunningPolicyIdReused(AlreadyExists):
    """Dunning policy {policy_id} was made with other steps."""


class DunningPolicyRefused(InvalidArgument):
    """The dunning policy breaks a rule: {problem}."""


class StepKind(StrEnum):
    """What a step does."""

    ATTEMPT = "ATTEMPT"  # Charges the customer's method.
    REMIND = "REMIND"  # Writes to the customer.
    OVERDUE = "OVERDUE"  # A day past the due date: from here on it is called overdue.
    BLOCK = "BLOCK"  # Plans cannot be changed.
    SUSPEND = "SUSPEND"  # Services are withheld.
    GIVE_UP = "GIVE_UP"  # The last step.


class Outcome(StrEnum):
    """How a chase finished."""

    PAID = "PAID"
    VOIDED = "VOIDED"
    WRITTEN_OFF = "WRITTEN_OFF"
    GIVEN_UP = "GIVEN_UP"


class ActionState(StrEnum):
    """Where something that is done outside stands."""

    PENDING = "PENDING"  # To be done, or done and not known to be.
    CALLED = "CALLED"  # Handed over; how it ends is heard later.
    DONE = "DONE"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"  # Nothing was due, or another attempt was under way.


STANDING_OF = {
    StepKind.OVERDUE: Standing.OVERDUE,
    StepKind.BLOCK: Standing.BLOCKED,
    StepKind.SUSPEND: Standing.SUSPENDED,
}
SEVERITY = list(Standing)


class DunningPolicy(Row):
    """A policy; versions are rows, so that a chase goes on as it began."""

    __tablename__ = "dunning_policy"
    policy_id: Mapped[UUID] = mapped_column(primary_key=True)
    title: Mapped[str]
    settings: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class Dunning(Row):
    """The chase after one invoice."""

    __tablename__ = "dunning"
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID]
    policy_id: Mapped[UUID | None]  # None: the default one.
    step: Mapped[int] = mapped_column(Integer)  # The next of the policy's steps.
    next_at: Mapped[datetime | None]
    standing: Mapped[str]  # What this invoice makes of its customer's standing.
    attempts: Mapped[int] = mapped_column(Integer)
    restarts: Mapped[int] = mapped_column(Integer)  # How often the invoice was reopened.
    started_at: Mapped[datetime]
    restarted_at: Mapped[datetime | None]  # The last time.
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None]


class DunningAction(Row):
    """Something to be done outside; its id is derived, so that a repeat is the same one."""

    __tablename__ = "dunning_action"
    action_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    kind: Mapped[str]
    number: Mapped[int] = mapped_column(Integer)
    amount: Mapped[int]  # What was due when it was planned, so that a repeat asks for the same.
    state: Mapped[str]
    tries: Mapped[int] = mapped_column(Integer)
    next_at: Mapped[datetime | None]
    detail: Mapped[str]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


@dataclass(frozen=True, slots=True)
class Policy:
    """Offsets in days."""

    attempts: tuple[int, ...] = (0, 3, 5, 7)  # From the invoice's date.
    reminders: tuple[int, ...] = (-3, 1, 7, 14)  # From its due date, as the rest.
    block: int | None = 7
    suspend: int | None = 14
    give_up: int = GIVE_UP_DAYS
    write_off: bool = False  # Whether giving up makes the invoice uncollectible.


DEFAULT = Policy()


@dataclass(frozen=True, slots=True)
class Step:
    """One step, at its time."""

    at: datetime
    kind: StepKind


ORDER = list(StepKind)


def steps(policy: Policy, collection: str, issued_at: datetime, due_at: datetime) -> list[Step]:
    """In the order in which they are taken. Who pays by itself is not charged, and reminded beforehand."""
    made = _each(StepKind.OVERDUE, [1], due_at)  # Whoever pays on the day itself is not late.
    if collection == Collection.AUTOMATIC:
        made += _each(StepKind.ATTEMPT, policy.attempts, issued_at)
    reminders = [d for d in policy.reminders if d > 0 or collection == Collection.SENT]
    made += [step for step in _each(StepKind.REMIND, reminders, due_at) if step.at > issued_at]
    made += _each(StepKind.BLOCK, [] if policy.block is None else [policy.block], due_at)
    made += _each(StepKind.SUSPEND, [] if policy.suspend is None else [policy.suspend], due_at)
    made += _each(StepKind.GIVE_UP, [policy.give_up], due_at)
    return sorted(made, key=lambda step: (step.at, ORDER.index(step.kind)))


def begun_again(policy: Policy, at: datetime) -> list[Step]:
    """The chase after an invoice that was reopened `at`: it is due at once.

    Nobody is charged by themselves who had their bank take a payment back: schemes forbid it.
    """
    return steps(policy, Collection.SENT, at, at)


def _each(kind: StepKind, days: Iterable[int], since: datetime) -> list[Step]:
    return [Step(since + timedelta(days=day), kind) for day in days]


def check(policy: Policy) -> None:
    """Raises DunningPolicyRefused."""
    late = [*policy.attempts, *policy.reminders, policy.block or 0, policy.suspend or 0]
    if any(day > policy.give_up for day in late):
        raise DunningPolicyRefused(problem="giving up is the last step", field="give_up_days")
    if policy.block is not None and policy.suspend is not None and policy.suspend < policy.block:
        raise DunningPolicyRefused(problem="changes are blocked before services are", field="suspend_days")
    if len(set(policy.attempts)) != len(policy.attempts):
        raise DunningPolicyRefused(problem="a day has one attempt", field="attempt_days")


def worst(standings: Sequence[str]) -> Standing:
    """What a customer's invoices make of its standing."""
    return max((Standing(each) for each in standings), key=SEVERITY.index, default=Standing.GOOD)


def policy_of(settings: str | None) -> Policy:
    """From what is kept of it, as JSON; None: the default one."""
    return policy_from(msgspec.json.decode(settings)) if settings else DEFAULT


def policy_from(settings: dict[str, Any]) -> Policy:
    return Policy(
        attempts=tuple(settings["attempts"]),
        reminders=tuple(settings["reminders"]),
        block=settings["block"],
        suspend=settings["suspend"],
        give_up=settings["give_up"],
        write_off=settings["write_off"],
    )
