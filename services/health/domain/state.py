"""All that the controller knows, and how a row keeps it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from services.health.domain.component import Component, Condition
from services.health.domain.impact import Calls
from services.health.domain.plan import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A mode that was set by hand until a time, in Unix seconds."""

    mode: Mode
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    mode: Mode = Mode.NORMAL  # What holds: what was decided, or a pin.
    since: float = 0.0
    decided: Mode = Mode.NORMAL  # By what was observed alone.
    decided_at: float = 0.0
    causes: tuple[str, ...] = ()  # Of `decided`.
    pinned_until: float = 0.0  # 0: not pinned.
    incident: str = ""  # Goes on.
    impact: Mapping[str, Calls] = field(default_factory=dict)  # Of the incident, by service.


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    at: float = 0.0  # When it was last stepped.
    revision: int = 0  # Of the last decision.
    components: Mapping[str, Component] = field(default_factory=dict)
    capabilities: Mapping[str, Capability] = field(default_factory=dict)

    @property
    def calm(self) -> bool:
        """Nothing is against anything: there is nothing to keep but that."""
        up = all(each.condition is Condition.UP for each in self.components.values())
        return up and all(each.mode is Mode.NORMAL for each in self.capabilities.values())


def shifted(state: State, by: float) -> State:
    """The same on a clock that was set by so many seconds: no time that was waited is waited again."""
    components = {
        name: replace(
            each,
            since=each.since + by,
            seen_at=each.seen_at + by,
            next_at=each.next_at and each.next_at + by,
            falls=tuple(at + by for at in each.falls),
        )
        for name, each in state.components.items()
    }
    capabilities = {
        name: replace(each, since=each.since + by, decided_at=each.decided_at + by)
        for name, each in state.capabilities.items()
    }
    return replace(state, at=state.at + by, components=components, capabilities=capabilities)


def resumed(state: State, now: float) -> State:
    """As another process goes on with it: what nobody looked at meanwhile was not silent."""
    components = {name: replace(each, seen_at=now) for name, each in state.components.items()}
    return replace(state, at=now, components=components)


def dump(state: State) -> dict[str, Any]:
    return asdict(state)


def load(kept: Mapping[str, Any]) -> State:
    """What `dump` made; an empty one for nothing."""
    return State(
        at=kept.get("at", 0.0),
        revision=kept.get("revision", 0),
        components={name: _component(each) for name, each in kept.get("components", {}).items()},
        capabilities={name: _capability(each) for name, each in kept.get("capabilities", {}).items()},
    )


def _component(kept: Mapping[str, Any]) -> Component:
    return Component(**{**kept, "condition": Condition(kept["condition"]), "falls": tuple(kept["falls"])})


def _capability(kept: Mapping[str, Any]) -> Capability:
    told = {"mode": Mode(kept["mode"]), "decided": Mode(kept["decided"]), "causes": tuple(kept["causes"])}
    impact = {name: Calls(**each) for name, each in kept["impact"].items()}
    return Capability(**{**kept, **told, "impact": impact})
