"""Several attempts at once, as the method's hedgingPolicy says; the first answer wins (gRFC A6)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from grpc import StatusCode

from services.chassis.wire.client.outcome import Status, pushback_s
from services.chassis.wire.client.service_config import HedgingPolicy

if TYPE_CHECKING:
    from services.chassis.wire.client.attempt import Attempt
    from services.chassis.wire.client.balancing import Target
    from services.chassis.wire.client.call import Call
    from services.chassis.wire.client.connection import ClientConnection


class Hedging:
    """The course of a call's attempts until one of them is answered."""

    def __init__(self, call: Call, policy: HedgingPolicy) -> None:
        self.call, self._policy = call, policy
        self.response_bytes_max = call.response_bytes_max
        self.tried: list[Target] = []
        self._made = 0
        self._left = policy.attempts_max  # May still be begun.
        self._repeated = False
        self._waiting: dict[_Hedge, None] = {}
        self._live: dict[Attempt, None] = {}  # In the order in which they began.
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """The first attempt, or the next: those after the first only while few calls fail."""
        self._set_timer(None)
        throttle = self.call.channel.throttle
        if self._made and throttle is not None and not throttle.allows():
            self._left = 0
        if self._left:
            self._left -= 1
            self._place()
        if self._left and self._timer is None and self.call.status is None:
            self._set_timer(self._policy.delay_s)

    def begun(self, hedge: _Hedge, attempt: Attempt | None, target: Target) -> None:
        self._waiting.pop(hedge, None)
        self.tried.append(target)
        if attempt is not None and self.call.status is None:
            self._live[attempt] = None

    def refused(self, hedge: _Hedge, status: Status) -> None:
        self._waiting.pop(hedge, None)
        self._ended(None, status)

    def commit(self, attempt: Attempt) -> None:
        self._live.pop(attempt, None)
        self.stop()
        self.call.commit(attempt)

    def ended(self, attempt: Attempt, status: Status) -> None:
        self._live.pop(attempt, None)
        if attempt.unprocessed and not self._repeated:
            self._repeated = True  # "Transparent": does not count, and is allowed once.
            self._place()
        else:
            self._ended(attempt, status)

    def hold(self) -> None:
        """What was sent is not kept any more: the attempt that is furthest stays alone."""
        self._left = 0
        furthest = next(iter(self._live), None)
        if furthest is not None:
            del self._live[furthest]
            self.stop()
            self._live[furthest] = None

    def stop(self) -> None:
        """All attempts are of no use any more."""
        self._left = 0
        self._set_timer(None)
        for hedge in tuple(self._waiting):
            self.call.channel.withdraw(hedge)
        self._waiting.clear()
        for attempt in tuple(self._live):
            attempt.give_up()
        self._live.clear()

    def _place(self) -> None:
        hedge = _Hedge(self, self._made)
        self._made += 1
        self._waiting[hedge] = None
        self.call.channel.place(hedge)

    def _ended(self, attempt: Attempt | None, status: Status) -> None:
        if self.call.status is not None:
            return
        self.call.account(status, attempt)
        if status.code not in self._policy.codes:
            self.stop()
            self.call.finish(status, attempt)
            return
        self._next(pushback_s((attempt.trailers if attempt is not None else None) or ()))
        if not (self._live or self._waiting or self._timer is not None or self.call.status is not None):
            self.call.finish(status, attempt)

    def _next(self, asked_s: float | None) -> None:
        """After a failure that others may not share: at once, or when the server says, or not at all."""
        if asked_s is not None and asked_s < 0:
            self._left = 0
        if not self._left:
            self._set_timer(None)
        elif asked_s is not None:
            self._set_timer(asked_s)
        else:
            self.start()

    def _set_timer(self, delay_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if delay_s is None else self.call.loop.call_later(delay_s, self.start)


class _Hedge:
    """One attempt that wants a connection, if possible to an endpoint that had none of this call."""

    def __init__(self, hedging: Hedging, number: int) -> None:
        self._hedging, self._number = hedging, number
        self.wait_for_ready = hedging.call.wait_for_ready
        self.avoid = hedging.tried

    def begin(self, connection: ClientConnection, target: Target) -> None:
        attempt = self._hedging.call.open(connection, target, self._hedging, self._number)
        self._hedging.begun(self, attempt, target)

    def refuse(self, code: StatusCode, details: str) -> None:
        self._hedging.refused(self, Status(code, details))
