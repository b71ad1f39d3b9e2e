"""A channel: calls to whatever endpoints there are, by a service config."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from grpc import ChannelConnectivity as State, StatusCode

from services.chassis.wire.client.balancing import balancer
from services.chassis.wire.client.calls import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from services.chassis.wire.client.deadlines import Deadlines
from services.chassis.wire.client.dial import Dial, dialer
from services.chassis.wire.client.endpoints import Endpoints, Fixed
from services.chassis.wire.client.method import Decode, Encode, Waiting
from services.chassis.wire.client.options import Options
from services.chassis.wire.client.service_config import PICK_FIRST
from services.chassis.wire.client.subchannel import Setup, Subchannel
from services.chassis.wire.client.throttle import Throttle

CLOSED = "Channel closed!"  # grpc.aio's words.
FAILURES_MAX = 3  # Endpoints whose failure an error tells of.


class Channel:
    """Takes the place of a grpc.aio.Channel. To be made, and used, in one event loop.

    It connects when the first call is made. A call that finds no endpoint fails with UNAVAILABLE as soon as
    all have failed, or waits for one if it was made with wait_for_ready.
    """

    def __init__(
        self, target: str | Endpoints, options: Options | None = None, dial: Dial | None = None
    ) -> None:
        """`target` is an address (see `endpoints`), or what says the addresses."""
        options = options or Options()
        if not options.authority:
            options = replace(options, authority=_authority(target, options))
        self.loop, self.options = asyncio.get_running_loop(), options
        config = options.config
        self.deadlines = Deadlines(self.loop)
        self.throttle = Throttle(config.throttling) if config.throttling is not None else None
        self.replay_bytes = 0
        self._balancer = balancer(config.balancing)
        health = None if config.balancing.policy == PICK_FIRST else config.health_service  # A17.
        dial = dial or dialer(options.tls, options.server_name)
        self._setup = Setup(options, dial, self, health, self._changed)
        self._subchannels: dict[str, Subchannel] = {}
        self._old: weakref.WeakSet[Subchannel] = weakref.WeakSet()  # Finishing their calls.
        self._waiting: dict[Waiting, None] = {}
        self._observers: list[asyncio.Future[None]] = []
        self._closed = False
        self._seen = State.IDLE
        endpoints = Fixed(target) if isinstance(target, str) else target
        self._unfollow = endpoints.follow(self._follow)

    # What generated stubs use.

    def unary_unary(
        self,
        method: str,
        request_serializer: Encode = None,
        response_deserializer: Decode = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnary:
        return UnaryUnary(self, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Encode = None,
        response_deserializer: Decode = None,
        _registered_method: bool | None = False,
    ) -> UnaryStream:
        return UnaryStream(self, method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Encode = None,
        response_deserializer: Decode = None,
        _registered_method: bool | None = False,
    ) -> StreamUnary:
        return StreamUnary(self, method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Encode = None,
        response_deserializer: Decode = None,
        _registered_method: bool | None = False,
    ) -> StreamStream:
        return StreamStream(self, method, request_serializer, response_deserializer)

    # States.

    def get_state(self, try_to_connect: bool = False) -> State:
        if try_to_connect and not self._closed:
            self._balancer.wake()
            self._notice()
        return State.SHUTDOWN if self._closed else self._balancer.state

    async def wait_for_state_change(self, last_observed_state: State) -> None:
        """Returns when the state is another than `last_observed_state`."""
        while self.get_state() is last_observed_state:
            future = self.loop.create_future()
            self._observers.append(future)
            await future

    async def channel_ready(self) -> None:
        """Connects, and returns when calls can be made at once."""
        while (state := self.get_state(try_to_connect=True)) is not State.READY:
            if state is State.SHUTDOWN:
                raise ConnectionError("the channel is closed")
            await self.wait_for_state_change(state)

    # Calls.

    def place(self, waiting: Waiting) -> None:
        """Begins `waiting` on an endpoint that is ready, now or when there is one."""
        target = self._balancer.pick(waiting.avoid)
        if target is None:
            self._balancer.wake()
            target = self._balancer.pick(waiting.avoid)
        if target is not None:
            target.begin(waiting)
        else:
            self._wait(waiting)

    def _wait(self, waiting: Waiting) -> None:
        if self._closed:
            waiting.refuse(StatusCode.CANCELLED, CLOSED)
        elif self._balancer.state is State.TRANSIENT_FAILURE and not waiting.wait_for_ready:
            waiting.refuse(StatusCode.UNAVAILABLE, self._failure())
        elif len(self._waiting) >= self.options.calls_waiting_max:
            waiting.refuse(StatusCode.RESOURCE_EXHAUSTED, f"{len(self._waiting)} calls wait already")
        else:
            self._waiting[waiting] = None
        self._notice()

    def withdraw(self, waiting: Waiting) -> None:
        self._waiting.pop(waiting, None)
        for subchannel in self._subchannels.values():
            subchannel.withdraw(waiting)

    # The end.

    async def close(self, grace: float | None = None) -> None:
        """Takes no new call, gives those in flight `grace` seconds, then cancels them."""
        if self._closed:
            return
        self._closed = True
        self._unfollow()
        waiting, self._waiting = [*self._waiting], {}
        for each in waiting:
            each.refuse(StatusCode.CANCELLED, CLOSED)
        everything = {*self._subchannels.values(), *self._old}
        self._balancer.update([])
        for subchannel in everything:
            subchannel.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace or 0.0):
                await asyncio.gather(*(subchannel.emptied() for subchannel in everything))
        for subchannel in everything:
            subchannel.abort(CLOSED)
        self._notice()
        await asyncio.gather(*(subchannel.emptied() for subchannel in everything))

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # From endpoints.

    def _follow(self, addresses: Sequence[str]) -> None:
        known = self._subchannels
        self._subchannels = {each: known.get(each) or Subchannel(each, self._setup) for each in addresses}
        gone = [known[each] for each in known if each not in self._subchannels]
        self._balancer.update([*self._subchannels.values()])
        for subchannel in gone:
            self._old.add(subchannel)
            subchannel.close()
        self._settle()

    def _changed(self, subchannel: Subchannel) -> None:
        self._balancer.changed(subchannel)
        self._settle()

    def _settle(self) -> None:
        """Calls that wait may be able to begin now, or have nothing to wait for."""
        if self._waiting and self._balancer.state is not State.CONNECTING:
            waiting, self._waiting = [*self._waiting], {}
            for each in waiting:
                self.place(each)
        self._notice()

    def _notice(self) -> None:
        """Tells who watches the state."""
        state = self.get_state()
        if state is not self._seen:
            self._seen = state
            observers, self._observers = self._observers, []
            for future in observers:
                if not future.done():
                    future.set_result(None)

    def _failure(self) -> str:
        failures = [each.failure for each in self._subchannels.values() if each.failure]
        return "; ".join(failures[:FAILURES_MAX]) or "there is no endpoint"


def _authority(target: str | Endpoints, options: Options) -> str:
    """Of calls: the name that the certificate must have, else what was asked for (RFC 9113 §8.3.1)."""
    if options.server_name:
        return options.server_name
    if not isinstance(target, str) or target.startswith("unix:"):
        return "localhost"
    return target.rpartition("/")[2].removeprefix("dns:")
