"""How many workers a pool wants, by what waits for them. Pure, so that its every step can be told.

Up it goes at once by depth, and one by one by age: a new worker is first given time to help. Down it goes one
by one, never within a cooldown of any change, and only where the others would still have little to do; so a
load that swings about a bound starts and stops nobody.
"""

from dataclasses import dataclass
from math import ceil

AGE_STEP_S = 10.0  # A worker starts in a second or two, and what waited longest is gone soon after.
SLACK = 0.5  # The share of what those left may have to do for one to go.


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """weft.worker.v1.Scaling with nothing absent."""

    workers_min: int = 1
    workers_max: int = 1
    depth_per_worker: int = 1_000
    oldest_age_s: float = 30.0
    cooldown_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was found in the pool's queues."""

    depth: int  # Jobs that wait.
    oldest_age_s: float = 0.0  # How long the first of them has waited.


def wanted(workers: int, seen: Seen, bounds: Bounds, since_change_s: float) -> int:
    """How many there are to be, when `workers` were wanted so far, and that since so long."""
    within = min(max(workers, bounds.workers_min), bounds.workers_max)
    if within != workers:
        return within
    target = max(_by_depth(seen, bounds), _by_age(workers, seen, bounds, since_change_s))
    if target > workers:
        return min(target, bounds.workers_max)
    if since_change_s >= bounds.cooldown_s and _idle(workers, seen, bounds):
        return max(workers - 1, bounds.workers_min)
    return workers


def _by_depth(seen: Seen, bounds: Bounds) -> int:
    return ceil(seen.depth / bounds.depth_per_worker)


def _by_age(workers: int, seen: Seen, bounds: Bounds, since_change_s: float) -> int:
    late = seen.depth > 0 and seen.oldest_age_s > bounds.oldest_age_s
    return workers + 1 if late and since_change_s >= min(AGE_STEP_S, bounds.cooldown_s) else 0


def _idle(workers: int, seen: Seen, bounds: Bounds) -> bool:
    """Whether one fewer would do, and easily."""
    if workers == 1:
        return seen.depth == 0
    room = (workers - 1) * bounds.depth_per_worker * SLACK
    return seen.depth <= room and seen.oldest_age_s <= bounds.oldest_age_s * SLACK
