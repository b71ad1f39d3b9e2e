"""The mesh's own engine: services.chassis.wire, with nothing of grpcio between the socket and Answering."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from google.rpc import status_pb2
from grpc import StatusCode
from grpc_status import rpc_status

from services.chassis.engine import MESSAGE_BYTES_MAX, Outgoing
from services.chassis.errors import CallFailed, Refusal
from services.chassis.method import Metadata, Method
from services.chassis.rpc import CALLS_MAX, Answering
from services.chassis.wire.client import Channel, Options, RpcError, parse
from services.chassis.wire.limits import Limits, ServerLimits
from services.chassis.wire.metadata import CODES, Metadatum
from services.chassis.wire.server import Call, Refused, Route, Server

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

CLIENT_LIMITS = Limits(
    message_bytes_max=MESSAGE_BYTES_MAX, keepalive_s=KEEPALIVE_S, keepalive_timeout_s=KEEPALIVE_S
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
            return serialize(await answering.unary(method, call.requests() if streaming else request, call))
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


class WireClient:
    """A channel of the wire; it reconnects and, as its service config says, retries by itself."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._calls: dict[str, Any] = {}

    async def unary(self, method: Outgoing, request: Any, timeout_s: float | None, metadata: Metadata) -> Any:
        call = self._calls.get(method.path) or self._callable(method)
        try:
            return await call(request, timeout=timeout_s, metadata=metadata)
        except RpcError as error:
            raise _failed(method.path, error) from error

    async def stream(
        self, method: Outgoing, request: Any, timeout_s: float | None, metadata: Metadata
    ) -> AsyncGenerator[Any, None]:
        call = self._callable(method)(request, timeout=timeout_s, metadata=metadata)
        try:
            async for response in call:
                yield response
        except RpcError as error:
            raise _failed(method.path, error) from error
        finally:
            call.cancel()

    async def close(self) -> None:
        await self._channel.close()

    def _callable(self, method: Outgoing) -> Any:
        if method.path not in self._calls:
            kind = {False: "unary", True: "stream"}
            make = getattr(
                self._channel, f"{kind[method.request_streaming]}_{kind[method.response_streaming]}"
            )
            self._calls[method.path] = make(method.path, method.encode, method.decode)
        return self._calls[method.path]


def connect(address: str, service_config: str) -> WireClient:
    """A client of `address`, connecting when first used. Raises ConfigError."""
    config = parse(service_config)
    return WireClient(
        Channel(address, Options(config=config, limits=CLIENT_LIMITS, request_bytes_max=MESSAGE_BYTES_MAX))
    )


def _failed(path: str, error: RpcError) -> CallFailed:
    rich: status_pb2.Status | None = None
    try:
        rich = rpc_status.from_call(error)  # type: ignore[arg-type] # typed for the sync API
    except ValueError:  # The details disagree with the code: a proxy rewrote the status.
        rich = None
    return CallFailed(path, rich or status_pb2.Status(code=error.code().value[0], message=error.details()))
