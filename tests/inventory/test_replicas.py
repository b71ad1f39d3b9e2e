"""Several replicas work on one database: rows are locked, so what one process orders by itself they share."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.chassis.errors import Refusal
from services.chassis.events import Provenance
from services.inventory.domain.levels import Demand, summed
from services.inventory.domain.reservation import digest_of
from services.inventory.service.ending import End, Ends
from services.inventory.service.holding import Hold, Holding
from services.inventory.service.writing import Writing
from tests.inventory.warehouse import COMMITTED, Warehouse

REPLICAS = 4  # As many as the pool has connections for: all are in the middle of something at once.
BY = Provenance(actor="service:order")


class Replicas:
    """What several processes would hold and end with."""

    def __init__(self, warehouse: Warehouse) -> None:
        db, clock = warehouse.lab.db("inventory"), warehouse.lab.clock
        self._clock, writing = clock, Writing(alerting=False)
        self.holdings = [Holding(db, clock, writing) for _ in range(REPLICAS)]
        self.ends = [Ends(db, clock, writing) for _ in range(REPLICAS)]

    def hold(self, n: int, *lines: tuple[str, int], one: UUID | None = None) -> Any:
        demands = summed(Demand(name, None, units) for name, units in lines)
        hold = Hold(
            reservation_id=one or uuid4(),
            demands=demands,
            digest=digest_of(demands),
            expire_at=self._clock.now() + timedelta(hours=1),
            by=BY,
        )
        return self.holdings[n % REPLICAS].hold(hold)

    def end(self, n: int, one: UUID, ending: Any) -> Any:
        return self.ends[n % REPLICAS].end(End(reservation_id=one, ending=ending, by=BY))


async def met(calls: Sequence[Any]) -> Counter[str]:
    """Reasons of refusals, or OK; anything else is raised."""
    found: Counter[str] = Counter()
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(answer, BaseException) and not isinstance(answer, Refusal):
            raise answer
        found[answer.reason() if isinstance(answer, Refusal) else "OK"] += 1
    return found


@pytest.fixture
def replicas(warehouse: Warehouse) -> Replicas:
    return Replicas(warehouse)


async def test_the_last_units_are_sold_once(warehouse: Warehouse, replicas: Replicas) -> None:
    name = await warehouse.receive(10)
    calls = [replicas.hold(n, (name, 1)) for n in range(64)]
    assert await met(calls) == {"OK": 10, "OUT_OF_STOCK": 54}
    assert await warehouse.counters(name) == (10, 10, 0)
    assert await warehouse.wrong() == []


async def test_one_id_at_several_replicas_is_one_reservation(
    warehouse: Warehouse, replicas: Replicas
) -> None:
    name = await warehouse.receive(100)
    ids = [uuid4() for _ in range(8)]
    calls = [replicas.hold(n, (name, 1), one=one) for n in range(REPLICAS) for one in ids]
    assert await met(calls) == {"OK": 32}
    assert await warehouse.counters(name) == (100, 8, 92)
    assert await warehouse.wrong() == []


async def test_skus_in_any_order_do_not_make_replicas_wait_in_a_circle(
    warehouse: Warehouse, replicas: Replicas
) -> None:
    names = [await warehouse.receive(1_000) for _ in range(4)]
    orders = [names, names[::-1], names[2:] + names[:2], [names[1], names[3], names[0], names[2]]]
    calls = [replicas.hold(n, *((name, 1) for name in orders[n % 4])) for n in range(80)]
    assert await met(calls) == {"OK": 80}
    assert await warehouse.wrong() == []


async def test_each_unit_ends_one_way(warehouse: Warehouse, replicas: Replicas) -> None:
    """The same reservations are committed, released and released again at different replicas."""
    name, ids = await warehouse.receive(240), [uuid4() for _ in range(40)]
    await warehouse.reserve((name, 200))  # Somebody else's, so that no counter falls below zero by it.
    await asyncio.gather(*(replicas.hold(n, (name, 1), one=one) for n, one in enumerate(ids)))
    calls = [
        replicas.end(n + m, one, ending)
        for m, ending in enumerate(("COMMIT", "RELEASE", "COMMIT", "RELEASE"))
        for n, one in enumerate(ids)
    ]
    told = await met(calls)
    assert told == {"OK": 80, "RESERVATION_NOT_HELD": 80}
    states = Counter([(await warehouse.get(str(one))).state for one in ids])
    on_hand, reserved, _ = await warehouse.counters(name)
    assert (on_hand, reserved) == (240 - states[COMMITTED], 200)
    assert await warehouse.wrong() == []


async def test_a_release_meets_a_reserve_at_another_replica(warehouse: Warehouse, replicas: Replicas) -> None:
    name, ids = await warehouse.receive(40), [uuid4() for _ in range(40)]
    calls = [
        call
        for n, one in enumerate(ids)
        for call in (replicas.hold(n, (name, 1), one=one), replicas.end(n + 1, one, "RELEASE"))
    ]
    assert set(await met(calls)) <= {"OK", "RESERVATION_NOT_HELD"}
    assert await warehouse.counters(name) == (40, 0, 40)
    assert await warehouse.wrong() == []
