"""Where calls go: over TLS and Unix sockets, to several endpoints that change, to healthy ones."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop
from grpc import ChannelConnectivity as State, StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from services.chassis.wire.client import Channel, Live, Options, Pace, RpcError, client_context, parse
from services.chassis.wire.server import Server, ports
from tests.wire.answering import path
from tests.wire.certificates import Pair, pair
from tests.wire.served import handler, serving, serving_in_thread

QUICK = Pace(initial_s=0.02, multiplier=1.0, jitter=0.0)
WAIT_S = 5.0
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair(tmp_path_factory.mktemp("other"))


@asynccontextmanager
async def secured(context: ssl.SSLContext) -> AsyncIterator[int]:
    server = Server()
    server.add_generic_rpc_handlers((handler(),))
    port = server.add_secure_port("127.0.0.1:0", context)
    await server.start()
    yield port
    await server.stop(0)


async def once(target: Any, **options: Any) -> bytes:
    """One unary call on a channel of its own."""
    async with Channel(target, Options(pace=QUICK, **options)) as channel:
        return bytes(await channel.unary_unary(path("Unary"))(b"x", timeout=WAIT_S))


async def test_tls_is_checked_against_the_given_roots(own: Pair, other: Pair) -> None:
    async with secured(ports.tls(own.certificate, own.key)) as port:
        right = client_context(own.certificate.read_bytes())
        assert await once(f"localhost:{port}", tls=right) == b"x"
        assert await once(f"127.0.0.1:{port}", tls=right, server_name="localhost") == b"x"
        wrong = {"tls": client_context(other.certificate.read_bytes())}
        for options in (wrong, {"tls": right, "server_name": "elsewhere.test"}):
            with pytest.raises(RpcError) as error:
                await once(f"localhost:{port}", **options)
            assert error.value.code() is StatusCode.UNAVAILABLE
            assert "CERTIFICATE_VERIFY_FAILED" in error.value.details()


async def test_mutual_tls_shows_our_certificate(own: Pair, other: Pair) -> None:
    async with secured(ports.tls(own.certificate, own.key, other.certificate)) as port:
        roots = own.certificate.read_bytes()
        shown = client_context(roots, other.key, other.certificate)
        assert await once(f"localhost:{port}", tls=shown) == b"x"
        with pytest.raises(RpcError) as error:
            await once(f"localhost:{port}", tls=client_context(roots))
        assert error.value.code() is StatusCode.UNAVAILABLE


async def test_a_server_without_h2_in_alpn_is_left(own: Pair) -> None:
    """RFC 9113 §3.2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(RpcError) as error:
        await once(f"localhost:{port}", tls=client_context(own.certificate.read_bytes()))
    assert "ALPN" in error.value.details()
    server.close()


async def test_grpcios_server_takes_our_tls(own: Pair) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler(),))
    credentials = grpc.ssl_server_credentials([(own.key.read_bytes(), own.certificate.read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    assert await once(f"localhost:{port}", tls=client_context(own.certificate.read_bytes())) == b"x"
    await server.stop(0)


@pytest.mark.parametrize("form", ["unix:{}", "unix://{}", "unix-abstract:weft-{}"])
async def test_unix_sockets_are_called(tmp_path: Path, form: str) -> None:
    address = form.format(tmp_path / "socket")
    server = Server()
    server.add_generic_rpc_handlers((handler(),))
    server.add_insecure_port(address)
    await server.start()
    assert await once(address) == b"x"
    await server.stop(0)


@asynccontextmanager
async def named(*names: bytes, **more: Any) -> AsyncIterator[list[str]]:
    """Servers that answer with their names; yields their addresses."""
    async with AsyncExitStack() as stack:
        addresses = []
        for name in names:
            _, port = await stack.enter_async_context(serving(Unary=_named(name), **more))
            addresses.append(f"127.0.0.1:{port}")
        yield addresses


def _named(name: bytes) -> Any:
    async def unary(request: bytes, context: Any) -> bytes:
        return name

    return unary


def balanced(policy: str, **more: Any) -> Options:
    config = parse(json.dumps({"loadBalancingConfig": [{policy: {}}], **more}))
    return Options(config=config, pace=QUICK)


async def who(channel: Channel, count: int) -> Counter[bytes]:
    call = channel.unary_unary(path("Unary"))
    return Counter([await call(b"x", timeout=WAIT_S, wait_for_ready=True) for _ in range(count)])


async def ready(channel: Channel, count: int) -> None:
    """Waits until so many endpoints are READY."""
    async with asyncio.timeout(WAIT_S):
        channel.get_state(try_to_connect=True)
        while sum(each.state is State.READY for each in channel._subchannels.values()) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_round_robin_shares_calls_equally() -> None:
    async with (
        named(b"a", b"b", b"c") as addresses,
        Channel(Live(addresses), balanced("round_robin")) as channel,
    ):
        await ready(channel, 3)
        assert await who(channel, 30) == {b"a": 10, b"b": 10, b"c": 10}


async def test_least_request_avoids_who_is_busy() -> None:
    busy = asyncio.Event()

    async def wait(request: bytes, context: Any) -> AsyncIterator[bytes]:
        await busy.wait()
        yield b""

    async with (
        named(b"a", b"b", ServerStream=wait) as addresses,
        Channel(Live(addresses), balanced("least_request")) as channel,
    ):
        await ready(channel, 2)
        held = [channel.unary_stream(path("ServerStream"))(b"") for _ in range(20)]
        loads = sorted(each.load for each in channel._subchannels.values())
        assert sum(loads) == 20
        assert loads[0] >= 6, "they are shared nearly equally"
        busy.set()
        for call in held:
            assert await call.code() is StatusCode.OK


async def test_endpoints_come_and_go_while_calls_are_made() -> None:
    async with named(b"a", b"b", b"c") as addresses:
        live = Live(addresses[:1])
        async with Channel(live, balanced("round_robin")) as channel:
            assert await who(channel, 4) == {b"a": 4}
            live.update(addresses)
            await ready(channel, 3)
            assert set(await who(channel, 9)) == {b"a", b"b", b"c"}
            live.update(addresses[1:2])
            await ready(channel, 1)
            assert await who(channel, 4) == {b"b": 4}
            live.update([])
            with pytest.raises(RpcError) as error:
                await channel.unary_unary(path("Unary"))(b"x")
            assert (error.value.code(), error.value.details()) == (
                StatusCode.UNAVAILABLE,
                "there is no endpoint",
            )
            live.update(addresses[:1])
            assert await who(channel, 2) == {b"a": 2}


async def test_a_call_in_flight_outlives_its_endpoint() -> None:
    release = asyncio.Event()

    async def slow(request: bytes, context: Any) -> bytes:
        await release.wait()
        return b"old"

    async with serving(Unary=slow) as (_, port), named(b"new") as addresses:
        live = Live([f"127.0.0.1:{port}"])
        async with Channel(live, Options(pace=QUICK)) as channel:
            await channel.channel_ready()
            call = channel.unary_unary(path("Unary"))(b"x", timeout=WAIT_S)
            live.update(addresses)
            assert await who(channel, 2) == {b"new": 2}
            release.set()
            assert await call == b"old"


async def test_pick_first_goes_on_to_the_next_endpoint() -> None:
    async with (
        named(b"a", b"b") as addresses,
        Channel(Live(["127.0.0.1:1", *addresses]), Options(pace=QUICK)) as channel,
    ):
        assert await who(channel, 4) == {b"a": 4}


async def test_a_server_that_stops_is_left_for_another() -> None:
    """Its GOAWAY is seen: no call fails."""
    async with named(b"b") as addresses:
        server = Server()
        server.add_generic_rpc_handlers((handler(Unary=_named(b"a")),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        live = Live([f"127.0.0.1:{port}", *addresses])
        async with Channel(live, balanced("round_robin")) as channel:
            await ready(channel, 2)
            stopping = asyncio.create_task(server.stop(1.0))
            seen = await who(channel, 200)
            await stopping
            assert await who(channel, 4) == {b"b": 4}
            assert sum(seen.values()) == 200


async def test_only_healthy_endpoints_get_calls() -> None:
    """gRFC A17."""
    servicer = health.HealthServicer()
    await servicer.set("weft.wire", SERVING)

    def register(server: Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)

    config = {"healthCheckConfig": {"serviceName": "weft.wire"}}
    async with (
        serving(register=register, Unary=_named(b"a")) as (_, port),
        named(b"b") as addresses,  # Has no health service: taken to be healthy.
        Channel(Live([f"127.0.0.1:{port}", *addresses]), balanced("round_robin", **config)) as channel,
    ):
        await ready(channel, 2)
        assert set(await who(channel, 4)) == {b"a", b"b"}
        await servicer.set("weft.wire", NOT_SERVING)
        await ready(channel, 1)
        assert await who(channel, 4) == {b"b": 4}
        await servicer.set("weft.wire", SERVING)
        await ready(channel, 2)
        assert set(await who(channel, 4)) == {b"a", b"b"}


async def test_an_endpoint_is_not_used_before_it_is_known_to_be_healthy() -> None:
    servicer = health.HealthServicer()
    await servicer.set("", NOT_SERVING)

    def register(server: Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)

    async with serving(register=register) as (_, port):
        options = balanced("round_robin", healthCheckConfig={})
        async with Channel(f"127.0.0.1:{port}", options) as channel:
            with pytest.raises(RpcError) as error:
                await channel.unary_unary(path("Unary"))(b"x", timeout=WAIT_S)
            assert error.value.code() is StatusCode.UNAVAILABLE
            assert "does not serve" in error.value.details()
            waiting = channel.unary_unary(path("Unary"))(b"x", timeout=WAIT_S, wait_for_ready=True)
            await servicer.set("", SERVING)
            assert await waiting == b"x"


async def test_a_watch_keeps_no_connection_and_follows_to_the_next() -> None:
    """Endpoints that go, and servers that stop, are left though their health is being watched."""
    servicer = health.HealthServicer()

    def register(server: Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)

    options = balanced("round_robin", healthCheckConfig={})
    async with serving(register=register, Unary=_named(b"a")) as (server, port):
        live = Live([f"127.0.0.1:{port}"])
        async with Channel(live, options) as channel:
            assert await who(channel, 2) == {b"a": 2}
            live.update([])
            async with asyncio.timeout(WAIT_S):
                while server.connections:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            live.update([f"127.0.0.1:{port}"])
            assert await who(channel, 2) == {b"a": 2}
            for status in (SERVING, NOT_SERVING):
                await servicer.set("", status)
                await ready(channel, status == SERVING)
                for connection in [*server.connections]:
                    connection.close()
                await servicer.set("", SERVING)
                assert await who(channel, 2) == {b"a": 2}


async def test_generated_stubs_take_the_channel() -> None:
    servicer = health.HealthServicer()

    def register(server: Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)

    async with (
        serving(register=register) as (_, port),
        Channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        assert (await stub.Check(request)).status == SERVING
        watch = stub.Watch(request)
        assert (await watch.read()).status == SERVING
        watch.cancel()


def test_all_of_it_runs_on_uvloop_too() -> None:
    async def calls(port: int) -> None:
        async with Channel(f"127.0.0.1:{port}") as channel:
            unary = channel.unary_unary(path("Unary"))
            assert await asyncio.gather(*(_of(unary(b"%d" % n, timeout=WAIT_S)) for n in range(100)))
            assert await unary(bytes(2_000_000)) == bytes(2_000_000)
            answer = channel.stream_stream(path("Bidi"))(iter([b"1", b"2"]))
            assert [message async for message in answer] == [b"1", b"2"]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(_of(channel.stream_unary(path("ClientStream"))()), 0.05)

    with (
        serving_in_thread(asyncio.new_event_loop) as port,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(calls(port))


async def _of(call: Any) -> Any:
    return await call
