"""The reference engine: grpc.aio. The only module that imports it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
from google.rpc import status_pb2
from grpc_status import rpc_status

from services.chassis.engine import MESSAGE_BYTES_MAX, Outgoing
from services.chassis.errors import CallFailed, Refusal
from services.chassis.method import Metadata, Method
from services.chassis.rpc import CALLS_MAX, Answering

KEEPALIVE_MS = 30_000  # A dead peer is noticed within a minute.
HEADER_BYTES_MAX = 16_384
STREAMS_MAX = CALLS_MAX  # Per connection: Envoy multiplexes all callers over a few.

OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", HEADER_BYTES_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
]
SERVER_OPTIONS = [
    *OPTIONS,
    ("grpc.so_reuseport", 0),  # Else two servers share a port in silence.
    ("grpc.max_concurrent_streams", STREAMS_MAX),
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 3),
    ("grpc.http2.max_ping_strikes", 0),  # Envoy pings idle connections.
    ("grpc.keepalive_permit_without_calls", 1),
]


class AioTransport:
    """A call of grpc.aio, as the chassis sees it."""

    __slots__ = ("_context",)

    def __init__(self, context: Any) -> None:
        self._context = context

    def metadata(self) -> Metadata:
        return tuple(self._context.invocation_metadata() or ())

    def time_remaining(self) -> float | None:
        remaining = self._context.time_remaining()
        return None if remaining is None else float(remaining)

    def peer(self) -> str:
        return str(self._context.peer())

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        await self._context.send_initial_metadata(metadata)

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        self._context.set_trailing_metadata(metadata)


class AioServer:
    """A started grpc.aio server."""

    def __init__(self, server: grpc.aio.Server, port: int) -> None:
        self._server, self.port = server, port

    async def stop(self, grace_s: float) -> None:
        await self._server.stop(grace_s)


async def serve(address: str, methods: Mapping[str, Method], answering: Answering) -> AioServer:
    """Answers `methods` on `address` (host:port; port 0: any free one)."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((_Handlers(methods, answering),))
    port = server.add_insecure_port(address)
    await server.start()
    return AioServer(server, port)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, methods: Mapping[str, Method], answering: Answering) -> None:
        self._handlers = {path: _handler(method, answering) for path, method in methods.items()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)


def _handler(method: Method, answering: Answering) -> Any:
    async def unary(request: Any, context: Any) -> Any:  # No deserializer: requests are bytes.
        try:
            return await answering.unary(method, request, AioTransport(context))
        except Refusal as refusal:
            await _refuse(context, refusal)

    async def stream(request: Any, context: Any) -> AsyncGenerator[Any, None]:
        try:
            async with aclosing(answering.stream(method, request, AioTransport(context))) as responses:
                async for response in responses:
                    yield response
        except Refusal as refusal:
            await _refuse(context, refusal)

    make = _MAKE[method.request_streaming, method.response_streaming]
    return make(stream if method.response_streaming else unary, None, method.serialize)


_MAKE: dict[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


async def _refuse(context: Any, refusal: Refusal) -> None:
    """Ends the call with the refusal's status, keeping trailers that the handler set."""
    status = rpc_status.to_status(refusal.status())
    kept = tuple(context.trailing_metadata() or ())
    await context.abort(status.code, status.details, (*kept, *refusal.headers(), *status.trailing_metadata))


class AioClient:
    """A grpc.aio channel; it reconnects and, as its service config says, retries by itself."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._calls: dict[str, Any] = {}

    async def unary(self, method: Outgoing, request: Any, timeout_s: float | None, metadata: Metadata) -> Any:
        try:
            return await self._callable(method)(request, timeout=timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise _failed(method.path, error) from error

    async def stream(
        self, method: Outgoing, request: Any, timeout_s: float | None, metadata: Metadata
    ) -> AsyncGenerator[Any, None]:
        call = self._callable(method)(request, timeout=timeout_s, metadata=metadata)
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise _failed(method.path, error) from error
        finally:
            call.cancel()

    async def close(self) -> None:
        await self._channel.close()

    def _callable(self, method: Outgoing) -> Any:
        if method.path not in self._calls:
            kind = {False: "unary", True: "stream"}
            name = f"{kind[method.request_streaming]}_{kind[method.response_streaming]}"
            self._calls[method.path] = getattr(self._channel, name)(
                method.path, request_serializer=method.encode, response_deserializer=method.decode
            )
        return self._calls[method.path]


def connect(address: str, service_config: str) -> AioClient:
    """A client of `address`, connecting when first used."""
    options = [*OPTIONS, ("grpc.service_config", service_config), ("grpc.enable_retries", 1)]
    return AioClient(grpc.aio.insecure_channel(address, options=options))


def _failed(path: str, error: grpc.aio.AioRpcError) -> CallFailed:
    rich: status_pb2.Status | None = None
    try:
        rich = rpc_status.from_call(error)  # type: ignore[arg-type] # typed for the sync API
    except ValueError:  # The details disagree with the code: a proxy rewrote the status.
        rich = None
    code = error.code().value[0]
    return CallFailed(path, rich or status_pb2.Status(code=code, message=error.details() or ""))
