"""One attempt after another, as the method's retryPolicy says (gRFC A6)."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from grpc import StatusCode

from services.chassis.wire.client.outcome import Status, pushback_s
from services.chassis.wire.client.service_config import RetryPolicy

if TYPE_CHECKING:
    from services.chassis.wire.client.attempt import Attempt
    from services.chassis.wire.client.balancing import Target
    from services.chassis.wire.client.call import Call
    from services.chassis.wire.client.connection import ClientConnection

JITTER_MIN, JITTER_MAX = 0.8, 1.2  # A6: a fifth either way.


class Retrying:
    """The course of a call's attempts until one of them is answered."""

    avoid: tuple[Target, ...] = ()

    def __init__(self, call: Call, policy: RetryPolicy) -> None:
        self._call, self._policy = call, policy
        self.wait_for_ready, self.response_bytes_max = call.wait_for_ready, call.response_bytes_max
        self._made = self._waits = 0  # Attempts that ended; waits since the server named one itself.
        self._repeated = self._last = False
        self._attempt: Attempt | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = None
        self._call.channel.place(self)

    def begin(self, connection: ClientConnection, target: Target) -> None:
        self._attempt = self._call.open(connection, target, self, self._made)

    def refuse(self, code: StatusCode, details: str) -> None:
        """No endpoint can take the call: as good as an attempt that ended so."""
        self._ended(None, Status(code, details))

    def commit(self, attempt: Attempt) -> None:
        self._call.commit(attempt)

    def ended(self, attempt: Attempt, status: Status) -> None:
        if attempt.unprocessed and not (self._repeated or self._last):
            self._repeated = True  # "Transparent": does not count, and is allowed once.
            self.start()
        else:
            self._ended(attempt, status)

    def hold(self) -> None:
        """What was sent is not kept any more: the attempt under way is the last."""
        self._last = True

    def stop(self) -> None:
        """The call is over."""
        if self._timer is not None:
            self._timer.cancel()
        self._call.channel.withdraw(self)
        if self._attempt is not None:
            self._attempt.give_up()

    def _ended(self, attempt: Attempt | None, status: Status) -> None:
        self._made += 1
        self._call.account(status, attempt)
        wait_s = self._wait_s(attempt, status)
        if wait_s is None:
            self._call.finish(status, attempt)
        else:
            self._timer = self._call.loop.call_later(wait_s, self.start)

    def _wait_s(self, attempt: Attempt | None, status: Status) -> float | None:
        """Until the next attempt; None when there is to be none."""
        policy, throttle = self._policy, self._call.channel.throttle
        if status.code not in policy.codes or self._made >= policy.attempts_max or self._last:
            return None
        asked_s = pushback_s((attempt.trailers if attempt is not None else None) or ())
        if (asked_s is not None and asked_s < 0) or (throttle is not None and not throttle.allows()):
            return None
        if asked_s is not None:
            self._waits = 0
            return asked_s
        self._waits += 1
        return policy.backoff_s(self._waits - 1, random.uniform(JITTER_MIN, JITTER_MAX))
