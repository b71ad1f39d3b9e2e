"""Messages of the wire as the domain knows them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from services.chassis.conditions import broken_rule
from services.chassis.money import MixedCurrencies, Money, exponent, money_from_pb, not_negative
from services.pricing.domain.effect import (
    HUNDRED,
    BuyXGetY,
    Effect,
    FixedAmount,
    FreeShipping,
    Level,
    Percentage,
    Step,
    Tiered,
)
from services.pricing.domain.item import CatalogPrice, Item
from services.pricing.domain.price_list import PriceList, PriceListRow, Tiers
from services.pricing.domain.promotion import (
    SAMPLE,
    ConditionRefused,
    Limits,
    Promotion,
    PromotionRefused,
    Stacking,
    Target,
)
from services.pricing.domain.validity import Validity
from weft.catalog.v1 import content_pb2, product_messages_pb2
from weft.money.v1.money_pb2 import Money as MoneyMessage
from weft.pricing.v1 import price_list_pb2, promotion_settings_pb2 as pb

LEVELS = {pb.LEVEL_UNIT: Level.UNIT, pb.LEVEL_ORDER: Level.ORDER}
STACKINGS = {pb.STACKING_ALONE_ON_LINE: Stacking.ALONE_ON_LINE, pb.STACKING_EXCLUSIVE: Stacking.EXCLUSIVE}
NAMES = frozenset({"order", "lines"})  # What a condition may ask for.
CATEGORY = "TAX_CATEGORY_"


def moment(message: Any, field: str) -> datetime | None:
    """A timestamp, or None where it is absent."""
    return getattr(message, field).ToDatetime(UTC) if message.HasField(field) else None


def validity(message: Any) -> Validity:
    return Validity(moment(message, "valid_from"), moment(message, "valid_to"))


def customer(text: str) -> UUID | None:
    return UUID(text) if text else None


def promotion(promotion_id: UUID, settings: pb.PromotionSettings) -> Promotion:
    """Raises MixedCurrencies, NegativeAmount, PromotionRefused, UnknownCurrency."""
    kind = settings.WhichOneof("effect") or ""
    second = settings.buy_x_get_y.HasField("get")
    return Promotion(
        promotion_id=promotion_id,
        name=settings.name,
        effect=_EFFECTS[kind](getattr(settings, kind), settings.currency),
        priority=settings.priority,
        stacking=STACKINGS.get(settings.stacking, Stacking.STACKS),
        group=settings.group,
        validity=validity(settings),
        currency=settings.currency,
        segments=frozenset(settings.segments),
        countries=frozenset(settings.countries),
        coupon_needed=settings.coupon_needed,
        condition=settings.condition,
        target=_target(settings.target),
        others=_target(settings.buy_x_get_y.get) if second else None,
        limits=limits(settings),
    )


def checked(promotion_id: UUID, settings: pb.PromotionSettings) -> Promotion:
    """As `promotion`, for settings that somebody wrote. Raises ConditionRefused, ValidityRefused as well."""
    if settings.currency:
        exponent(settings.currency)
    made = promotion(promotion_id, settings)
    made.check()
    if made.condition and (rule := broken_rule(made.condition, NAMES, SAMPLE)):
        raise ConditionRefused(rule=rule, field="settings.condition")
    return made


def limits(settings: pb.PromotionSettings) -> Limits:
    given = settings.limits
    budget = _amount(given, "budget", settings.currency, "settings.limits.budget")
    return Limits(
        uses_max=given.uses_max or None,
        uses_per_customer_max=given.uses_per_customer_max or None,
        uses_per_coupon_max=given.uses_per_coupon_max or None,
        budget_minor=budget,
    )


def _target(given: pb.Target) -> Target:
    return Target(
        skus=frozenset(given.skus),
        category_ids=frozenset(given.category_ids),
        excluded_skus=frozenset(given.excluded_skus),
        excluded_category_ids=frozenset(given.excluded_category_ids),
    )


def _amount(message: Any, name: str, currency: str, field: str) -> int | None:
    """Minor units of the promotion's currency; None where the amount is absent."""
    return _minor(getattr(message, name), currency, field) if message.HasField(name) else None


def _minor(given: MoneyMessage, currency: str, field: str) -> int:
    """Raises NegativeAmount, MixedCurrencies, PromotionRefused."""
    money = not_negative(money_from_pb(given), field)
    if not currency:
        raise PromotionRefused(problem="amounts need the promotion's currency", field="settings.currency")
    if money.currency != currency:
        raise MixedCurrencies(first=currency, second=money.currency)
    return money.minor


def _percentage(given: pb.Percentage, currency: str) -> Effect:
    most = _amount(given, "amount_max", currency, "settings.percentage.amount_max")
    return Percentage(Decimal(given.percent), LEVELS.get(given.level, Level.LINE), most)


def _fixed(given: pb.FixedAmount, currency: str) -> Effect:
    amount = _minor(given.amount, currency, "settings.fixed_amount.amount")
    if not amount:
        raise PromotionRefused(problem="an amount is above 0", field="settings.fixed_amount.amount")
    return FixedAmount(amount, LEVELS.get(given.level, Level.LINE))


def _buy_x_get_y(given: pb.BuyXGetY, currency: str) -> Effect:
    percent = Decimal(given.percent) if given.percent else HUNDRED
    second = given.HasField("get")
    return BuyXGetY(given.buy_units, given.get_units, percent, second, given.times_max or None)


def _tiered(given: pb.Tiered, currency: str) -> Effect:
    return Tiered(tuple(_step(each, currency) for each in given.tiers))


def _step(given: pb.DiscountTier, currency: str) -> Step:
    field = "settings.tiered.tiers"
    return Step(
        from_units=given.units if given.WhichOneof("from") == "units" else None,
        from_amount=_amount(given, "amount", currency, field),
        percent=Decimal(given.percent) if given.WhichOneof("off") == "percent" else None,
        amount=_amount(given, "fixed", currency, field) or 0,
    )


def _free_shipping(given: pb.FreeShipping, currency: str) -> Effect:
    return FreeShipping(_amount(given, "amount_max", currency, "settings.free_shipping.amount_max"))


_EFFECTS: dict[str, Any] = {
    "percentage": _percentage,
    "fixed_amount": _fixed,
    "buy_x_get_y": _buy_x_get_y,
    "tiered": _tiered,
    "free_shipping": _free_shipping,
}


def price_list(row: PriceListRow | Any) -> PriceList:
    """From a mapped row or a record."""
    get = (lambda name: getattr(row, name)) if isinstance(row, PriceListRow) else row.__getitem__
    return PriceList(
        price_list_id=get("price_list_id"),
        name=get("name"),
        currency=get("currency"),
        segments=frozenset(get("segments")),
        countries=frozenset(get("countries")),
        validity=Validity(get("valid_from"), get("valid_to")),
        priority=get("priority"),
        tax_included=get("tax_included"),
    )


def tiers(prices: Sequence[price_list_pb2.ListedPrice]) -> dict[str, Tiers]:
    """By sku, the last one of each. Raises TiersRefused."""
    made: dict[str, Tiers] = {}
    for price in prices:
        low = tuple(tier.min_units for tier in price.tiers)
        made[price.sku] = Tiers(low, tuple(Decimal(tier.unit_price) for tier in price.tiers))
        made[price.sku].check(price.sku)
    return made


def item(variant: product_messages_pb2.Variant) -> Item:
    return Item(
        sku=variant.sku,
        product_id=variant.product_id,
        title=variant.title,
        tax_category=content_pb2.TaxCategory.Name(variant.tax_category).removeprefix(CATEGORY).lower(),
        category_ids=frozenset(variant.category_ids),
        for_sale=variant.state == product_messages_pb2.PRODUCT_STATE_ACTIVE,
        shippable=variant.shippable,
        prices=tuple(
            CatalogPrice(each.price.currency, Decimal(each.price.amount), validity(each))
            for each in variant.prices
        ),
    )


def money(minor: int, currency: str) -> MoneyMessage:
    """An amount of ours, checked for range."""
    return MoneyMessage(amount_minor=Money(minor, currency).minor, currency=currency)
