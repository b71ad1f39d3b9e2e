"""Puts a quote together: items, prices, promotions, taxes, and the account of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.errors import FailedPrecondition, NotFound
from services.chassis.money import exponent
from services.pricing import reading
from services.pricing.domain.coupon import normal
from services.pricing.domain.discounting import Outcome, discount
from services.pricing.domain.item import Item, NoPrice, NotForSale, UnknownSku, sold
from services.pricing.domain.line import Line, LineIdRepeated, priced
from services.pricing.domain.price_list import Price, Situation, choose
from services.pricing.domain.promotion import Candidate, Promotion, UnknownPromotion
from services.pricing.domain.quote import CouponRefused
from services.pricing.domain.taxing import Taxed, taxed
from services.pricing.mirror import Mirror
from services.pricing.rulebook import Rulebook, Rules
from services.pricing.store import coupon as coupons, price_list as price_lists, promotion as promotions
from services.pricing.taxes import Taxes
from weft.pricing.v1 import quote_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a preview changes: promotions that take part in any case, perhaps alone."""

    promotion_ids: Sequence[UUID] = ()
    alone: bool = False


@dataclass(slots=True)
class Reckoned:
    """All there is to say of a quote."""

    who: Situation
    lines: list[Line]
    taxed: list[Taxed]
    outcome: Outcome
    refused: Mapping[str, str] = field(default_factory=dict)  # Why, by code.
    unpriced: Mapping[str, str] = field(default_factory=dict)  # Why, by line id.


class Quoter:
    """Reckons. Keeps nothing."""

    def __init__(
        self, db: Database, clock: Clock, rulebook: Rulebook, mirror: Mirror, taxes: Taxes, country: str
    ) -> None:
        self._db, self._clock, self._rulebook = db, clock, rulebook
        self._mirror, self._taxes, self._country = mirror, taxes, country

    async def reckon(self, request: pb.QuoteRequest, trial: Trial | None = None) -> Reckoned:
        """Raises what Quote refuses with."""
        exponent(request.currency)
        _each_once(request.lines)
        at = reading.moment(request, "at") or self._clock.now()
        customer_id = reading.customer(request.customer_id)
        rules, segments = await self._rulebook.read(customer_id, at)
        who = Situation(
            currency=request.currency,
            country=request.country or self._country,
            segments=frozenset([*segments, *request.segments]),
            at=at,
            customer_id=customer_id,
        )
        lines, missing = await self._priced(request.lines, rules, who)
        if missing and not request.without_refused_lines:
            raise next(iter(missing.values()))
        candidates, refused = await self._candidates(request, rules, who, trial or Trial())
        outcome = discount(lines, candidates, who)
        refused |= {each.code: each.why for each in outcome.skipped if each.code}
        if refused and not request.without_refused_coupons:
            code, why = next(iter(refused.items()))
            raise CouponRefused(code=code, why=why)
        taxes = await self._taxes.of(lines, who.country, at, request.vat_number)
        unpriced = {x.line_id: missing[x.sku].reason() for x in request.lines if x.sku in missing}
        return Reckoned(who, lines, taxed(lines, taxes), outcome, refused, unpriced)

    async def _priced(
        self, wanted: Sequence[pb.LineToQuote], rules: Rules, who: Situation
    ) -> tuple[list[Line], dict[str, FailedPrecondition | NotFound]]:
        """Lines with their prices, and why a sku has none. Raises AmountOutOfRange."""
        units: dict[str, int] = {}
        for line in wanted:
            units[line.sku] = units.get(line.sku, 0) + line.units
        items = await self._mirror.items(list(units))
        lists = [each for each in rules.lists if each.holds(who)]
        ids = [each.price_list_id for each in lists]
        listed = await price_lists.listed(self._db, ids, list(units)) if lists else {}
        prices: dict[str, Price] = {}
        refused: dict[str, FailedPrecondition | NotFound] = {}
        for sku, n in units.items():
            try:
                prices[sku] = choose(sold(items.get(sku), sku), n, lists, listed, who)
            except (UnknownSku, NotForSale, NoPrice) as error:
                refused[sku] = error
        there = [line for line in wanted if line.sku in prices]
        return [_line(line, items[line.sku], prices[line.sku], who.currency) for line in there], refused

    async def _candidates(
        self, request: pb.QuoteRequest, rules: Rules, who: Situation, trial: Trial
    ) -> tuple[list[Candidate], dict[str, str]]:
        """Promotions that want to take part, and coupons that lead to none."""
        entered, refused = await self._entered(request.coupon_codes, rules, who.at)
        forced = await self._forced(trial)
        rest = {} if trial.alone else rules.promotions
        wanted = [
            each
            for each in rest.values()
            if each.promotion_id not in forced and (not each.coupon_needed or each.promotion_id in entered)
        ]
        limited = [each.promotion_id for each in wanted if each.limits.any]
        used = await promotions.used(self._db, limited, who.customer_id) if limited else {}
        made = [
            _candidate(each, entered.get(each.promotion_id), used.get(each.promotion_id)) for each in wanted
        ]
        made += [Candidate(promotion=each, forced=True) for each in forced.values()]
        return made, refused

    async def _forced(self, trial: Trial) -> Mapping[UUID, Promotion]:
        """Raises UnknownPromotion."""
        if not trial.promotion_ids:
            return {}
        found = await self._rulebook.some(trial.promotion_ids)
        for promotion_id in trial.promotion_ids:
            if promotion_id not in found:
                raise UnknownPromotion(promotion_id=promotion_id)
        return found

    async def _entered(
        self, codes: Sequence[str], rules: Rules, at: datetime
    ) -> tuple[dict[UUID, Any], dict[str, str]]:
        """Coupons by promotion, one of each; and why the others are refused, by code."""
        wanted = list(dict.fromkeys(map(normal, codes)))
        rows = await coupons.find(self._db, wanted) if wanted else {}
        entered: dict[UUID, Any] = {}
        refused: dict[str, str] = {}
        for code in wanted:
            why = _why_not(rows.get(code), rules, at)
            if not why and rows[code]["promotion_id"] in entered:
                why = "excluded"
            if why:
                refused[code] = why
            else:
                entered[rows[code]["promotion_id"]] = rows[code]
        return entered, refused


def _each_once(lines: Sequence[pb.LineToQuote]) -> None:
    """Raises LineIdRepeated."""
    seen: set[str] = set()
    for line in lines:
        if line.line_id in seen:
            raise LineIdRepeated(line_id=line.line_id, field="lines.line_id")
        seen.add(line.line_id)


def _line(wanted: pb.LineToQuote, item: Item, price: Price, currency: str) -> Line:
    shipping = wanted.kind == pb.LINE_KIND_SHIPPING
    return priced(wanted.line_id, item, wanted.units, shipping, price, currency)


def _why_not(coupon: Any, rules: Rules, at: datetime) -> str:
    if coupon is None:
        return "unknown"
    if coupon["revoked"] or coupon["promotion_id"] not in rules.promotions:
        return "not_active"
    if coupon["valid_to"] is not None and coupon["valid_to"] <= at:
        return "expired"
    return ""


def _candidate(promotion: Promotion, coupon: Any, used: Any) -> Candidate:
    """With what is left of its uses; what counts is what is left when it is redeemed."""
    limits, why, left = promotion.limits, "", None
    if used is not None:
        if limits.uses_max is not None and used["uses"] >= limits.uses_max:
            why = "exhausted"
        elif (
            limits.uses_per_customer_max is not None and used["customer_uses"] >= limits.uses_per_customer_max
        ):
            why = "customer_limit"
        left = None if limits.budget_minor is None else limits.budget_minor - used["spent_minor"]
    if coupon is not None:
        most = coupon["uses_max"] if coupon["uses_max"] is not None else limits.uses_per_coupon_max
        if most is not None and coupon["uses"] >= most:
            why = why or "exhausted"
    code = coupon["code"] if coupon is not None else ""
    return Candidate(promotion=promotion, code=code, refused=why, budget_left=left)
