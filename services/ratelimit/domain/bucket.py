"""What one process holds of one limit for one key: calls that it took from the store and may let through.

Calls are taken in lots and spent from memory. A lot ends: what was not spent by then is not spent at all. All
times here are the process's monotonic ones, from before the store was asked, so no clock that differs from
another, and no answer that comes late, lets a lot live longer than it may.
"""

from __future__ import annotations

from services.ratelimit.domain.gcra import Taken
from services.ratelimit.domain.limit import Limit

LEASE_S = 0.5  # How long a lot of a rate may be spent: a limit lets through what comes back in so long more.
QUOTA_LEASE_S = 10.0  # Of a quota, which lets through no call more however long; what is left is given back.
SHARE = 8  # A lot is at most an eighth of a bucket, so that a few processes do not starve each other.
LOT_MAX = 1_000  # Calls; at 2,000 a second and key one look at the store each half second is little enough.
HOLD_S = 0.05  # An empty rate is asked for again no sooner, for it would be granted one call at a time.
QUOTA_HOLD_S = 1.0  # An empty quota: others may give back.
AWAY_S = 0.1  # After the store failed.


class Bucket:
    """Owned by one event loop."""

    __slots__ = (
        "away_until",
        "empty_until",
        "full_at",
        "key",
        "left",
        "limit",
        "lot",
        "open_at",
        "period",
        "refused",
        "tokens",
        "until",
        "wanted",
    )

    def __init__(self, limit: Limit, key: str) -> None:
        self.limit, self.key = limit, key
        self.tokens = self.wanted = self.refused = self.left = self.period = 0
        self.lot = 1
        self.until = self.empty_until = self.away_until = self.full_at = self.open_at = 0.0

    def holds(self, hits: int, now: float) -> bool:
        """Whether so many calls may pass without the store being asked."""
        return self.tokens >= hits and now < self.until

    def empty(self, now: float) -> bool:
        """Whether the store has no more, and is not to be asked yet."""
        return now < self.empty_until

    def away(self, now: float) -> bool:
        """Whether the store failed just now."""
        return now < self.away_until

    def ask(self, now: float) -> int:
        """How many to take: what is waited for, and what will soon be, going by how the last lot went."""
        most = max(1, min(self.limit.room // SHARE, LOT_MAX))
        if self.until > 0.0:
            used_up = self.tokens < max(1, self.wanted)
            self.lot = min(most, self.lot * 2) if used_up and now < self.until else max(1, self.lot // 2)
        wanted, self.wanted = self.wanted, 0
        return max(wanted, min(self.lot, most)) if wanted else 0

    def credit(self, asked: int, taken: Taken, sent: float, now: float) -> None:
        """The store's answer to what was asked for at `sent`."""
        ends = sent + (min(QUOTA_LEASE_S, taken.full_ns / 1e9) if self.limit.calendar else LEASE_S)
        if self.tokens and sent < self.until and taken.period == self.period:
            self.tokens += taken.granted  # What is left of the lot before ends when it would have.
            self.until = min(self.until, ends)
        else:
            self.tokens, self.until = taken.granted, ends
        self.wanted, self.period, self.left = 0, taken.period, taken.left  # Who still waits says so again.
        wait, self.full_at = taken.wait_ns / 1e9, now + taken.full_ns / 1e9
        self.open_at = now + wait
        if taken.granted < asked:
            self.empty_until = now + self._hold(wait)

    def _hold(self, wait: float) -> float:
        if self.limit.calendar:
            return min(wait, QUOTA_HOLD_S)
        return max(wait, min(HOLD_S, self.limit.tolerance_ns / 2e9))

    def fail(self, now: float) -> None:
        """The store did not answer."""
        self.away_until, self.wanted = now + AWAY_S, 0

    def unspent(self, now: float) -> int:
        """Calls of a quota's lot that has ended, which go back. They are not spent here any more."""
        if not self.limit.calendar or not self.tokens or now < self.until:
            return 0
        back, self.tokens = self.tokens, 0
        return back

    def idle(self, now: float) -> bool:
        """Nothing would be lost with it."""
        return not self.refused and now >= max(self.until, self.empty_until, self.away_until)
