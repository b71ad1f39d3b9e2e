"""Search: words, spelling, facets, categories, prices now, stock; pages that meet."""

import asyncio
import json
import secrets
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.chassis.testing import Lab, until
from tests.catalog.shop import Shop, list_price, new_sku, refused, variant
from weft.catalog.v1.content_pb2 import Attribute
from weft.catalog.v1.definition_pb2 import AttributeDefinition
from weft.catalog.v1.product_messages_pb2 import ArchiveProductRequest, RemoveVariantRequest
from weft.catalog.v1.search_pb2 import FacetFilter, PriceRange, SearchProductsRequest, SearchProductsResponse
from weft.inventory.v1.events_pb2 import StockUpdated
from weft.money.v1.money_pb2 import UnitPrice


def rare_word() -> str:
    """Letters that no other test has, each once."""
    return "".join(secrets.SystemRandom().sample("bcdfghjklmnpqrstvwxz", 12))


async def search(shop: Shop, text: str = "", **request: Any) -> SearchProductsResponse:
    return await shop.products.SearchProducts(SearchProductsRequest(text=text, **request))


def titles(found: SearchProductsResponse) -> list[str]:
    return [each.product.content.title for each in found.products]


async def test_words_are_found_without_case_accents_and_endings(shop: Shop) -> None:
    word = rare_word()
    await shop.on_sale(title=f"\u00c1gua {word} de Rosas")
    for text in (word, word.upper(), f"agua {word}", f"{word[:8]} ROS", f"rosas, agua {word}!"):
        assert titles(await search(shop, text)) == [f"\u00c1gua {word} de Rosas"]
    assert titles(await search(shop, f"{word} nelken")) == []


async def test_the_title_counts_more_than_the_description(shop: Shop) -> None:
    word = rare_word()
    await shop.on_sale(title="Plain", description=f"As good as {word}, and some more")
    await shop.on_sale(title=f"The {word} itself")
    assert titles(await search(shop, word)) == [f"The {word} itself", "Plain"]


async def test_a_misspelled_word_finds_what_it_meant(shop: Shop) -> None:
    word = rare_word()
    made = await shop.on_sale(title=f"One {word} thing")
    wrong = word[:4] + word[5] + word[4] + word[6:]
    found = await search(shop, wrong)
    assert [each.product.product_id for each in found.products] == [made.product_id]
    assert [(each.word, each.read_as[0]) for each in found.corrections] == [(wrong, word)]
    right = await search(shop, word)
    assert not right.corrections


async def test_a_sku_is_found_whole_and_by_its_parts(shop: Shop) -> None:
    part = secrets.token_hex(8)
    await shop.on_sale(variant(f"XY-{part}/9"), title="Bolt")
    for text in (f"xy-{part}/9", part, f"XY{part}9"):
        assert titles(await search(shop, text)) == ["Bolt"]


async def test_drafts_and_archived_products_are_not_found(shop: Shop) -> None:
    word = rare_word()
    await shop.create(variant(), title=f"{word} draft")
    made = await shop.on_sale(title=f"{word} sold")
    assert titles(await search(shop, word)) == [f"{word} sold"]
    await shop.products.ArchiveProduct(ArchiveProductRequest(product_id=made.product_id), metadata=shop.staff)
    assert (await search(shop, word)).total == 0


async def test_a_category_holds_what_is_in_it_and_below_it(shop: Shop) -> None:
    top = await shop.category("Clothes")
    middle = await shop.category("Socks", top.category_id)
    leaf = await shop.category("Wool", middle.category_id)
    other = await shop.category("Wool")
    await shop.on_sale(title="Deep", category_ids=[leaf.category_id])
    await shop.on_sale(title="High", category_ids=[top.category_id])
    await shop.on_sale(title="Elsewhere", category_ids=[other.category_id])

    async def within(category: Any) -> list[str]:
        return sorted(titles(await search(shop, category_id=category.category_id)))

    assert await within(top) == ["Deep", "High"]
    assert await within(middle) == ["Deep"]
    await shop.move(middle.category_id, other.category_id)
    assert await within(top) == ["High"]
    assert await within(other) == ["Deep", "Elsewhere"]
    async with refused("UNKNOWN_CATEGORY"):
        await search(shop, category_id="00000000-0000-4000-8000-000000000000")


async def coloured(shop: Shop, word: str) -> None:
    """Three products of a type with a colour and a size: red 1, red 2, blue 2."""
    definition = AttributeDefinition
    made = await shop.product_type(
        definition(key="colour", kind=definition.KIND_CHOICE, choices=["red", "blue"]),
        definition(key="size", kind=definition.KIND_NUMBER, unit="cm"),
    )
    for colour, size in (("red", "1"), ("red", "2.50"), ("blue", "2.5")):
        attributes = [Attribute(key="colour", choice=colour), Attribute(key="size", number={"amount": size})]
        title = f"{word} {colour} {size}"
        brand = "Acme" if size == "1" else "Bravo"
        await shop.on_sale(
            title=title, brand=brand, product_type_id=made.product_type_id, attributes=attributes
        )


def counted(found: SearchProductsResponse) -> dict[str, dict[str, int]]:
    return {each.facet: {value.value: value.products for value in each.values} for each in found.facets}


async def test_facets_are_counted_and_a_filter_leaves_its_own_facet_whole(shop: Shop) -> None:
    word = rare_word()
    await coloured(shop, word)
    facets = ["colour", "size", "brand", "in_stock", "no_such"]
    found = await search(shop, word, facets=facets)
    assert found.total == 3
    assert counted(found) == {
        "colour": {"red": 2, "blue": 1},
        "size": {"2.5": 2, "1": 1},
        "brand": {"Bravo": 2, "Acme": 1},
        "in_stock": {"false": 3},
    }
    red = await search(shop, word, facets=facets, filters=[FacetFilter(facet="colour", values=["red"])])
    assert red.total == 2
    assert counted(red)["colour"] == {"red": 2, "blue": 1}
    assert counted(red)["size"] == {"1": 1, "2.5": 1}
    both = [FacetFilter(facet="colour", values=["red", "blue"]), FacetFilter(facet="size", values=["2.5"])]
    assert (await search(shop, word, filters=both)).total == 2


async def test_a_facet_whose_name_begins_like_another_is_not_counted_with_it(shop: Shop) -> None:
    word = rare_word()
    definition = AttributeDefinition
    keys = [definition(key=key, kind=definition.KIND_TEXT) for key in ("size", "size_us")]
    made = await shop.product_type(*keys)
    attributes = [Attribute(key="size", text="38=M"), Attribute(key="size_us", text="6")]
    await shop.on_sale(title=word, product_type_id=made.product_type_id, attributes=attributes)
    assert counted(await search(shop, word, facets=["size"])) == {"size": {"38=M": 1}}


async def test_facets_that_are_switched_off_are_not_counted_and_products_are_found(
    shop: Shop, lab: Lab
) -> None:
    word, modes = rare_word(), lab.hosted.tools["catalog"].modes
    await shop.on_sale(title=word)
    normal = {"modes": {}, "shed": [], "off": [], "stale": [], "queue": []}
    assert (await search(shop, word, facets=["in_stock"])).facets
    modes.tell(json.dumps({**normal, "off": ["catalog.facets"]}).encode())
    found = await search(shop, word, facets=["in_stock"])
    modes.tell(json.dumps(normal).encode())
    assert found.total == 1
    assert not found.facets
    assert (await search(shop, word, facets=["in_stock"])).facets


async def test_prices_are_those_of_the_cheapest_variant_now(shop: Shop) -> None:
    word, now = rare_word(), datetime.now(UTC)
    sale = list_price("5", valid_from=now - timedelta(days=1), valid_to=now + timedelta(days=1))
    past = list_price("1", valid_from=now - timedelta(days=9), valid_to=now - timedelta(days=2))
    await shop.on_sale(variant("", list_price("12.5"), past), variant("", list_price("9")), title=f"{word} b")
    await shop.on_sale(variant("", list_price("20"), sale), title=f"{word} a")
    await shop.on_sale(variant("", list_price("0.0004", "USD")), title=f"{word} c")
    found = await search(shop, word, order_by="price", currency="EUR")
    assert [(each.product.content.title[-1], each.price_from.amount) for each in found.products] == [
        ("a", "5"),
        ("b", "9"),
    ]
    down = await search(shop, word, order_by="price desc", currency="EUR")
    assert titles(down) == [f"{word} b", f"{word} a"]
    low = UnitPrice(amount="6", currency="EUR")
    assert titles(await search(shop, word, price=PriceRange(min=low))) == [f"{word} b"]
    assert titles(await search(shop, word, price=PriceRange(max=low))) == [f"{word} a"]
    dollars = await search(shop, word, order_by="price", currency="USD")
    assert [each.price_from.amount for each in dollars.products] == ["0.0004"]


async def test_the_price_is_another_when_the_cheapest_variant_goes(shop: Shop) -> None:
    word, cheap = rare_word(), new_sku()
    made = await shop.on_sale(variant(cheap, list_price("3")), variant("", list_price("4")), title=word)

    async def price() -> str:
        return (await search(shop, word, currency="EUR")).products[0].price_from.amount

    assert await price() == "3"
    gone = RemoveVariantRequest(product_id=made.product_id, sku=cheap)
    await shop.products.RemoveVariant(gone, metadata=shop.staff)
    assert await price() == "4"


@pytest.mark.parametrize(
    ("order", "expected"),
    [("title", "abcdefg"), ("title desc", "gfedcba"), ("create_time", "gfedcba"), ("price", "cbagfed")],
)
async def test_pages_meet_without_gap_or_overlap(shop: Shop, order: str, expected: str) -> None:
    word = rare_word()
    for n, letter in enumerate("gfedcba"):
        await shop.on_sale(variant("", list_price(f"{(n + 3) % 7}")), title=f"{word} {letter}")
    seen, token = "", ""
    while True:
        page = await search(
            shop, word, order_by=order, currency="EUR", page_size=2, page_token=token, facets=["brand"]
        )
        assert len(page.products) <= 2
        assert page.total == (0 if token else 7)
        seen += "".join(title[-1] for title in titles(page))
        token = page.next_page_token
        if not token:
            break
    assert seen == expected


async def test_what_inventory_says_is_in_stock(shop: Shop) -> None:
    word, sku = rare_word(), new_sku()
    await shop.lab.announce(StockUpdated(sku=sku, location_id="l", available=3, revision=2))
    await until(lambda: shop.lab.db("catalog").fetchval("select 1 from stock where sku = $1", sku))
    product = await shop.on_sale(variant(sku), title=word)
    assert titles(await search(shop, word, in_stock=True)) == [word]
    assert [each.available for each in await shop.variants(sku)] == [3]
    await shop.lab.announce(StockUpdated(sku=sku, location_id="l", available=0, revision=4))
    await shop.lab.announce(StockUpdated(sku=sku, location_id="l", available=9, revision=3))
    await shop.lab.announce(StockUpdated(sku=sku, location_id="m", available=0, revision=1))

    async def gone() -> bool:
        return not (await search(shop, word, in_stock=True)).products

    await until(gone)
    await until(lambda: shop.lab.db("catalog").fetchval("select 1 from stock where location_id = 'm'"))
    assert [each.available for each in await shop.variants(sku)] == [0]
    assert (await search(shop, word)).products[0].product == product


async def test_levels_that_come_together_each_count(shop: Shop) -> None:
    word, skus = rare_word(), [new_sku() for _ in range(7)]
    for n in (0, 2, 4):
        await shop.on_sale(variant(skus[n]), variant(skus[n + 1]), title=f"{word} {n}")
    levels = [(sku, place, 1) for sku in skus[:1] + skus[3:4] + skus[6:] for place in "kl"]
    levels += [(sku, "k", 0) for sku in skus[4:6]]
    await asyncio.gather(
        *(
            shop.lab.announce(StockUpdated(sku=sku, location_id=place, available=available, revision=1))
            for sku, place, available in levels
        )
    )
    kept = "select count(*) from stock where sku = any($1)"
    await until(lambda: _is(shop.lab.db("catalog").fetchval(kept, skus), len(levels)))
    assert sorted(titles(await search(shop, word, in_stock=True))) == [f"{word} 0", f"{word} 2"]


async def _is(value: Awaitable[int], wanted: int) -> bool:
    return await value == wanted


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"text": "a b c d e f g h i j k l m"}, "SEARCH_REFUSED"),
        ({"order_by": "price"}, "SEARCH_REFUSED"),
        ({"order_by": "relevance"}, "BAD_ORDER"),
        ({"order_by": "shoe"}, "BAD_ORDER"),
        ({"page_token": "nonsense"}, "BAD_PAGE_TOKEN"),
        ({"filters": [FacetFilter(facet="a", values=["b"])] * 2}, "SEARCH_REFUSED"),
        ({"price": PriceRange()}, "MALFORMED"),
        ({"currency": "EUR", "price": PriceRange(min={"amount": "1", "currency": "USD"})}, "SEARCH_REFUSED"),
    ],
    ids=["words", "no currency", "no text", "order", "token", "twice", "no bound", "currencies"],
)
async def test_a_search_that_says_nothing_is_refused(shop: Shop, request_: dict[str, Any], why: str) -> None:
    async with refused(why):
        await search(shop, **request_)


@pytest.mark.parametrize(
    "text",
    ["'", "\\", "a'b:*|!&", "%_", '"', "<->", "\0", "\u202e", "1e9", "'; drop table x; --", "\U0001f600"],
    ids=range(11),
)
async def test_signs_are_no_words_and_do_no_harm(shop: Shop, text: str) -> None:
    word = rare_word()
    await shop.on_sale(title=word)
    await search(shop, text)
    assert titles(await search(shop, f"{text} {word}" if text != "1e9" else word)) in ([word], [])
