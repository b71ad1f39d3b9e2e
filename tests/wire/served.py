"""A wire server within the test's process, whose handlers are plain functions on bytes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import grpc.aio

from services.chassis.wire.limits import ServerLimits
from services.chassis.wire.server import Server

SERVICE = "weft.wire.Echo"  # That of `peer.asking`.
STOP_S = 5.0
PATIENT = ServerLimits(ping_interval_s=0.0)  # Scripted peers ask by PING how far the server is.

_MAKE: dict[str, Callable[..., Any]] = {
    "Unary": grpc.unary_unary_rpc_method_handler,
    "ServerStream": grpc.unary_stream_rpc_method_handler,
    "ClientStream": grpc.stream_unary_rpc_method_handler,
    "Bidi": grpc.stream_stream_rpc_method_handler,
}


async def unary(request: bytes, context: Any) -> bytes:
    return request


async def server_stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
    """As many messages as the request says, each its number."""
    for number in range(int(request)):
        yield b"%d" % number


async def client_stream(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b"|".join([request async for request in requests])


async def bidi(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


def handler(**kinds: Any) -> grpc.GenericRpcHandler:
    """An echo, but for what `kinds` gives: a function, by the name of its rpc."""
    functions = {"Unary": unary, "ServerStream": server_stream, "ClientStream": client_stream, "Bidi": bidi}
    methods = {name: _MAKE[name](function) for name, function in {**functions, **kinds}.items()}
    return grpc.method_handlers_generic_handler(SERVICE, methods)


@asynccontextmanager
async def serving(
    limits: ServerLimits = PATIENT, register: Callable[[Server], Any] | None = None, **kinds: Any
) -> AsyncIterator[tuple[Server, int]]:
    """A server on a port of its own. `register` adds what it wants before the start."""
    server = Server(limits)
    server.add_generic_rpc_handlers((handler(**kinds),))
    if register is not None:
        register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield server, port
    finally:
        async with asyncio.timeout(STOP_S):
            await server.stop(None)
        assert not server.connections


@contextmanager
def serving_in_thread(loop_factory: Callable[[], asyncio.AbstractEventLoop], **kinds: Any) -> Iterator[int]:
    """The same on an event loop of its own kind, in a thread: yields the port."""
    ready, ports, ends = threading.Event(), list[int](), list[Callable[[], object]]()

    async def serve() -> None:
        done, loop = asyncio.Event(), asyncio.get_running_loop()
        async with serving(**kinds) as (_, port):
            ports.append(port)
            ends.append(lambda: loop.call_soon_threadsafe(done.set))
            ready.set()
            await done.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(STOP_S)
        yield ports[0]
    finally:
        for end in ends:
            end()
        thread.join(STOP_S)
        assert not thread.is_alive()


def channel(port: int, **options: Any) -> grpc.aio.Channel:
    """A client of grpcio's. Options are gRPC's, without their prefix."""
    given = [
        ("grpc.max_receive_message_length", -1),
        *((f"grpc.{key}", value) for key, value in options.items()),
    ]
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=given)


def path(rpc: str) -> str:
    return f"/{SERVICE}/{rpc}"
