"""The graph of calls: what was measured, and nothing else."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings, strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from services.chassis.health import Readiness
from services.chassis.host import Parts, hosting
from services.chassis.probes import probing
from services.chassis.registration import METRICS_PORT, About
from services.chassis.registration_settings import RegistrationSettings
from services.chassis.telemetry import BUCKETS_S
from services.chassis.testing import BASE, WAIT_S, until
from services.registry import reading
from services.registry.app import build
from services.registry.domain.graph import (
    GRAPHS_MAX,
    NOTHING,
    Span,
    Tally,
    of_envoy,
    of_process,
    quantile,
    traffic,
)
from tests import databases
from tests.registry.answering import LOOPBACK
from tests.registry.mesh import Mesh, refused
from tests.servers import Shared, free_port
from weft.registry.v1 import graph_pb2 as pb
from weft.registry.v1.graph_pb2_grpc import GraphServiceStub
from weft.registry.v1.instance_pb2 import InstanceSettings
from weft.registry.v1.registry_pb2 import ListInstancesRequest, RegisterInstanceRequest
from weft.registry.v1.registry_pb2_grpc import RegistryServiceStub

MIGRATIONS = databases.ROOT / "services" / "registry" / "migrations"
times = st.lists(st.floats(0.0001, 100), min_size=1, max_size=40)
FEW = settings(max_examples=20, deadline=None)


class Process:
    """One that counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.histogram = Histogram(
            "weft_rpc_by_caller_seconds",
            "x",
            ["caller", "service", "outcome"],
            registry=self.registry,
            buckets=BUCKETS_S,
        )

    def call(self, seconds: float, caller: str = "cart", outcome: str = "answered") -> None:
        self.histogram.labels(caller, "order", outcome).observe(seconds)

    def said(self) -> str:
        return generate_latest(self.registry).decode()


@FEW
@given(times, times, st.integers(0, 5))
def test_what_came_between_two_readings_is_counted(
    before: list[float], after: list[float], failed: int
) -> None:
    process = Process()
    for each in before:
        process.call(each)
    first = of_process(process.said())
    for each in after:
        process.call(each)
    for _ in range(failed):
        process.call(0.01, outcome="failed")
    [(key, seen)] = traffic([Span(first, of_process(process.said()), 2.0)]).items()
    assert key == ("cart", "order")
    assert seen.calls_per_second == (len(after) + failed) / 2
    assert seen.failed_per_second == failed / 2


@FEW
@given(times, st.sampled_from([0.5, 0.99]))
def test_a_quantile_lies_in_the_bucket_that_the_call_of_that_rank_lies_in(
    taken: list[float], share: float
) -> None:
    process = Process()
    for each in taken:
        process.call(each)
    tally = of_process(process.said())["cart", "order"]
    true = sorted(taken)[math.ceil(share * len(taken)) - 1]
    place = bisect_left(BUCKETS_S, true)
    found = quantile(tally.buckets, share)
    if place == len(BUCKETS_S):
        assert found is None
    else:
        assert found is not None
        assert (BUCKETS_S[place - 1] if place else 0) < found <= BUCKETS_S[place] + 1e-9


def test_no_call_has_no_time_and_is_a_rate_of_zero() -> None:
    process = Process()
    process.call(0.01)
    same = of_process(process.said())
    [seen] = traffic([Span(same, same, 2.0)]).values()
    assert (seen.calls_per_second, seen.p50_s, seen.p99_s) == (0, None, None)


def test_a_process_that_began_anew_counts_from_nothing() -> None:
    old, new = Process(), Process()
    for _ in range(10):
        old.call(0.01)
    new.call(0.02)
    [seen] = traffic([Span(of_process(old.said()), of_process(new.said()), 1.0)]).values()
    assert seen.calls_per_second == 1


def test_processes_of_one_service_are_added_up() -> None:
    one, two = Process(), Process()
    one.call(0.003)
    two.call(0.3)
    spans = [Span({}, of_process(each.said()), 1.0) for each in (one, two)]
    [seen] = traffic(spans).values()
    assert seen.calls_per_second == 2
    assert seen.p50_s == 0.005
    assert 0.2 < (seen.p99_s or 0) <= 0.5


@given(st.builds(Tally, st.just(0.0)), st.builds(Tally, st.integers(1, 9).map(float)))
def test_nothing_added_changes_nothing(nothing: Tally, some: Tally) -> None:
    assert NOTHING.plus(some) == some.plus(nothing) == some


def test_names_that_no_service_has_are_left_out() -> None:
    process = Process()
    process.call(0.01, caller="<script>")
    assert of_process(process.said()) == {}


@pytest.mark.parametrize("text", ["<html>", 'weft_rpc_by_caller_seconds_bucket{le="1"} NaN'])
def test_what_is_no_metrics_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        of_process(text)


def test_envoys_own_figures_are_read() -> None:
    text = """# TYPE envoy_cluster_upstream_rq_completed counter
envoy_cluster_upstream_rq_completed{envoy_cluster_name="cart"} 10
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="cart"} 7
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="cart"} 3
# TYPE envoy_cluster_upstream_rq_time histogram
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="cart",le="5"} 6
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="cart",le="+Inf"} 7
envoy_cluster_upstream_rq_time_sum{envoy_cluster_name="cart"} 70
envoy_cluster_upstream_rq_time_count{envoy_cluster_name="cart"} 7
"""
    assert of_envoy(text) == {("", "cart"): Tally(10, 3, {0.005: 6, math.inf: 7})}


@pytest.fixture
async def channels(servers: Shared, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Any, Any]]:
    """Its channel, of a service in a process that registers itself; and the registry's, which is in it."""
    monkeypatch.setattr(reading, "READ_S_MAX", WAIT_S)  # Of a machine that is busy.
    readiness, parts = Readiness(), Parts()
    async with (
        databases.fresh(servers.postgres(), databases.CHASSIS, MIGRATIONS) as url,
        probing(f"{LOOPBACK}:0", readiness) as metrics,
        hosting(
            {"registry": lambda tools: build(tools, {}), "caller": lambda tools: parts},
            replace(BASE, database_url=url, nats_url=servers.account(), drain_s=0.1),
            readiness=readiness,
            about=About(settings=RegistrationSettings(register=True), metrics_port=metrics),
        ) as hosted,
    ):
        yield hosted.mesh["caller"], hosted.mesh["registry"]


async def test_calls_of_a_service_by_another_are_seen(channels: tuple[Any, Any]) -> None:
    registry, own = map(RegistryServiceStub, channels)

    async def there() -> bool:
        return len((await own.ListInstances(ListInstancesRequest())).instances) == 2

    await until(there)
    for service, port in (("silent", free_port()), ("untold", 0)):
        labels = {METRICS_PORT: str(port)} if port else {}
        said = InstanceSettings(service=service, address=LOOPBACK, port=1, labels=labels)
        register = RegisterInstanceRequest(instance_id=str(uuid4()), settings=said)
        await registry.RegisterInstance(register)
    request = pb.GetGraphRequest(window=Duration(seconds=1))
    measuring = asyncio.create_task(GraphServiceStub(channels[1]).GetGraph(request))
    while not measuring.done():
        await registry.RegisterInstance(register)
        await asyncio.wait({measuring}, timeout=0.05)
    graph = await measuring
    readings = {node.service: [each.reading for each in node.instances] for node in graph.nodes}
    assert readings == {
        "caller": [pb.READING_DONE],
        "registry": [pb.READING_DONE],
        "silent": [pb.READING_SILENT],
        "untold": [pb.READING_UNTOLD],
    }
    assert not any(node.HasField("by_envoy") for node in graph.nodes)
    [edge] = [each for each in graph.edges if each.caller == "caller"]
    assert edge.callee == "registry"
    assert edge.traffic.calls_per_second > 0
    assert edge.traffic.HasField("p50")
    assert graph.measured.ToTimedelta().total_seconds() >= 1


async def test_graphs_at_once_are_bounded_and_need_the_permission(mesh: Mesh) -> None:
    stub = GraphServiceStub(mesh.lab.channel)
    long = pb.GetGraphRequest(window=Duration(seconds=30))
    asked = [
        asyncio.ensure_future(stub.GetGraph(long, metadata=mesh.lab.bearer())) for _ in range(GRAPHS_MAX + 1)
    ]
    [first], others = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    for each in others:
        each.cancel()
    assert await refused(first) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_GRAPHS")
    denied = stub.GetGraph(long, metadata=mesh.lab.bearer(scope="registry.instances.read"))
    assert await refused(denied) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")
