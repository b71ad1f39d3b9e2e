"""weft.registry.v1.GraphService."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from google.protobuf.duration_pb2 import Duration

from services.chassis.method import Call
from services.chassis.registration import METRICS_PORT
from services.registry import reading
from services.registry.domain.graph import GRAPHS_MAX, PLACES_MAX, Span, TooManyGraphs, Traffic, traffic
from services.registry.domain.instance import Instance
from services.registry.reading import Source
from services.registry.service import pack
from services.registry.service.shared import Shared
from services.registry.store import instance as instances
from weft.registry.v1 import graph_pb2 as pb
from weft.registry.v1.graph_pb2_grpc import GraphServiceServicer

WINDOW_S = 2.0
ONE_VIEW = "REPEATABLE READ"


class Graphs(GraphServiceServicer):
    def __init__(self, shared: Shared, envoy: str) -> None:
        """`envoy`: host:port of its stats listener; empty: its figures are absent."""
        self._shared, self._measuring = shared, 0
        self._envoy = reading.envoy(envoy) if envoy else None

    async def GetGraph(self, request: pb.GetGraphRequest, call: Call) -> pb.GetGraphResponse:
        window_s = request.window.ToTimedelta().total_seconds() or WINDOW_S
        with self._one():
            async with self._shared.db.transaction(ONE_VIEW) as tx:
                _, rows = await instances.present(tx, "")
            places = {row.instance_id: found for row in rows if (found := _source(row))}
            chosen = list(dict.fromkeys(places.values()))[:PLACES_MAX]
            envoys = [self._envoy] if self._envoy else []
            spans = await reading.spans([*chosen, *envoys], window_s, self._shared.clock)
        by_envoy = traffic([spans[each] for each in envoys if each in spans])
        answer = pb.GetGraphResponse(nodes=_nodes(rows, by_envoy))
        for node in answer.nodes:
            for each, row in zip(node.instances, _of(rows, node.service), strict=True):
                each.reading = _judged(places.get(row.instance_id), chosen, spans)
        processes = [spans[each] for each in chosen if each in spans]
        for (caller, callee), seen in traffic(processes).items():
            answer.edges.add(caller=caller, callee=callee, traffic=_traffic(seen))
        if processes:
            answer.measured.CopyFrom(_duration(min(each.seconds for each in processes)))
        return answer

    @contextmanager
    def _one(self) -> Iterator[None]:
        """Raises TooManyGraphs."""
        if self._measuring >= GRAPHS_MAX:
            raise TooManyGraphs(max=GRAPHS_MAX)
        self._measuring += 1
        try:
            yield
        finally:
            self._measuring -= 1


def _source(row: Instance) -> Source | None:
    """Where its process is read: at its own address, by the port that it tells."""
    for label in row.labels:
        key, _, value = label.partition("=")
        if key == METRICS_PORT and value.isascii() and value.isdigit() and 0 < int(value) < 1 << 16:
            return reading.process(row.address, value)
    return None


def _of(rows: Sequence[Instance], service: str) -> list[Instance]:
    return [row for row in rows if row.service == service]


def _nodes(rows: Sequence[Instance], by_envoy: Mapping[tuple[str, str], Traffic]) -> list[pb.GraphNode]:
    nodes = []
    for service in sorted({row.service for row in rows}):
        node = pb.GraphNode(service=service)
        for row in _of(rows, service):
            node.instances.add(instance=pack.instance(row))
        if seen := by_envoy.get(("", service)):
            node.by_envoy.CopyFrom(_traffic(seen))
        nodes.append(node)
    return nodes


def _judged(
    source: Source | None, chosen: Sequence[Source], spans: Mapping[Source, Span]
) -> pb.Reading.ValueType:
    if source is None:
        return pb.READING_UNTOLD
    if source in spans:
        return pb.READING_DONE
    return pb.READING_SILENT if source in chosen else pb.READING_PASSED_OVER


def _traffic(seen: Traffic) -> pb.Traffic:
    made = pb.Traffic(calls_per_second=seen.calls_per_second, failed_per_second=seen.failed_per_second)
    if seen.p50_s is not None:
        made.p50.CopyFrom(_duration(seen.p50_s))
    if seen.p99_s is not None:
        made.p99.CopyFrom(_duration(seen.p99_s))
    return made


def _duration(seconds: float) -> Duration:
    made = Duration()
    made.FromMicroseconds(round(seconds * 1_000_000))
    return made
