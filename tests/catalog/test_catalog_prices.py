"""List prices in time: which holds when, for one variant and for the cheapest of several."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, strategies as st

from services.catalog.domain.prices import EVER, NEVER, Price, price_at, steps, timeline
from tests.catalog.shop import Shop, list_price, new_sku, refused, variant
from weft.catalog.v1.content_pb2 import ListPrice
from weft.catalog.v1.product_messages_pb2 import RemovePriceRequest

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = [EVER, *(BEGIN + timedelta(days=n) for n in range(6)), NEVER]


@st.composite
def prices(draw: st.DrawFn) -> Price:
    first, last = sorted(draw(st.lists(st.integers(0, 7), min_size=2, max_size=2, unique=True)))
    return Price(Decimal(draw(st.integers(0, 4))), MOMENTS[first], MOMENTS[last])


def distinct(found: list[Price]) -> list[Price]:
    """One for each beginning, as the catalog keeps them."""
    return list({price.begin: price for price in found}.values())


variants = st.lists(st.lists(prices(), max_size=5).map(distinct), max_size=4)


@given(variants, st.sampled_from(MOMENTS[:-1]))
def test_the_spans_say_at_each_moment_what_the_cheapest_variant_costs(
    found: list[list[Price]], at: datetime
) -> None:
    holding = [price.amount for each in found if (price := price_at(each, at))]
    spans = [span.amount for span in steps(found) if span.holds(at)]
    assert spans == ([min(holding)] if holding else [])


@given(variants)
def test_spans_follow_each_other_and_differ_where_they_touch(found: list[list[Price]]) -> None:
    made = steps(found)
    for one, two in pairwise(made):
        assert one.end <= two.begin
        assert one.end < two.begin or one.amount != two.amount
    assert all(span.begin < span.end for span in made)


def test_a_price_of_a_week_covers_the_one_without_end() -> None:
    base, week = Price(Decimal(10)), Price(Decimal(7), MOMENTS[2], MOMENTS[4])
    assert timeline([base, week]) == [
        Price(Decimal(10), EVER, MOMENTS[2]),
        week,
        Price(Decimal(10), MOMENTS[4], NEVER),
    ]


def stamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made


async def test_prices_stand_side_by_side_by_currency_and_beginning(shop: Shop) -> None:
    sku, later = new_sku(), BEGIN + timedelta(days=2)
    await shop.on_sale(variant(sku, list_price("10")))
    await shop.set_price(sku, list_price("8", valid_from=BEGIN, valid_to=later))
    await shop.set_price(sku, list_price("9.995", "USD"))
    await shop.set_price(sku, list_price("11"))
    (read,) = await shop.variants(sku)
    assert list(read.prices) == [
        list_price("11"),
        list_price("8", valid_from=BEGIN, valid_to=later),
        list_price("9.995", "USD"),
    ]
    request = RemovePriceRequest(sku=sku, currency="EUR", valid_from=stamp(BEGIN))
    await shop.products.RemovePrice(request, metadata=shop.staff)
    async with refused("UNKNOWN_PRICE"):
        await shop.products.RemovePrice(request, metadata=shop.staff)
    (read,) = await shop.variants(sku)
    assert [each.price.amount for each in read.prices] == ["11", "9.995"]


@pytest.mark.parametrize(
    ("price", "why"),
    [
        (list_price("-1"), "PRICE_REFUSED"),
        (list_price("1", "XAU"), "UNKNOWN_CURRENCY"),
        (list_price("1", "ZZZ"), "UNKNOWN_CURRENCY"),
        (list_price("1", "eur"), "MALFORMED"),
        (list_price("1.0000001"), "MALFORMED"),
        (list_price("1e3"), "MALFORMED"),
        (list_price("1,5"), "MALFORMED"),
        (list_price("NaN"), "MALFORMED"),
        (list_price("1000000000"), "MALFORMED"),
        (list_price(""), "MALFORMED"),
        (ListPrice(), "MALFORMED"),
        (list_price("1", valid_from=BEGIN, valid_to=BEGIN), "PRICE_REFUSED"),
        (list_price("1", valid_from=Timestamp(seconds=1 << 40)), "PRICE_REFUSED"),
        (list_price("1", valid_to=Timestamp(seconds=-(1 << 40))), "PRICE_REFUSED"),
    ],
    ids=[
        *("negative", "gold", "nobody's", "small letters", "decimals", "exponent", "comma", "no number"),
        *("too much", "empty", "none", "no time", "far", "long ago"),
    ],
)
async def test_a_bad_price_is_refused_by_name_and_changes_nothing(
    shop: Shop, price: ListPrice, why: str
) -> None:
    sku = new_sku()
    made = await shop.create(variant(sku, list_price("5")))
    async with refused(why):
        await shop.set_price(sku, price)
    assert await shop.get(made.product_id) == made


async def test_a_price_of_what_is_not_there_is_refused(shop: Shop) -> None:
    async with refused("UNKNOWN_VARIANT"):
        await shop.set_price("no-such", list_price("5"))


async def test_a_price_is_set_upon_the_version_that_was_read(shop: Shop) -> None:
    sku = new_sku()
    made = await shop.create(variant(sku))
    await shop.set_price(sku, list_price("5"), expected=made.version)
    async with refused("VERSION_CONFLICT"):
        await shop.set_price(sku, list_price("6"), expected=made.version)


async def test_a_variant_has_a_bounded_number_of_prices(shop: Shop) -> None:
    dated = [list_price("1", valid_from=BEGIN + timedelta(days=n)) for n in range(100)]
    sku = new_sku()
    await shop.create(variant(sku, *dated))
    await shop.set_price(sku, list_price("2", valid_from=BEGIN))
    async with refused("TOO_MANY_PRICES"):
        await shop.set_price(sku, list_price("2"))
