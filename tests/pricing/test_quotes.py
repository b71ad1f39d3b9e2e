"""A quote: its prices, its taxes, what is kept of it, and whom it is refused."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import grpc.aio
import pytest
from grpc import StatusCode

from services.chassis.clock import FakeClock
from services.chassis.testing import broken_fields, reason
from services.pricing.tidying import Tidying
from tests.pricing.world import World, amounts, asked, shipping, world
from tests.servers import Shared
from weft.catalog.v1 import content_pb2 as content, product_messages_pb2 as catalog
from weft.pricing.v1 import quote_pb2


async def refused(shop: World, *lines: object, **rest: object) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.quote(*lines, **rest)
    return reason(error.value)


async def test_lines_cost_their_list_price_and_bear_their_tax(shop: World) -> None:
    shop.catalog.sell("Q-1", "519.60")
    quote = await shop.quote(("Q-1", 3), country="DE")
    assert amounts(quote) == (155880, 31176, 187056)
    line = quote.lines[0]
    assert (line.unit_price.amount, line.base.amount_minor, line.tax_rate) == ("519.6", 155880, "20")
    assert [(part.kind, part.amount.amount) for part in line.components] == [("list", "519.6")]
    assert quote.subtotal.amount_minor == 155880
    assert [step.kind for step in quote.explanation] == ["price", "tax"]
    assert "3 x 519.6 EUR = 1558.80 EUR: list price of the catalog" in quote.explanation[0].text


async def test_tax_is_rounded_once_for_each_rate_and_lines_sum_to_it(shop: World) -> None:
    for n in range(3):
        shop.catalog.sell(f"THIRD-{n}", "0.33")
    quote = await shop.quote("THIRD-0", "THIRD-1", "THIRD-2")
    assert amounts(quote) == (99, 20, 119)
    assert [line.tax.amount_minor for line in quote.lines] == [7, 7, 6]


async def test_rates_of_several_categories_are_totalled_apart(shop: World) -> None:
    shop.catalog.sell("FULL", "1.00")
    shop.catalog.sell("HALF", "1.00", tax_category=content.TAX_CATEGORY_REDUCED)
    shop.catalog.sell("NONE", "1.00", tax_category=content.TAX_CATEGORY_EXEMPT)
    quote = await shop.quote("FULL", "HALF", "NONE", "FULL")
    found = [(t.tax_category, t.category_code, t.tax_rate, t.net.amount_minor) for t in quote.taxes]
    assert found == [("standard", "S", "20", 200), ("reduced", "S", "10", 100), ("exempt", "E", "0", 100)]
    assert amounts(quote) == (400, 50, 450)


async def test_prices_finer_than_a_minor_unit_are_rounded_once_multiplied(shop: World) -> None:
    shop.catalog.sell("CALL", "0.0004")
    assert (await shop.quote(("CALL", 12))).net_total.amount_minor == 0
    assert (await shop.quote(("CALL", 13))).net_total.amount_minor == 1
    assert (await shop.quote(("CALL", 10_000))).net_total.amount_minor == 400


@pytest.mark.parametrize(("currency", "price", "minor"), [("JPY", "150", 300), ("BHD", "1.234", 2468)])
async def test_currencies_have_their_own_minor_units(
    shop: World, currency: str, price: str, minor: int
) -> None:
    shop.catalog.sell(f"IN-{currency}", price, currency)
    quote = await shop.quote((f"IN-{currency}", 2), currency=currency)
    assert (quote.net_total.amount_minor, quote.net_total.currency) == (minor, currency)


async def test_a_vat_number_reverses_the_charge_and_is_kept_nowhere(shop: World) -> None:
    shop.catalog.sell("B2B", "10")
    quote = await shop.quote("B2B", country="FR", vat_number="FR40303265045")
    assert amounts(quote) == (1000, 0, 1000)
    assert quote.taxes[0].reverse_charge
    kept = await shop.lab.db("pricing").fetchval("select body from quote where quote_id = $1", quote.quote_id)
    assert b"303265045" not in kept


async def test_what_a_country_exempts_says_so(shop: World) -> None:
    shop.catalog.sell("ABROAD", "10")
    quote = await shop.quote("ABROAD", country="NO")
    assert amounts(quote) == (1000, 0, 1000)
    assert (quote.taxes[0].category_code, quote.taxes[0].legal_note) == ("G", "Export")


async def test_a_tax_is_asked_for_once_and_serves_while_billing_is_away(shop: World) -> None:
    shop.catalog.sell("TAXED", "10", tax_category=content.TAX_CATEGORY_SUPER_REDUCED)
    await shop.quote("TAXED", "TAXED", country="PT")
    before = len(shop.billing.asked)
    shop.billing.away = True
    assert amounts(await shop.quote("TAXED", country="PT")) == (1000, 40, 1040)
    assert len(shop.billing.asked) == before
    assert await refused(shop, "TAXED", country="SE") == "AWAY"


async def test_a_kept_quote_is_the_same_later_and_belongs_to_its_customer(shop: World) -> None:
    shop.catalog.sell("KEPT", "10")
    ann, bob = str(uuid4()), str(uuid4())
    quote = await shop.quote("KEPT", customer_id=ann)
    get = quote_pb2.GetQuoteRequest(quote_id=quote.quote_id, customer_id=ann)
    mine = shop.lab.bearer(ann, scope="account")
    assert (await shop.quotes.GetQuote(get, metadata=mine)).quote == quote
    for customer_id, code in ((bob, StatusCode.PERMISSION_DENIED), ("", StatusCode.PERMISSION_DENIED)):
        get.customer_id = customer_id
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await shop.quotes.GetQuote(get, metadata=mine)
        assert error.value.code() == code
    get.customer_id = bob
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.quotes.GetQuote(get, metadata=shop.lab.bearer(bob, scope="account"))
    assert reason(error.value) == "UNKNOWN_QUOTE"


async def test_a_quote_comes_once_for_its_id_however_many_ask(shop: World) -> None:
    shop.catalog.sell("ONCE", "10")
    quote_id = str(uuid4())
    made = await asyncio.gather(*(shop.quote("ONCE", quote_id=quote_id) for _ in range(64)))
    assert len({each.SerializeToString(deterministic=True) for each in made}) == 1
    shop.catalog.sell("ONCE", "11")
    assert await shop.quote("ONCE", quote_id=quote_id) == made[0]
    assert await refused(shop, ("ONCE", 2), quote_id=quote_id) == "QUOTE_ID_REUSED"


async def test_a_transient_quote_leaves_nothing(shop: World) -> None:
    shop.catalog.sell("SHOWN", "10")
    before = await shop.lab.db("pricing").fetchval("select count(*) from quote")
    assert (await shop.quote("SHOWN", transient=True)).quote_id == ""
    assert await shop.lab.db("pricing").fetchval("select count(*) from quote") == before


async def test_only_services_ask_for_quotes_of_anybody(shop: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.quotes.Quote(asked("ANY"), metadata=shop.me)
    assert reason(error.value) == "MESH_ONLY"


async def test_what_cannot_be_priced_is_refused_by_name(shop: World) -> None:
    shop.catalog.sell("EURO", "10")
    shop.catalog.sell("DRAFT", "10", state=catalog.PRODUCT_STATE_DRAFT)
    shop.catalog.sell("GOLD", "999999999.999999")
    assert await refused(shop, "NOWHERE") == "UNKNOWN_SKU"
    assert await refused(shop, "DRAFT") == "NOT_FOR_SALE"
    assert await refused(shop, "EURO", currency="USD") == "NO_PRICE"
    assert await refused(shop, "EURO", currency="XAU") == "UNKNOWN_CURRENCY"
    assert await refused(shop, "EURO", currency="ZZZ") == "UNKNOWN_CURRENCY"
    assert await refused(shop, ("GOLD", 10_000_000)) == "AMOUNT_OUT_OF_RANGE"
    twice = quote_pb2.LineToQuote(line_id="0", sku="EURO", units=1)
    assert await refused(shop, "EURO", twice) == "LINE_ID_REPEATED"


async def test_what_has_no_price_is_named_and_the_rest_is_priced_if_that_is_asked_for(shop: World) -> None:
    shop.catalog.sell("PRICED", "10")
    shop.catalog.sell("UNPRICED", "10", "USD")
    shop.catalog.sell("ARCHIVED", "10", state=catalog.PRODUCT_STATE_ARCHIVED)
    skus = ["UNPRICED", "PRICED", "NO-SUCH", "ARCHIVED"]
    quote = await shop.quote(*skus, without_refused_lines=True)
    assert amounts(quote) == (1000, 200, 1200)
    assert [(each.line_id, each.why) for each in quote.refused_lines] == [
        ("0", "NO_PRICE"),
        ("2", "UNKNOWN_SKU"),
        ("3", "NOT_FOR_SALE"),
    ]
    nothing = await shop.quote("NO-SUCH", without_refused_lines=True, transient=True)
    assert (amounts(nothing), len(nothing.lines)) == ((0, 0, 0), 0)


async def test_totals_beyond_range_are_refused_where_each_line_is_within(shop: World) -> None:
    shop.catalog.sell("DEAR", "999999")
    assert await refused(shop, *[("DEAR", 10_000_000)] * 2) == "AMOUNT_OUT_OF_RANGE"


@pytest.mark.parametrize(
    ("field", "request_of"),
    [
        ("lines", {"lines": []}),
        ("lines[0].units", {"units": 0}),
        ("lines[0].units", {"units": -1}),
        ("lines[0].units", {"units": 10_000_001}),
        ("lines[0].sku", {"sku": "no spaces"}),
        ("lines[0].sku", {"sku": "x" * 65}),
        ("currency", {"currency": "eur"}),
        ("country", {"country": "Germany"}),
        ("customer_id", {"customer_id": "ann"}),
        ("coupon_codes", {"coupon_codes": ["code"] * 11}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_field_that_breaks_its_rule_is_named(
    shop: World, field: str, request_of: dict[str, object]
) -> None:
    request = asked("FINE")
    for name, value in request_of.items():
        if name in ("units", "sku"):
            setattr(request.lines[0], name, value)
        elif name == "lines":
            del request.lines[:]
        elif name == "coupon_codes":
            request.coupon_codes.extend(["code"] * 11)
        else:
            setattr(request, name, value)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.quotes.Quote(request, metadata=shop.shop)
    assert error.value.code() == StatusCode.INVALID_ARGUMENT
    assert field in broken_fields(error.value)


async def test_a_thousand_lines_are_one_quote(shop: World) -> None:
    for n in range(50):
        shop.catalog.sell(f"MANY-{n}", "0.33")
    quote = await shop.quote(*[f"MANY-{n % 50}" for n in range(1000)])
    assert amounts(quote) == (33000, 6600, 39600)
    assert sum(line.tax.amount_minor for line in quote.lines) == 6600


async def test_a_quote_of_another_time_has_the_prices_of_that_time(shop: World) -> None:
    shop.catalog.sell("DATED", "10")
    week = shop.catalog.variants["DATED"].prices.add()
    week.price.amount, week.price.currency = "8", "EUR"
    week.valid_from.FromDatetime(datetime(2025, 3, 1, tzinfo=UTC))
    week.valid_to.FromDatetime(datetime(2025, 3, 8, tzinfo=UTC))
    at = datetime(2025, 3, 1, tzinfo=UTC)
    for day, minor in ((-1, 1000), (0, 800), (6, 800), (7, 1000)):
        quote = await shop.quote("DATED", at=at + timedelta(days=day))
        assert quote.net_total.amount_minor == minor


async def test_carriage_is_a_line_that_order_discounts_leave_alone(shop: World) -> None:
    shop.catalog.sell("THING", "100")
    shop.catalog.sell("PARCEL", "5", shippable=False)
    await shop.promote(percentage={"percent": "10", "level": "LEVEL_ORDER"})
    quote = await shop.quote("THING", shipping("PARCEL"))
    assert [line.net.amount_minor for line in quote.lines] == [9000, 500]


async def test_a_quote_expires_and_is_forgotten_a_day_later(servers: Shared) -> None:
    clock = FakeClock(datetime(2026, 11, 20, tzinfo=UTC))
    async with world(servers, clock, WEFT_PRICING_QUOTE_S="60") as shop:
        shop.catalog.sell("OLD", "10")
        quote = await shop.quote("OLD")
        assert quote.expire_time.ToDatetime(UTC) == clock.now() + timedelta(seconds=60)
        clock.advance(61)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await shop.redeem(quote)
        assert reason(error.value) == "QUOTE_EXPIRED"
        tidying = Tidying(shop.lab.db("pricing"), clock)
        await tidying.round()
        assert await shop.lab.db("pricing").fetchval("select count(*) from quote") == 1
        clock.advance(86_400)
        await tidying.round()
        assert await shop.lab.db("pricing").fetchval("select count(*) from quote") == 0
