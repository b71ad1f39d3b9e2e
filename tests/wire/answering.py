"""The echo service of client tests, on each peer: what it does stands in the request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from services.chassis.wire.server import Server
from tests.wire.served import PATIENT, SERVICE, handler

PEERS = ["wire", "aio", "sync"]
STATUS = (("x-why", "asked for"), ("x-why-bin", b"\0\xff"))
SLOW_S = 20.0


async def unary(request: bytes, context: Any) -> bytes:
    if request == b"slow":
        await asyncio.sleep(SLOW_S)
    if request == b"refuse":
        await context.abort(grpc.StatusCode.NOT_FOUND, "nobody hört", STATUS)
    if request == b"metadata":
        await context.send_initial_metadata((("x-initial", "first"),))
        context.set_trailing_metadata(STATUS)
        return _told(context)
    return request


async def server_stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
    """Numbers up to the request's; what is behind a comma refuses then."""
    count, _, then = request.partition(b",")
    for number in range(int(count)):
        yield b"%d" % number
    if then:
        await context.abort(grpc.StatusCode.ABORTED, "enough")


def unary_sync(request: bytes, context: Any) -> bytes:
    if request == b"slow":
        until = time.monotonic() + SLOW_S
        while context.is_active() and time.monotonic() < until:
            time.sleep(0.01)
    if request == b"refuse":
        context.set_trailing_metadata(STATUS)
        context.abort(grpc.StatusCode.NOT_FOUND, "nobody hört")
    if request == b"metadata":
        context.send_initial_metadata((("x-initial", "first"),))
        context.set_trailing_metadata(STATUS)
        return _told(context)
    return request


def server_stream_sync(request: bytes, context: Any) -> Iterator[bytes]:
    count, _, then = request.partition(b",")
    for number in range(int(count)):
        yield b"%d" % number
    if then:
        context.abort(grpc.StatusCode.ABORTED, "enough")


def client_stream_sync(requests: Iterator[bytes], context: Any) -> bytes:
    return b"|".join(requests)


def bidi_sync(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    yield from requests


def _told(context: Any) -> bytes:
    """The caller's own metadata, as text."""
    given = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
    return repr(sorted(given)).encode()


SYNC = {
    "Unary": unary_sync,
    "ServerStream": server_stream_sync,
    "ClientStream": client_stream_sync,
    "Bidi": bidi_sync,
}


@asynccontextmanager
async def answering(peer: str) -> AsyncIterator[int]:
    """A server of that kind; yields its port."""
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
    if peer == "sync":
        threads = ThreadPoolExecutor(8)
        server = grpc.server(threads, options=options)
        server.add_generic_rpc_handlers((handler(**SYNC),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            await asyncio.to_thread(server.stop(0).wait)
            threads.shutdown()
        return
    made = Server(PATIENT) if peer == "wire" else grpc.aio.server(options=options)
    made.add_generic_rpc_handlers((handler(Unary=unary, ServerStream=server_stream),))
    port = made.add_insecure_port("127.0.0.1:0")
    await made.start()
    try:
        yield port
    finally:
        await made.stop(0)


def path(rpc: str) -> str:
    return f"/{SERVICE}/{rpc}"
