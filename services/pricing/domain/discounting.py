"""Which promotions apply to lines, in which order, and what each takes off."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from uuid import UUID

from services.chassis.conditions import Known, holds, known
from services.pricing.domain.effect import BuyXGetY, FreeShipping
from services.pricing.domain.line import Line, Taken
from services.pricing.domain.price_list import Situation
from services.pricing.domain.promotion import Candidate, Promotion, Stacking, facts


@dataclass(frozen=True, slots=True)
class Applied:
    """A promotion, and all that it took off."""

    promotion: Promotion
    code: str
    amount: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A promotion that took part and took nothing."""

    promotion: Promotion
    code: str
    why: str


@dataclass(slots=True)
class Outcome:
    applied: list[Applied] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def discount(lines: Sequence[Line], candidates: Sequence[Candidate], who: Situation) -> Outcome:
    """Takes off `lines` what the promotions give."""
    return _Discounting(lines, candidates, who).run()


class _Discounting:
    """One quote's promotions: who may, who goes alone, then each in its turn."""

    def __init__(self, lines: Sequence[Line], candidates: Sequence[Candidate], who: Situation) -> None:
        self._lines, self._who, self._out = lines, who, Outcome()
        self._waiting = sorted(candidates, key=lambda each: each.promotion.rank)
        self._groups: set[str] = set()

    def run(self) -> Outcome:
        able = [each for each in self._waiting if not self._skipped(each, self._why_not(each))]
        for each in self._unrivalled(able):
            self._apply(each)
        return self._out

    @cached_property
    def _facts(self) -> Known:
        return known(facts(self._lines, self._who))

    def _why_not(self, each: Candidate) -> str:
        promotion = each.promotion
        if not each.forced and (why := each.refused or promotion.why_not(self._who)):
            return why
        if promotion.condition and not holds(promotion.condition, self._facts):
            return "condition"
        return ""

    def _skipped(self, each: Candidate, why: str) -> bool:
        if why:
            self._out.skipped.append(Skipped(each.promotion, each.code, why))
        return bool(why)

    def _unrivalled(self, able: list[Candidate]) -> list[Candidate]:
        """An exclusive promotion alone if it goes before all others that take anything, else the others."""
        if any(each.promotion.stacking is Stacking.EXCLUSIVE for each in able):
            first = next((each for each in able if sum(self._off(each)[1])), None)
            alone = first is not None and first.promotion.stacking is Stacking.EXCLUSIVE
            wanted: Callable[[Candidate], bool] = (
                (lambda each: each is first)
                if alone
                else (lambda each: each.promotion.stacking is not Stacking.EXCLUSIVE)
            )
            able = [each for each in able if wanted(each) or not self._skipped(each, "excluded")]
        return sorted(able, key=lambda each: each.promotion.phase)

    def _apply(self, each: Candidate) -> None:
        promotion = each.promotion
        if promotion.group and promotion.group in self._groups:
            self._skipped(each, "excluded")
            return
        meant, amounts = self._off(each)
        total = sum(amounts)
        if not total:
            self._skipped(each, "excluded" if self._kept_from(promotion) else "nothing_to_discount")
            return
        if each.budget_left is not None and total > each.budget_left and not each.forced:
            self._skipped(each, "exhausted")
            return
        for line, amount in zip(meant, amounts, strict=True):
            if amount:
                line.take(Taken(promotion.promotion_id, each.code, promotion.name, amount))
                line.closed = line.closed or promotion.stacking is Stacking.ALONE_ON_LINE
        self._groups |= {promotion.group} if promotion.group else set()
        self._out.applied.append(Applied(promotion, each.code, total))

    def _off(self, each: Candidate) -> tuple[list[Line], list[int]]:
        """Lines that the promotion takes from or counts, and what it takes off each."""
        promotion = each.promotion
        lines = [line for line in self._open(promotion) if promotion.target.means(line)]
        others: list[Line] = []
        if isinstance(promotion.effect, BuyXGetY) and promotion.others is not None:
            meant = {line.line_id for line in lines}
            others = [
                line
                for line in self._open(promotion)
                if promotion.others.means(line) and line.line_id not in meant
            ]
        if not lines:
            return [], []
        return lines + others, promotion.effect.off(lines, others)

    def _open(self, promotion: Promotion) -> list[Line]:
        shipping = isinstance(promotion.effect, FreeShipping)
        alone = promotion.stacking is Stacking.ALONE_ON_LINE
        return [
            line
            for line in self._lines
            if line.shipping is shipping and not line.closed and not (alone and line.discounts)
        ]

    def _kept_from(self, promotion: Promotion) -> bool:
        """Whether it took nothing because other promotions were there before."""
        return any(line.discounts for line in self._lines if promotion.target.means(line))


def by_promotion(outcome: Outcome) -> dict[UUID, Applied]:
    return {each.promotion.promotion_id: each for each in outcome.applied}
