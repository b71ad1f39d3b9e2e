"""A service calls another the same way whether it is in this process or across a socket."""

import asyncio
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2

from services.chassis.errors import CallFailed
from services.chassis.host import Parts
from services.chassis.testing import Lab, laboratory
from tests.servers import Shared


@pytest.fixture(params=["in process", "across"])
async def stub(
    request: pytest.FixtureRequest, engine: str, echo: ModuleType, servers: Shared, lab: Lab
) -> AsyncIterator[Any]:
    """The echo service as another service sees it."""
    from conformance.v1.echo_pb2_grpc import EchoServiceStub

    if request.param == "in process":
        yield EchoServiceStub(lab.hosted.mesh["echo"])
        return
    urls = {"postgres_url": servers.postgres(), "nats_url": servers.account()}
    settings = {"engine": engine, "mesh_address": f"127.0.0.1:{lab.hosted.port}"}
    async with laboratory({"caller": lambda _: Parts()}, **urls, settings=settings) as other:
        yield EchoServiceStub(other.hosted.mesh["caller"])


async def test_all_four_kinds_answer(stub: Any, echo: ModuleType) -> None:
    pb = echo.pb
    assert (await stub.Unary(pb.Ask(text="прямо"))).text == "прямо"
    assert [answer.index async for answer in stub.ServerStream(pb.Ask(count=3))] == [0, 1, 2]
    assert (await stub.ClientStream(_asks(pb, 3))).text == "0,1,2"
    assert [answer.text async for answer in stub.Bidi(_asks(pb, 3))] == ["0", "1", "2"]


async def test_the_callee_knows_which_service_calls(stub: Any, echo: ModuleType) -> None:
    actor = (await stub.Internal(echo.pb.Ask())).actor
    assert actor in ("service:echo", "service:caller")


async def test_a_refusal_keeps_its_code_and_reason(stub: Any, echo: ModuleType) -> None:
    with pytest.raises(CallFailed) as failed:
        await stub.Unary(echo.pb.Ask(ending=echo.pb.ENDING_REFUSE))
    assert (failed.value.code, failed.value.reason) == (code_pb2.FAILED_PRECONDITION, "ASKED_FOR")
    with pytest.raises(CallFailed) as failed:
        await stub.Unary(echo.pb.Ask(count=-1))
    assert failed.value.code == code_pb2.INVALID_ARGUMENT


async def test_a_refusal_inside_a_stream_comes_after_what_came_before(stub: Any, echo: ModuleType) -> None:
    seen = []
    stream = stub.ServerStream(echo.pb.Ask(count=2, ending=echo.pb.ENDING_REFUSE))
    with pytest.raises(CallFailed) as failed:
        await _collect(stream, seen)
    assert seen == [0, 1]
    assert failed.value.reason == "ASKED_FOR"


async def test_a_timeout_ends_the_call(stub: Any, echo: ModuleType) -> None:
    with pytest.raises(CallFailed) as failed:
        await stub.Unary(echo.pb.Ask(delay=Duration(seconds=30)), timeout=0.2)
    assert failed.value.code == code_pb2.DEADLINE_EXCEEDED


async def test_a_stream_left_half_read_ends_the_callee(stub: Any, echo: ModuleType, lab: Lab) -> None:
    stream = stub.ServerStream(echo.pb.Ask(count=100_000, padding=1_000))
    assert (await anext(stream)).index == 0
    await stream.aclose()
    assert (await stub.Unary(echo.pb.Ask(text="next"))).text == "next"


async def test_64_calls_at_once(stub: Any, echo: ModuleType) -> None:
    answers = await asyncio.gather(*(stub.Unary(echo.pb.Ask(text=str(n))) for n in range(64)))
    assert [answer.text for answer in answers] == [str(n) for n in range(64)]


async def test_nobody_there_is_unavailable_and_fast(echo: ModuleType, servers: Shared, engine: str) -> None:
    from conformance.v1.echo_pb2_grpc import EchoServiceStub

    urls = {"postgres_url": servers.postgres(), "nats_url": servers.account()}
    async with laboratory({"caller": lambda _: Parts()}, **urls, settings={"engine": engine}) as other:
        stub = EchoServiceStub(other.hosted.mesh["caller"])
        for call in (stub.Unary, stub.Repeatable):
            async with asyncio.timeout(10):
                with pytest.raises(CallFailed) as failed:
                    await call(echo.pb.Ask())
            assert failed.value.code == code_pb2.UNAVAILABLE


async def _asks(pb: Any, count: int) -> AsyncIterator[Any]:
    for n in range(count):
        yield pb.Ask(text=str(n))


async def _collect(stream: AsyncIterator[Any], seen: list[int]) -> None:
    async for answer in stream:
        seen.append(answer.index)
