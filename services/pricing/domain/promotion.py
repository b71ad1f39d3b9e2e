"""Promotions: what one is, and why it does not apply."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from uuid import UUID

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from services.pricing.domain.effect import BuyXGetY, Effect, FreeShipping, Level, Percentage, Tiered
from services.pricing.domain.line import Line
from services.pricing.domain.price_list import Situation
from services.pricing.domain.row import Row
from services.pricing.domain.validity import Validity

ACTIVE_MAX = 1_000  # Promotions of a quote: each is looked at, about 2 us.


class UnknownPromotion(NotFound):
    """There is no promotion {promotion_id}."""


class PromotionIdReused(AlreadyExists):
    """Promotion {promotion_id} was made with other settings."""


class PromotionRefused(InvalidArgument):
    """The promotion breaks a rule: {problem}."""


class ConditionRefused(InvalidArgument):
    """The condition is refused by the rule `{rule}` (names, functions, syntax, size, bool)."""


class PromotionArchived(FailedPrecondition):
    """Promotion {promotion_id} is archived, for ever."""


class PromotionNotActive(FailedPrecondition):
    """Promotion {promotion_id} is {state}, so it cannot be paused."""


class TooManyPromotions(FailedPrecondition):
    """There are {max} active promotions already."""


class State(Enum):
    DRAFT = "DRAFT"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    ARCHIVED = "ARCHIVED"


class PromotionRow(Row):
    """A promotion."""

    __tablename__ = "promotion"
    promotion_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    state: Mapped[str]
    priority: Mapped[int]
    coupon_needed: Mapped[bool]
    currency: Mapped[str]
    valid_from: Mapped[datetime | None]
    valid_to: Mapped[datetime | None]
    settings: Mapped[bytes]
    uses_max: Mapped[int | None] = mapped_column(BigInteger)
    uses_per_customer_max: Mapped[int | None] = mapped_column(BigInteger)
    uses_per_coupon_max: Mapped[int | None] = mapped_column(BigInteger)
    budget_minor: Mapped[int | None] = mapped_column(BigInteger)
    uses: Mapped[int] = mapped_column(BigInteger)
    spent_minor: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    def move(self, state: State) -> bool:
        """False: it stands there already. Raises PromotionArchived, PromotionNotActive."""
        now = State(self.state)
        if now is state:
            return False
        if now is State.ARCHIVED:
            raise PromotionArchived(promotion_id=self.promotion_id)
        if state is State.PAUSED and now is not State.ACTIVE:
            raise PromotionNotActive(promotion_id=self.promotion_id, state=self.state)
        self.state = state.value
        return True


class Stacking(Enum):
    """What a promotion tolerates beside itself."""

    STACKS = "stacks"
    ALONE_ON_LINE = "alone on line"
    EXCLUSIVE = "exclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Lines by what they are."""

    skus: frozenset[str] = frozenset()
    category_ids: frozenset[str] = frozenset()
    excluded_skus: frozenset[str] = frozenset()
    excluded_category_ids: frozenset[str] = frozenset()

    def means(self, line: Line) -> bool:
        item = line.item
        if item.sku in self.excluded_skus or not self.excluded_category_ids.isdisjoint(item.category_ids):
            return False
        if not self.skus and not self.category_ids:
            return True
        return item.sku in self.skus or not self.category_ids.isdisjoint(item.category_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How often; None is without bound."""

    uses_max: int | None = None
    uses_per_customer_max: int | None = None
    uses_per_coupon_max: int | None = None
    budget_minor: int | None = None

    @property
    def any(self) -> bool:
        bounds = (self.uses_max, self.uses_per_customer_max, self.uses_per_coupon_max, self.budget_minor)
        return any(bound is not None for bound in bounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What is taken off, of what, for whom, when, and how often."""

    promotion_id: UUID
    name: str
    effect: Effect
    priority: int = 0
    stacking: Stacking = Stacking.STACKS
    group: str = ""
    validity: Validity = field(default_factory=Validity)
    currency: str = ""
    segments: frozenset[str] = frozenset()
    countries: frozenset[str] = frozenset()
    coupon_needed: bool = False
    condition: str = ""
    target: Target = field(default_factory=Target)
    others: Target | None = None  # The second target of BuyXGetY.
    limits: Limits = field(default_factory=Limits)

    @property
    def phase(self) -> int:
        """Lines first, then the order, then shipping."""
        if isinstance(self.effect, FreeShipping):
            return 2
        level = getattr(self.effect, "level", Level.LINE)
        return int(isinstance(self.effect, Tiered) or level is Level.ORDER)

    @property
    def rank(self) -> tuple[int, str]:
        return -self.priority, str(self.promotion_id)

    def why_not(self, who: Situation) -> str:
        """The reason in a word, as the contract names them; empty: it may apply."""
        if not self.validity.begun(who.at):
            return "not_yet_valid"
        if self.validity.over(who.at):
            return "expired"
        if self.currency and self.currency != who.currency:
            return "currency"
        if self.countries and who.country not in self.countries:
            return "country"
        if self.segments and self.segments.isdisjoint(who.segments):
            return "segment"
        if self.limits.uses_per_customer_max is not None and who.customer_id is None:
            return "customer_needed"
        return ""

    def check(self) -> None:
        """Raises PromotionRefused, ValidityRefused."""
        self.validity.check("settings.valid_to")
        effect = self.effect
        if isinstance(effect, Percentage) and effect.level is Level.UNIT:
            _refuse("a percentage is of a line or of the order", "settings.percentage.level")
        if isinstance(effect, Percentage | BuyXGetY) and not effect.percent:
            _refuse("a percentage is above 0", "settings.percentage.percent")
        if isinstance(effect, Tiered):
            _check_tiers(effect)
        if isinstance(effect, FreeShipping) and self.target != Target():
            _refuse("shipping has no items to aim at", "settings.target")
        if self.limits.uses_per_coupon_max is not None and not self.coupon_needed:
            _refuse("uses of a coupon are counted where one is needed", "settings.limits.uses_per_coupon_max")


def _check_tiers(effect: Tiered) -> None:
    """Raises PromotionRefused."""
    steps = effect.steps
    if len({step.from_units is None for step in steps}) > 1:
        _refuse("steps are all reached by units or all by amount", "settings.tiered.tiers")
    reached = [step.from_amount if step.from_units is None else step.from_units for step in steps]
    if any((low or 0) >= (high or 0) for low, high in itertools.pairwise(reached)):
        _refuse("steps rise", "settings.tiered.tiers")
    if any(step.percent is not None and not step.percent for step in steps):
        _refuse("a percentage is above 0", "settings.tiered.tiers.percent")


def _refuse(problem: str, field: str) -> None:
    raise PromotionRefused(problem=problem, field=field)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A promotion that wants to take part, with what is known of its uses."""

    promotion: Promotion
    code: str = ""  # The coupon that was entered for it.
    refused: str = ""  # Why its uses or its coupon forbid it.
    budget_left: int | None = None
    forced: bool = False  # In a preview: whatever its dates and limits.


def facts(lines: Sequence[Line], who: Situation) -> Mapping[str, object]:
    """What conditions may ask for: of items, before discounts."""
    items = [line for line in lines if not line.shipping]
    return {
        "order": {
            "subtotal_minor": sum(line.base for line in items),
            "units": sum(line.units for line in items),
            "currency": who.currency,
            "country": who.country,
            "skus": sorted({line.item.sku for line in items}),
            "category_ids": sorted({each for line in items for each in line.item.category_ids}),
            "segments": sorted(who.segments),
            "guest": who.customer_id is None,
        },
        "lines": [
            {
                "sku": line.item.sku,
                "units": line.units,
                "amount_minor": line.base,
                "category_ids": sorted(line.item.category_ids),
            }
            for line in items
        ],
    }


SAMPLE: Mapping[str, object] = {  # By which the type of a condition is told.
    "order": {
        "subtotal_minor": 5000,
        "units": 3,
        "currency": "EUR",
        "country": "DE",
        "skus": ["A-1"],
        "category_ids": ["c"],
        "segments": ["vip"],
        "guest": False,
    },
    "lines": [{"sku": "A-1", "units": 3, "amount_minor": 5000, "category_ids": ["c"]}],
}
