"""A product from its draft to its end: who sees it, what it may become, what its names lead to."""

import asyncio

import grpc.aio
import pytest

from services.chassis.testing import broken_fields, reason
from tests.catalog.shop import Shop, list_price, new_id, new_sku, refused, variant
from weft.catalog.v1 import product_messages_pb2 as pb
from weft.catalog.v1.content_pb2 import ProductContent, TaxCategory, VariantContent


async def test_a_product_is_a_draft_first_and_for_staff_only(shop: Shop) -> None:
    made = await shop.create(variant(), title="Quiet kettle")
    assert (made.state, made.version, made.content.slug) == (pb.PRODUCT_STATE_DRAFT, 2, "quiet-kettle")
    assert await shop.get(made.product_id) == made
    async with refused("UNKNOWN_PRODUCT"):
        await shop.get(made.product_id, shop.anyone)
    published = await shop.publish(made)
    assert published.state == pb.PRODUCT_STATE_ACTIVE
    assert await shop.get(made.product_id, shop.anyone) == published


async def test_the_same_creation_again_answers_the_product_as_it_is(shop: Shop) -> None:
    product_id, sku = new_id(), new_sku()
    made = await shop.create(variant(sku), product_id=product_id)
    changed = await shop.update(made, title="Other socks")
    assert await shop.create(variant(sku), product_id=product_id) == changed
    async with refused("PRODUCT_ID_REUSED"):
        await shop.create(variant(sku), product_id=product_id, title="Other socks")


async def test_64_creations_at_once_make_one_product(shop: Shop) -> None:
    product_id, sku = new_id(), new_sku()
    made = await asyncio.gather(*(shop.create(variant(sku), product_id=product_id) for _ in range(64)))
    assert len({each.SerializeToString(deterministic=True) for each in made}) == 1
    assert made[0].version == 2


async def test_of_64_products_that_want_one_sku_one_gets_it(shop: Shop) -> None:
    sku = new_sku()
    tries = [shop.create(variant(sku), title=f"Try {n}") for n in range(64)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    lost = [reason(each) for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
    assert lost == ["SKU_TAKEN"] * 63
