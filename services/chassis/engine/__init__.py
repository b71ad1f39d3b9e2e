"""gRPC engines: each hosts methods on a socket and makes calls through one; chosen by a setting.

An engine is a module of this package with `serve` and `connect`. `aio` (grpc.aio) is the reference;
tests/conformance holds what every engine must pass.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from importlib import import_module
from typing import Any, Protocol, cast

from services.chassis.method import Metadata, Method
from services.chassis.rpc import Answering

MESSAGE_BYTES_MAX = 4 * 1024 * 1024  # gRPC's own default; larger things go by stream.


class Server(Protocol):
    """Methods on a socket."""

    port: int

    async def stop(self, grace_s: float) -> None:
        """Takes no new call, gives those in flight `grace_s`, then cancels them."""


class Client(Protocol):
    """A connection (or several) to one address; calls fail with CallFailed."""

    async def unary(
        self, method: Outgoing, request: Any, timeout_s: float | None, metadata: Metadata
    ) -> Any: ...

    def stream(
        self, method: Outgoing, request: Any, timeout_s: float | None, metadata: Metadata
    ) -> AsyncGenerator[Any, None]: ...

    async def close(self) -> None: ...


class Outgoing(Protocol):
    """What a client must know of a method it calls."""

    @property
    def path(self) -> str: ...
    @property
    def request_streaming(self) -> bool: ...
    @property
    def response_streaming(self) -> bool: ...
    @property
    def encode(self) -> Callable[[Any], bytes]: ...
    @property
    def decode(self) -> Callable[[bytes], Any]: ...


class Engine(Protocol):
    """The two functions of an engine's module."""

    async def serve(self, address: str, methods: Mapping[str, Method], answering: Answering) -> Server: ...
    def connect(self, address: str, service_config: str) -> Client: ...


def engine(name: str) -> Engine:
    """Raises ModuleNotFoundError for an engine that is not there."""
    return cast(Engine, import_module(f"{__name__}.{name}"))
