"""Outside callers are served like any other: synchronous stubs, channels that OpenTelemetry instruments."""

import asyncio
from types import ModuleType
from typing import Any

import grpc.aio
import pytest
from opentelemetry.instrumentation.grpc import aio_client_interceptors
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.chassis.testing import Lab


@pytest.fixture(scope="module")
def grpc_addr(lab: Lab) -> str:
    """pytest-grpc's channels lead to the laboratory instead of a server of its own."""
    return f"127.0.0.1:{lab.hosted.port}"


@pytest.fixture(scope="module")
def grpc_server() -> None:
    """The laboratory serves."""


@pytest.fixture(scope="module")
def grpc_stub_cls(echo: ModuleType) -> Any:
    from conformance.v1.echo_pb2_grpc import EchoServiceStub

    return EchoServiceStub


async def test_a_synchronous_stub_gets_all_four_kinds(grpc_stub: Any, echo: ModuleType) -> None:
    pb = echo.pb

    def calls() -> tuple[Any, ...]:
        streamed = [answer.index for answer in grpc_stub.ServerStream(pb.Ask(count=3))]
        joined = grpc_stub.ClientStream(iter([pb.Ask(text="a"), pb.Ask(text="b")])).text
        both = [answer.text for answer in grpc_stub.Bidi(iter([pb.Ask(text="c"), pb.Ask(text="d")]))]
        return grpc_stub.Unary(pb.Ask(text="one")).text, streamed, joined, both

    assert await asyncio.to_thread(calls) == ("one", [0, 1, 2], "a,b", ["c", "d"])


async def test_a_synchronous_stub_sees_refusals(grpc_stub: Any, echo: ModuleType) -> None:
    with pytest.raises(grpc.RpcError) as error:
        await asyncio.to_thread(grpc_stub.Unary, echo.pb.Ask(ending=echo.pb.ENDING_REFUSE))
    assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_an_instrumented_caller_is_its_trace_s_parent(
    grpc_addr: str, grpc_stub_cls: Any, echo: ModuleType
) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    interceptors = aio_client_interceptors(tracer_provider=provider)
    async with grpc.aio.insecure_channel(grpc_addr, interceptors=interceptors) as channel:
        answer = await grpc_stub_cls(channel).Unary(echo.pb.Ask())
    (span,) = spans.get_finished_spans()
    assert span.context is not None
    assert format(span.context.trace_id, "032x") in answer.metadata["traceparent"]
