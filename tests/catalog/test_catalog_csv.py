"""Files as people have them: other encodings, other separators, wrong columns, lines that are none."""

import csv
import io
import tracemalloc
from collections.abc import Iterator

import grpc.aio
import pytest
from hypothesis import given, strategies as st

from services.catalog.sheet import RECORD_BYTES_MAX, Record, Sheet, Unreadable
from services.chassis.testing import reason
from tests.catalog.shop import Shop, list_price, new_sku, refused
from weft.catalog.v1.content_pb2 import TaxCategory
from weft.catalog.v1.definition_pb2 import AttributeDefinition
from weft.catalog.v1.product_messages_pb2 import ProductState

cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=8)


def read(data: bytes, each: int = 7, charset: str = "", delimiter: str = "") -> list[Record]:
    sheet = Sheet(charset, delimiter)
    parts = [data[n : n + each] for n in range(0, len(data), each)]
    return [record for part in parts for record in sheet.feed(part)] + list(sheet.end())


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=6), st.sampled_from([",", ";", "\t"]))
def test_what_a_writer_of_csv_wrote_is_read(rows: list[tuple[str, str]], delimiter: str) -> None:
    for ending in ("\n", "\r\n"):
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator=ending).writerows(rows)
        for charset in ("utf-8", "utf-8-sig", "utf-16"):
            found = read(text.getvalue().encode(charset), delimiter=delimiter)
            assert [record.cells for record in found] == rows


@given(st.binary(max_size=400))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    for record in read(data, each=31):
        assert record.line >= 1


def test_a_line_that_is_not_of_the_charset_is_named_and_the_others_are_read() -> None:
    first, bad, last = read(b"a,b\n" + "\u0447\u0430\u0439,1\n".encode("windows-1251") + b"c,d")
    assert (first.cells, last.cells, bad.line) == (("a", "b"), ("c", "d"), 2)
    assert "0xf7" in bad.problem
    assert "charset" in bad.problem
    good = read("\u0447\u0430\u0439,1\n".encode("windows-1251"), charset="windows-1251")
    assert good == [Record(1, ("\u0447\u0430\u0439", "1"))]


def test_a_quotation_mark_that_is_never_closed_costs_its_own_line() -> None:
    lines = ["a,b", '"open,1', *(f"row {n},{n}" for n in range(20_000))]
    found = read("\n".join(lines).encode(), each=5000)
    problems = [record.line for record in found if record.problem]
    assert problems == [2]
    assert [record.line for record in found if not record.problem] == [1, *range(3, 20_003)]


def test_a_line_without_end_is_given_up_and_reading_goes_on() -> None:
    data = b"a,b\n" + b"x" * (3 * RECORD_BYTES_MAX) + b"\nc,d\n"
    first, bad, last = read(data, each=10_000)
    assert (first.cells, bad.line, last) == (("a", "b"), 2, Record(3, ("c", "d")))
    assert "more than" in bad.problem


def test_a_record_over_several_lines_is_one() -> None:
    assert read(b'a,"two\nlines"\nc,d\n') == [Record(1, ("a", "two\nlines")), Record(3, ("c", "d"))]


@pytest.mark.parametrize("charset", ["no-such", "hex", "\0"], ids=["unknown", "codec", "nul"])
def test_an_unknown_charset_is_refused(charset: str) -> None:
    with pytest.raises(Unreadable):
        Sheet(charset)


def test_a_long_file_is_read_in_bounded_memory() -> None:
    def parts() -> Iterator[bytes]:
        yield b"sku,title\n"
        for n in range(1_000):
            yield b"".join(b"SKU-%d,Title %d\n" % (n, k) for k in range(20))

    sheet, count = Sheet(), 0
    tracemalloc.start()
    for part in parts():
        count += sum(1 for _ in sheet.feed(part))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_001
    assert peak < 200_000  # The file has three times that, and more.


HEADER = "sku,title,description,price.EUR,weight_g,tax_category,state,attribute.colour:choice"


async def coloured(shop: Shop) -> str:
    definition = AttributeDefinition(
        key="colour", kind=AttributeDefinition.KIND_CHOICE, choices=["red", "rot"]
    )
    return (await shop.product_type(definition)).product_type_id


async def test_a_file_becomes_products(shop: Shop) -> None:
    type_id, sku = await coloured(shop), new_sku()
    data = (
        f"{HEADER},product_type_id,gtin\n{sku},Socks,,4.50,120,reduced,active,red,{type_id},4006381333931\n"
    )
    report = await shop.take_csv(data.encode())
    assert (report.created, report.refused) == (1, 0), report.errors
    (made,) = await shop.variants(sku, metadata=shop.anyone)
    assert (made.title, made.weight_g, made.state) == ("Socks", 120, ProductState.PRODUCT_STATE_ACTIVE)
    assert (made.tax_category, list(made.prices)) == (
        TaxCategory.TAX_CATEGORY_REDUCED,
        [list_price("4.50")],
    )
    assert [(each.key, each.choice) for each in made.attributes] == [("colour", "red")]
    again = await shop.take_csv(data.encode())
    assert (again.unchanged, again.updated, again.refused) == (1, 0, 0)


async def test_a_file_changes_what_its_columns_speak_of_and_no_more(shop: Shop) -> None:
    sku = new_sku()
    await shop.take_csv(f"sku,title,description,weight_g\n{sku},Socks,Warm,50\n".encode())
    report = await shop.take_csv(f"sku,title,price.EUR\n{sku},Stockings,3\n".encode())
    assert (report.updated, report.refused) == (1, 0)
    (made,) = await shop.variants(sku)
    product = await shop.get(made.product_id)
    assert (product.content.title, product.content.description) == ("Stockings", "Warm")
    assert (made.weight_g, list(made.prices)) == (50, [list_price("3")])


async def test_a_spreadsheet_of_the_east_is_read(shop: Shop) -> None:
    sku = new_sku()
    text = f"\u0410\u0440\u0442\u0438\u043a\u0443\u043b;title;price.RUB\r\n{sku};\u0427\u0430\u0439;12,50\r\n"
    report = await shop.take_csv(
        text.encode("windows-1251"),
        charset="windows-1251",
        decimal_comma=True,
        columns={"sku": "\u0410\u0440\u0442\u0438\u043a\u0443\u043b"},
    )
    assert report.created == 1, report.errors
    (made,) = await shop.variants(sku)
    assert (made.title, list(made.prices)) == ("\u0427\u0430\u0439", [list_price("12.50", "RUB")])


async def test_each_bad_line_is_reported_by_line_column_and_rule(shop: Shop) -> None:
    good, type_id = new_sku(), await coloured(shop)
    lines = [
        f"{HEADER},product_type_id",
        f"{good},Good,,1,1,standard,draft,red,{type_id}",
        f'{new_sku()},Comma,,"4,50",,,,,',
        f"{new_sku()},Weight,,1,1.5,,,,",
        f"{new_sku()},State,,1,,,sold,,",
        f"{new_sku()},Tax,,1,,luxury,,,",
        f"{new_sku()},Cells,1",
        "bad sku,Title,,1,,,,,",
        f"{new_sku()},,no title,1,,,,,",
        f"{new_sku()},Negative,,-1,,,,,",
        f"{new_sku()},Colour,,1,,,,green,{type_id}",
        f'{new_sku()},Quote" here,,1,,,,,',
        "",
        f"{good},Good,,1,1,standard,draft,red,{type_id}",
    ]
    report = await shop.take_csv("\n".join(lines).encode(), each=50)
    assert [(error.line, error.reason) for error in report.errors] == [
        (3, "CELL_REFUSED"),
        (4, "CELL_REFUSED"),
        (5, "CELL_REFUSED"),
        (6, "CELL_REFUSED"),
        (7, "LINE_REFUSED"),
        (8, "MALFORMED"),
        (9, "MALFORMED"),
        (10, "PRICE_REFUSED"),
        (11, "ATTRIBUTE_REFUSED"),
        (12, "LINE_REFUSED"),
    ]
    assert report.errors[0].message == "Column price.EUR: `4,50` is no number; is it a decimal comma?"
    assert (report.created, report.unchanged, report.rows_done) == (1, 1, 12)


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("", "empty"),
        ("title,price.EUR", "sku"),
        ("sku,title,colour", "colour"),
        ("sku,title,sku", "twice"),
        ("sku,title,price.Euro", "price.Euro"),
        ("sku,title,attribute.x:colour", "attribute.x:colour"),
        (",".join(["sku", "title", *(f"attribute.a{n}" for n in range(300))]), "250"),
        ('"sku,title', "quotation"),
    ],
    ids=["none", "no sku", "unknown", "twice", "currency", "kind", "many", "open"],
)
async def test_a_file_with_wrong_columns_is_refused_at_once(shop: Shop, header: str, names: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.take_csv(header.encode())
    assert reason(caught.value) == "WRONG_COLUMNS"
    assert names in str(caught.value.details())


async def test_an_unknown_charset_refuses_the_import(shop: Shop) -> None:
    async with refused("IMPORT_REFUSED"):
        await shop.take_csv(b"sku,title\n", charset="klingon")
