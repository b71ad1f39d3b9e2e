"""Rules of discounts and taxes that hold for whatever lines and promotions: sums, bounds, order."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from hypothesis import given, settings, strategies as st

from services.chassis.money import round_half_up
from services.pricing.domain.discounting import Outcome, discount
from services.pricing.domain.effect import (
    BuyXGetY,
    Effect,
    FixedAmount,
    FreeShipping,
    Level,
    Percentage,
    Step,
    Tiered,
)
from services.pricing.domain.item import Item
from services.pricing.domain.line import Line
from services.pricing.domain.price_list import Component, Price, Situation, Tiers
from services.pricing.domain.promotion import Candidate, Promotion, Stacking, Target
from services.pricing.domain.taxing import Tax, taxed, totals

WHO = Situation(currency="EUR", country="DE", segments=frozenset(), at=datetime(2026, 11, 20, tzinfo=UTC))
RATES = ("0", "5.5", "19", "20", "21")
percents = st.decimals("0.0001", "100", places=4)
amounts = st.integers(0, 10**9)


@st.composite
def line(draw: st.DrawFn, n: int) -> Line:
    base, units = draw(amounts), draw(st.integers(1, 1000))
    included = draw(st.booleans())
    return Line(
        line_id=str(n),
        item=_item(draw(st.sampled_from("ABC"))),
        units=units,
        shipping=draw(st.booleans()) and n > 3,
        price=Price(
            components=(Component(kind="list", source="", amount=Decimal(1)),), tax_included=included, why=""
        ),
        base=base,
        left=base,
    )


def _item(sku: str) -> Item:
    return Item(
        sku=sku,
        product_id=sku,
        title=sku,
        tax_category="standard",
        category_ids=frozenset({f"of {sku}"}),
        for_sale=True,
        shippable=True,
        prices=(),
    )


lines = st.integers(1, 8).flatmap(lambda count: st.tuples(*(line(n) for n in range(count))))
steps = st.lists(st.integers(1, 10**6), min_size=1, max_size=4, unique=True).map(sorted)
effects: st.SearchStrategy[Effect] = st.one_of(
    st.builds(Percentage, percents, st.sampled_from([Level.LINE, Level.ORDER]), st.none() | amounts),
    st.builds(FixedAmount, st.integers(1, 10**9), st.sampled_from(Level)),
    st.builds(
        BuyXGetY,
        st.integers(1, 50),
        st.integers(1, 50),
        percents,
        st.just(False),
        st.none() | st.integers(1, 9),
    ),
    steps.flatmap(
        lambda found: percents.map(lambda p: Tiered(tuple(Step(from_amount=a, percent=p) for a in found)))
    ),
    st.builds(FreeShipping, st.none() | amounts),
)


@st.composite
def promotion(draw: st.DrawFn, n: int) -> Promotion:
    return Promotion(
        promotion_id=UUID(int=n),
        name=f"promotion {n}",
        effect=draw(effects),
        priority=draw(st.integers(-2, 2)),
        stacking=draw(st.sampled_from(Stacking)),
        group=draw(st.sampled_from(["", "", "g"])),
        target=draw(
            st.sampled_from([Target(), Target(skus=frozenset("A")), Target(excluded_skus=frozenset("B"))])
        ),
    )


promotions = st.integers(0, 6).flatmap(lambda count: st.tuples(*(promotion(n) for n in range(count))))


def copied(lines: Sequence[Line]) -> list[Line]:
    names = ("line_id", "item", "units", "shipping", "price", "base")
    return [Line(**{name: getattr(each, name) for name in names}, left=each.base) for each in lines]


def run(lines: Sequence[Line], promotions: Sequence[Promotion]) -> tuple[list[Line], Outcome]:
    made = copied(lines)
    return made, discount(made, [Candidate(promotion=each) for each in promotions], WHO)


@given(lines=lines, promotions=promotions)
@settings(max_examples=200, deadline=None)
def test_nothing_is_taken_that_is_not_there_and_each_minor_unit_once(
    lines: tuple[Line, ...], promotions: tuple[Promotion, ...]
) -> None:
    made, outcome = run(lines, promotions)
    for each in made:
        assert 0 <= each.left == each.base - sum(taken.amount for taken in each.discounts)
        assert all(taken.amount > 0 for taken in each.discounts)
    assert sum(applied.amount for applied in outcome.applied) == sum(x.base - x.left for x in made)
    told = {x.promotion.promotion_id for x in outcome.applied} | {
        x.promotion.promotion_id for x in outcome.skipped
    }
    assert told == {each.promotion_id for each in promotions}


@given(lines=lines, promotions=promotions, random=st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_in_which_promotions_were_made_decides_nothing(
    lines: tuple[Line, ...], promotions: tuple[Promotion, ...], random: object
) -> None:
    shuffled = list(promotions)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert run(lines, promotions)[0] == run(lines, shuffled)[0]


@given(lines=lines, promotions=promotions)
@settings(max_examples=100, deadline=None)
def test_an_exclusive_promotion_is_alone_and_a_group_applies_once(
    lines: tuple[Line, ...], promotions: tuple[Promotion, ...]
) -> None:
    _, outcome = run(lines, promotions)
    applied = [each.promotion for each in outcome.applied]
    if any(each.stacking is Stacking.EXCLUSIVE for each in applied):
        assert len(applied) == 1
    assert sum(each.group == "g" for each in applied) <= 1


@given(lines=lines, rates=st.lists(st.sampled_from(RATES), min_size=8, max_size=8))
@settings(max_examples=200, deadline=None)
def test_lines_sum_to_the_tax_that_is_rounded_once_for_each_rate(
    lines: tuple[Line, ...], rates: list[str]
) -> None:
    taxes = {
        each.line_id: Tax(tax_category="standard", rate=Decimal(rate), code="S")
        for each, rate in zip(lines, rates, strict=False)
    }
    made = taxed(lines, taxes)
    for each, result in zip(lines, made, strict=True):
        assert (result.gross if each.price.tax_included else result.net) == each.left
        assert min(result.net, result.amount) >= 0
    for total in totals(made):
        of_it = [(each, x) for each, x in zip(lines, made, strict=True) if x.tax == total.tax]
        assert total.amount == sum(x.amount for _, x in of_it)
        rate = Fraction(total.tax.rate)
        net = sum(each.left for each, _ in of_it if not each.price.tax_included)
        gross = sum(each.left for each, _ in of_it if each.price.tax_included)
        assert total.amount == round_half_up(net * rate / 100) + round_half_up(gross * rate / (100 + rate))


@given(
    low=st.lists(st.integers(1, 1000), min_size=1, max_size=6, unique=True).map(sorted),
    units=st.integers(1, 1100),
)
def test_the_last_tier_that_is_reached_has_the_price(low: list[int], units: int) -> None:
    tiers = Tiers(tuple(low), tuple(Decimal(each) for each in low))
    reached = [each for each in low if each <= units]
    assert tiers.price(units) == (Decimal(max(reached)) if reached else None)


@given(percent=percents, lines=lines)
@settings(max_examples=100, deadline=None)
def test_a_share_of_the_order_is_rounded_once_however_many_lines(
    percent: Decimal, lines: tuple[Line, ...]
) -> None:
    items = [each for each in lines if not each.shipping]
    whole = Promotion(promotion_id=UUID(int=1), name="", effect=Percentage(percent, Level.ORDER))
    made, _ = run(lines, [whole])
    taken = sum(each.base - each.left for each in made)
    assert taken == round_half_up(sum(each.base for each in items) * Fraction(percent) / 100)
