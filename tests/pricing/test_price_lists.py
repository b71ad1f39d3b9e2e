"""Price lists: whose price it is, for whom, when, how many, and with or without tax."""

from datetime import UTC, datetime
from uuid import uuid4

import grpc.aio
import pytest

from services.chassis.testing import broken_fields, reason
from tests.pricing.world import World, amounts
from weft.pricing.v1 import price_list_pb2 as pb


async def net(shop: World, *lines: object, **rest: object) -> int:
    return (await shop.quote(*lines, **rest)).net_total.amount_minor


async def test_a_list_goes_before_the_catalog_and_the_higher_before_the_lower(shop: World) -> None:
    shop.catalog.sell("P-1", "10")
    await shop.price_list({"P-1": "9"}, priority=1)
    assert await net(shop, "P-1") == 900
    await shop.price_list({"P-1": "8.5"}, priority=2)
    assert await net(shop, "P-1") == 850
    await shop.price_list({"P-2": "1"}, priority=3)
    assert await net(shop, "P-1") == 850


async def test_among_equals_the_list_that_asks_for_more_decides(shop: World) -> None:
    shop.catalog.sell("P-3", "10")
    ann = str(uuid4())
    await shop.join(ann, "vip")
    await shop.price_list({"P-3": "9"})
    await shop.price_list({"P-3": "7"}, segments=["vip"])
    await shop.price_list({"P-3": "6"}, segments=["vip"], countries=["FR"])
    assert await net(shop, "P-3") == 900
    assert await net(shop, "P-3", customer_id=ann) == 700
    assert await net(shop, "P-3", customer_id=ann, country="FR") == 600
    assert await net(shop, "P-3", segments=["vip"], country="FR") == 600


async def test_a_quantity_decides_and_lines_of_one_sku_count_together(shop: World) -> None:
    shop.catalog.sell("P-4", "10")
    await shop.price_list({"P-4": {10: "9", 100: "8"}})
    assert await net(shop, ("P-4", 9)) == 9000
    assert await net(shop, ("P-4", 10)) == 9000
    assert await net(shop, ("P-4", 99)) == 89100
    assert await net(shop, ("P-4", 100)) == 80000
    quote = await shop.quote(("P-4", 40), ("P-4", 60))
    assert [line.net.amount_minor for line in quote.lines] == [32000, 48000]


async def test_a_list_holds_within_its_dates_and_for_its_currency(shop: World) -> None:
    shop.catalog.sell("P-5", "10")
    await shop.price_list({"P-5": "5"}, validFrom="2030-01-01T00:00:00Z", validTo="2030-02-01T00:00:00Z")
    await shop.price_list({"P-5": "6"}, currency="USD")
    assert await net(shop, "P-5", at=datetime(2029, 12, 31, 23, 59, 59, tzinfo=UTC)) == 1000
    assert await net(shop, "P-5", at=datetime(2030, 1, 1, tzinfo=UTC)) == 500
    assert await net(shop, "P-5", at=datetime(2030, 2, 1, tzinfo=UTC)) == 1000
    assert await net(shop, "P-5", currency="USD") == 600


async def test_prices_with_the_tax_in_them_are_what_is_paid(shop: World) -> None:
    shop.catalog.sell("P-6", "1")
    await shop.price_list({"P-6": "9.99"}, taxIncluded=True)
    quote = await shop.quote(("P-6", 3))
    assert amounts(quote) == (2497, 500, 2997)
    assert quote.lines[0].tax_included
    assert quote.subtotal.amount_minor == 2997
    await shop.promote(percentage={"percent": "10", "level": "LEVEL_ORDER"})
    assert amounts(await shop.quote(("P-6", 3))) == (2247, 450, 2697), "20/120 of it is 449.5: half up"


async def test_net_and_gross_prices_meet_in_one_quote(shop: World) -> None:
    shop.catalog.sell("P-NET", "10")
    shop.catalog.sell("P-GROSS", "1")
    await shop.price_list({"P-GROSS": "12"}, taxIncluded=True)
    quote = await shop.quote("P-NET", "P-GROSS")
    assert [(line.net.amount_minor, line.gross.amount_minor) for line in quote.lines] == [(1000, 1200)] * 2
    assert amounts(quote) == (2000, 400, 2400)


async def test_prices_are_set_removed_and_listed(shop: World) -> None:
    made = await shop.price_list({f"L-{n:02}": "1.50" for n in range(30)})
    remove = pb.RemovePricesRequest(price_list_id=made.price_list_id, skus=["L-00", "L-01", "NOT-THERE"])
    await shop.lists.RemovePrices(remove, metadata=shop.me)
    found: list[str] = []
    token = ""
    while True:
        request = pb.ListPricesRequest(price_list_id=made.price_list_id, page_size=10, page_token=token)
        page = await shop.lists.ListPrices(request, metadata=shop.me)
        found += [price.sku for price in page.prices]
        token = page.next_page_token
        if not token:
            break
    assert found == [f"L-{n:02}" for n in range(2, 30)]
    assert page.prices[0].tiers[0].unit_price == "1.5"


async def test_a_list_is_changed_by_whom_read_it_last(shop: World) -> None:
    made = await shop.price_list({"E-1": "1"})
    update = pb.UpdatePriceListRequest(
        price_list_id=made.price_list_id, settings=made.settings, etag=made.etag
    )
    update.settings.name = "renamed"
    changed = (await shop.lists.UpdatePriceList(update, metadata=shop.me)).price_list
    assert changed.settings.name == "renamed"
    assert changed.etag != made.etag
    update.settings.name = "renamed again"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.lists.UpdatePriceList(update, metadata=shop.me)
    assert reason(error.value) == "ETAG_MISMATCH"
    update.etag, update.settings.currency = "", "USD"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.lists.UpdatePriceList(update, metadata=shop.me)
    assert reason(error.value) == "CURRENCY_FIXED"


async def test_making_a_list_again_answers_it_and_another_body_is_refused(shop: World) -> None:
    made = await shop.price_list({"I-1": "1"}, segments=["b", "a"])
    request = pb.CreatePriceListRequest(price_list_id=made.price_list_id, settings=made.settings)
    assert (await shop.lists.CreatePriceList(request, metadata=shop.me)).price_list == made
    request.settings.priority = 5
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.lists.CreatePriceList(request, metadata=shop.me)
    assert reason(error.value) == "PRICE_LIST_ID_REUSED"
    listed = await shop.lists.ListPriceLists(
        pb.ListPriceListsRequest(filter='currency = EUR AND name:"lis*"'), metadata=shop.me
    )
    assert made.price_list_id in [each.price_list_id for each in listed.price_lists]


async def test_a_deleted_list_is_gone_from_quotes_at_once(shop: World) -> None:
    shop.catalog.sell("P-7", "10")
    made = await shop.price_list({"P-7": "1"})
    assert await net(shop, "P-7") == 100
    shop._lists.remove(made.price_list_id)
    delete = pb.DeletePriceListRequest(price_list_id=made.price_list_id)
    await shop.lists.DeletePriceList(delete, metadata=shop.me)
    assert await net(shop, "P-7") == 1000
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.lists.DeletePriceList(delete, metadata=shop.me)
    assert reason(error.value) == "UNKNOWN_PRICE_LIST"


@pytest.mark.parametrize(
    ("price", "field"),
    [
        ("-1", "prices[0].tiers[0].unit_price"),
        ("1.0000001", "prices[0].tiers[0].unit_price"),
        ("1e3", "prices[0].tiers[0].unit_price"),
        ("1000000000", "prices[0].tiers[0].unit_price"),
        ("", "prices[0].tiers[0].unit_price"),
    ],
    ids=["negative", "too many decimals", "exponent", "too large", "empty"],
)
async def test_a_price_that_is_none_is_refused_by_its_field(shop: World, price: str, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.price_list({"BAD": price})
    assert field in broken_fields(error.value)


async def test_tiers_rise(shop: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.price_list({"BAD": {10: "1", 5: "2"}})
    assert reason(error.value) == "TIERS_REFUSED"


async def test_a_list_that_ends_before_it_begins_is_refused(shop: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.price_list({}, validFrom="2030-01-02T00:00:00Z", validTo="2030-01-01T00:00:00Z")
    assert reason(error.value) == "VALIDITY_REFUSED"
