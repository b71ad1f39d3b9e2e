"""The server: methods, ports, connections, and how it stops. Its calls are those of `grpc.aio.Server`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import grpc

from services.chassis.wire import metadata
from services.chassis.wire.errors import ErrorCode
from services.chassis.wire.hpack import Header
from services.chassis.wire.limits import ServerLimits
from services.chassis.wire.server import ports
from services.chassis.wire.server.call import Route
from services.chassis.wire.server.connection import ServerConnection
from services.chassis.wire.server.handlers import Handlers

UNKNOWN_PATHS_MAX = 1_000  # Paths of no method that are remembered; callers invent them.


class _Asked(NamedTuple):
    """A grpc.HandlerCallDetails."""

    method: str
    fields: list[Header]

    @property
    def invocation_metadata(self) -> tuple[metadata.Metadatum, ...]:
        return metadata.from_fields(self.fields)


class Server:
    """Answers calls on its ports. Servicers are registered and ports added before `start`."""

    def __init__(
        self,
        limits: ServerLimits | None = None,
        *,
        thread_pool: Executor | None = None,
        compression: grpc.Compression | None = None,
    ) -> None:
        """`thread_pool` runs handlers that are no coroutines; without one the loop's own does.

        `compression` is that of responses to callers who take it.
        """
        self.limits = limits or ServerLimits()
        self.loop: asyncio.AbstractEventLoop
        self.ticks = 0  # Sweeps so far: a clock that costs nothing to read.
        self.connections: set[ServerConnection] = set()
        self._handlers = Handlers(thread_pool, compression)
        self._generic: list[grpc.GenericRpcHandler] = []
        self._routes: dict[str, Route | None] = {}
        self._ports: list[ports.Port] = []
        self._listening: list[asyncio.AbstractServer] = []
        self._running = 0
        self._stopping = False
        self._sweep: asyncio.TimerHandle | None = None
        self._changed, self._stopped = asyncio.Event(), asyncio.Event()

    # Before the start.

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._generic += generic_rpc_handlers

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        for name, handler in method_handlers.items():
            self.add_route(self._handlers.route(f"/{service_name}/{name}", handler))

    def add_route(self, route: Route) -> None:
        """A method whose calls are answered as bytes, with nothing of grpcio between."""
        self._routes[route.path] = route

    def add_insecure_port(self, address: str) -> int:
        """`host:port` or `unix:path`. Returns the port (0 asks for any free one); 0 for a Unix socket."""
        return self._add(ports.bind(address, None))

    def add_secure_port(self, address: str, context: ssl.SSLContext) -> int:
        """The same with TLS, by a context as `tls` makes it.

        Whoever loads another certificate into it later gives that to connections from then on.
        """
        return self._add(ports.bind(address, context))

    def _add(self, port: ports.Port) -> int:
        if self._sweep is not None:
            port.close()
            raise RuntimeError("ports are added before the server starts")
        self._ports.append(port)
        return port.number

    # Life.

    async def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        for port in self._ports:
            self._listening.append(await port.listen(lambda: ServerConnection(self), self.limits.handshake_s))
        self._sweep = self.loop.call_later(self.limits.sweep_s, self._swept)

    async def stop(self, grace: float | None) -> None:
        """Takes no new connections, and calls only of clients that do not know yet.

        Calls in flight are given `grace` seconds, then cancelled.
        Returns when the last handler has ended. A second call may shorten the first's grace.
        """
        if not self._stopping:
            self._stopping = True
            for listening in self._listening:
                listening.close()
        for connection in [*self.connections]:
            connection.drain()
        try:
            async with asyncio.timeout(grace or 0):
                await self._until_quiet()
        except TimeoutError:
            for connection in [*self.connections]:
                connection.fail(ErrorCode.NO_ERROR, "the server has stopped")
        await self._until_quiet()
        self._end()

    async def _until_quiet(self) -> None:
        """Waits until there is neither connection nor handler."""
        while self.connections or self._running:
            self._changed.clear()
            await self._changed.wait()

    def _end(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        for port in self._ports:
            port.close()
        self._handlers.close()
        self._stopped.set()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - grpc.aio's signature
        """Waits until the server has stopped; whether `timeout` seconds passed before."""
        try:
            async with asyncio.timeout(timeout):
                await self._stopped.wait()
        except TimeoutError:
            return True
        return False

    def _swept(self) -> None:
        self._sweep = self.loop.call_later(self.limits.sweep_s, self._swept)
        self.ticks += 1
        for connection in [*self.connections]:
            connection.sweep(self.ticks)

    # For connections.

    def admits(self, connection: ServerConnection) -> bool:
        if self._stopping or len(self.connections) >= self.limits.connections_max:
            return False
        self.connections.add(connection)
        return True

    def lost(self, connection: ServerConnection) -> None:
        self.connections.discard(connection)
        if self._stopping:
            self._changed.set()

    @property
    def is_quiet(self) -> bool:
        """Whether no handler runs."""
        return not self._running

    def has_room(self) -> bool:
        return self._running < self.limits.calls_max

    def handler_began(self) -> None:
        self._running += 1

    def handler_ended(self) -> None:
        self._running -= 1
        if self._stopping:
            self._changed.set()

    def route(self, path: str, fields: list[Header]) -> Route | None:
        """The method of this path; those of generic handlers are asked for once."""
        if path in self._routes:
            return self._routes[path]
        asked = _Asked(path, fields)
        handlers = (each.service(asked) for each in self._generic)  # type: ignore[arg-type] # by its attributes
        handler = next((each for each in handlers if each is not None), None)
        if handler is None and len(self._routes) >= UNKNOWN_PATHS_MAX:
            return None
        self._routes[path] = self._handlers.route(path, handler) if handler is not None else None
        return self._routes[path]
