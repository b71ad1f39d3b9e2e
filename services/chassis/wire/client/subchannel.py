"""One endpoint: its connections, their state, and calls that wait for room on them (gRFC A17, A105)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from grpc import ChannelConnectivity as State, StatusCode

from services.chassis.wire.client.backoff import Backoff
from services.chassis.wire.client.connection import ClientConnection
from services.chassis.wire.client.dial import Dial
from services.chassis.wire.client.health import Health
from services.chassis.wire.client.method import Placing, Waiting
from services.chassis.wire.client.options import Options
from services.chassis.wire.errors import ErrorCode

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a channel's endpoints have in common."""

    options: Options
    dial: Dial
    channel: Placing
    health_service: str | None  # None: endpoints are taken to be healthy.
    changed: Callable[[Subchannel], None]  # Told of every state that a connection, or its end, brings.


class Subchannel:
    """IDLE until asked to connect; at most one attempt to connect at a time."""

    def __init__(self, address: str, setup: Setup) -> None:
        self.address, self.state, self.failure = address, State.IDLE, ""
        self._setup, self._loop = setup, setup.channel.loop
        self._limits = setup.options.limits
        self._backoff = Backoff(setup.options.pace)
        self._connections: list[ClientConnection] = []  # Healthy, and taking calls; the oldest first.
        self._others: dict[ClientConnection, None] = {}  # Opening, unhealthy, or finishing calls.
        self._watches: dict[ClientConnection, Health] = {}
        self.queue: dict[Waiting, None] = {}
        self._dialing: asyncio.Task[None] | None = None
        self._emptied: asyncio.Future[None] | None = None
        self._pause: asyncio.TimerHandle | None = None  # Until the next attempt to connect may be made.

    @property
    def load(self) -> int:
        return sum(len(connection.streams) for connection in self._connections) + len(self.queue)

    # From the balancer.

    def connect(self) -> None:
        if self.state is State.IDLE:
            self.state = State.CONNECTING
            self._dial()

    def disconnect(self) -> None:
        if self.state is State.SHUTDOWN:
            return
        self.state = State.IDLE
        self._stop()

    def close(self) -> None:
        """For ever. Streams in flight are finished."""
        self.disconnect()
        self.state = State.SHUTDOWN

    def abort(self, reason: str) -> None:
        """Cancels streams in flight, too."""
        for connection in (*self._connections, *self._others):
            for stream in (*connection.streams.values(),):
                connection.reset(stream.id, ErrorCode.CANCEL, late_frames=False)
                stream.cut_off(ErrorCode.CANCEL, reason, remote=True)
            connection.close()

    async def emptied(self) -> None:
        """Returns when there is no connection any more; after `close`, and soon after `abort`."""
        while self._others or self._connections:
            self._emptied = self._emptied or self._loop.create_future()
            await asyncio.shield(self._emptied)

    # Calls.

    def begin(self, waiting: Waiting) -> None:
        """On the oldest connection that has room, else when one has."""
        for connection in self._connections:
            if len(connection.streams) < connection.streams_max:
                waiting.begin(connection, self)
                return
        if len(self.queue) >= self._setup.options.calls_waiting_max:
            waiting.refuse(StatusCode.RESOURCE_EXHAUSTED, f"{len(self.queue)} calls wait already")
            return
        self.queue[waiting] = None
        if len(self._connections) < self._setup.options.config.connections_max:
            self._dial()

    def withdraw(self, waiting: Waiting) -> None:
        self.queue.pop(waiting, None)

    # From connections.

    def opened(self, connection: ClientConnection) -> None:
        """SETTINGS have come: from here on a failure is a first one (connection-backoff)."""
        self._backoff.reset()

    def has_room(self, connection: ClientConnection) -> None:
        queue = self.queue
        while queue and connection.room and connection in self._connections:
            waiting = next(iter(queue))
            del queue[waiting]
            waiting.begin(connection, self)

    def drains(self, connection: ClientConnection, pinged_too_often: bool) -> None:
        if pinged_too_often and self._limits.keepalive_s is not None:
            self._limits = replace(self._limits, keepalive_s=2 * self._limits.keepalive_s)  # A8.
        self._others[connection] = None
        self._without(connection, connection.draining)

    def lost(self, connection: ClientConnection, reason: str) -> None:
        self._others.pop(connection, None)
        self._without(connection, reason)
        if self._emptied is not None and not (self._others or self._connections):
            self._emptied.set_result(None)
            self._emptied = None

    # Connecting.

    def _dial(self) -> None:
        if self._dialing is None and self._pause is None:
            self._dialing = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        began, limit_s = self._loop.time(), self._backoff.attempt_s_max()
        try:
            async with asyncio.timeout(limit_s):
                connection = await self._opened()
        except TimeoutError:
            self._dialing = None
            self._failed(f"no answer in {limit_s:.0f} s", self._loop.time() - began)
        except Exception as error:
            self._dialing = None
            self._failed(str(error) or type(error).__name__, self._loop.time() - began)
        else:
            self._dialing = None
            self._arrived(connection, began)

    async def _opened(self) -> ClientConnection:
        connection = await self._setup.dial(self.address, self._connection)
        if not connection.closing:
            self._others[connection] = None
        try:
            await connection.opening()
        except BaseException:
            connection.close()
            raise
        return connection

    def _connection(self) -> ClientConnection:
        return ClientConnection(self._limits, self._loop, self)

    def _arrived(self, connection: ClientConnection, began: float) -> None:
        if connection.draining:  # Turned away with its first bytes.
            self._failed(connection.draining, self._loop.time() - began)
        elif self._setup.health_service is None:
            self._usable(connection)
        else:
            self._watches[connection] = Health(self._setup, connection, self._usable, self._unhealthy)

    def _usable(self, connection: ClientConnection) -> None:
        if connection.draining:
            return
        self._others.pop(connection, None)
        self._connections.append(connection)
        self._become(State.READY)
        self.has_room(connection)
        if self.queue and len(self._connections) < self._setup.options.config.connections_max:
            self._dial()

    def _unhealthy(self, connection: ClientConnection, reason: str) -> None:
        self._others.setdefault(connection, None)
        if connection in self._connections:
            self._connections.remove(connection)
        if not self._connections:
            self._become(State.TRANSIENT_FAILURE, reason)
            self._hand_back()

    def _failed(self, reason: str, took_s: float) -> None:
        """The wait counts from the attempt's start (connection-backoff)."""
        log.debug("no connection to %s: %s", self.address, reason)
        self._pause = self._loop.call_later(max(0.0, self._backoff.wait_s() - took_s), self._paused)
        if not self._connections:
            self._become(State.TRANSIENT_FAILURE, f"{self.address}: {reason}")
            self._hand_back()

    def _paused(self) -> None:
        self._pause = None
        if self._connections:
            if self.queue:
                self._dial()
        elif self.state is State.TRANSIENT_FAILURE:
            self._become(State.IDLE)

    def _fleeting(self, connection: ClientConnection) -> bool:
        """Whether it ended before it was of any use: as good as a failure to connect."""
        first_id = 1 if self._setup.health_service is None else 3
        young = self._loop.time() - connection.born < self._setup.options.pace.initial_s
        return young and connection.next_id <= first_id

    def _without(self, connection: ClientConnection, reason: str) -> None:
        """No call begins on it any more. The state is the best that is left (A105)."""
        watch = self._watches.pop(connection, None)
        if watch is not None:
            watch.stop()
        if connection in self._connections:
            self._connections.remove(connection)
        if self._connections:
            if self.queue:
                self._dial()
        elif self._dialing is not None:
            self._become(State.CONNECTING, reason)
        elif self._pause is not None:
            self._become(State.TRANSIENT_FAILURE, reason)
            self._hand_back()
        elif not self._watches and self.state is not State.IDLE:
            self._absent(reason, self._fleeting(connection))

    def _absent(self, reason: str, fleeting: bool) -> None:
        """There is no connection, nor one to come."""
        if fleeting and self.state is not State.SHUTDOWN:
            self._failed(reason, 0.0)
        else:
            self._become(State.IDLE, reason)
            self._hand_back()

    def _hand_back(self) -> None:
        """Calls that waited here have never left: the channel finds them another place."""
        waiting = [*self.queue]
        self.queue.clear()
        for each in waiting:
            self._setup.channel.place(each)

    def _become(self, state: State, failure: str = "") -> None:
        if self.state is State.SHUTDOWN:
            return
        self.failure = failure or self.failure
        if state is not self.state:
            self.state = state
            self._setup.changed(self)

    def _stop(self) -> None:
        if self._dialing is not None:
            self._dialing.cancel()
            self._dialing = None
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        connections, self._connections = self._connections, []
        for connection in (*connections, *self._others):
            self._others[connection] = None
            connection.drain()
        self._hand_back()
