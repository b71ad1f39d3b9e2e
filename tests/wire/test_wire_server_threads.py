"""Plain functions run in threads; grpcio's own servicers of both kinds are hosted unchanged."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer as AioReflection

from services.chassis.wire.server import Server
from tests.wire.served import channel, path, serving

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def unary(request: bytes, context: Any) -> bytes:
    assert threading.current_thread() is not threading.main_thread()
    given = [pair for pair in context.invocation_metadata() if pair[0] == "x-a"]
    context.send_initial_metadata(given)
    context.set_trailing_metadata((("x-t", "1"),))
    if request == b"abort":
        context.abort(grpc.StatusCode.ABORTED, "as asked")
    if request == b"code":
        context.set_code(grpc.StatusCode.DATA_LOSS)
    return request


def server_stream(request: bytes, context: Any) -> Iterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


def client_stream(requests: Iterator[bytes], context: Any) -> bytes:
    return b"|".join(requests)


def bidi(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    yield from requests


KINDS = {"Unary": unary, "ServerStream": server_stream, "ClientStream": client_stream, "Bidi": bidi}


async def test_all_four_kinds_run_in_threads() -> None:
    sent = [b"%d" % number for number in range(100)]
    async with serving(**KINDS) as (_, port), channel(port) as client:
        call = client.unary_unary(path("Unary"))(b"x", metadata=(("x-a", "b"),))
        assert await call == b"x"
        assert ("x-a", "b") in tuple(await call.initial_metadata())
        assert ("x-t", "1") in tuple(await call.trailing_metadata())
        assert [each async for each in client.unary_stream(path("ServerStream"))(b"100")] == sent
        assert await client.stream_unary(path("ClientStream"))(iter([b"", *sent])) == b"|".join([b"", *sent])
        assert [each async for each in client.stream_stream(path("Bidi"))(iter(sent))] == sent


@pytest.mark.parametrize(
    ("request_", "code"),
    [(b"abort", grpc.StatusCode.ABORTED), (b"code", grpc.StatusCode.DATA_LOSS)],
)
async def test_a_thread_ends_its_call_with_a_status(request_: bytes, code: grpc.StatusCode) -> None:
    async with serving(**KINDS) as (_, port), channel(port) as client:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await client.unary_unary(path("Unary"))(request_)
    assert error.value.code() == code


async def test_a_thread_learns_that_its_caller_went_away() -> None:
    told, ended = threading.Event(), threading.Event()

    def endless(request: bytes, context: Any) -> Iterator[bytes]:
        assert context.add_callback(told.set)
        try:
            while context.is_active():
                yield bytes(10_000)
        finally:
            ended.set()

    async with serving(ServerStream=endless) as (_, port), channel(port) as client:
        call = client.unary_stream(path("ServerStream"))(b"")
        await call.read()
        call.cancel()
        assert await asyncio.to_thread(told.wait, 5)
        assert await asyncio.to_thread(ended.wait, 5)


@pytest.mark.parametrize("kind", ["threads", "aio"])
async def test_grpcios_health_servicers_answer_and_watch(kind: str) -> None:
    servicer: Any = health.aio.HealthServicer() if kind == "aio" else health.HealthServicer()

    def register(server: Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)

    async def tell(status: int) -> None:
        told = servicer.set("a.Service", status)
        if told is not None:
            await told

    async with serving(register=register) as (_, port), channel(port) as client:
        stub = health_pb2_grpc.HealthStub(client)
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Check(health_pb2.HealthCheckRequest(service="a.Service"))
        assert error.value.code() == grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="a.Service"))
        seen = [(await watch.read()).status]
        for status in (SERVING, NOT_SERVING):
            await tell(status)
            seen.append((await watch.read()).status)
        watch.cancel()
    assert seen == [UNKNOWN, SERVING, NOT_SERVING]


@pytest.mark.parametrize("make", [AioReflection, reflection.ReflectionServicer], ids=["aio", "threads"])
async def test_grpcios_reflection_servicers_list_services(make: Any) -> None:
    def register(server: Server) -> None:
        servicer = make([health.SERVICE_NAME, reflection.SERVICE_NAME])
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)

    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    async with serving(register=register) as (_, port), channel(port) as client:
        stub = reflection_pb2_grpc.ServerReflectionStub(client)
        (answer,) = [each async for each in stub.ServerReflectionInfo(iter([asked]))]
    named = [service.name for service in answer.list_services_response.service]
    assert named == sorted([health.SERVICE_NAME, reflection.SERVICE_NAME])
