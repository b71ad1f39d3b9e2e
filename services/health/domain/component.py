"""One component: what is seen of it, and when that makes it another one.

Down after `fall` failures among the last `window` observations; then it is tried after growing pauses. The
first answer puts it on probation: after enough answers in a row it is back, at the first failure down again.
Each fall within `flap_s` doubles the answers that are enough, so what flaps stays down longer and longer.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

DOUBLED_MAX = 4  # Probation is at most 2^4 times as long: a few minutes at the usual interval.
WHY_CHARS_MAX = 200  # Enough for an error's name and the host it concerns.


class Verdict(StrEnum):
    """Of one observation; one letter each, as a component keeps its last ones."""

    GOOD = "g"
    SLOW = "s"
    BAD = "b"


class Condition(StrEnum):
    UP = "UP"
    SLOW = "SLOW"
    TRYING = "TRYING"
    DOWN = "DOWN"


AWAY = frozenset({Condition.DOWN, Condition.TRYING})  # What needs it cannot count on it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one look at a component found. `at` is in Unix seconds, and rises for each component."""

    component: str
    at: float
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When what is seen counts."""

    window: int = 5
    fall: int = 3
    rise: int = 3
    backoff_s: float = 1.0
    backoff_s_max: float = 60.0
    flap_s: float = 600.0
    hold_s: float = 30.0  # A mode lasts at least so long before it gets better.


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    condition: Condition = Condition.UP
    since: float = 0.0
    seen_at: float = 0.0
    recent: str = ""  # Verdicts, newest last.
    answers: int = 0  # In a row.
    attempts: int = 0  # That failed since it went down.
    next_at: float = 0.0  # Not asked again before.
    falls: tuple[float, ...] = ()  # When it went down, within `flap_s`.
    why: str = ""  # What was last seen against it.


def observe(known: Component, seen: Observation, limits: Thresholds) -> Component:
    """After one observation; an old one, or one that was seen before, changes nothing."""
    if seen.at <= known.seen_at:
        return known
    bad = seen.verdict is Verdict.BAD
    next_ = replace(
        known,
        seen_at=seen.at,
        recent=(known.recent + seen.verdict)[-limits.window :],
        answers=0 if bad else known.answers + 1,
        why=known.why if seen.verdict is Verdict.GOOD else seen.why[:WHY_CHARS_MAX],
    )
    if known.condition in AWAY:
        return _failed(next_, limits) if bad else _answered(next_, limits)
    if next_.recent.count(Verdict.BAD) >= limits.fall:
        return _fallen(next_, limits)
    return _paced(next_, limits)


def _fallen(known: Component, limits: Thresholds) -> Component:
    at = known.seen_at
    falls = (*(each for each in known.falls if each > at - limits.flap_s), at)[-DOUBLED_MAX - 1 :]
    fallen = replace(known, condition=Condition.DOWN, since=at, falls=falls, attempts=0)
    return replace(fallen, next_at=at + backoff(0, limits), answers=0)


def _failed(known: Component, limits: Thresholds) -> Component:
    """An attempt that failed, on probation or before it."""
    attempts = known.attempts + 1
    since = known.since if known.condition is Condition.DOWN else known.seen_at
    pause = backoff(attempts, limits)
    return replace(
        known, condition=Condition.DOWN, since=since, attempts=attempts, next_at=known.seen_at + pause
    )


def _answered(known: Component, limits: Thresholds) -> Component:
    if known.answers >= probation(known, limits):
        slow = Verdict.SLOW in known.recent[-limits.rise :]
        back = Condition.SLOW if slow else Condition.UP
        recent = known.recent[-1:]
        return replace(
            known, condition=back, since=known.seen_at, recent=recent, attempts=0, next_at=0.0, why=""
        )
    if known.condition is Condition.DOWN:
        return replace(known, condition=Condition.TRYING, since=known.seen_at, next_at=0.0)
    return known


def _paced(known: Component, limits: Thresholds) -> Component:
    """Up, or slow: as many late answers make it slow as failures make it down."""
    late = sum(known.recent.count(each) for each in (Verdict.SLOW, Verdict.BAD))
    if known.condition is Condition.UP and late >= limits.fall:
        return replace(known, condition=Condition.SLOW, since=known.seen_at)
    timely = known.recent[-limits.rise :] == Verdict.GOOD * limits.rise
    if known.condition is Condition.SLOW and timely:
        return replace(known, condition=Condition.UP, since=known.seen_at, why="")
    return known


def probation(known: Component, limits: Thresholds) -> int:
    """Answers in a row that bring it back."""
    return limits.rise << min(max(len(known.falls) - 1, 0), DOUBLED_MAX)


def backoff(attempts: int, limits: Thresholds) -> float:
    """Seconds until the next attempt, after so many failed."""
    return float(min(limits.backoff_s * 2 ** min(attempts, 30), limits.backoff_s_max))
