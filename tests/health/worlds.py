"""A world of components that fail and recover, and a controller that runs through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.health.domain.component import AWAY, Observation, Thresholds, Verdict
from services.health.domain.controller import Decision, ModeChanged, step
from services.health.domain.plan import Capable, Mode, Plan
from services.health.domain.state import Pin, State

LIMITS = Thresholds(window=5, fall=3, rise=3, backoff_s=1.0, backoff_s_max=60.0, hold_s=30.0)
CAPABILITIES = {
    "checkout": Capable(needs=("postgres", "service.cart"), wants=("nats", "service.catalog"), money=True),
    "mail": Capable(needs=("nats",), wants=("gateway.mail",)),
}
PLAN = Plan(capabilities=CAPABILITIES, limits=LIMITS)
COMPONENTS = ("gateway.mail", "nats", "postgres", "service.cart", "service.catalog")
INTERVAL_S = 5.0
# After the last fault: the longest pause, then the longest probation, then the mode is held; one look each
# may be missed by.
BACK_S = (
    LIMITS.backoff_s_max + (LIMITS.rise * 16 + 2) * INTERVAL_S + LIMITS.hold_s + LIMITS.window * INTERVAL_S
)


@dataclass(frozen=True)
class Fault:
    """A component that answers badly for a time, from `at` on."""

    component: str
    at: float
    lasts_s: float
    verdict: Verdict = Verdict.BAD


@dataclass
class Run:
    """What a controller did."""

    start: float = 1_000_000.0
    tick_s: float = INTERVAL_S  # Between two steps; a process has five in each interval.
    state: State = field(default_factory=State)
    decisions: list[Decision] = field(default_factory=list)
    steps: list[tuple[float, State, Mapping[str, Pin]]] = field(default_factory=list)
    seen: list[list[Observation]] = field(default_factory=list)

    def go(self, faults: Sequence[Fault], pins: Mapping[str, Pin], until: float) -> None:
        """Looks at each component when a process would, from `start` for so many seconds."""
        due = dict.fromkeys(COMPONENTS, 0.0)
        elapsed = 0.0
        while elapsed <= until:
            seen = []
            for name in COMPONENTS:
                known = self.state.components.get(name)
                attempt = known.next_at - self.start if known and known.next_at else due[name]
                if elapsed >= attempt:
                    due[name] = elapsed + INTERVAL_S
                    verdict = _verdict(name, elapsed, faults)
                    at = self.start + elapsed
                    seen.append(Observation(component=name, at=at, verdict=verdict, why=verdict.name))
            self.take(seen, pins, self.start + elapsed)
            elapsed += self.tick_s

    def take(self, seen: list[Observation], pins: Mapping[str, Pin], now: float) -> None:
        self.state, decisions = step(PLAN, self.state, seen, pins, now)
        self.decisions += decisions
        self.seen.append(seen)
        self.steps.append((now, self.state, pins))

    def modes(self, capability: str) -> list[ModeChanged]:
        return [
            each for each in self.decisions if isinstance(each, ModeChanged) and each.capability == capability
        ]


def _verdict(component: str, at: float, faults: Sequence[Fault]) -> Verdict:
    now = [each for each in faults if each.component == component and each.at <= at < each.at + each.lasts_s]
    worst = [each.verdict for each in now]
    return Verdict.BAD if Verdict.BAD in worst else Verdict.SLOW if worst else Verdict.GOOD


def cause(state: State, capability: str) -> bool:
    """Whether something that it needs is away."""
    needs = CAPABILITIES[capability].needs
    return any(state.components[name].condition in AWAY for name in needs if name in state.components)


def normal(state: State) -> bool:
    return all(each.mode is Mode.NORMAL for each in state.capabilities.values())
