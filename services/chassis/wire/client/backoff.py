"""Waits between attempts to connect (gRPC's connection-backoff document)."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an endpoint that does not answer is tried again."""

    initial_s: float = 1.0
    multiplier: float = 1.6
    jitter: float = 0.2
    backoff_s_max: float = 120.0
    connect_s_min: float = 20.0  # An attempt may take this long, whatever the wait after it.


class Backoff:
    """The waits of one endpoint, in order."""

    __slots__ = ("_next_s", "_pace")

    def __init__(self, pace: Pace) -> None:
        self._pace, self._next_s = pace, pace.initial_s

    def wait_s(self) -> float:
        """Counts from the start of the attempt that failed."""
        wait_s, pace = self._next_s, self._pace
        self._next_s = min(wait_s * pace.multiplier, pace.backoff_s_max)
        return wait_s * random.uniform(1 - pace.jitter, 1 + pace.jitter)

    def attempt_s_max(self) -> float:
        """How long the next attempt may take."""
        return max(self._pace.connect_s_min, self._next_s)

    def reset(self) -> None:
        """The peer has spoken: the next failure is a first one."""
        self._next_s = self._pace.initial_s
