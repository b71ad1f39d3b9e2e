"""Catalogues of real shops come in in one go, with an exact report of the rows that do not."""

import random
from collections.abc import Sequence

import pytest

from services.catalog import projecting
from services.chassis.projections import rebuild
from tests.catalog import outside
from tests.catalog.shop import Shop
from weft.catalog.v1.category_pb2 import (
    CategoryRow,
    ImportCategoriesRequest,
    ListCategoriesRequest,
)
from weft.catalog.v1.search_pb2 import SearchProductsRequest
from weft.catalog.v1.transfer_pb2 import ImportReport

SLICE = 1_000  # Rows of the short form.


def expected_refusals(rows: Sequence[CategoryRow]) -> dict[str, str]:
    """By id, why: nameless ones, and all whose way to a root has a hole."""
    by_id = {row.category_id: row for row in rows}

    def hangs(row: CategoryRow) -> bool:
        while row.parent_id:
            if row.parent_id not in by_id or not by_id[row.parent_id].content.name:
                return False
            row = by_id[row.parent_id]
        return True

    nameless = {row.category_id: "MALFORMED" for row in rows if not row.content.name}
    lost = {row.category_id: "UNKNOWN_CATEGORY" for row in rows if not hangs(row)}
    return lost | nameless


async def take_tree(shop: Shop, rows: Sequence[CategoryRow]) -> ImportReport:
    parts = [ImportCategoriesRequest(rows=rows[n : n + 500]) for n in range(0, len(rows), 500)]
    return (await shop.categories.ImportCategories(iter(parts), metadata=shop.staff)).report


async def tree_of(shop: Shop, rows: Sequence[CategoryRow]) -> None:
    expected = expected_refusals(rows)
    report = await take_tree(shop, rows)
    assert (report.created, report.refused) == (len(rows) - len(expected), len(expected))
    assert {error.subject: error.reason for error in report.errors}.items() <= expected.items()
    seen: dict[str, list[str]] = {}
    request = ListCategoriesRequest(page_size=200)
    while True:
        page = await shop.categories.ListCategories(request)
        for each in page.categories:
            seen[each.category_id] = [*each.ancestor_ids, each.category_id]
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    parents = {row.category_id: row.parent_id for row in rows}
    for category_id, way in seen.items():
        assert way[:-1] == (seen[parents[category_id]] if parents[category_id] else [])
    assert len(seen) == report.created
    assert (await take_tree(shop, rows)).unchanged == report.created


async def test_part_of_best_buys_tree_comes_in(empty_shop: Shop) -> None:
    rows = outside.bestbuy_rows()
    await tree_of(empty_shop, random.Random(5).sample(rows, SLICE // 2))


async def products_of(shop: Shop, count: int) -> None:
    await take_tree(shop, outside.olist_category_rows())
    await shop.types.CreateProductType(outside.parcel_type(), metadata=shop.staff)
    rows = [row for row, _ in zip(outside.olist_rows(), range(count), strict=False)]
    report = await shop.take_in(rows, each=500)
    assert (report.created, report.refused) == (len(rows), 0), report.errors
    some = random.Random(3).choice(rows)
    found = await shop.products.SearchProducts(
        SearchProductsRequest(text=some.content.title, facets=["category"])
    )
    assert found.products[0].product.product_id == some.product_id
    everything = await shop.products.SearchProducts(SearchProductsRequest(facets=["brand"]))
    assert everything.total == len(rows)
    assert sum(value.products for value in everything.facets[0].values) == len(rows)


async def test_part_of_olists_products_comes_in(empty_shop: Shop) -> None:
    await products_of(empty_shop, SLICE)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_best_buys_tree_comes_in_whole(empty_shop: Shop) -> None:
    await tree_of(empty_shop, outside.bestbuy_rows())


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_olists_products_come_in_whole_and_are_made_anew_the_same(empty_shop: Shop) -> None:
    await products_of(empty_shop, 40_000)
    db = empty_shop.lab.db("catalog")
    digest = "select md5(string_agg(p::text, '' order by product_id)) from product as p"
    before = await db.fetchval(digest)
    await rebuild(db, projecting.PRODUCTS)
    assert await db.fetchval(digest) == before
