"""What capabilities there are, what each needs, and what is done when it lacks some of that."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from services.health.domain.component import Thresholds

NAME = re.compile(r"[a-z][a-z0-9.-]{0,62}")
PATH = re.compile(r"/[\w.]+(/\w*)?")
CAPABILITIES_MAX = 100  # All are told in one word, which every process keeps.
LISTS = ("shed", "off", "stale", "queue")


class BadPlan(ValueError):
    """A file of capabilities that cannot be used; says where and why."""


class Mode(StrEnum):
    NORMAL = "NORMAL"
    DEGRADED = "DEGRADED"
    EMERGENCY = "EMERGENCY"


WORSE = {mode: place for place, mode in enumerate(Mode)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategies:
    """What holds while a capability is in a mode."""

    shed: tuple[str, ...] = ()  # Calls of methods whose path begins so, as far as they can wait.
    off: tuple[str, ...] = ()  # Features.
    stale: tuple[str, ...] = ()  # Caches whose old values do.
    queue: tuple[str, ...] = ()  # Writes that wait where they are kept.

    def and_(self, more: "Strategies") -> "Strategies":
        return Strategies(**{name: (*getattr(self, name), *getattr(more, name)) for name in LISTS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Capable:
    """One capability as it is declared."""

    needs: tuple[str, ...]  # Without one of these: emergency.
    wants: tuple[str, ...] = ()  # Without one of these: degraded.
    money: bool = False  # Payments that fail meanwhile are counted in its impact.
    degraded: Strategies = field(default_factory=Strategies)
    emergency: Strategies = field(default_factory=Strategies)  # Beside those of degraded.

    def strategies(self, mode: Mode) -> Strategies:
        if mode is Mode.NORMAL:
            return Strategies()
        return self.degraded if mode is Mode.DEGRADED else self.degraded.and_(self.emergency)

    def services(self) -> tuple[str, ...]:
        """Of its components, the services."""
        found = (each.removeprefix("service.") for each in self.needs + self.wants if _service(each))
        return tuple(sorted(set(found)))


def _service(component: str) -> bool:
    return component.startswith("service.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that the controller is told beforehand."""

    capabilities: Mapping[str, Capable]
    limits: Thresholds = field(default_factory=Thresholds)


def parse(tables: Mapping[str, Any]) -> dict[str, Capable]:
    """Capabilities by name, of a file's tables. Raises BadPlan."""
    _only(tables, ("capabilities",), "the file")
    found = tables.get("capabilities", {})
    if len(found) > CAPABILITIES_MAX:
        raise BadPlan(f"there are more than {CAPABILITIES_MAX} capabilities")
    return {name: _capable(name, table) for name, table in found.items()}


def _capable(name: str, table: Mapping[str, Any]) -> Capable:
    if not NAME.fullmatch(name):
        raise BadPlan(f"{name} is no name of a capability")
    _only(table, ("needs", "wants", "money", "degraded", "emergency"), name)
    needs, wants = (_names(table, key, name, NAME) for key in ("needs", "wants"))
    if not needs:
        raise BadPlan(f"{name} needs nothing")
    return Capable(
        needs=needs,
        wants=wants,
        money=bool(table.get("money", False)),
        degraded=_strategies(table.get("degraded", {}), f"{name}.degraded"),
        emergency=_strategies(table.get("emergency", {}), f"{name}.emergency"),
    )


def _strategies(table: Mapping[str, Any], where: str) -> Strategies:
    _only(table, LISTS, where)
    return Strategies(
        **{kind: _names(table, kind, where, PATH if kind == "shed" else NAME) for kind in LISTS}
    )


def _names(table: Mapping[str, Any], key: str, where: str, rule: re.Pattern[str]) -> tuple[str, ...]:
    names = table.get(key, [])
    for each in names:
        if not (isinstance(each, str) and rule.fullmatch(each)):
            raise BadPlan(f"{where}.{key} has {each!r}, which is no name")
    return tuple(names)


def _only(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    if unknown := sorted(set(table) - set(known)):
        raise BadPlan(f"{where} has {unknown[0]}; known are {', '.join(known)}")
