"""How lanes are shared out among workers, and tokens out of a bucket."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shares:
    """What one worker does with the lanes of a queue."""

    take: list[int]
    give_up: list[int]


def share(lanes: int, owners: Mapping[int, str], askers: Sequence[str], worker: str) -> Shares:
    """Lanes that `worker` takes now, and those of its own that it has too many of.

    `owners` are those whose leases last; `askers` all workers that want lanes, `worker` among them. The
    shares differ by one at most, and the first in order of names have the larger ones, so that all agree.
    """
    ranked = sorted(set(askers) | {worker})
    whole, over = divmod(lanes, len(ranked))
    fair = whole + (ranked.index(worker) < over)
    own = sorted(lane for lane, owner in owners.items() if owner == worker)
    free = [lane for lane in range(lanes) if lane not in owners]
    return Shares(take=free[: max(0, fair - len(own))], give_up=own[fair:] if fair < len(own) else [])


def refill(tokens: float, elapsed_s: float, per_s: float, burst: int) -> float:
    """What a bucket holds after `elapsed_s`; a clock that went back adds nothing."""
    return min(float(burst), tokens + max(0.0, elapsed_s) * per_s)


def draw(tokens: float, wanted: int, per_s: float) -> tuple[int, float]:
    """How many of `wanted` the bucket gives, and seconds until it has one more; 0 when it gave all."""
    given = min(wanted, int(tokens))
    return given, 0.0 if given == wanted else (1 - (tokens - given)) / per_s
