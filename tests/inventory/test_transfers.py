"""Stock moves in two steps; on its way it lies nowhere, and nothing that is reserved goes."""

import asyncio
from typing import Any

import pytest

from tests.inventory.warehouse import Warehouse, new_id, outcomes, refused, sku
from weft.inventory.v1 import transfer_pb2 as pb

IN_TRANSIT, RECEIVED, CANCELLED = (
    pb.TRANSFER_STATE_IN_TRANSIT,
    pb.TRANSFER_STATE_RECEIVED,
    pb.TRANSFER_STATE_CANCELLED,
)


class Lorry:
    """A transfer from the warehouse to another location."""

    def __init__(self, warehouse: Warehouse, to: str, transfer_id: str = "") -> None:
        self.warehouse, self.to, self.transfer_id = warehouse, to, transfer_id or new_id()
        self.stub, self.who = warehouse.transfers, warehouse.who

    async def start(self, *lines: tuple[str, int], **more: Any) -> Any:
        made = {
            "transfer_id": self.transfer_id,
            "from_location_id": self.warehouse.location_id,
            "to_location_id": self.to,
            "lines": [pb.Part(sku=name, units=units) for name, units in lines],
            **more,
        }
        answer = await self.stub.StartTransfer(pb.StartTransferRequest(**made), metadata=self.who)
        return answer.transfer

    async def receive(self, *lines: tuple[str, int]) -> Any:
        made = [pb.Part(sku=name, units=units) for name, units in lines]
        request = pb.ReceiveTransferRequest(transfer_id=self.transfer_id, lines=made)
        return (await self.stub.ReceiveTransfer(request, metadata=self.who)).transfer

    async def cancel(self) -> Any:
        request = pb.CancelTransferRequest(transfer_id=self.transfer_id)
        return (await self.stub.CancelTransfer(request, metadata=self.who)).transfer


@pytest.fixture
async def lorry(warehouse: Warehouse) -> Lorry:
    return Lorry(warehouse, await warehouse.open())


async def test_on_its_way_it_lies_at_neither_end(warehouse: Warehouse, lorry: Lorry) -> None:
    name = await warehouse.receive(10)
    made = await lorry.start((name, 3), (name, 1))
    assert (made.state, [(line.sku, line.units) for line in made.lines]) == (IN_TRANSIT, [(name, 4)])
    assert await warehouse.counters(name) == (6, 0, 6)
    there = await warehouse.level(name, lorry.to)
    assert (there.on_hand, there.available, there.incoming) == (0, 0, 4)
    assert await refused(warehouse.reserve((name, 1, lorry.to))) == "OUT_OF_STOCK"
    assert (await lorry.receive()).state == RECEIVED
    there = await warehouse.level(name, lorry.to)
    assert (there.on_hand, there.incoming) == (4, 0)
    assert await warehouse.wrong() == []


async def test_each_step_is_done_once(warehouse: Warehouse, lorry: Lorry) -> None:
    name = await warehouse.receive(10)
    started = await asyncio.gather(*(lorry.start((name, 4)) for _ in range(8)))
    assert {each.state for each in started} == {IN_TRANSIT}
    received = await asyncio.gather(*(lorry.receive() for _ in range(8)))
    assert {each.state for each in received} == {RECEIVED}
    assert await warehouse.counters(name) == (6, 0, 6)
    assert await warehouse.counters(name, lorry.to) == (4, 0, 4)
    assert (await lorry.start((name, 4))).state == RECEIVED
    assert await refused(lorry.start((name, 5))) == "TRANSFER_ID_REUSED"
    assert await refused(lorry.receive((name, 3))) == "TRANSFER_ENDED"
    assert await refused(lorry.cancel()) == "TRANSFER_ENDED"


async def test_what_does_not_arrive_is_lost(warehouse: Warehouse, lorry: Lorry) -> None:
    name, other = await warehouse.receive(5), await warehouse.receive(5)
    await lorry.start((name, 5), (other, 5))
    assert await refused(lorry.receive((name, 6))) == "MORE_THAN_SENT"
    assert await refused(lorry.receive((sku(), 1))) == "MORE_THAN_SENT"
    made = await lorry.receive((name, 3))
    assert {(line.sku, line.units, line.received) for line in made.lines} == {(name, 5, 3), (other, 5, 0)}
    assert await warehouse.counters(name, lorry.to) == (3, 0, 3)
    assert await warehouse.counters(other, lorry.to) == (0, 0, 0)
    assert await warehouse.wrong() == []


async def test_a_cancelled_transfer_is_back_where_it_came_from(warehouse: Warehouse, lorry: Lorry) -> None:
    name = await warehouse.receive(5)
    await lorry.start((name, 5))
    assert (await lorry.cancel()).state == CANCELLED
    assert (await lorry.cancel()).state == CANCELLED
    assert await warehouse.counters(name) == (5, 0, 5)
    assert (await warehouse.level(name, lorry.to)).incoming == 0
    assert await refused(lorry.receive()) == "TRANSFER_ENDED"


async def test_what_is_reserved_does_not_go(warehouse: Warehouse, lorry: Lorry) -> None:
    name = await warehouse.receive(5)
    await warehouse.threshold(name, -100)
    await warehouse.reserve((name, 3))
    assert await refused(lorry.start((name, 3))) == "NOT_ENOUGH_FREE"
    assert await warehouse.counters(name) == (5, 3, 102)
    await lorry.start((name, 2))
    assert await warehouse.counters(name) == (3, 3, 100)


async def test_receiving_and_cancelling_at_once_have_one_winner(warehouse: Warehouse, lorry: Lorry) -> None:
    name = await warehouse.receive(5)
    await lorry.start((name, 5))
    met = await outcomes(*(call() for _ in range(5) for call in (lorry.receive, lorry.cancel)))
    assert sorted(met) == ["OK"] * 5 + ["TRANSFER_ENDED"] * 5
    here, there = await warehouse.level(name), await warehouse.level(name, lorry.to)
    assert (here.on_hand + there.on_hand, there.incoming) == (5, 0)


async def test_transfers_that_cannot_be(warehouse: Warehouse, lorry: Lorry) -> None:
    name = await warehouse.receive(5)
    assert await refused(lorry.start((name, 1), to_location_id=warehouse.location_id)) == "TRANSFER_NOWHERE"
    assert await refused(lorry.start((name, 1), to_location_id=new_id())) == "UNKNOWN_LOCATION"
    assert await refused(lorry.start((sku(), 1))) == "NOT_ENOUGH_FREE"
    assert await refused(lorry.start((name, 0))) == "MALFORMED"
    assert await refused(lorry.receive()) == "UNKNOWN_TRANSFER"
    assert await refused(lorry.cancel()) == "UNKNOWN_TRANSFER"
    assert await warehouse.counters(name) == (5, 0, 5)


async def test_transfers_of_one_lot_in_circles_do_not_wait_for_each_other(warehouse: Warehouse) -> None:
    """Each locks levels of both ends: in one order, so no two wait in a circle."""
    name, there = await warehouse.receive(100), await warehouse.open()
    await warehouse.receive(100, name, there)
    back = Warehouse(warehouse.lab, there)
    calls = [Lorry(warehouse, there).start((name, 1)) for _ in range(20)]
    calls += [Lorry(back, warehouse.location_id).start((name, 1)) for _ in range(20)]
    calls += [warehouse.reserve((name, 1)) for _ in range(20)]
    assert set(await outcomes(*calls)) == {"OK"}
    assert await warehouse.wrong() == []


async def test_transfers_are_listed(warehouse: Warehouse, lorry: Lorry) -> None:
    name = await warehouse.receive(5)
    made = await lorry.start((name, 5), reference="waybill 9")
    request = pb.ListTransfersRequest(filter=f'to_location_id = "{lorry.to}" AND state = "IN_TRANSIT"')
    listed = (await lorry.stub.ListTransfers(request, metadata=lorry.who)).transfers
    assert list(listed) == [made]
    one = pb.GetTransferRequest(transfer_id=lorry.transfer_id)
    assert (await lorry.stub.GetTransfer(one, metadata=lorry.who)).transfer == made
    one = pb.GetTransferRequest(transfer_id=new_id())
    assert await refused(lorry.stub.GetTransfer(one, metadata=lorry.who)) == "UNKNOWN_TRANSFER"
