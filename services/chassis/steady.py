"""A clock that does not believe each jump of the machine's clock at once.

A clock that is set forward by mistake would fire what is not due, one set back would hold runs up. So time
goes on as the monotonic clock has it, and a jump is believed when it has lasted for a while: then runs that
it leaves behind are missed ones, and runs that it would repeat have been written down already.
"""

from datetime import datetime, timedelta

from services.chassis.clock import Clock


class SteadyClock:
    """Time for one loop."""

    def __init__(self, clock: Clock, jump_s: float, hold_s: float) -> None:
        self._clock, self._jump, self._hold_s = clock, timedelta(seconds=jump_s), hold_s
        self._base, self._base_s = clock.now(), clock.monotonic()
        self._jumped_s: float | None = None  # When the jump was first seen.

    def now(self) -> datetime:
        shown, elapsed = self._clock.now(), self._clock.monotonic()
        expected = self._base + timedelta(seconds=elapsed - self._base_s)
        if abs(shown - expected) <= self._jump:
            self._believe(shown, elapsed)
            return shown
        if self._jumped_s is None:
            self._jumped_s = elapsed
        if elapsed - self._jumped_s < self._hold_s:
            return expected
        self._believe(shown, elapsed)
        return shown

    def _believe(self, shown: datetime, elapsed: float) -> None:
        self._base, self._base_s, self._jumped_s = shown, elapsed, None
