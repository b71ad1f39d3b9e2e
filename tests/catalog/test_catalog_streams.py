"""Streams of rows: how long they may take, and what a client hears that is refused while it sends."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from google.api.httpbody_pb2 import HttpBody

from services.chassis import rpc
from tests.catalog.shop import Shop, new_id, refused, variant
from weft.catalog.v1.content_pb2 import ProductContent
from weft.catalog.v1.transfer_pb2 import ImportCsvRequest, ImportProductsRequest, ProductRow


def row(**content: str) -> ProductRow:
    return ProductRow(product_id=new_id(), content=ProductContent(**content), variants=[variant()])


async def test_an_import_outlives_the_time_that_a_unary_call_has(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "UNARY_S_MAX", 0)
    async with refused("OUT_OF_TIME"):
        await shop.get(new_id())
    assert (await shop.take_in([row(title="Socks")])).created == 1


async def test_a_client_that_goes_on_sending_hears_why_it_was_refused(shop: Shop) -> None:
    async def endless() -> AsyncIterator[ImportCsvRequest]:
        yield ImportCsvRequest(file=HttpBody(data=b"colour,size\n"))
        while True:
            yield ImportCsvRequest(file=HttpBody(data=b"red,XL\n" * 10_000))
            await asyncio.sleep(0)

    async with refused("WRONG_COLUMNS"):
        await shop.products.ImportCsv(endless(), metadata=shop.staff)


async def test_messages_of_two_imports_in_one_stream_are_refused(shop: Shop) -> None:
    async def two() -> AsyncIterator[ImportProductsRequest]:
        yield ImportProductsRequest(import_id=new_id(), rows=[row(title="One")])
        yield ImportProductsRequest(import_id=new_id(), rows=[row(title="Two")])

    async with refused("IMPORT_REFUSED"):
        await shop.products.ImportProducts(two(), metadata=shop.staff)
