"""Decides modes: a function from what was known and what was seen to what is known and what is to be done.

No I/O and no clock. The same observations lead to the same decisions; observations that come again lead to
none. A mode gets worse at once and better only after it has lasted `hold_s`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from uuid import UUID, uuid5

from services.health.domain.component import AWAY, Component, Condition, Observation, observe
from services.health.domain.impact import Calls
from services.health.domain.plan import WORSE, Capable, Mode, Plan
from services.health.domain.state import Capability, Pin, State, shifted

INCIDENTS = UUID("5d1f7d0e-52c4-4b39-9f0c-3f7c4f0d9a11")  # Names of incidents are made below it.
FORGET_S = 900.0  # Longer than any pause between two looks.
STEP_BACK_S = 1.0  # A clock that is behind by more was set back; by less, it was read a moment earlier.


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionChanged:
    component: str
    before: Condition
    after: Condition
    why: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeChanged:
    capability: str
    before: Mode
    after: Mode
    causes: tuple[str, ...]
    incident: str  # That begins, goes on or ends with it.
    impact: Mapping[str, Calls]  # Of the incident until now.
    at: float


Decision = ConditionChanged | ModeChanged


def step(
    plan: Plan,
    known: State,
    seen: Iterable[Observation],
    pins: Mapping[str, Pin],
    now: float,
) -> tuple[State, tuple[Decision, ...]]:
    """The state at `now`, and what was decided, in order."""
    if now < known.at - STEP_BACK_S:
        known = shifted(known, now - known.at)
    now = max(now, known.at)
    components, conditions = _observed(plan, known, seen)
    conditions += _forgotten(components, now)
    capabilities: dict[str, Capability] = {}
    modes: list[ModeChanged] = []
    for name, capable in plan.capabilities.items():
        before = known.capabilities.get(name, Capability())
        after = _pinned(_decided(plan, capable, before, components, now), pins.get(name), now)
        after, changed = _changed(name, before, after, now)
        capabilities[name] = after
        modes += changed
    decisions: tuple[Decision, ...] = (*conditions, *modes)
    revision = known.revision + bool(decisions)
    state = State(at=now, revision=revision, components=components, capabilities=capabilities)
    return state, decisions


def counted(plan: Plan, known: State, calls: Mapping[str, Calls]) -> State:
    """With calls that were counted since the last time, for each incident that goes on."""
    capabilities = dict(known.capabilities)
    for name, each in known.capabilities.items():
        if each.incident and name in plan.capabilities:
            own = (service for service in plan.capabilities[name].services() if service in calls)
            more = {service: each.impact.get(service, Calls()).plus(calls[service]) for service in own}
            capabilities[name] = replace(each, impact={**each.impact, **more})
    return replace(known, capabilities=capabilities)


def target(capable: Capable, components: Mapping[str, Component]) -> tuple[Mode, tuple[str, ...]]:
    """The mode that conditions alone ask for, and which components do. What nobody watches is well."""
    there = {name: components[name].condition for name in components}
    away = tuple(name for name in capable.needs if there.get(name) in AWAY)
    if away:
        return Mode.EMERGENCY, away
    slow = [name for name in capable.needs if there.get(name) is Condition.SLOW]
    lacking = [name for name in capable.wants if there.get(name, Condition.UP) is not Condition.UP]
    return (Mode.DEGRADED, (*slow, *lacking)) if slow or lacking else (Mode.NORMAL, ())


def _observed(
    plan: Plan, known: State, seen: Iterable[Observation]
) -> tuple[dict[str, Component], list[ConditionChanged]]:
    components, decisions = dict(known.components), list[ConditionChanged]()
    for each in sorted(seen, key=lambda one: (one.at, one.component)):
        before = components.get(each.component, Component())
        after = components[each.component] = observe(before, each, plan.limits)
        if after.condition is not before.condition:
            decisions.append(
                ConditionChanged(
                    component=each.component,
                    before=before.condition,
                    after=after.condition,
                    why=after.why,
                    at=each.at,
                )
            )
    return components, decisions


def _forgotten(components: dict[str, Component], now: float) -> list[ConditionChanged]:
    """Takes away what nobody looks at any more: it would stay as it was for ever."""
    decisions = list[ConditionChanged]()
    for name in [name for name, each in components.items() if now - each.seen_at > FORGET_S]:
        before = components.pop(name).condition
        if before is not Condition.UP:
            gone = ConditionChanged(
                component=name, before=before, after=Condition.UP, why="nobody watches it any more", at=now
            )
            decisions.append(gone)
    return decisions


def _decided(
    plan: Plan, capable: Capable, known: Capability, components: Mapping[str, Component], now: float
) -> Capability:
    wanted, causes = target(capable, components)
    if wanted is known.decided:
        return replace(known, causes=causes) if causes else known
    better = WORSE[wanted] < WORSE[known.decided]
    if better and now - known.decided_at < plan.limits.hold_s:
        return known
    return replace(known, decided=wanted, decided_at=now, causes=causes)


def _pinned(known: Capability, pin: Pin | None, now: float) -> Capability:
    if pin is not None and now < pin.until:
        return replace(known, mode=pin.mode, pinned_until=pin.until)
    return replace(known, mode=known.decided, pinned_until=0.0)


def _changed(
    name: str, before: Capability, after: Capability, now: float
) -> tuple[Capability, tuple[ModeChanged, ...]]:
    """With its incident, and the decision if its mode is another one."""
    if after.mode is before.mode:
        return after, ()
    incident = before.incident or str(uuid5(INCIDENTS, f"{name}/{now!r}"))
    decision = ModeChanged(
        capability=name,
        before=before.mode,
        after=after.mode,
        causes=() if after.pinned_until else after.causes,
        incident=incident,
        impact=before.impact,
        at=now,
    )
    if after.mode is Mode.NORMAL:
        return replace(after, since=now, incident="", impact={}), (decision,)
    return replace(after, since=now, incident=incident), (decision,)
