"""Which version gets how many calls: the part of a policy that rollouts and switches write too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.chassis.db import Tx
from services.chassis.events import emit
from services.registry.domain.row import State
from services.registry.domain.rules import OF
from services.registry.domain.traffic_policy import POLICIES_MAX, TooManyTrafficPolicies, TrafficPolicy
from services.registry.store import traffic_policy as store
from weft.registry.v1.events_pb2 import TrafficPolicyChanged
from weft.registry.v1.traffic_policy_pb2 import TrafficPolicySettings, VersionShare


@dataclass(frozen=True)
class Change:
    """A transaction that has the order of changes."""

    tx: Tx
    order: State
    now: datetime


def settings(row: TrafficPolicy | None) -> TrafficPolicySettings:
    return TrafficPolicySettings.FromString(row.settings if row else b"")


def of(settings: TrafficPolicySettings) -> dict[str, int]:
    return {each.version: each.weight for each in settings.shares}


def between(most: str, rest: str, share_of_rest: int = 0) -> dict[str, int]:
    """All calls to one version but the share of another, which keeps its cluster even with none."""
    return {most: OF - share_of_rest, rest: share_of_rest}


async def deal(change: Change, service: str, wanted: Mapping[str, int]) -> TrafficPolicy:
    """Sends a service's calls so; all else of its policy stays. Raises TooManyTrafficPolicies."""
    row = await store.find(change.tx, service)
    made = settings(row)
    del made.shares[:]
    made.shares.extend(VersionShare(version=version, weight=weight) for version, weight in wanted.items())
    return await write(change, row, service, made)


async def write(
    change: Change, row: TrafficPolicy | None, service: str, settings: TrafficPolicySettings
) -> TrafficPolicy:
    """Makes or replaces the policy `row` of a service. Raises TooManyTrafficPolicies."""
    if row is None:
        if await store.count(change.tx) >= POLICIES_MAX:
            raise TooManyTrafficPolicies(max=POLICIES_MAX)
        row = TrafficPolicy(service=service, created_at=change.now)
        change.tx.add(row)
    row.settings = settings.SerializeToString(deterministic=True)
    row.revision, row.updated_at = change.order.next(), change.now
    await emit(change.tx, TrafficPolicyChanged(service=service))
    return row
