"""What a taking is granted: the rule that the store's statements follow, one for rates and one for quotas.

A rate is the generic cell rate algorithm (ITU-T I.371, appendix I): one number, when the bucket is full.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Taken:
    """What was granted of what was asked, and what is there afterwards."""

    granted: int
    left: int
    wait_ns: int  # Until one more comes back; 0 while there are some.
    full_ns: int  # Until all have come back.
    period: int = 0  # Of a quota: which one it was, as the ordinal of its first day.


def take(tat: int | None, at: int, asked: int, emission: int, tolerance: int) -> tuple[int, int]:
    """(granted, the new tat) at the time `at`.

    A tat further ahead than a whole bucket is of a clock that was set back, or of settings that were wider.
    """
    base = at if tat is None else min(max(tat, at), at + tolerance)
    granted = min(asked, (at + tolerance - base) // emission)
    return granted, base + granted * emission


def rate(granted: int, tat: int, at: int, emission: int, tolerance: int) -> Taken:
    """What a taking of a rate tells."""
    room = at + tolerance - tat
    return Taken(
        granted=granted,
        left=room // emission,
        wait_ns=max(0, emission - room),
        full_ns=tat - at,
    )
