"""The bucket that stops retries while too many calls fail (gRFC A6, "Throttling Retry Attempts")."""

from __future__ import annotations

from services.chassis.wire.client.service_config import Throttling


class Throttle:
    """One for each channel: a failing server is spared whichever method is called."""

    __slots__ = ("_max", "_ratio", "tokens")

    def __init__(self, throttling: Throttling) -> None:
        self.tokens = self._max = throttling.tokens_max
        self._ratio = throttling.token_ratio

    def failed(self) -> None:
        """An attempt ended with a status that its policy names, or was told not to come again."""
        self.tokens = max(0.0, self.tokens - 1)

    def succeeded(self) -> None:
        self.tokens = min(self._max, self.tokens + self._ratio)

    def allows(self) -> bool:
        """Whether another attempt may follow; the first of a call always may."""
        return self.tokens > self._max / 2
