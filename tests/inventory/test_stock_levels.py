"""What lies where: receipts, adjustments, counts, thresholds, and the movements that tell of them."""

import asyncio
from datetime import timedelta
from typing import Any

import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.testing import broken_fields
from tests.inventory.warehouse import PURCHASE, Warehouse, new_id, outcomes, refused, sku
from weft.inventory.v1 import location_pb2 as locations, movement_pb2 as movements, stock_pb2 as pb

RETURN, DAMAGE, FOUND = (
    movements.MOVEMENT_REASON_RETURN,
    movements.MOVEMENT_REASON_DAMAGE,
    movements.MOVEMENT_REASON_FOUND,
)


def receipt(warehouse: Warehouse, *lines: tuple[str, int], **more: Any) -> Any:
    made = {
        "receipt_id": new_id(),
        "location_id": warehouse.location_id,
        "lines": [pb.Receipt(sku=name, units=units) for name, units in lines],
        "reason": PURCHASE,
        **more,
    }
    return warehouse.stock.ReceiveStock(pb.ReceiveStockRequest(**made), metadata=warehouse.who)


def adjustment(warehouse: Warehouse, *lines: tuple[str, int], **more: Any) -> Any:
    made = {
        "adjustment_id": new_id(),
        "location_id": warehouse.location_id,
        "lines": [pb.Adjustment(sku=name, units=units) for name, units in lines],
        "reason": DAMAGE,
        **more,
    }
    return warehouse.stock.AdjustStock(pb.AdjustStockRequest(**made), metadata=warehouse.who)


def count(warehouse: Warehouse, *lines: tuple[str, int], **more: Any) -> Any:
    made = {
        "count_id": new_id(),
        "location_id": warehouse.location_id,
        "lines": [pb.Counted(sku=name, on_hand=units) for name, units in lines],
        **more,
    }
    return warehouse.stock.CountStock(pb.CountStockRequest(**made), metadata=warehouse.who)


async def history(warehouse: Warehouse, text: str, **more: Any) -> list[Any]:
    request = movements.ListMovementsRequest(filter=text, **more)
    return list((await warehouse.stock.ListMovements(request, metadata=warehouse.who)).movements)


async def test_what_is_received_lies_there_once(warehouse: Warehouse) -> None:
    name, one = sku(), new_id()
    made = await asyncio.gather(
        *(receipt(warehouse, (name, 3), (name, 2), receipt_id=one, reference="note 7") for _ in range(10))
    )
    assert {each.stock[0].on_hand for each in made} == {5}
    assert await refused(receipt(warehouse, (name, 4), receipt_id=one)) == "OPERATION_ID_REUSED"
    assert await refused(adjustment(warehouse, (name, 5), adjustment_id=one)) == "OPERATION_ID_REUSED"
    (moved,) = await history(warehouse, f'sku = "{name}"')
    assert (moved.kind, moved.reason) == (movements.MOVEMENT_KIND_RECEIPT, PURCHASE)
    assert (moved.units, moved.on_hand, moved.operation_id) == (5, 5, one)
    assert (moved.reference, moved.actor) == ("note 7", "service:operator")


async def test_goods_come_back_to_the_first_location_when_none_is_named(warehouse: Warehouse) -> None:
    name, _ = sku(), await warehouse.open(priority=0)
    await receipt(warehouse, (name, 1), location_id="", reason=RETURN)
    request = pb.ListStockRequest(filter=f'sku = "{name}"')
    (level,) = (await warehouse.stock.ListStock(request, metadata=warehouse.who)).stock
    everywhere = locations.ListLocationsRequest(filter="sellable = true", page_size=1)
    (first,) = (await warehouse.locations.ListLocations(everywhere, metadata=warehouse.who)).locations
    assert level.location_id == first.location_id


async def test_adjustments_have_reasons_and_take_nothing_that_is_not_there(warehouse: Warehouse) -> None:
    name = await warehouse.receive(5)
    await adjustment(warehouse, (name, -2))
    await adjustment(warehouse, (name, 1), reason=FOUND)
    assert await warehouse.counters(name) == (4, 0, 4)
    assert await refused(adjustment(warehouse, (name, -5))) == "NOT_ON_HAND"
    assert await warehouse.counters(name) == (4, 0, 4)
    reasons = [each.reason for each in await history(warehouse, f'sku = "{name}" AND kind = "ADJUSTMENT"')]
    assert reasons == [FOUND, DAMAGE]


async def test_a_line_that_cannot_be_undoes_the_others(warehouse: Warehouse) -> None:
    name, other = await warehouse.receive(5), await warehouse.receive(1)
    assert await refused(adjustment(warehouse, (name, -1), (other, -2))) == "NOT_ON_HAND"
    assert await warehouse.counters(name) == (5, 0, 5)


async def test_a_count_sets_what_lies_there_and_leaves_reservations_alone(warehouse: Warehouse) -> None:
    name = await warehouse.receive(10)
    one = (await warehouse.reserve((name, 4))).reservation_id
    await count(warehouse, (name, 2))
    assert await warehouse.counters(name) == (2, 4, -2), "more is promised than was found: it shows"
    assert await refused(warehouse.reserve((name, 1))) == "OUT_OF_STOCK"
    await count(warehouse, (name, 7))
    assert await warehouse.counters(name) == (7, 4, 3)
    await warehouse.commit(one)
    assert await warehouse.counters(name) == (3, 0, 3)
    units = [each.units for each in await history(warehouse, f'sku = "{name}"')]
    assert units == [-4, 5, -8, 10]


async def test_a_count_that_finds_what_was_known_is_no_movement(warehouse: Warehouse) -> None:
    name = await warehouse.receive(3)
    before = await warehouse.level(name)
    await count(warehouse, (name, 3))
    assert await warehouse.level(name) == before
    assert len(await history(warehouse, f'sku = "{name}"')) == 1


async def test_a_threshold_keeps_units_back_and_a_negative_one_sells_ahead(warehouse: Warehouse) -> None:
    name = await warehouse.receive(5)
    assert (await warehouse.threshold(name, 2)).available == 3
    assert await refused(warehouse.reserve((name, 4))) == "OUT_OF_STOCK"
    assert (await warehouse.threshold(name, -3)).available == 8
    one = (await warehouse.reserve((name, 8))).reservation_id
    assert await refused(warehouse.reserve((name, 1))) == "OUT_OF_STOCK"
    await warehouse.commit(one)
    assert await warehouse.counters(name) == (-3, 0, 0)
    await warehouse.receive(3, name)
    assert await warehouse.counters(name) == (0, 0, 3)


async def test_backorders_hold_under_many_buyers(warehouse: Warehouse) -> None:
    name = await warehouse.receive(2)
    await warehouse.threshold(name, -3)
    met = await outcomes(*(warehouse.reserve((name, 1)) for _ in range(30)))
    assert met.count("OK") == 5


async def test_movements_are_found_by_what_they_tell(warehouse: Warehouse) -> None:
    name, note = sku(), new_id()
    for n in range(5):
        await receipt(warehouse, (name, n + 1), reference=f"{note}/{n}")
    found = await history(warehouse, f'reference:"{note}/*" AND units >= 3', page_size=2)
    assert [each.units for each in found] == [5, 4]
    by_location = await history(warehouse, f'location_id = "{warehouse.location_id}"')
    assert len(by_location) == 5
    assert await history(warehouse, f'sku = "{name}" AND kind != "RECEIPT"') == []


async def test_history_may_be_written_down_later_but_not_ahead(warehouse: Warehouse) -> None:
    name, then = sku(), Timestamp(seconds=1_300_000_000)
    await receipt(warehouse, (name, 1), effective_time=then)
    (moved,) = await history(warehouse, f'sku = "{name}" AND effective_time < "2012-01-01T00:00:00Z"')
    assert moved.effective_time == then
    ahead = Timestamp()
    ahead.FromDatetime(warehouse.lab.clock.now() + timedelta(hours=1))
    assert await refused(receipt(warehouse, (name, 1), effective_time=ahead)) == "TIME_AHEAD"


async def test_levels_are_listed_by_what_they_are(warehouse: Warehouse) -> None:
    names = sorted([await warehouse.receive(units) for units in (1, 5, 9)])
    await warehouse.threshold(names[0], 0, alert_at=100)

    async def listed(text: str) -> list[str]:
        request = pb.ListStockRequest(filter=f'location_id = "{warehouse.location_id}" AND {text}')
        return [each.sku for each in (await warehouse.stock.ListStock(request, metadata=warehouse.who)).stock]

    assert await listed("on_hand > 0") == names
    assert len(await listed("available >= 5")) == 2
    assert await listed("low = true") == [names[0]]
    assert await listed("low = false") == names[1:]


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("lines[0].units", {"sku": "A", "units": 0}),
        ("lines[0].units", {"sku": "A", "units": -1}),
        ("lines[0].units", {"sku": "A", "units": 10**9 + 1}),
        ("lines[0].sku", {"sku": "", "units": 1}),
        ("lines[0].sku", {"sku": "a b", "units": 1}),
        ("lines[0].sku", {"sku": "-a", "units": 1}),
        ("lines[0].sku", {"sku": "a" * 65, "units": 1}),
        ("lines[0].sku", {"sku": "é", "units": 1}),
    ],
    ids=["zero", "negative", "overflow", "no sku", "space", "dash", "long", "accent"],
)
async def test_bad_lines_are_refused_by_field(warehouse: Warehouse, field: str, line: dict[str, Any]) -> None:
    request = pb.ReceiveStockRequest(
        receipt_id=new_id(), location_id=warehouse.location_id, lines=[pb.Receipt(**line)], reason=PURCHASE
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await warehouse.stock.ReceiveStock(request, metadata=warehouse.who)
    assert field in broken_fields(caught.value)


async def test_ids_that_are_not_there(warehouse: Warehouse) -> None:
    name, nowhere = await warehouse.receive(1), new_id()
    assert await refused(receipt(warehouse, (name, 1), location_id=nowhere)) == "UNKNOWN_LOCATION"
    assert await refused(warehouse.threshold(name, 1, at=nowhere)) == "UNKNOWN_LOCATION"
    assert await refused(warehouse.reserve((name, 1, nowhere))) == "UNKNOWN_LOCATION"
    assert await refused(warehouse.level(sku())) == "UNKNOWN_STOCK"
    assert await refused(warehouse.reserve((sku(), 1))) == "OUT_OF_STOCK"
    assert await refused(count(warehouse, (name, 1), (name, 2))) == "SKU_REPEATED"
    assert await refused(receipt(warehouse, (name, 1), reason=DAMAGE)) == "MALFORMED"


async def test_a_level_has_a_bound(warehouse: Warehouse) -> None:
    name = await warehouse.receive(1)
    db = warehouse.lab.db("inventory")
    await db.execute("update stock set on_hand = 1000000000000 where sku = $1", name)
    assert await refused(receipt(warehouse, (name, 1))) == "TOO_MUCH_STOCK"
