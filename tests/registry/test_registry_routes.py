"""Which route a call takes: what Envoy does with a configuration, done by hand, is what the policy says."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from envoy import filters
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from envoy.settings import Settings
from services.registry.domain import clusters, faults, routes
from services.registry.domain.resource import Kind
from services.registry.domain.rules import (
    SEGMENT_HEADER,
    Breaker,
    Bulkhead,
    Fault,
    HeaderRule,
    Hedging,
    Path,
    Retries,
    RetryBudget,
    RouteRule,
)
from services.registry.domain.treatment import action
from services.registry.domain.world import Endpoint, Policy, Service, World
from tests.registry.worlds import METHODS, paths, worlds

FEW = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
headers = st.dictionaries(st.sampled_from(["x-canary", "x-test"]), st.sampled_from(["y", "n", "yes"]))


def fits(match: Any, path: str, given: dict[str, str]) -> bool:
    """As Envoy decides."""
    if match.path and match.path != path:
        return False
    return path.startswith(match.prefix) and all(_has(header, given) for header in match.headers)


def _has(header: Any, given: dict[str, str]) -> bool:
    value, wanted = given.get(header.name), header.string_match
    if value is None:
        return False
    if wanted.HasField("safe_regex"):
        return bool(re.fullmatch(wanted.safe_regex.regex, value))
    return value.startswith(wanted.prefix) if wanted.prefix else value == wanted.exact


def taken(seen: World, name: str, path: str, given: dict[str, str]) -> Any:
    """The route of a call whose authority is a service."""
    told = RouteConfiguration.FromString(routes.mesh(list(seen.services.values())).body)
    [host] = [each for each in told.virtual_hosts if each.name == name]
    return next(route for route in host.routes if fits(route.match, path, given))


def about(path: Path, called: str) -> bool:
    return called == path.text if path.whole else called.startswith(path.text)


@FEW
@given(worlds, st.sampled_from(METHODS), headers)
def test_the_first_rule_of_each_kind_that_fits_a_call_decides(
    seen: World, called: str, given: dict[str, str]
) -> None:
    for service in seen.services.values():
        policy, route = service.policy, taken(seen, service.name, called, given)
        rule = next((each for each in policy.route_rules if about(each.path, called)), RouteRule())
        wanted = action(policy, rule, Kind.ENVOY)
        assert route.route.max_stream_duration == wanted.max_stream_duration
        assert route.route.retry_policy == wanted.retry_policy
        assert route.route.hedge_policy == wanted.hedge_policy
        by_header = [each for each in service.header_rules() if given.get(each.header) == each.value]
        if by_header:
            assert route.route.cluster == clusters.name(service, by_header[0].version)
        fault = next((each for each in service.faults if hurts(each, called, given)), None)
        told = route.typed_per_filter_config
        assert (faults.FILTER in told) == (fault is not None)
        if fault:
            assert told[faults.FILTER] == faults.config(fault)


@FEW
@given(paths, paths, st.sampled_from(METHODS))
def test_what_two_paths_are_both_about_is_what_each_is_about(one: Path, other: Path, called: str) -> None:
    both = one.within(other)
    assert (both is not None and about(both, called)) == (about(one, called) and about(other, called))


def hurts(fault: Fault, called: str, given: dict[str, str]) -> bool:
    return about(fault.path, called) and (not fault.header or given.get(fault.header[0]) == fault.header[1])


@FEW
@given(worlds)
def test_a_call_by_path_meets_the_same_as_one_by_authority(seen: World) -> None:
    told = RouteConfiguration.FromString(routes.mesh(list(seen.services.values())).body)
    [by_path] = [each for each in told.virtual_hosts if each.name == routes.MESH]
    for called in METHODS:
        name = called.split(".")[1]
        found = [route for route in by_path.routes if fits(route.match, called, {})]
        if name not in seen.services:
            assert found == []
        else:
            other = taken(seen, name, called, {})
            assert (found[0].route, found[0].typed_per_filter_config) == (
                other.route,
                other.typed_per_filter_config,
            )


AT = Endpoint("i", "10.0.0.1", 1, version="1")


@pytest.mark.parametrize(
    ("rule", "value", "wanted"),
    [
        (HeaderRule("x", "pro", "1", prefix=True), "pro-2", True),
        (HeaderRule("x", "pro", "1", prefix=True), "my-pro", False),
        (HeaderRule("x", "", "1", one_of=("a.b", "c|d (e)")), "c|d (e)", True),
        (HeaderRule("x", "", "1", one_of=("a.b", "c|d (e)")), "axb", False),
        (HeaderRule("x", "", "1", one_of=("a.b", "c|d (e)")), "a.b2", False),
    ],
    ids=["a prefix", "no prefix", "one of them", "none of them", "longer than one"],
)
def test_a_rule_fits_what_it_says(rule: HeaderRule, value: str, wanted: bool) -> None:
    service = Service("cart", (AT,), Policy(header_rules=(rule,)))
    told = RouteConfiguration.FromString(routes.alone(service).body)
    assert fits(told.virtual_hosts[0].routes[0].match, "/any", {"x": value}) is wanted


def test_the_edge_writes_the_headers_that_segments_are_looked_for_in() -> None:
    assert filters.SEGMENT_HEADER == SEGMENT_HEADER
    [written] = filters.segments(Settings(segments=["home_city"]))
    assert written == {"header_name": f"{SEGMENT_HEADER}home-city", "claim_name": "home_city"}


def test_grpcs_own_client_is_told_of_rules_and_not_of_hedging() -> None:
    hedged = RouteRule(timeout_s=2, retries=Retries(1, ("unavailable",)), hedging=Hedging(0.1))
    envoy, grpc = (action(Policy(), hedged, kind) for kind in (Kind.ENVOY, Kind.GRPC))
    assert (envoy.HasField("hedge_policy"), grpc.HasField("hedge_policy")) == (True, False)
    assert grpc.retry_policy.retry_on.endswith(",unavailable")
    assert grpc.max_stream_duration.max_stream_duration.seconds == 2


def test_no_retries_are_no_retries() -> None:
    assert not action(Policy(), RouteRule(retries=Retries(0)), Kind.ENVOY).HasField("retry_policy")


def test_a_version_has_the_bounds_of_its_own_bulkhead_or_of_that_without_a_version() -> None:
    policy = Policy(
        shares=(("1", 1), ("2", 1)),
        bulkheads=(Bulkhead("", 7), Bulkhead("2", 0, 5, 3)),
        retry_budget=RetryBudget(30, 2),
        breaker=Breaker(9, 2.5, 40),
    )
    service, found = Service("cart", (AT,), policy), {}
    for version in ("", "1", "2"):
        made = Cluster.FromString(clusters.envoy(service, version).body)
        [bounds] = made.circuit_breakers.thresholds
        found[made.name] = (
            bounds.max_requests.value,
            bounds.max_pending_requests.value,
            bounds.max_connections.value,
        )
        assert bounds.retry_budget.budget_percent.value == 30
        assert made.outlier_detection.consecutive_gateway_failure.value == 9
        assert made.outlier_detection.base_ejection_time.ToMilliseconds() == 2_500
    assert found == {"cart": (7, 1024, 1024), "cart@1": (7, 1024, 1024), "cart@2": (4096, 5, 3)}


def test_a_fault_says_what_it_does_to_how_many() -> None:
    made = HTTPFault()
    faults.config(Fault(share=25, delay_s=0.5, code=14)).Unpack(made)
    assert (made.delay.percentage.numerator, made.abort.percentage.denominator) == (25, 1)
    assert (made.delay.fixed_delay.ToMilliseconds(), made.abort.grpc_status) == (500, 14)
