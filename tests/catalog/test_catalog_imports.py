"""Rows by the hundred: each alone, all of them counted, and an import that broke off goes on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import grpc.aio
import pytest

from services.catalog import importing
from services.chassis.testing import reason, until
from tests.catalog.shop import Shop, list_price, new_id, new_sku, refused, variant
from weft.catalog.v1.category_pb2 import CategoryRow, ImportCategoriesRequest, ListCategoriesRequest
from weft.catalog.v1.content_pb2 import ProductContent
from weft.catalog.v1.product_messages_pb2 import NewVariant, ProductState
from weft.catalog.v1.transfer_pb2 import (
    ExportProductsRequest,
    GetImportRequest,
    ImportProductsRequest,
    ImportReport,
    ListImportErrorsRequest,
    ProductRow,
)

ACTIVE, ARCHIVED = ProductState.PRODUCT_STATE_ACTIVE, ProductState.PRODUCT_STATE_ARCHIVED
NAUGHTY = [
    "'; drop table product; --",
    "\u202eevil",
    "\U0001f468\u200d\U0001f469",
    "%s%n",
    "<script>",
    "\ufeffx",
]


def row(*variants: NewVariant, product_id: str = "", state: ProductState = 0, **content: Any) -> ProductRow:
    return ProductRow(
        product_id=product_id or new_id(),
        content=ProductContent(**{"title": "Socks", **content}),
        variants=variants or [variant()],
        state=state,
    )


def counts(report: ImportReport) -> tuple[int, ...]:
    return (report.created, report.updated, report.unchanged, report.refused)


def errors(report: ImportReport) -> list[tuple[int, str]]:
    return [(error.row, error.reason) for error in report.errors]


async def test_rows_are_taken_in_and_a_second_time_nothing_changes(shop: Shop) -> None:
    rows = [row(variant(new_sku(), list_price("5")), title=f"Row {n}", state=ACTIVE) for n in range(250)]
    assert counts(await shop.take_in(rows)) == (250, 0, 0, 0)
    assert counts(await shop.take_in(rows)) == (0, 0, 250, 0)
    rows[3].content.title = "Other"
    rows[4].variants[0].prices[0].price.amount = "6"
    rows[5].variants.append(variant())
    assert counts(await shop.take_in(rows)) == (0, 3, 247, 0)
    read = await shop.get(rows[5].product_id, shop.anyone)
    assert (read.version, len(read.variants), read.state) == (5, 2, ACTIVE)


async def test_a_refused_row_is_named_and_keeps_no_other_out(shop: Shop) -> None:
    taken = new_sku()
    await shop.create(variant(taken))
    good, twice = row(), new_sku()
    rows = [
        good,
        row(title=""),
        row(product_id="no-id"),
        row(variant(taken)),
        row(variant(twice)),
        row(variant(twice)),
        row(category_ids=[new_id()]),
        row(product_type_id=new_id()),
        row(variant(new_sku(), list_price("-1"))),
        row(variant(new_sku(), list_price("1", "XAU"))),
        row(attributes=[{"key": "x", "text": "y"}]),
        row(variant(gtin="12345678")),
        ProductRow(product_id=good.product_id, content={"title": "Again"}, variants=good.variants),
        *(row(title=title) for title in NAUGHTY),
    ]
    report = await shop.take_in(rows)
    assert errors(report) == [
        (1, "MALFORMED"),
        (2, "MALFORMED"),
        (3, "SKU_TAKEN"),
        (5, "SKU_TAKEN"),
        (6, "UNKNOWN_CATEGORY"),
        (7, "UNKNOWN_PRODUCT_TYPE"),
        (8, "PRICE_REFUSED"),
        (9, "UNKNOWN_CURRENCY"),
        (10, "ATTRIBUTE_REFUSED"),
        (11, "GTIN_REFUSED"),
    ]
    assert counts(report) == (2 + len(NAUGHTY), 1, 0, 10)
    assert "title" in report.errors[0].message
    assert report.errors[1].subject == "no-id"


async def test_a_row_changes_all_that_it_says_or_nothing(shop: Shop) -> None:
    made = await shop.create(variant())
    half = row(variant(new_sku(), list_price("-1")), product_id=made.product_id, title="New title")
    other = row(product_id=made.product_id, title=made.content.title, description="Other row")
    report = await shop.take_in([half, other])
    assert errors(report) == [(0, "PRICE_REFUSED")]
    read = await shop.get(made.product_id)
    assert (read.content.title, read.content.description) == (made.content.title, "Other row")
    assert len(read.variants) == 2


async def test_a_refused_row_gives_back_the_names_it_asked_for(shop: Shop) -> None:
    taken, free = new_sku(), new_sku()
    await shop.create(variant(taken))
    slug = f"s{free[4:]}"
    assert counts(await shop.take_in([row(variant(free), variant(taken), slug=slug)])) == (0, 0, 0, 1)
    titled = row(variant(free), variant(taken), title=slug)
    bad = row(title=slug, category_ids=[new_id()])
    assert counts(await shop.take_in([titled, bad])) == (0, 0, 0, 2)
    assert (await shop.create(variant(free), slug=slug)).content.slug == slug


async def test_an_import_goes_on_where_it_broke_off(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "ROWS_MAX", 10)
    import_id, rows = new_id(), [row(title="" if n == 7 else f"Row {n}") for n in range(100)]
    half = asyncio.Event()

    async def broken() -> AsyncIterator[ImportProductsRequest]:
        yield ImportProductsRequest(import_id=import_id, rows=rows[:55])
        await half.wait()

    stream = shop.products.ImportProducts(broken(), metadata=shop.staff)
    done = GetImportRequest(import_id=import_id)

    async def rows_done() -> int:
        with suppress(grpc.aio.AioRpcError):
            return (await shop.products.GetImport(done, metadata=shop.staff)).report.rows_done
        return 0

    async def begun() -> bool:
        return await rows_done() == 50

    await until(begun)
    stream.cancel()
    assert await rows_done() == 50
    report = await shop.take_in(rows[50:], import_id, first_row=50)
    assert (report.rows_done, *counts(report)) == (100, 99, 0, 0, 1)
    whole = await shop.take_in(rows, import_id)
    assert (whole.rows_done, *counts(whole)) == (100, 99, 0, 0, 1)
    assert errors(whole) == [(7, "MALFORMED")]
    async with refused("IMPORT_REFUSED"):
        await shop.take_in(rows, import_id, first_row=101)
    async with refused("IMPORT_ID_REUSED"):
        await shop.take_csv(b"sku,title\n", import_id)


async def test_of_two_streams_of_one_import_each_row_is_taken_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "ROWS_MAX", 5)
    import_id, rows = new_id(), [row() for n in range(60)]
    both = [shop.take_in(rows, import_id, each=5) for _ in range(2)]
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    lost = [reason(each) for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
    assert lost in ([], ["IMPORT_RUNNING"])
    report = await shop.take_in(rows, import_id)
    assert (report.rows_done, *counts(report)) == (60, 60, 0, 0, 0)


async def test_errors_are_listed_page_by_page(shop: Shop) -> None:
    import_id = new_id()
    report = await shop.take_in([row(title="") for _ in range(130)], import_id)
    assert (len(report.errors), report.refused) == (100, 130)
    request = ListImportErrorsRequest(import_id=import_id, page_size=60)
    seen: list[int] = []
    while True:
        page = await shop.products.ListImportErrors(request, metadata=shop.staff)
        seen += [error.row for error in page.errors]
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert seen == list(range(130))
    async with refused("UNKNOWN_IMPORT"):
        await shop.products.ListImportErrors(ListImportErrorsRequest(import_id=new_id()), metadata=shop.staff)


async def exported(shop: Shop, **request: Any) -> list[ProductRow]:
    stream = shop.products.ExportProducts(ExportProductsRequest(**request), metadata=shop.staff)
    return [row async for response in stream for row in response.rows]


async def test_what_was_exported_is_taken_in_elsewhere_and_is_the_same(empty_shop: Shop, shop: Shop) -> None:
    category = await shop.category()
    states = (0, ACTIVE, ARCHIVED)
    rows = [
        row(
            variant(new_sku(), list_price("5")),
            state=states[n % 3],
            category_ids=[category.category_id],
            title=f"R {n}",
        )
        for n in range(205)
    ]
    await shop.take_in(rows)
    out = await exported(shop, category_id=category.category_id)
    assert [each.product_id for each in out] == sorted(each.product_id for each in rows)
    assert (
        await exported(shop, category_id=category.category_id, after_product_id=out[99].product_id)
        == out[100:]
    )
    archived = await exported(shop, category_id=category.category_id, state=ARCHIVED)
    assert len(archived) == 68
    there = CategoryRow(category_id=category.category_id, content={"name": "Socks"})
    await take_categories(empty_shop, [there])
    assert counts(await empty_shop.take_in(out)) == (205, 0, 0, 0)
    assert await exported(empty_shop) == out


async def take_categories(shop: Shop, rows: list[CategoryRow], each: int = 50) -> ImportReport:
    def requests() -> Iterator[ImportCategoriesRequest]:
        for n in range(0, len(rows), each):
            yield ImportCategoriesRequest(rows=rows[n : n + each])

    return (await shop.categories.ImportCategories(requests(), metadata=shop.staff)).report


def category(category_id: str, parent_id: str = "", name: str = "Socks") -> CategoryRow:
    return CategoryRow(category_id=category_id, parent_id=parent_id, content={"name": name})


async def test_a_tree_is_taken_in_whatever_the_order_of_its_rows(shop: Shop) -> None:
    ids = [new_id() for _ in range(110)]
    rows = [category(each, ids[n // 3 - 1] if n > 2 else "") for n, each in enumerate(ids)]
    assert counts(await take_categories(shop, rows[::-1])) == (110, 0, 0, 0)
    assert counts(await take_categories(shop, rows)) == (0, 0, 110, 0)
    rows[100].parent_id, rows[100].content.name = ids[0], "Moved"
    assert counts(await take_categories(shop, rows)) == (0, 1, 109, 0)
    below = ListCategoriesRequest(parent_id=ids[0], filter='name = "Moved"')
    found = (await shop.categories.ListCategories(below)).categories
    assert [(each.category_id, each.version) for each in found] == [(ids[100], 3)]


async def test_categories_that_cannot_hang_are_named(shop: Shop) -> None:
    one, two, lost = new_id(), new_id(), new_id()
    rows = [
        category(one),
        category(two, one),
        category(one, two),
        category(lost, new_id()),
        category(new_id(), name=""),
    ]
    rows += [category(new_id(), lost), category("x")]
    report = await take_categories(shop, rows)
    assert sorted(errors(report)) == [
        (2, "CATEGORY_CYCLE"),
        (3, "UNKNOWN_CATEGORY"),
        (4, "MALFORMED"),
        (5, "UNKNOWN_CATEGORY"),
        (6, "MALFORMED"),
    ]
    assert counts(report) == (2, 0, 0, 5)
