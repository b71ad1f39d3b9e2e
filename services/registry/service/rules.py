"""Policies and faults as discovery is made of them, from the messages that rows keep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from services.registry.domain.fault import Fault as FaultRow
from services.registry.domain.rules import (
    OF,
    SEGMENT_HEADER,
    TRIED_AGAIN,
    Breaker,
    Bulkhead,
    Fault,
    HeaderRule,
    Hedging,
    Mirror,
    Path,
    Retries,
    RetryBudget,
    RouteRule,
)
from services.registry.domain.traffic_policy import TrafficPolicy
from services.registry.domain.world import PLAIN, Balancer, Policy
from weft.registry.v1 import fault_pb2, traffic_policy_pb2, traffic_policy_rules_pb2 as pb

HEDGED = 1  # Further tries, where the policy names no number.
ALWAYS = 3  # Retries at once whatever the budget, likewise.


def policy(row: TrafficPolicy, plain: Policy = PLAIN) -> Policy:
    """What the row does not say is as in `plain`."""
    settings = traffic_policy_pb2.TrafficPolicySettings.FromString(row.settings)
    balancing, breaker = settings.balancing, settings.circuit_breaker
    by_header = [HeaderRule(r.header, r.value, r.version) for r in settings.header_rules]
    return Policy(
        balancer=Balancer(balancing.WhichOneof("kind") or plain.balancer),
        hash_header=balancing.ring_hash.header,
        slow_start_s=_seconds(balancing.slow_start),
        zones=tuple(settings.zones),
        shares=tuple((share.version, share.weight) for share in settings.shares),
        header_rules=(*by_header, *map(_segment, settings.segment_rules)),
        active_checks=settings.active_health_checks or plain.active_checks,
        checked_by_name=plain.checked_by_name,
        mirror=_mirror(settings),
        route_rules=tuple(map(_route_rule, settings.route_rules)),
        retry_budget=_budget(settings) or plain.retry_budget,
        bulkheads=tuple(
            Bulkhead(each.version, each.max_requests, each.max_pending, each.max_connections)
            for each in settings.bulkheads
        ),
        breaker=Breaker(breaker.failures, _seconds(breaker.ejection), breaker.ejected_percent_max),
    )


def faults(rows: Iterable[FaultRow]) -> dict[str, tuple[Fault, ...]]:
    """By service, in the order of the rows."""
    found: dict[str, tuple[Fault, ...]] = {}
    for row in rows:
        found[row.service] = (*found.get(row.service, ()), _fault(row))
    return found


def _fault(row: FaultRow) -> Fault:
    settings = fault_pb2.FaultSettings.FromString(row.settings)
    header = settings.header
    return Fault(
        path=_path(settings),
        header=(header.name, header.value) if settings.HasField("header") else None,
        share=settings.share or OF,
        delay_s=_seconds(settings.delay),
        code=settings.abort.code,
    )


def _segment(rule: pb.SegmentRule) -> HeaderRule:
    fit = rule.WhichOneof("fit")
    return HeaderRule(
        header=SEGMENT_HEADER + rule.claim.replace("_", "-"),
        value=rule.prefix or rule.exact,
        version=rule.version,
        prefix=fit == "prefix",
        one_of=tuple(rule.one_of.values),
    )


def _mirror(settings: traffic_policy_pb2.TrafficPolicySettings) -> Mirror | None:
    mirror = settings.mirror
    return Mirror(mirror.version, mirror.share) if settings.HasField("mirror") else None


def _budget(settings: traffic_policy_pb2.TrafficPolicySettings) -> RetryBudget | None:
    if not settings.HasField("retry_budget"):
        return None
    return RetryBudget(settings.retry_budget.percent, settings.retry_budget.always or ALWAYS)


def _route_rule(rule: pb.RouteRule) -> RouteRule:
    hedging = Hedging(_seconds(rule.hedging.after), rule.hedging.more or HEDGED)
    return RouteRule(
        path=_path(rule),
        timeout_s=_seconds(rule.timeout),
        retries=_retries(rule.retries, given=rule.HasField("retries")),
        hedging=hedging if rule.HasField("hedging") else None,
    )


def _retries(retries: pb.Retries, *, given: bool) -> Retries:
    return Retries(
        attempts=retries.attempts if given else TRIED_AGAIN,
        on=tuple(map(_spelled, retries.on)),
        per_try_s=_seconds(retries.per_try_timeout),
        backoff_s=_seconds(retries.backoff),
    )


def _spelled(code: pb.RetryOn.ValueType) -> str:
    """As xDS spells it: `resource-exhausted`."""
    return pb.RetryOn.Name(code).removeprefix("RETRY_ON_").lower().replace("_", "-")


def _path(says: Any) -> Path:
    """Of a message with `method` or `prefix` or neither."""
    return Path(says.method or says.prefix, whole=bool(says.method))


def _seconds(duration: Any) -> float:
    return float(duration.ToTimedelta().total_seconds())
