"""What a policy says of some of a service's calls: which those are, and what is done with them."""

from __future__ import annotations

from dataclasses import dataclass

OF = 10_000  # What shares of calls are counted in.
SEGMENT_HEADER = "x-weft-segment-"  # The edge alone sets headers that begin so (envoy/filters.py).
TRIED_AGAIN = 2  # Times, where no rule says otherwise: calls that no instance has begun to answer.


@dataclass(frozen=True, slots=True)
class Path:
    """Rpcs: those whose path begins with `text`, or the one whose path it is."""

    text: str = ""
    whole: bool = False

    def within(self, other: Path) -> Path | None:
        """What both are about; None: nothing."""
        narrow, wide = (self, other) if len(self.text) >= len(other.text) else (other, self)
        if not narrow.text.startswith(wide.text) or (wide.whole and narrow.text != wide.text):
            return None
        return Path(narrow.text, narrow.whole or wide.whole)


EVERYTHING = Path()


@dataclass(frozen=True, slots=True)
class HeaderRule:
    """Calls whose `header` is `value`, begins with it, or is one of several go to `version`."""

    header: str
    value: str
    version: str
    prefix: bool = False
    one_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mirror:
    """Of OF calls `share` are sent to a version besides."""

    version: str
    share: int


@dataclass(frozen=True, slots=True)
class Retries:
    """`on` are gRPC's codes as xDS spells them; 0 seconds: none is set."""

    attempts: int = TRIED_AGAIN
    on: tuple[str, ...] = ()
    per_try_s: float = 0.0
    backoff_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Hedging:
    """A call unanswered `after_s` is sent once more, `more` times at most."""

    after_s: float
    more: int = 1


@dataclass(frozen=True, slots=True)
class RouteRule:
    """How long calls of some rpcs last, and what is tried again. 0 seconds: as long as the caller waits."""

    path: Path = EVERYTHING
    timeout_s: float = 0.0
    retries: Retries = Retries()
    hedging: Hedging | None = None


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """Retries in flight: a part of the calls in flight, and `always` so many."""

    percent: int
    always: int


@dataclass(frozen=True, slots=True)
class Bulkhead:
    """What a version may hold at once; 0: the bound of every cluster. No version: of all that have none."""

    version: str = ""
    requests: int = 0
    pending: int = 0
    connections: int = 0


@dataclass(frozen=True, slots=True)
class Breaker:
    """When an instance that fails gets no calls; 0: as in every cluster."""

    failures: int = 0
    ejection_s: float = 0.0
    ejected_percent_max: int = 0


USUAL = Breaker()


@dataclass(frozen=True, slots=True)
class Fault:
    """Of OF calls that fit `share` are late or fail. 0 seconds: not late; code 0: they do not fail."""

    path: Path = EVERYTHING
    header: tuple[str, str] | None = None  # Name and value that a call must have.
    share: int = OF
    delay_s: float = 0.0
    code: int = 0
