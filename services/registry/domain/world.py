"""What the registry knows, as discovery sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from services.registry.domain.rules import (
    USUAL,
    Breaker,
    Bulkhead,
    Fault,
    HeaderRule,
    Mirror,
    RetryBudget,
    RouteRule,
)


class Balancer(Enum):
    """Which instance gets a call."""

    ROUND_ROBIN = "round_robin"
    LEAST_REQUEST = "least_request"
    RING_HASH = "ring_hash"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An instance."""

    instance_id: str
    address: str
    port: int
    version: str = ""
    zone: str = ""
    weight: int = 1
    health: str = "SERVING"
    revision: int = 0  # The later one has the address, where two claim it.


@dataclass(frozen=True, slots=True)
class Policy:
    """How the calls of a service are dealt."""

    balancer: Balancer = Balancer.ROUND_ROBIN
    hash_header: str = ""
    slow_start_s: float = 0.0
    zones: tuple[str, ...] = ()
    shares: tuple[tuple[str, int], ...] = ()  # Version and weight.
    header_rules: tuple[HeaderRule, ...] = ()
    active_checks: bool = False
    mirror: Mirror | None = None
    route_rules: tuple[RouteRule, ...] = ()
    retry_budget: RetryBudget | None = None
    bulkheads: tuple[Bulkhead, ...] = ()
    breaker: Breaker = USUAL
    checked_by_name: bool = False  # Asked for the service's name; else for the whole process.

    def versions(self) -> list[str]:
        """Those that it names, sorted."""
        mirrored = {self.mirror.version} if self.mirror else set()
        ruled = {rule.version for rule in self.header_rules}
        return sorted({version for version, _ in self.shares} | ruled | mirrored)

    def bulkhead(self, version: str) -> Bulkhead:
        """Of a version; of all instances alike when it is empty."""
        own = {each.version: each for each in self.bulkheads}
        return own.get(version) or own.get("") or Bulkhead()


PLAIN = Policy()


@dataclass(frozen=True, slots=True)
class Service:
    """One service: all that its resources are made of."""

    name: str
    endpoints: tuple[Endpoint, ...]  # By address, each once.
    policy: Policy = PLAIN
    faults: tuple[Fault, ...] = ()  # The oldest first.

    def of_version(self, version: str) -> tuple[Endpoint, ...]:
        return tuple(each for each in self.endpoints if each.version == version)

    def served(self) -> frozenset[str]:
        """Versions that some instance has."""
        return frozenset(each.version for each in self.endpoints)

    def shares(self) -> list[tuple[str, int]]:
        """Of versions that there are, those that get calls."""
        there = self.served()
        return [(version, weight) for version, weight in self.policy.shares if version in there and weight]

    def header_rules(self) -> list[HeaderRule]:
        there = self.served()
        return [rule for rule in self.policy.header_rules if rule.version in there]

    def mirror(self) -> Mirror | None:
        """If somebody hears it."""
        mirror = self.policy.mirror
        return mirror if mirror and mirror.version in self.served() else None

    def priorities(self, endpoints: Sequence[Endpoint]) -> dict[str, int]:
        """By zone of `endpoints`: 0 is tried first. Without gaps, as clients want it."""
        zones = {each.zone for each in endpoints}
        ranks = sorted({self._rank(zone) for zone in zones})
        return {zone: ranks.index(self._rank(zone)) for zone in sorted(zones)}

    def _rank(self, zone: str) -> int:
        zones = self.policy.zones
        return zones.index(zone) if zone in zones else len(zones)


@dataclass(frozen=True, slots=True)
class World:
    """All services at one revision."""

    revision: int
    services: Mapping[str, Service] = field(default_factory=dict)


def world(
    revision: int,
    instances: Mapping[str, Iterable[Endpoint]],
    policies: Mapping[str, Policy],
    faults: Mapping[str, tuple[Fault, ...]] | None = None,
    plain: Policy = PLAIN,
) -> World:
    """Services that have an instance or a policy, by name; `plain` is the policy of those that have none."""
    names, made_to_fail = sorted({*instances, *policies}), faults or {}
    made = [
        Service(
            name, distinct(instances.get(name, ())), policies.get(name, plain), made_to_fail.get(name, ())
        )
        for name in names
    ]
    return World(revision, {each.name: each for each in made})


def distinct(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Each address once, in order. Who registered there last has it: a process that was killed is believed
    until its lease ends. Clients refuse a list with the same address twice."""
    latest: dict[tuple[str, int], Endpoint] = {}
    for each in endpoints:
        place = (each.address, each.port)
        known = latest.get(place)
        if known is None or (each.revision, each.instance_id) > (known.revision, known.instance_id):
            latest[place] = each
    return tuple(latest[place] for place in sorted(latest))
