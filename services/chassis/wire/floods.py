"""What a peer may make us do for nothing: cheap frames and resets, counted against time and work done."""

from __future__ import annotations

from services.chassis.wire.errors import ConnectionFault, ErrorCode


class Allowance:
    """A leaky bucket: so many at once, so many a second for ever, and what work done for the peer earns."""

    __slots__ = ("_at", "_burst", "_left", "_rate", "_what")

    def __init__(self, what: str, burst: int, rate_per_s: float) -> None:
        self._what, self._burst, self._rate = what, burst, rate_per_s
        self._left, self._at = float(burst), 0.0

    def spend(self, now: float, count: int = 1) -> None:
        """`count` more of them. Raises ConnectionFault when there were too many (RFC 9113 §10.5)."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - count
        self._at = now
        if self._left < 0:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"too many {self._what}")

    def earn(self, count: int = 1) -> None:
        """Work was done for this peer."""
        if self._left < self._burst:
            self._left += count
