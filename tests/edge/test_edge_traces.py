"""Traces: the caller's context is passed on, and sampled calls are told to the collector."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb, trace_service_pb2_grpc as pb_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.edge.conftest import Edge, free_ports, serve
from tests.edge.probe import Schema

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Collector(pb_grpc.TraceServiceServicer):
    """Keeps the spans it is sent."""

    def __init__(self) -> None:
        self.spans: Queue[Span] = Queue()

    def Export(
        self, request: pb.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> pb.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.put(span)
        return pb.ExportTraceServiceResponse()


@pytest.fixture
def traced(descriptor: Path, schema: Schema, tmp_path: Path) -> Iterator[tuple[Edge, Collector]]:
    """An edge with a collector."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    pb_grpc.add_TraceServiceServicer_to_server(collector, server)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    assert server.add_insecure_port(address)
    server.start()
    with contextmanager(serve)(descriptor, schema, tmp_path, otlp=address, trace_percent=0) as edge:
        yield edge, collector
    server.stop(0).wait()


def test_without_a_collector_the_callers_trace_is_passed_on_untouched(web: httpx.Client) -> None:
    seen = web.get("/v1/things/1", headers={"traceparent": PARENT, "tracestate": "a=b"}).json()["seen"]
    assert (seen["traceparent"], seen["tracestate"]) == (PARENT, "a=b")


def test_a_sampled_callers_trace_goes_on_and_is_told(traced: tuple[Edge, Collector]) -> None:
    edge, collector = traced
    for _ in range(5):  # as many spans as the edge sends at once, before its timer
        answer = httpx.get(edge.url("http") + "/v1/things/1", headers={"traceparent": PARENT})
    seen = answer.json()["seen"]
    assert seen["traceparent"].split("-")[1] == TRACE
    assert seen["traceparent"] != PARENT  # the edge's own span is the parent now
    span = collector.spans.get(timeout=20)
    assert span.trace_id.hex() == TRACE
    assert not any("authorization" in each.key for each in span.attributes)
