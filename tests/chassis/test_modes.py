"""What a process does about modes: sheds what can wait, serves what is old, and believes nobody for ever."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.chassis.bus import Bus
from services.chassis.cache import STALE_S_MAX, Cache
from services.chassis.clock import FakeClock
from services.chassis.method import Methods
from services.chassis.modes import BELIEVED_S, BUCKET, KEY, Modes, Shed
from tests.chassis.conftest import Running
from tests.chassis.waiting import until
from weft.catalog.v1.product_pb2_grpc import ProductServiceServicer, add_ProductServiceServicer_to_server
from weft.options.v1.options_pb2 import PRIORITY_DEFERRABLE, PRIORITY_NORMAL

EXPORT, SEARCH = (f"/weft.catalog.v1.ProductService/{name}" for name in ("ExportProducts", "SearchProducts"))
HEALTH = "/grpc.health.v1.Health/Check"


def word(**told: Any) -> bytes:
    return json.dumps({"modes": {}, "shed": [], "off": [], "stale": [], "queue": [], **told}).encode()


def shed(priority: int, path: str = "/weft.catalog.v1.") -> bytes:
    return word(modes={"search": "DEGRADED"}, shed=[[path, priority, "search"]])


@pytest.fixture(scope="module")
def methods() -> Methods:
    made = Methods()
    add_ProductServiceServicer_to_server(ProductServiceServicer(), made)
    return made


def refused(modes: Modes, methods: Methods, path: str) -> bool:
    try:
        modes.admit(methods.by_path[path])
    except Shed:
        return True
    return False


def test_all_is_normal_until_somebody_says_otherwise(methods: Methods) -> None:
    modes = Modes()
    assert (modes.mode("search"), modes.sheds) == ("NORMAL", False)
    assert [modes.off("a"), modes.stale("a"), modes.queued("a")] == [False] * 3
    assert not refused(modes, methods, EXPORT)


def test_calls_that_can_wait_are_shed_first(methods: Methods) -> None:
    modes = Modes(FakeClock())
    modes.tell(shed(PRIORITY_DEFERRABLE))
    assert modes.mode("search") == "DEGRADED"
    assert [refused(modes, methods, path) for path in (EXPORT, SEARCH)] == [True, False]
    modes.tell(shed(PRIORITY_NORMAL))
    assert [refused(modes, methods, path) for path in (EXPORT, SEARCH)] == [True, True]
    modes.tell(shed(PRIORITY_NORMAL, "/weft.cart.v1."))
    assert [refused(modes, methods, path) for path in (EXPORT, SEARCH)] == [False, False]


def test_a_word_that_nobody_confirms_is_believed_for_a_time(methods: Methods) -> None:
    clock = FakeClock()
    modes = Modes(clock)
    modes.tell(shed(PRIORITY_NORMAL))
    clock.advance(BELIEVED_S - 1)
    assert refused(modes, methods, SEARCH)
    modes.tell(shed(PRIORITY_NORMAL))
    clock.advance(BELIEVED_S - 1)
    assert refused(modes, methods, SEARCH), "it was confirmed"
    clock.advance(2)
    assert not refused(modes, methods, SEARCH)
    assert (modes.mode("search"), modes.sheds) == ("NORMAL", False)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"modes": 1}', b"\xff", word(shed=[["/x"]])])
def test_a_word_that_cannot_be_read_changes_nothing(text: bytes) -> None:
    modes = Modes()
    modes.tell(word(off=["facets"]))
    modes.tell(text)
    assert modes.off("facets")


async def test_all_processes_hear_of_it_and_keep_it_while_nats_says_nothing(
    bus: Bus, running: Running
) -> None:
    modes, bucket = Modes(), await bus.kv(BUCKET)
    await bucket.put(KEY, word(queue=["mails"]))
    async with running(modes.follow(bus)):
        await until(lambda: modes.queued("mails"))
        await bucket.put(KEY, word())
        await until(lambda: not modes.queued("mails"))


async def test_old_values_are_served_where_they_do_and_no_dropped_ones(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, modes, loads = FakeClock(), Modes(), list[str]()
    cache = Cache[str](bus, "things", 60.0, 100, dump=str.encode, parse=bytes.decode)
    monkeypatch.setattr(cache, "_clock", clock)
    cache.modes = modes

    async def load() -> str:
        loads.append("asked")
        return f"value {len(loads)}"

    assert await cache.get("k", load) == "value 1"
    modes.tell(word(stale=["things"]))
    clock.advance(61)
    assert await cache.get("k", load) == "value 1"
    await cache.drop("k")
    assert await cache.get("k", load) == "value 2", "what was said to have changed is not served"
    clock.advance(60 + STALE_S_MAX)
    assert await cache.get("k", load) == "value 3", "nor what is too old"
    modes.tell(word(stale=["others"]))
    clock.advance(61)
    assert await cache.get("k", load) == "value 4"
