"""Which limits a call meets: all of them, compiled once a change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from services.chassis.caller import FIRST_PARTY
from services.ratelimit.domain.limit import Limit

KEY_CHARS_MAX = 256  # Longer ones are kept as their hash: a header may be as long as its sender likes.
EVERYBODY = "*"
OWN_SIGN_IN = ("api_key", FIRST_PARTY)  # The client of a token that was issued to none.


class Book:
    """Limits in the order in which they win over each other."""

    def __init__(self, limits: Iterable[Limit]) -> None:
        self.limits: Sequence[Limit] = sorted(
            limits, key=lambda each: (-each.priority, -len(each.prefix), each.name)
        )

    def meets(self, call: Mapping[str, str], now_s: float) -> list[tuple[Limit, str]]:
        """Limits that the call counts under, each with its key. `call` has the descriptor's entries."""
        found: dict[tuple[str, str], tuple[Limit, str]] = {}
        for limit in self.limits:
            key = call.get(limit.entry, "") if limit.entry else EVERYBODY
            if key and limit.start_s <= now_s < limit.end_s and _matches(limit, call, key):
                found.setdefault((limit.entry, limit.unit), (limit, kept(key)))
        return list(found.values())

    def changes(self, now_s: float) -> float:
        """When the next limit begins or ends to hold, in Unix time."""
        times = [at for each in self.limits for at in (each.start_s, each.end_s)]
        return min((at for at in times if at > now_s), default=float("inf"))


def _matches(limit: Limit, call: Mapping[str, str], key: str) -> bool:
    if (limit.entry, key) == OWN_SIGN_IN:
        return False
    where = call.get("route" if limit.prefix.startswith("/") else "rpc", "")
    if not where.startswith(limit.prefix):
        return False
    if limit.plans and call.get("plan", "") not in limit.plans:
        return False
    return not limit.keys or key in limit.keys


def kept(key: str) -> str:
    """A key as it is counted."""
    if len(key) <= KEY_CHARS_MAX:
        return key
    return hashlib.sha256(key.encode()).hexdigest()
