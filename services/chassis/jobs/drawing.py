"""Which priority is served next: drawn by weight, so that none starves, while waiting jobs climb."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

ORDER = ("h", "m", "l")  # As subjects name them, the highest first.


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """weft.queue.v1.Priorities with nothing absent."""

    high: int = 16
    medium: int = 4
    low: int = 1
    climb_after_s: float = 60.0

    def of(self, priority: str) -> int:
        return {"h": self.high, "m": self.medium, "l": self.low}[priority]

    def seen_as(self, priority: str, waited_s: float) -> str:
        """The priority that a job counts as when it has waited that long."""
        steps = int(waited_s // self.climb_after_s) if self.climb_after_s > 0 else 0
        return ORDER[max(0, ORDER.index(priority) - max(0, steps))]


def draw(heads: Mapping[str, float], weights: Weights, random: Callable[[], float]) -> str:
    """The priority whose first job is next; `heads` says how long each one's first has waited, in seconds.

    A priority without jobs is not among `heads`, of which there is at least one. What has climbed is drawn
    with the weight of what it has climbed to. `random` gives numbers from 0 up to 1.
    """
    shares = [(priority, weights.of(weights.seen_as(priority, waited))) for priority, waited in heads.items()]
    left = random() * sum(share for _, share in shares)
    for priority, share in shares:
        left -= share
        if left < 0:
            return priority
    return shares[-1][0]
