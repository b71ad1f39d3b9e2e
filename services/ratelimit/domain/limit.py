"""Limits: the row, its rules, the refusals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted
from services.ratelimit.domain.row import Row

LIMITS_MAX = 1_000  # Each decision on a new caller looks at all of them once.
NANOSECONDS = {"SECOND": 10**9, "MINUTE": 60 * 10**9, "HOUR": 3_600 * 10**9}  # Of the units that are rates.
CALENDAR = ("DAY", "MONTH")


class UnknownRateLimit(NotFound):
    """There is no limit {rate_limit_id}."""


class RateLimitIdReused(AlreadyExists):
    """The id {rate_limit_id} is taken by a limit with other settings."""


class RateLimitNameTaken(AlreadyExists):
    """Another limit is called {name}."""


class TooManyRateLimits(ResourceExhausted):
    """There are {max} limits already."""


class NotAtTheEdge(InvalidArgument):
    """{field}: the edge does otherwise; {variable} says what it does."""


class RateLimit(Row):
    """How often one key may call."""

    __tablename__ = "rate_limit"
    rate_limit_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    prefix: Mapped[str]
    plans: Mapped[list[str]]
    keys: Mapped[list[str]]
    key_kind: Mapped[str]
    header: Mapped[str]
    unit: Mapped[str]
    requests: Mapped[int]
    burst: Mapped[int]
    failure: Mapped[str]
    shadow: Mapped[bool]
    priority: Mapped[int]
    start_at: Mapped[datetime | None]
    end_at: Mapped[datetime | None]
    generation: Mapped[int]  # Of what is counted: rises when all begin anew.
    revision: Mapped[int]  # Of all limits when this one last changed.
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    def says(self, values: Mapping[str, Any]) -> bool:
        """Whether all of it is so."""
        return all(getattr(self, name) == value for name, value in values.items())

    def replace(self, values: Mapping[str, Any]) -> None:
        """Takes the settings over; by another key or unit, everybody begins anew."""
        counted = (self.key_kind, self.header, self.unit)
        for name, value in values.items():
            setattr(self, name, value)
        self.generation += counted != (self.key_kind, self.header, self.unit)


@dataclass(frozen=True, kw_only=True)
class Edge:
    """What the edges were told of limits when they started."""

    closed: Sequence[str] = ()  # Beginnings of rpcs that they refuse while they find no decider.
    headers: Sequence[str] = ()  # Request headers that they tell of.

    def check(self, *, prefix: str, failure: str, header: str) -> None:
        """Raises NotAtTheEdge: a limit that would promise what no edge does."""
        if failure == "CLOSED" and not (prefix and prefix.startswith(tuple(self.closed))):
            raise NotAtTheEdge(field="settings.failure", variable="WEFT_RATELIMIT_CLOSED")
        if header and header not in self.headers:
            raise NotAtTheEdge(field="settings.header", variable="WEFT_RATELIMIT_HEADERS")


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A limit as deciders hold it."""

    rate_limit_id: UUID
    generation: int
    revision: int
    name: str
    prefix: str
    plans: frozenset[str]
    keys: frozenset[str]
    entry: str  # The entry of a descriptor whose value is the key; empty: all calls have the same.
    unit: str
    requests: int
    burst: int
    closed: bool  # Refuses while nobody can say.
    shadow: bool
    priority: int
    start_s: float = 0.0  # Unix time.
    end_s: float = float("inf")

    @cached_property
    def calendar(self) -> bool:
        """A quota of a calendar's day or month, else a rate."""
        return self.unit in CALENDAR

    @cached_property
    def emission_ns(self) -> int:
        """Of a rate: after so long one call more comes back. Never less than the rate asks."""
        return -(-NANOSECONDS[self.unit] // self.requests)

    @cached_property
    def tolerance_ns(self) -> int:
        """Of a rate: after so long all have come back."""
        return self.emission_ns * self.room

    @cached_property
    def room(self) -> int:
        """Calls that there may be at once."""
        return self.requests if self.calendar else self.burst or self.requests

    @cached_property
    def policy(self) -> str:
        """As RateLimit-Policy tells it; a month has no length, so it tells none."""
        seconds = {"SECOND": 1, "MINUTE": 60, "HOUR": 3_600, "DAY": 86_400}.get(self.unit)
        return f'"{self.name}";q={self.requests}' + (f";w={seconds}" if seconds else "")


ENTRIES = {"USER": "user", "API_KEY": "api_key", "PLAN": "plan", "ADDRESS": "masked_remote_address"}


def entry(key_kind: str, header: str) -> str:
    """Name of the descriptor's entry that holds the key."""
    return f"header:{header}" if key_kind == "HEADER" else ENTRIES.get(key_kind, "")
