"""The mirror of the catalog: asked for once, outdated by events, and never older than the last of them."""

import asyncio
import random
from typing import Any
from uuid import uuid4

import grpc.aio
import pytest

from services.chassis.testing import reason, until
from tests.pricing.world import World
from weft.catalog.v1 import content_pb2 as content, events_pb2 as events, product_messages_pb2 as catalog
from weft.money.v1.money_pb2 import UnitPrice


async def net(shop: World, sku: str) -> int:
    return (await shop.quote(sku)).net_total.amount_minor


async def test_a_sku_is_asked_for_once(shop: World) -> None:
    sku = shop.catalog.sell("M-1", "10")
    await asyncio.gather(*(net(shop, sku) for _ in range(8)))
    asked = shop.catalog.asked.count(sku)
    shop.catalog.away = True
    assert await net(shop, sku) == 1000
    assert shop.catalog.asked.count(sku) == asked


async def test_what_is_not_known_waits_for_the_catalog(shop: World) -> None:
    sku = shop.catalog.sell("M-2", "10")
    shop.catalog.away = True
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await net(shop, sku)
    assert (reason(error.value), error.value.code()) == ("AWAY", grpc.StatusCode.UNAVAILABLE)
    shop.catalog.away = False
    assert await net(shop, sku) == 1000


@pytest.mark.parametrize(
    "kind",
    ["PriceChanged", "PriceRemoved", "VariantAdded", "VariantUpdated", "ProductUpdated", "CategoryMoved"],
)
async def test_an_event_of_the_catalog_outdates_what_is_known(shop: World, kind: str) -> None:
    sku = shop.catalog.sell(f"OF-{kind}", "10", category_ids=["c", f"above {kind}"])
    assert await net(shop, sku) == 1000
    shop.catalog.sell(sku, "12", category_ids=["c", f"above {kind}"])
    assert await net(shop, sku) == 1000
    await shop.lab.announce(announced(kind, sku))

    async def changed() -> bool:
        return await net(shop, sku) == 1200

    await until(changed)


def announced(kind: str, sku: str) -> Any:
    product = {"product_id": f"product of {sku}", "version": 7}
    price = UnitPrice(amount="12", currency="EUR")
    made: dict[str, Any] = {
        "PriceChanged": lambda: events.PriceChanged(sku=sku, price=price, **product),
        "PriceRemoved": lambda: events.PriceRemoved(sku=sku, currency="EUR", **product),
        "VariantAdded": lambda: events.VariantAdded(
            product_id="another product", version=2, variant=content.VariantContent(sku=sku)
        ),
        "VariantUpdated": lambda: events.VariantUpdated(variant=content.VariantContent(sku=sku), **product),
        "ProductUpdated": lambda: events.ProductUpdated(paths=["category_ids"], **product),
        "CategoryMoved": lambda: events.CategoryMoved(category_id=f"above {kind}", version=3),
    }
    return made[kind]()


async def test_what_leaves_the_catalog_leaves_the_mirror(shop: World) -> None:
    kept, gone = shop.catalog.sell("M-3", "10"), shop.catalog.sell("M-4", "10")
    assert await net(shop, kept) == await net(shop, gone) == 1000
    shop.catalog.variants[kept].state = catalog.PRODUCT_STATE_ARCHIVED
    del shop.catalog.variants[gone]
    await shop.lab.announce(events.ProductArchived(product_id=f"product of {kept}"))
    await shop.lab.announce(events.ProductDeleted(product_id=f"product of {gone}"))

    async def refused(sku: str) -> str:
        try:
            await net(shop, sku)
        except grpc.aio.AioRpcError as error:
            return reason(error)
        return ""

    async def both() -> bool:
        return [await refused(kept), await refused(gone)] == ["NOT_FOR_SALE", "UNKNOWN_SKU"]

    await until(both)
    unknown = "select count(*) from item where not known"
    assert await shop.lab.db("pricing").fetchval(unknown) == 0


async def test_guesses_at_skus_leave_nothing(shop: World) -> None:
    sku = f"GUESS-{uuid4()}"
    with pytest.raises(grpc.aio.AioRpcError):
        await net(shop, sku)
    assert await shop.lab.db("pricing").fetchval("select count(*) from item where sku = $1", sku) == 0


async def test_an_answer_that_an_event_has_overtaken_is_not_kept(shop: World) -> None:
    sku = shop.catalog.sell("SLOW", "10")

    async def overtake() -> None:
        """The price changes, and that is heard, after the catalog read it and before it answers."""
        shop.catalog.sell(sku, "12")
        await shop.lab.announce(announced("PriceChanged", sku))
        await until(
            lambda: shop.lab.db("pricing").fetchval("select max(revision) from item where sku = $1", sku)
        )

    shop.catalog.meanwhile = overtake
    assert await net(shop, sku) == 1000, "the quote that asked has what it was told"
    assert await net(shop, sku) == 1200


async def test_prices_of_products_are_asked_for_again_before_a_quote_needs_them(shop: World) -> None:
    sku = shop.catalog.sell("M-5", "10")
    assert await net(shop, sku) == 1000
    asked = shop.catalog.asked.count(sku)
    await shop.lab.announce(announced("PriceChanged", sku))

    async def again() -> bool:
        return shop.catalog.asked.count(sku) > asked

    await until(again)


async def test_many_quotes_hear_of_the_same_skus_at_once_in_any_order(shop: World) -> None:
    skus = [shop.catalog.sell(f"CROWD-{n}", "10") for n in range(60)]
    chance = random.Random(7)
    quotes = [[*chance.sample(skus, 30), "GUESSED-1", "GUESSED-2"] for _ in range(64)]
    made = await asyncio.gather(*(shop.quote(*each, without_refused_lines=True) for each in quotes))
    assert {quote.net_total.amount_minor for quote in made} == {30_000}
