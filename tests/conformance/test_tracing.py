"""The trace context always arrives; spans exist only when sampled, and tell every outcome right."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from services.chassis.telemetry import Tracing, parse_traceparent
from services.chassis.testing import Lab, laboratory, until
from tests.servers import Shared

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = (("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"),)
UNSAMPLED = (("traceparent", f"00-{TRACE}-00f067aa0ba902b7-00"),)


@pytest.fixture(scope="module")
def spans(engine: str) -> InMemorySpanExporter:
    """One for each engine: a process that ends shuts its exporter."""
    return InMemorySpanExporter()


@pytest.fixture(scope="module")
async def traced(
    engine: str, echo: ModuleType, servers: Shared, spans: InMemorySpanExporter
) -> AsyncIterator[Lab]:
    urls = {"postgres_url": servers.postgres(), "nats_url": servers.account()}
    tracing = Tracing(0.0, SimpleSpanProcessor(spans))
    async with laboratory({"echo": echo.build}, **urls, tracing=tracing, settings={"engine": engine}) as lab:
        yield lab


@pytest.fixture
def stub(traced: Lab, spans: InMemorySpanExporter) -> Any:
    from conformance.v1.echo_pb2_grpc import EchoServiceStub

    spans.clear()
    return EchoServiceStub(traced.channel)


async def ended(spans: InMemorySpanExporter) -> ReadableSpan:
    """The one span that ended."""

    async def one() -> Any:
        return spans.get_finished_spans()

    (span,) = await until(one)
    return span


OUTCOMES = {
    "ok": ({}, 0, StatusCode.UNSET),
    "refused": ({"ending": 1}, 9, StatusCode.UNSET),  # The caller's fault is no error of the server.
    "raised": ({"ending": 2}, 13, StatusCode.ERROR),
    "malformed": ({"padding": -1}, 3, StatusCode.UNSET),
    "deadline": ({"delay": Duration(seconds=20)}, 4, StatusCode.ERROR),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("kind", ["Unary", "ServerStream"])
async def test_each_outcome_is_told(
    stub: Any, echo: ModuleType, spans: InMemorySpanExporter, kind: str, outcome: str
) -> None:
    fields, code, status = OUTCOMES[outcome]
    count = 1 if kind == "ServerStream" else 0
    call = getattr(stub, kind)(
        echo.pb.Ask(count=count, **fields), metadata=SAMPLED, timeout=0.3 if outcome == "deadline" else 5
    )
    assert (await call.code()).value[0] == code if kind == "Unary" else await _drained(call) == code
    span = await ended(spans)
    assert span.name == f"weft.conformance.v1.EchoService/{kind}"
    assert span.attributes is not None
    assert span.attributes["rpc.grpc.status_code"] == code or (code == 4 and _cut_off(span))
    assert span.status.status_code == status or (code == 4 and _cut_off(span))
    assert span.context is not None
    assert format(span.context.trace_id, "032x") == TRACE
    assert span.kind == SpanKind.SERVER


async def _drained(call: Any) -> int:
    """The code that a stream ends with."""
    with suppress(grpc.aio.AioRpcError):
        async for _ in call:
            pass
    return int((await call.code()).value[0])


def _cut_off(span: ReadableSpan) -> bool:
    """At a deadline the engine may cancel the handler before its own timer fires."""
    assert span.attributes is not None
    return span.attributes["rpc.grpc.status_code"] == 1


async def test_a_cancelled_call_is_told(stub: Any, echo: ModuleType, spans: InMemorySpanExporter) -> None:
    call = stub.ServerStream(echo.pb.Ask(count=100_000, padding=1_000), metadata=SAMPLED)
    await call.read()
    call.cancel()
    span = await ended(spans)
    assert span.attributes is not None
    assert span.attributes["rpc.grpc.status_code"] == 1


async def test_an_unsampled_call_makes_no_span_and_keeps_its_trace(
    stub: Any, echo: ModuleType, spans: InMemorySpanExporter, traced: Lab
) -> None:
    await asyncio.gather(*(stub.Unary(echo.pb.Ask(), metadata=UNSAMPLED) for _ in range(5)))
    assert spans.get_finished_spans() == ()


async def test_a_call_onwards_is_a_child_of_the_call(
    echo: ModuleType, spans: InMemorySpanExporter, traced: Lab
) -> None:
    from conformance.v1.echo_pb2_grpc import EchoServiceStub

    spans.clear()
    stub = EchoServiceStub(traced.hosted.mesh["echo"])
    await stub.Unary(echo.pb.Ask(), metadata=SAMPLED)
    server = await ended(spans)
    assert server.parent is not None
    assert format(server.parent.span_id, "016x") == "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x",
        "00-0-0-0",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'g' * 16}-01",
    ],
)
def test_what_is_no_traceparent_begins_a_new_trace(header: str) -> None:
    assert parse_traceparent(header) is None
    trace = Tracing(0.0).begin(header)
    assert parse_traceparent(trace.header()) == trace
