"""Calls that were counted while an incident went on."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Of one service."""

    calls: int = 0
    failed: int = 0

    def plus(self, more: "Calls") -> "Calls":
        return Calls(calls=self.calls + more.calls, failed=self.failed + more.failed)


def passed(before: Mapping[str, Calls], now: Mapping[str, Calls]) -> dict[str, Calls]:
    """What counters rose by. One that fell was begun anew, as its process was; nothing is known of one that
    was not read before, for it may have counted for weeks."""
    return {
        name: Calls(
            calls=_rose(before[name].calls, each.calls), failed=_rose(before[name].failed, each.failed)
        )
        for name, each in now.items()
        if name in before
    }


def _rose(before: int, now: int) -> int:
    return now - before if now >= before else now
