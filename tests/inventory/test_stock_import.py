"""Levels from outside: sound rows are set, others are reported by number, field and rule."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from services.chassis.testing import Lab
from tests.inventory.warehouse import Warehouse, new_id, refused, sku
from weft.inventory.v1 import stock_import_pb2 as pb

LATIN = "caf\u00e9 12"


async def imported(warehouse: Warehouse, rows: Sequence[pb.StockRow], each: int = 700) -> Any:
    async def stream() -> AsyncIterator[pb.ImportStockRequest]:
        for start in range(0, len(rows), each):
            yield pb.ImportStockRequest(rows=rows[start : start + each])

    return await warehouse.stock.ImportStock(stream(), metadata=warehouse.who)


async def test_rows_are_set_and_sent_again_change_nothing(warehouse: Warehouse) -> None:
    mark = sku()
    rows = [
        pb.StockRow(sku=f"{mark}-{n}", location_id=warehouse.location_id, on_hand=n, threshold=1, alert_at=0)
        for n in range(1, 2_501)
    ]
    report = await imported(warehouse, rows)
    assert (report.rows, report.changed, report.refused) == (2_500, 2_500, 0)
    assert await warehouse.counters(f"{mark}-2500") == (2_500, 0, 2_499)
    again = await imported(warehouse, rows)
    assert (again.rows, again.changed, again.unchanged) == (2_500, 0, 2_500)
    assert (await warehouse.level(f"{mark}-7")).revision == 1


async def test_what_is_reserved_stays_reserved(warehouse: Warehouse) -> None:
    name = await warehouse.receive(10)
    one = (await warehouse.reserve((name, 4))).reservation_id
    report = await imported(warehouse, [pb.StockRow(sku=name, location_id=warehouse.location_id, on_hand=6)])
    assert (report.changed, await warehouse.counters(name)) == (1, (6, 4, 2))
    await warehouse.commit(one)
    assert await warehouse.counters(name) == (2, 0, 2)
    assert await warehouse.wrong() == []


async def test_each_bad_row_is_reported_and_stops_no_other(warehouse: Warehouse) -> None:
    here, name, nowhere = warehouse.location_id, sku(), new_id()
    bad = [
        ("sku", "BAD_SKU", pb.StockRow(sku="", location_id=here, on_hand=1)),
        ("sku", "BAD_SKU", pb.StockRow(sku=LATIN, location_id=here, on_hand=1)),
        ("sku", "BAD_SKU", pb.StockRow(sku="A\n", location_id=here, on_hand=1)),
        ("sku", "BAD_SKU", pb.StockRow(sku="x" * 10_000, location_id=here, on_hand=1)),
        ("location_id", "BAD_LOCATION_ID", pb.StockRow(sku=name, location_id="Main", on_hand=1)),
        ("location_id", "UNKNOWN_LOCATION", pb.StockRow(sku=name, location_id=nowhere, on_hand=1)),
        ("on_hand", "OUT_OF_BOUNDS", pb.StockRow(sku=name, location_id=here, on_hand=-1)),
        ("on_hand", "OUT_OF_BOUNDS", pb.StockRow(sku=name, location_id=here, on_hand=2**62)),
        ("threshold", "OUT_OF_BOUNDS", pb.StockRow(sku=name, location_id=here, threshold=-(2**62))),
        ("alert_at", "OUT_OF_BOUNDS", pb.StockRow(sku=name, location_id=here, alert_at=2**62)),
        ("on_hand", "NOTHING_SAID", pb.StockRow(sku=name, location_id=here)),
    ]
    good = pb.StockRow(sku=name, location_id=here, on_hand=5)
    rows = [row for _, _, each in bad for row in (each, good)]
    report = await imported(warehouse, rows, each=3)
    assert (report.rows, report.changed, report.refused) == (22, 1, 11)
    told = {each.row: (each.field, each.reason) for each in report.refusals}
    assert told == {2 * n: (field, reason) for n, (field, reason, _) in enumerate(bad)}
    assert all(each.message and len(each.sku) <= 64 for each in report.refusals)
    assert await warehouse.counters(name) == (5, 0, 5)


async def test_the_report_of_a_wrong_file_is_bounded(warehouse: Warehouse) -> None:
    rows = [pb.StockRow(sku="?", location_id=warehouse.location_id, on_hand=1)] * 3_000
    report = await imported(warehouse, rows)
    assert (report.refused, len(report.refusals)) == (3_000, 1_000)


async def test_of_several_rows_about_one_level_the_last_holds(warehouse: Warehouse) -> None:
    name = sku()
    rows = [pb.StockRow(sku=name, location_id=warehouse.location_id, on_hand=n) for n in (3, 9, 4)]
    assert (await imported(warehouse, rows)).changed == 3
    assert await warehouse.counters(name) == (4, 0, 4)


async def test_import_has_a_permission_of_its_own(lab: Lab, warehouse: Warehouse) -> None:
    async def nothing() -> AsyncIterator[pb.ImportStockRequest]:
        yield pb.ImportStockRequest()

    who = lab.bearer(scope="inventory.stock.write inventory.stock.read")
    assert await refused(warehouse.stock.ImportStock(nothing(), metadata=who)) == "NOT_PERMITTED"
