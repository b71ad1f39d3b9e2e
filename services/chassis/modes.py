"""What holds for capabilities now, as the health service decides it: what is shed, what is switched off.

All is normal until it is told otherwise, and it is told only where WEFT_DEGRADE is set. The last word is kept
while health or NATS is away, but for BELIEVED_S only: who decided that calls are to be refused must go on
saying so, or nothing is refused any more. So whoever loses the health service loses no call by it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.chassis.bus import Bus
from services.chassis.clock import Clock
from services.chassis.errors import Unavailable
from services.chassis.method import Method

BUCKET, KEY = "weft_modes", "modes"
BELIEVED_S = 300.0  # Ten times what the decider takes to confirm; a longer silence is its death.
NORMAL = "NORMAL"

log = logging.getLogger("weft.modes")


class Shed(Unavailable):
    """{capability} is short of what it needs; calls that can wait are not answered now."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Calls of methods below a path are refused if their priority is `priority` or can wait longer."""

    path: str  # Begins so, such as `/weft.catalog.v1.`.
    priority: int
    capability: str


@dataclass(frozen=True, slots=True)
class Told:
    """One word of the decider."""

    modes: Mapping[str, str] = field(default_factory=dict)  # By capability, those that are not normal.
    shed: tuple[Rule, ...] = ()
    off: frozenset[str] = frozenset()  # Features.
    stale: frozenset[str] = frozenset()  # Names of caches.
    queue: frozenset[str] = frozenset()  # Names of writes that wait where they are kept.


NOTHING = Told()


class Modes:
    """Of one process. Asking costs a look at a set."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._told, self._until = NOTHING, 0.0
        self._rules: dict[str, Rule | None] = {}  # By path: the rule that refuses it, if any.
        self.sheds = False

    def mode(self, capability: str) -> str:
        """NORMAL, DEGRADED or EMERGENCY."""
        return self._now().modes.get(capability, NORMAL)

    def off(self, feature: str) -> bool:
        return feature in self._now().off

    def stale(self, cache: str) -> bool:
        """Whether old values of this cache do."""
        return cache in self._now().stale

    def queued(self, write: str) -> bool:
        """Whether this write is to wait in its own rows."""
        return write in self._now().queue

    def admit(self, method: Method) -> None:
        """Raises Shed."""
        told = self._now()
        if method.path not in self._rules:
            self._rules[method.path] = next((rule for rule in told.shed if _meets(rule, method)), None)
        if rule := self._rules[method.path]:
            raise Shed(capability=rule.capability)

    def tell(self, text: bytes) -> None:
        """Takes the word of the decider; one that cannot be read changes nothing."""
        try:
            told = _parse(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError):
            log.exception("the word about modes cannot be read")
            return
        self._until = self._clock.monotonic() + BELIEVED_S
        self._take(told)

    def _take(self, told: Told) -> None:
        if told != self._told:
            log.warning("modes changed", extra={"facts": {"modes": dict(told.modes) or NORMAL}})
            self._told, self._rules, self.sheds = told, {}, bool(told.shed)

    def _now(self) -> Told:
        if self._told is not NOTHING and self._clock.monotonic() > self._until:
            log.warning("nobody confirms the modes any more")
            self._take(NOTHING)
        return self._told

    async def follow(self, bus: Bus) -> None:
        """For ever."""
        bucket = await bus.kv(BUCKET)
        async for text in bucket.watch(KEY):
            self.tell(text)


def _meets(rule: Rule, method: Method) -> bool:
    return method.path.startswith(rule.path) and method.priority >= rule.priority


def _parse(word: Mapping[str, Any]) -> Told:
    return Told(
        modes={str(name): str(mode) for name, mode in word["modes"].items()},
        shed=tuple(Rule(str(path), int(priority), str(name)) for path, priority, name in word["shed"]),
        off=frozenset(word["off"]),
        stale=frozenset(word["stale"]),
        queue=frozenset(word["queue"]),
    )
