"""The word that all processes are told: what holds, for the chassis; and all that is known, for our own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.health.domain.plan import LISTS, Mode, Plan
from services.health.domain.state import State, dump, load
from weft.options.v1.options_pb2 import PRIORITY_DEFERRABLE, PRIORITY_NORMAL

SHED_FROM = {Mode.DEGRADED: PRIORITY_DEFERRABLE, Mode.EMERGENCY: PRIORITY_NORMAL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One of them. Later ones have a later term, or in the same a later beat."""

    term: int = 0
    beat: int = 0
    at: float = 0.0
    state: State = field(default_factory=State)

    @property
    def place(self) -> tuple[int, int]:
        return self.term, self.beat


def write(word: Word, plan: Plan) -> bytes:
    """As services.chassis.modes reads it."""
    told = holding(word.state, plan)
    head = {"term": word.term, "beat": word.beat, "at": word.at, "state": dump(word.state)}
    return json.dumps({**head, **told}, sort_keys=True).encode()


def read(text: bytes) -> Word:
    """Raises ValueError, KeyError or TypeError."""
    kept: dict[str, Any] = json.loads(text)
    return Word(term=kept["term"], beat=kept["beat"], at=kept["at"], state=load(kept["state"]))


def holding(state: State, plan: Plan) -> Mapping[str, Any]:
    """Modes that are not normal, and what is done about them."""
    modes: dict[str, str] = {}
    lists: dict[str, list[Any]] = {name: [] for name in LISTS}
    for name, each in sorted(state.capabilities.items()):
        if each.mode is Mode.NORMAL or name not in plan.capabilities:
            continue
        modes[name] = each.mode.value
        strategies = plan.capabilities[name].strategies(each.mode)
        lists["shed"] += [[path, SHED_FROM[each.mode], name] for path in strategies.shed]
        for kind in ("off", "stale", "queue"):
            lists[kind] += getattr(strategies, kind)
    return {"modes": modes, **lists}
