"""What `weft mesh` prints."""

from __future__ import annotations

import io
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from scripts.picture import drawing
from weft.registry.v1.graph_pb2 import READING_DONE, READING_SILENT, GetGraphResponse
from weft.registry.v1.instance_pb2 import HEALTH_NOT_SERVING, HEALTH_SERVING, Instance

NOW = 1_800_000_000.0
COLUMNS = 100


def printed(what: Any, columns: int = COLUMNS) -> str:
    file = io.StringIO()
    Console(file=file, width=columns).print(what)
    return file.getvalue()


def instance(service: str, port: int, health: Any = HEALTH_SERVING) -> Instance:
    made = Instance(health=health, register_time=Timestamp(seconds=int(NOW) - 240))
    made.settings.MergeFrom(
        Instance(
            settings={"service": service, "address": "127.0.0.1", "port": port, "version": "0.1.0"}
        ).settings
    )
    made.expire_time.FromSeconds(int(NOW) + 11)
    return made


@pytest.fixture
def graph() -> GetGraphResponse:
    seen = GetGraphResponse()
    seen.measured.FromMilliseconds(2_004)
    cart, order = seen.nodes.add(service="cart"), seen.nodes.add(service="order" * 20)
    cart.instances.add(instance=instance("cart", 50_051), reading=READING_DONE)
    sick = instance("cart", 50_052, HEALTH_NOT_SERVING)
    cart.instances.add(instance=sick, reading=READING_SILENT)
    order.instances.add(instance=instance("order", 50_053), reading=READING_DONE)
    busy = seen.edges.add(caller="edge", callee="cart").traffic
    busy.calls_per_second, busy.failed_per_second = 1_234.5, 123.45
    busy.p50.FromMicroseconds(3_500)
    seen.edges.add(caller="cart", callee="order" * 20)
    cart.by_envoy.calls_per_second = 1_300
    return seen


def test_instances_and_calls_stand_in_a_hundred_columns(graph: GetGraphResponse) -> None:
    text = printed(drawing.drawn(graph, NOW))
    lines = text.splitlines()
    assert max(map(len, lines)) <= COLUMNS
    assert "2 services   3 instances   1 not serving   1,234.5 calls/s   over 2.0 s" in lines[0]
    words = [" ".join(line.split()) for line in lines]
    assert "cart serving 127.0.0.1:50051 0.1.0 - 4 min 11 s" in words
    assert "not serving 127.0.0.1:50052 0.1.0 - 4 min 11 s did not answer" in words
    assert f"edge → cart 1,234.5 10.0 % 3.5 ms {'━' * drawing.BAR_CELLS}" in words
    assert "calls by Envoy" in words


def test_what_was_not_measured_is_empty(graph: GetGraphResponse) -> None:
    [line] = [
        line
        for line in printed(drawing.drawn(graph, NOW)).splitlines()
        if line.startswith("cart ") and "→" in line
    ]
    assert line.split()[-1] == "0.0"


def test_a_mesh_where_nothing_registered_says_how_it_would() -> None:
    assert "WEFT_REGISTER=1 scripts/weft up" in printed(drawing.drawn(GetGraphResponse(), NOW))


def test_a_registry_that_does_not_answer_is_said_to() -> None:
    assert "does not answer: UNAVAILABLE gone" in printed(drawing.silent("UNAVAILABLE", "gone"))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0035, "3.5 ms"), (0.35, "350 ms"), (4.21, "4.2 s"), (90, "90 s"), (240, "4 min"), (9_000, "2 h")],
)
def test_times_are_said_for_people(seconds: float, said: str) -> None:
    assert drawing.span(seconds) == said
