"""A scenario as its file declares it: the load, the steps, and the objectives; read from TOML, no I/O.

Whatever is wrong with a file is told by the field's name and its rule.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TARGET = re.compile(r"[a-z][a-z0-9-]{0,62}")
KINDS = ("read", "write", "sign_in")
MIX = {"read": 0.70, "write": 0.28, "sign_in": 0.02}
AFTER_S_MIN = 1.0  # Of the run that is left once the mesh should be well again, to judge it by.
WHAT_MAX = 200  # Characters: a sentence, which is shown in a list.
STEPS_MAX = 50  # More than a run's seconds have room for.


class BadScenario(Exception):
    """A file that cannot be played: names the field, and the rule that it breaks."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both allowed."""

    low: float
    high: float
    unit: str = ""

    def read(self, where: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadScenario(f"{where}: must be a number")
        if not self.low <= value <= self.high:
            raise BadScenario(f"{where}: must lie between {self.low:g} and {self.high:g}{self.unit}")
        return float(value)


@dataclass(frozen=True)
class Shape:
    """What a step of one kind says beyond when it begins."""

    lasts: bool = True  # With `for`.
    targeted: bool = True  # With `target`.
    peered: bool = False  # With `peer`, if it is wanted.
    links: bool = False  # Needs a mesh that was started with WEFT_CHAOS=1.
    numbers: Mapping[str, Range] = field(default_factory=dict)
    optional: Mapping[str, tuple[Range, float]] = field(default_factory=dict)  # And what absence means.


SECONDS = Range(2, 300, " s")  # A token that the users sign in for lives no longer.
RATE = Range(1, 1_000, " a second")  # What this machine's one client can send beside the mesh.
AT = Range(0, SECONDS.high, " s")
FOR = Range(0.1, 120, " s")
SHARE = Range(0, 1)
SHAPES = {
    "kill": Shape(lasts=False),
    "pause": Shape(),
    "fill": Shape(),
    "partition": Shape(peered=True, links=True),
    "delay": Shape(
        peered=True,
        links=True,
        numbers={"delay_ms": Range(1, 5_000, " ms")},
        optional={"jitter_ms": (Range(0, 5_000, " ms"), 0.0)},
    ),
    "loss": Shape(peered=True, links=True, numbers={"share": Range(0.001, 0.5)}),
    "skew": Shape(links=True, numbers={"offset_s": Range(-3_600, 3_600, " s")}),
    "hostile": Shape(targeted=False, numbers={"connections": Range(1, 1_000)}),
    "burst": Shape(targeted=False, numbers={"times": Range(1, 10)}),
}


@dataclass(frozen=True)
class Step:
    """One fault: when, what, where, for how long."""

    at: float
    fault: str
    target: str = ""
    peer: str = ""  # Of a link: the other end. Empty: every other.
    lasts: float = 0.0
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def ends(self) -> float:
        return self.at + self.lasts

    @property
    def needs_links(self) -> bool:
        return SHAPES[self.fault].links

    def said(self) -> str:
        """For people: `delay identity-postgres (delay_ms 200) for 5 s`."""
        where = "-".join(part for part in (self.target, self.peer) if part)
        more = ", ".join(f"{name} {value:g}" for name, value in self.numbers.items())
        long = f"for {self.lasts:g} s" if self.lasts else ""
        words = (self.fault, where, f"({more})" if more else "", long)
        return " ".join(word for word in words if word)


@dataclass(frozen=True)
class Objectives:
    """What users are to see whatever is done. That nothing acknowledged is lost is always among it."""

    availability: float  # Share of all calls of the run that are answered well.
    p95_ms: float  # Of the calls answered once `recovery_s` after the last fault have passed.
    recovery_s: float  # From the end of the last fault to the last second that is not well.


@dataclass(frozen=True)
class Scenario:
    """A file that can be played."""

    name: str
    what: str
    seconds: float
    rate: float
    mix: Mapping[str, float]
    steps: tuple[Step, ...]
    slo: Objectives

    @property
    def needs_links(self) -> bool:
        return any(step.needs_links for step in self.steps)

    @property
    def struck(self) -> float:
        """When the first fault begins."""
        return min(step.at for step in self.steps)

    @property
    def spared(self) -> float:
        """When the last fault ends."""
        return max(step.ends for step in self.steps)


def read(name: str, text: str) -> Scenario:
    """Raises BadScenario."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadScenario(f"is not TOML: {error}") from None
    _known("", values, {"what", "seconds", "rate", "mix", "step", "slo"})
    found = Scenario(
        name=name,
        what=_sentence(values),
        seconds=SECONDS.read("seconds", _wanted("", values, "seconds")),
        rate=RATE.read("rate", _wanted("", values, "rate")),
        mix=_mix(values.get("mix", MIX)),
        steps=_steps(_wanted("", values, "step")),
        slo=_objectives(_wanted("", values, "slo")),
    )
    whole = found.spared + found.slo.recovery_s + AFTER_S_MIN
    if found.seconds < whole:
        raise BadScenario(
            f"seconds: must be at least {whole:g}: the last fault ends at {found.spared:g}, then come"
            f" slo.recovery_s and {AFTER_S_MIN:g} s to judge what is after"
        )
    return found


def _sentence(values: Mapping[str, Any]) -> str:
    what = _wanted("", values, "what")
    if not isinstance(what, str) or not 0 < len(what) <= WHAT_MAX:
        raise BadScenario(f"what: must be a sentence of at most {WHAT_MAX} characters")
    return what


def _mix(values: object) -> dict[str, float]:
    table = _table("mix", values)
    _known("mix.", table, set(KINDS))
    mix = {kind: SHARE.read(f"mix.{kind}", table.get(kind, 0)) for kind in KINDS}
    if abs(sum(mix.values()) - 1) > 1e-6:
        raise BadScenario(f"mix: the shares must add up to 1, they are {sum(mix.values()):g}")
    return mix


def _objectives(values: object) -> Objectives:
    ranges = {"availability": SHARE, "p95_ms": Range(1, 60_000, " ms"), "recovery_s": Range(0, 120, " s")}
    table = _table("slo", values)
    _known("slo.", table, set(ranges))
    read = {name: each.read(f"slo.{name}", _wanted("slo.", table, name)) for name, each in ranges.items()}
    return Objectives(**read)


def _steps(values: object) -> tuple[Step, ...]:
    if not isinstance(values, list) or not 0 < len(values) <= STEPS_MAX:
        raise BadScenario(f"step: there must be one to {STEPS_MAX}, each a [[step]]")
    steps = (_step(f"step {n}", _table(f"step {n}", each)) for n, each in enumerate(values, 1))
    return tuple(sorted(steps, key=lambda step: step.at))


def _step(where: str, values: Mapping[str, Any]) -> Step:
    fault = _wanted(f"{where}: ", values, "fault")
    shape = SHAPES.get(fault) if isinstance(fault, str) else None
    if shape is None:
        raise BadScenario(f"{where}: fault: must be one of {', '.join(SHAPES)}")
    names = {"at", "fault", *shape.numbers, *shape.optional}
    names |= {"for"} if shape.lasts else set()
    names |= {"target"} if shape.targeted else set()
    names |= {"peer"} if shape.peered else set()
    _known(f"{where}: ", values, names)
    prefix = f"{where}: "
    return Step(
        at=AT.read(f"{where}: at", _wanted(prefix, values, "at")),
        fault=str(fault),
        target=_target(f"{where}: target", _wanted(prefix, values, "target")) if shape.targeted else "",
        peer=_target(f"{where}: peer", values["peer"]) if "peer" in values else "",
        lasts=FOR.read(f"{where}: for", _wanted(prefix, values, "for")) if shape.lasts else 0.0,
        numbers=_numbers(where, shape, values),
    )


def _numbers(where: str, shape: Shape, values: Mapping[str, Any]) -> dict[str, float]:
    found = {
        name: each.read(f"{where}: {name}", _wanted(f"{where}: ", values, name))
        for name, each in shape.numbers.items()
    }
    for name, (each, absent) in shape.optional.items():
        found[name] = each.read(f"{where}: {name}", values.get(name, absent))
    return found


def _target(where: str, value: object) -> str:
    if not isinstance(value, str) or not TARGET.fullmatch(value):
        raise BadScenario(f"{where}: must name a part of the mesh, such as identity, postgres, nats, edge")
    return value


def _table(where: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadScenario(f"{where}: must be a table")
    return value


def _wanted(prefix: str, values: Mapping[str, Any], name: str) -> Any:
    if name not in values:
        raise BadScenario(f"{prefix}{name}: is missing")
    return values[name]


def _known(prefix: str, values: Mapping[str, Any], names: set[str]) -> None:
    if strange := sorted(set(values) - names):
        raise BadScenario(f"{prefix}{strange[0]}: is not known here; there are {', '.join(sorted(names))}")
