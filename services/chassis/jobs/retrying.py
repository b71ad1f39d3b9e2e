"""When a failed attempt is followed by another, and when it is not."""

from collections.abc import Callable
from dataclasses import dataclass

EXPONENT_MAX = 64  # Beyond it any backoff has reached its bound; floats have not yet ended.


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before the n-th retry: weft.jobs.v1.RetryPolicy with nothing absent."""

    attempts_max: int = 5
    backoff_s: float = 1.0
    backoff_s_max: float = 600.0
    multiplier: float = 2.0
    jitter: float = 0.2

    def wait_s(self, failed: int, draw: Callable[[], float]) -> float | None:
        """Seconds from the failure of attempt number `failed` to the next; None when there is none.

        `draw` gives numbers from 0 up to 1, such as `random.random`; they take away up to a share of
        `jitter`, so that jobs that failed together do not come back together.
        """
        if failed >= self.attempts_max:
            return None
        whole = self.backoff_s * self.multiplier ** min(failed - 1, EXPONENT_MAX)
        return min(whole, self.backoff_s_max) * (1 - self.jitter * draw())
