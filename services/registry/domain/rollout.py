"""What a rollout does next: a pure function of its plan and of what was seen.

Chance is spent in portions, so that looking often makes no false rollback likelier: each step of the plan and
each quantity (errors, slow calls) has an equal part of the rollout's, and look j of a step spends 1/(j·(j+1))
of that part, which all looks together never exceed. Looks are made when the canary's calls have grown by half
since the last one, from the first few calls on: the first looks find a version that fails outright, and the
later ones a difference of a percent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from services.registry.domain.comparison import looks_worse, worse
from services.registry.domain.figures import Counts
from services.registry.domain.rules import OF

FIRST_LOOK = 10  # Calls of the canary: fewer are those of a second, and three failures are no evidence yet.
OVERTIME_S = 3_600.0  # What a step may take longer than it must, where the plan says nothing.
GROWTH = 1.5  # From look to look: a fault is found at most half as many calls later than it could be.


class Action(Enum):
    """What is done now."""

    STAY = "stay"
    STEP = "step"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    PAUSE = "pause"


class Reason(Enum):
    """Why."""

    NONE = "UNSPECIFIED"
    NO_FIGURES = "NO_FIGURES"
    TOO_FEW_CALLS = "TOO_FEW_CALLS"
    TOO_EARLY = "TOO_EARLY"
    UNCERTAIN = "UNCERTAIN"
    ERRORS = "ERRORS"
    LATENCY = "LATENCY"
    ASKED = "ASKED"


@dataclass(frozen=True, slots=True)
class Step:
    """Of OF calls `share` go to the canary, until there were enough for long enough."""

    share: int
    min_time_s: float
    min_calls: int

    @property
    def min_stable_calls(self) -> int:
        """As many as come beside the canary's, but no more: the stable version may be the rare one."""
        return min(self.min_calls, math.ceil(self.min_calls * (OF - self.share) / self.share))


@dataclass(frozen=True, slots=True)
class Plan:
    """Margins are differences of rates; `chance` that of a false rollback in the whole rollout."""

    steps: tuple[Step, ...]
    error_margin: float
    slow_margin: float | None  # None: how long calls take is not compared.
    chance: float
    deadline_s: float  # Of each step; 0: OVERTIME_S after its time.

    def spent(self, look: int) -> float:
        """The chance of one quantity at a step's look, from 1."""
        quantities = 1 if self.slow_margin is None else 2
        return self.chance / len(self.steps) / quantities / (look * (look + 1))

    def deadline(self, step: int) -> float:
        return self.deadline_s or self.steps[step].min_time_s + OVERTIME_S


@dataclass(frozen=True, slots=True)
class Seen:
    """Of a rollout at one of its steps."""

    step: int
    watched_s: float
    looks: int  # At this step, so far.
    fresh: bool  # Somebody counts.
    stable: Counts
    canary: Counts
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """`looks` at this step with that which was made for it."""

    action: Action
    reason: Reason
    looks: int


def decide(plan: Plan, seen: Seen) -> Decision:
    looks = seen.looks
    if seen.canary.calls >= FIRST_LOOK * GROWTH**looks:
        looks += 1
        found = _verdict(plan, seen, plan.spent(looks))
        if found is not Reason.NONE:
            return Decision(Action.ROLL_BACK, found, looks)
    wanting = _wanting(plan, seen)
    if seen.paused:
        return Decision(Action.STAY, wanting, looks)
    if wanting is Reason.NONE:
        last = seen.step == len(plan.steps) - 1
        return Decision(Action.PROMOTE if last else Action.STEP, wanting, looks)
    if seen.watched_s >= plan.deadline(seen.step):
        return Decision(Action.PAUSE, wanting, looks)
    return Decision(Action.STAY, wanting, looks)


def _verdict(plan: Plan, seen: Seen, chance: float) -> Reason:
    """In what the canary is worse."""
    if worse(seen.stable.failed, seen.canary.failed, plan.error_margin, chance):
        return Reason.ERRORS
    if plan.slow_margin is not None and worse(seen.stable.late, seen.canary.late, plan.slow_margin, chance):
        return Reason.LATENCY
    return Reason.NONE


def _wanting(plan: Plan, seen: Seen) -> Reason:
    """What the step's success wants yet."""
    step = plan.steps[seen.step]
    if not seen.fresh:
        return Reason.NO_FIGURES
    if seen.canary.calls < step.min_calls or seen.stable.calls < step.min_stable_calls:
        return Reason.TOO_FEW_CALLS
    if seen.watched_s < step.min_time_s:
        return Reason.TOO_EARLY
    if looks_worse(seen.stable.failed, seen.canary.failed, plan.error_margin):
        return Reason.UNCERTAIN
    slow = plan.slow_margin
    if slow is not None and looks_worse(seen.stable.late, seen.canary.late, slow):
        return Reason.UNCERTAIN
    return Reason.NONE


def rising(shares: Sequence[int]) -> int | None:
    """The first that is not above the one before it; None: all are."""
    return next((n for n in range(1, len(shares)) if shares[n] <= shares[n - 1]), None)
