"""The mesh's own engine: services.chassis.wire, with nothing of grpcio between the socket and Answering."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing

from google.rpc import status_pb2
from grpc import StatusCode

from services.chassis.engine import MESSAGE_BYTES_MAX
from services.chassis.engine.aio import connect
from services.chassis.errors import Refusal
from services.chassis.method import Method
from services.chassis.rpc import CALLS_MAX, Answering
from services.chassis.wire.limits import ServerLimits
from services.chassis.wire.metadata import CODES, Metadatum
from services.chassis.wire.server import Call, Refused, Route, Server

__all__ = ["connect", "serve"]

KEEPALIVE_S = 30.0  # A dead peer is noticed within a minute.
DETAILS = "grpc-status-details-bin"  # Where gRPC puts a google.rpc.Status.
LIMITS = ServerLimits(
    message_bytes_max=MESSAGE_BYTES_MAX,
    streams_max=CALLS_MAX,  # Per connection: Envoy multiplexes all callers over a few.
    calls_max=2 * CALLS_MAX,  # Answering refuses above CALLS_MAX, and says why.
    keepalive_s=KEEPALIVE_S,
    keepalive_timeout_s=KEEPALIVE_S,
    keepalive_idle=True,
)


class WireServer:
    """A started server."""

    def __init__(self, server: Server, port: int) -> None:
        self._server, self.port = server, port

    async def stop(self, grace_s: float) -> None:
        await self._server.stop(grace_s)


async def serve(address: str, methods: Mapping[str, Method], answering: Answering) -> WireServer:
    """Answers `methods` on `address` (host:port; port 0: any free one)."""
    server = Server(LIMITS)
    for method in methods.values():
        server.add_route(_route(method, answering))
    port = server.add_insecure_port(address)
    await server.start()
    return WireServer(server, port)


def _route(method: Method, answering: Answering) -> Route:
    make = _streamed if method.response_streaming else _unary
    return Route(method.path, method.request_streaming, make(method, answering), keeps_deadline=True)


Answer = Callable[[Call, bytes], Awaitable[bytes | None]]


def _unary(method: Method, answering: Answering) -> Answer:
    """`call` is a method.Transport as it stands."""
    streaming, serialize = method.request_streaming, method.serialize

    async def answer(call: Call, request: bytes) -> bytes:
        try:
            return serialize(
                await answering.unary(method, call.requests() if streaming else request, call)
            )
        except Refusal as refusal:
            raise _refused(refusal) from None

    return answer


def _streamed(method: Method, answering: Answering) -> Answer:
    streaming, serialize = method.request_streaming, method.serialize

    async def answer(call: Call, request: bytes) -> None:
        asked = call.requests() if streaming else request
        try:
            async with aclosing(answering.stream(method, asked, call)) as responses:
                async for response in responses:
                    await call.write(serialize(response))
        except Refusal as refusal:
            raise _refused(refusal) from None

    return answer


def _refused(refusal: Refusal) -> Refused:
    """The refusal's status; trailers that the handler set are kept."""
    status: status_pb2.Status = refusal.status()
    trailers: tuple[Metadatum, ...] = (*refusal.headers(), (DETAILS, status.SerializeToString()))
    return Refused(CODES.get(status.code, StatusCode.UNKNOWN), status.message, trailers)
