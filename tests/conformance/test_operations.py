"""Health, reflection and drain work the same on every engine, with their standard clients."""

import asyncio
from types import ModuleType
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.chassis.testing import Lab, laboratory, until
from tests.servers import Shared

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def test_health_knows_process_service_and_liveness(lab: Lab) -> None:
    stub = health_pb2_grpc.HealthStub(lab.channel)
    for name in ("", "live", "echo", "weft.conformance.v1.EchoService"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == SERVING, name
    listed = await stub.List(health_pb2.HealthListRequest())
    assert listed.statuses["echo"].status == SERVING
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


async def test_reflection_describes_the_services_hosted(lab: Lab) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(lab.channel)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    async for answer in stub.ServerReflectionInfo(iter([ask])):
        names = {service.name for service in answer.list_services_response.service}
    assert {"weft.conformance.v1.EchoService", "grpc.health.v1.Health"} <= names
    ask = reflection_pb2.ServerReflectionRequest(file_containing_symbol="weft.conformance.v1.EchoService")
    async for answer in stub.ServerReflectionInfo(iter([ask])):
        assert answer.file_descriptor_response.file_descriptor_proto


async def test_readiness_goes_before_calls_in_flight_end(
    engine: str, echo: ModuleType, servers: Shared
) -> None:
    urls = {"postgres_url": servers.postgres(), "nats_url": servers.account()}
    watched: list[int] = []
    async with laboratory({"echo": echo.build}, **urls, settings={"engine": engine, "drain_s": 20.0}) as lab:
        health = health_pb2_grpc.HealthStub(lab.channel)
        stub = _stub(lab.channel)
        watch = asyncio.create_task(_watch(health, watched))
        await until(lambda: _seen(watched, SERVING))
        call = asyncio.create_task(_answer(stub, echo))
        await until(lambda: _seen(lab.hosted.readiness.servicer._statuses.values(), SERVING))
        await asyncio.wait([call], timeout=0.3)
        drained = asyncio.create_task(lab.hosted.readiness.drain())
        await until(lambda: _seen(watched, NOT_SERVING))
        assert (await call).text == "late"
        await drained
        watch.cancel()


async def test_a_dead_dependency_takes_readiness_and_not_liveness(
    engine: str, echo: ModuleType, servers: Shared
) -> None:
    urls = {"postgres_url": servers.postgres(), "nats_url": servers.account()}
    fine = asyncio.Event()
    fine.set()

    def build(tools: Any) -> Any:
        parts = echo.build(tools)
        return type(parts)(
            servicers=parts.servicers, starts=parts.starts, checks={"gateway": lambda: _up(fine)}
        )

    async with laboratory({"echo": build}, **urls, settings={"engine": engine}) as lab:
        stub = health_pb2_grpc.HealthStub(lab.channel)
        fine.clear()
        await until(lambda: _status(stub, "echo", NOT_SERVING))
        assert await _status(stub, "live", SERVING)
        assert lab.hosted.readiness.failing == {"echo": "gateway: ConnectionError"}
        fine.set()
        await until(lambda: _status(stub, "echo", SERVING))


async def _up(fine: asyncio.Event) -> None:
    if not fine.is_set():
        raise ConnectionError


async def _status(stub: Any, name: str, wanted: int) -> bool:
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
    return bool(answer.status == wanted)


async def _watch(stub: Any, watched: list[int]) -> None:
    async for answer in stub.Watch(health_pb2.HealthCheckRequest(service="echo")):
        watched.append(answer.status)


async def _seen(values: Any, wanted: int) -> bool:
    return wanted in list(values)


async def _answer(stub: Any, echo: ModuleType) -> Any:
    return await stub.Unary(echo.pb.Ask(text="late", delay=Duration(seconds=1)))


def _stub(channel: grpc.aio.Channel) -> Any:
    from conformance.v1.echo_pb2_grpc import EchoServiceStub

    return EchoServiceStub(channel)
