"""Asks an endpoint whether it is healthy, for as long as it is connected (gRFC A17, grpc.health.v1 Watch)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from grpc import StatusCode

from services.chassis.wire.client.backoff import Backoff
from services.chassis.wire.client.calls import UnaryStream
from services.chassis.wire.client.connection import ClientConnection
from services.chassis.wire.client.method import Waiting
from services.chassis.wire.client.outcome import RpcError
from services.chassis.wire.client.throttle import Throttle

if TYPE_CHECKING:
    from services.chassis.wire.client.subchannel import Setup

WATCH = "/grpc.health.v1.Health/Watch"
SERVING = 1  # HealthCheckResponse.ServingStatus.

Changed = Callable[[ClientConnection], None]
Failed = Callable[[ClientConnection, str], None]


class Health:
    """The watch of one connection. It is a stream on it, and counts as one."""

    def __init__(
        self, setup: Setup, connection: ClientConnection, healthy: Changed, unhealthy: Failed
    ) -> None:
        self.loop, self.options = connection.loop, setup.options
        self.deadlines = setup.channel.deadlines
        self.throttle: Throttle | None = None
        self.replay_bytes = 0
        self._setup, self._connection = setup, connection
        self._healthy, self._unhealthy = healthy, unhealthy
        self._is_healthy: bool | None = None
        self._task = self.loop.create_task(self._watch())

    def stop(self) -> None:
        self._task.cancel()

    def place(self, waiting: Waiting) -> None:
        """The watch is on this connection or on none."""
        if self._connection.room:
            waiting.begin(self._connection, None)
        else:
            waiting.refuse(StatusCode.UNAVAILABLE, "the connection takes no stream")

    def withdraw(self, waiting: Waiting) -> None:
        """Nothing waits here."""

    async def _watch(self) -> None:
        request = _request(self._setup.health_service or "")
        backoff = Backoff(self.options.pace)
        watch = UnaryStream(self, WATCH, None, None)
        while not self._connection.draining:
            try:
                async for response in watch(request):
                    backoff.reset()
                    self._say(_status(response) == SERVING, "the health service says that it does not serve")
            except RpcError as error:
                if error.code() is StatusCode.UNIMPLEMENTED:
                    self._say(True, "")
                    return
                self._say(False, f"no health: {error}")
            await asyncio.sleep(backoff.wait_s())

    def _say(self, healthy: bool, reason: str) -> None:
        if healthy is self._is_healthy or self._connection.draining:
            return
        self._is_healthy = healthy
        if healthy:
            self._healthy(self._connection)
        else:
            self._unhealthy(self._connection, reason)


def _request(service: str) -> bytes:
    """HealthCheckRequest{service = 1}."""
    name = service.encode()
    if not name:
        return b""
    size, length = len(name), b""
    while size > 0x7F:
        length += bytes((size & 0x7F | 0x80,))
        size >>= 7
    return b"\x0a" + length + bytes((size,)) + name


def _status(response: bytes) -> int:
    """HealthCheckResponse{status = 1}; the only field that it has."""
    return response[1] if len(response) == 2 and response[0] == 0x08 else 0
