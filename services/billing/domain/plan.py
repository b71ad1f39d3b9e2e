"""Plans and their versions: what a subscription pays for, and how often."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Integer
from sqlalchemy.orm import Mapped, mapped_column

from services.billing.domain.charge import (
    NOTHING,
    Aggregation,
    Basis,
    Charge,
    Model,
    Tier,
    recurring_cost,
    rounded,
)
from services.billing.domain.cycle import A_YEAR, Cycle, Proration, Unit, anniversary, calendar, on_day
from services.billing.domain.row import Row
from services.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound

# How many of a unit an interval has at most: about ten years, by which time a plan has changed.
COUNT_MAX = {Unit.DAY: 3650, Unit.WEEK: 520, Unit.MONTH: 120, Unit.QUARTER: 40, Unit.YEAR: 10}
KEPT_MAX = 1_000  # Quantities of which a plan remembers what they cost.
K = TypeVar("K")


class UnknownPlan(NotFound):
    """There is no plan {plan_id}."""


class UnknownPlanVersion(NotFound):
    """Plan {plan_id} has no version {version}."""


class PlanIdReused(AlreadyExists):
    """Plan {plan_id} was made with other terms."""


class PlanCodeTaken(AlreadyExists):
    """Another plan has the code `{code}`."""


class PlanRefused(InvalidArgument):
    """The plan breaks a rule: {problem}."""


class PlanHasEnded(FailedPrecondition):
    """Plan {plan_id} is archived and takes no new subscriptions."""


class Alignment(StrEnum):
    """Where periods begin."""

    ANNIVERSARY = "ANNIVERSARY"  # Where the subscription did.
    CALENDAR = "CALENDAR"  # With the week, month, quarter or year.


class UpgradeCredit(StrEnum):
    """What a change in the middle of a period gives back of what was billed in advance."""

    UNUSED = "UNUSED"  # The part that was not used.
    BILLED = "BILLED"  # All of it: the new plan's part takes the place of the old one's whole.


class Plan(Row):
    """A plan: a name for a row of versions."""

    __tablename__ = "plan"
    plan_id: Mapped[UUID] = mapped_column(primary_key=True)
    code: Mapped[str]
    title: Mapped[str]
    currency: Mapped[str]
    version: Mapped[int] = mapped_column(Integer)  # The newest.
    archived_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class PlanVersion(Row):
    """What a version says; it never changes."""

    __tablename__ = "plan_version"
    plan_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    terms: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a version of a plan says."""

    currency: str
    unit: Unit
    count: int = 1
    alignment: Alignment = Alignment.ANNIVERSARY
    proration: Proration = Proration.SECOND
    upgrade_credit: UpgradeCredit = UpgradeCredit.UNUSED
    trial_days: int = 0
    minimum: Decimal = NOTHING  # Of a whole period, over all charges.
    minimum_category: str = "STANDARD"
    charges: tuple[Charge, ...] = ()

    def cycle(self, start: datetime, tz: ZoneInfo, day: int | None) -> Cycle:
        """Periods of a subscription that begins to pay at `start`; `day` as the customer chose it."""
        if self.alignment is Alignment.CALENDAR:
            return calendar(self.unit, self.count, start, tz)
        if day:
            return on_day(day, self.unit, self.count, start, tz)
        return anniversary(self.unit, self.count, start, tz, self.proration)

    def trial_end(self, start: datetime, tz: ZoneInfo, days: int | None = None) -> datetime | None:
        """None: there is no trial. By days, a trial ends at a midnight."""
        length = self.trial_days if days is None else days
        if not length:
            return None
        local = start.astimezone(tz)
        if self.proration is Proration.DAY:
            local = local.replace(hour=0, minute=0, second=0, microsecond=0)
        return anniversary(Unit.DAY, length, local, tz, self.proration).boundary(1)

    def a_year(self, quantity: int) -> Fraction:
        """Recurring charges of a year, exact, in major units."""
        whole = sum((recurring_cost(c, quantity) for c in self.charges if c.recurring), Fraction(0))
        return whole * A_YEAR[self.unit] / self.count

    def monthly(self, quantity: int) -> int:
        """Recurring charges of a month, in minor units."""
        if quantity not in self._monthly:
            _bounded(self._monthly)[quantity] = rounded(self.a_year(quantity) / 12, self.currency)
        return self._monthly[quantity]

    def whole(self, charge: Charge, quantity: int) -> int:
        """What a recurring charge of a whole period comes to, in minor units."""
        key = (charge.code, quantity)
        if key not in self._whole:
            _bounded(self._whole)[key] = rounded(recurring_cost(charge, quantity), self.currency)
        return self._whole[key]

    # Terms live as long as the process, and most subscriptions of a plan cost the same.
    @cached_property
    def _monthly(self) -> dict[int, int]:
        return {}

    @cached_property
    def _whole(self) -> dict[tuple[str, int], int]:
        return {}


def _bounded(kept: dict[K, int]) -> dict[K, int]:
    """Emptied when it is full."""
    if len(kept) >= KEPT_MAX:
        kept.clear()
    return kept


def is_upgrade(old: Terms, old_quantity: int, new: Terms, new_quantity: int) -> bool:
    """Whether it costs more by the year."""
    return new.a_year(new_quantity) > old.a_year(old_quantity)


def check(terms: Terms) -> None:
    """Raises PlanRefused."""
    for problem in problems(terms):
        raise PlanRefused(problem=problem, field="terms")


def problems(terms: Terms) -> Iterator[str]:
    """Rules that a field alone does not show."""
    if not 1 <= terms.count <= COUNT_MAX[terms.unit]:
        yield f"an interval has 1 to {COUNT_MAX[terms.unit]} of {terms.unit}"
    if terms.alignment is Alignment.CALENDAR and not _fits_calendar(terms):
        yield "calendar periods are a day, a week, or months that divide a year"
    codes = [charge.code for charge in terms.charges]
    if len(set(codes)) != len(codes):
        yield "two charges have the same code"
    for charge in terms.charges:
        yield from (f"charge {charge.code}: {problem}" for problem in charge_problems(charge))


def _fits_calendar(terms: Terms) -> bool:
    months = {Unit.MONTH: 1, Unit.QUARTER: 3, Unit.YEAR: 12}.get(terms.unit, 0) * terms.count
    return terms.count == 1 if not months else 12 % months == 0 or months == 12 * terms.count


def charge_problems(charge: Charge) -> Iterator[str]:
    metered, percentage = charge.basis is Basis.USAGE, charge.model is Model.PERCENTAGE
    of_percentages = charge.rate or charge.fixed or charge.free_events or charge.free_amount
    broken = {
        "usage is known at the end of a period, not in advance": metered and charge.in_advance,
        "usage has a meter, and nothing else has": metered != bool(charge.meter),
        "what is flat has one price": charge.basis is Basis.FLAT and charge.model is not Model.STANDARD,
        "a percentage is taken of the sum of a meter": percentage
        and (not metered or charge.aggregation is not Aggregation.SUM),
        "rate, fixed, free_events and free_amount are for percentages": of_percentages and not percentage,
        "a minimum is for what is charged at the end of a period": charge.minimum and charge.in_advance,
        "a package has units": charge.model is Model.PACKAGE and charge.package_units <= 0,
    }
    yield from (problem for problem, holds in broken.items() if holds)
    yield from _tier_problems(charge)


def _tier_problems(charge: Charge) -> Iterator[str]:
    tiered = charge.model in (Model.GRADUATED, Model.VOLUME)
    if tiered != bool(charge.tiers):
        yield "tiers are for graduated and volume prices, and needed there"
        return
    bounds = [tier.up_to for tier in charge.tiers]
    if tiered and bounds[-1] is not None:
        yield "the last tier has no upper bound"
    inner = [bound for bound in bounds[:-1] if bound is not None]
    if len(inner) != len(bounds[:-1]):
        yield "only the last tier has no upper bound"
    elif any(low >= high for low, high in zip([NOTHING, *inner], inner, strict=False)):
        yield "each tier ends above the one before it"


def to_json(terms: Terms) -> dict[str, Any]:
    """As a row keeps it: decimals are texts."""

    def kept(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: str(value) if isinstance(value, Decimal) else value for name, value in pairs}

    return asdict(terms, dict_factory=kept)


def from_json(kept: Mapping[str, Any]) -> Terms:
    return Terms(
        currency=kept["currency"],
        unit=Unit(kept["unit"]),
        count=kept["count"],
        alignment=Alignment(kept["alignment"]),
        proration=Proration(kept["proration"]),
        upgrade_credit=UpgradeCredit(kept["upgrade_credit"]),
        trial_days=kept["trial_days"],
        minimum=Decimal(kept["minimum"]),
        minimum_category=kept["minimum_category"],
        charges=tuple(_charge(each) for each in kept["charges"]),
    )


def _charge(kept: Mapping[str, Any]) -> Charge:
    exact = ("unit_price", "package_units", "free_units", "rate", "fixed", "free_amount", "minimum")
    made = dict(kept) | {name: Decimal(kept[name]) for name in exact}
    made |= {"basis": Basis(kept["basis"]), "model": Model(kept["model"])}
    made["aggregation"] = Aggregation(kept["aggregation"])
    made["tiers"] = tuple(
        Tier(
            None if tier["up_to"] is None else Decimal(tier["up_to"]),
            Decimal(tier["unit_price"]),
            Decimal(tier["flat"]),
        )
        for tier in kept["tiers"]
    )
    return Charge(**made)
