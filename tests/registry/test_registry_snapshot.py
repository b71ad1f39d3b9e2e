"""The state of the world is a pure function, and all that it names is there."""

from __future__ import annotations

from itertools import pairwise

from google.protobuf.any_pb2 import Any as Packed
from hypothesis import HealthCheck, given, settings, strategies as st

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from services.registry.domain.resource import CDS, EDS, LDS, RDS, Kind
from services.registry.domain.snapshot import snapshot
from services.registry.domain.world import PLAIN, Balancer, Endpoint, Policy, World, distinct, world
from tests.registry.worlds import instances, kept, made, routed, worlds

LISTENER = "127.0.0.1:8081"
FEW = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def assignments(seen: World) -> dict[str, ClusterLoadAssignment]:
    view = snapshot(seen).views[Kind.ENVOY]
    return {name: ClusterLoadAssignment.FromString(each.body) for name, each in view[EDS].items()}


def one(policy: Policy, *endpoints: Endpoint) -> World:
    return world(1, {"cart": endpoints}, {"cart": policy})


def at(port: int, **rest: object) -> Endpoint:
    return Endpoint(f"i{port}", "10.0.0.1", port, **rest)  # type: ignore[arg-type]


@FEW
@given(worlds)
def test_everything_that_is_named_is_there(seen: World) -> None:
    for view in snapshot(seen, LISTENER).views.values():
        assert routed(view) <= set(view[CDS])
        for each in view[CDS].values():
            assert Cluster.FromString(each.body).eds_cluster_config.service_name in view[EDS]
        for each in view[LDS].values():
            assert routes_of(Listener.FromString(each.body)) in view[RDS]


def routes_of(listener: Listener) -> str:
    packed: Packed = listener.api_listener.api_listener
    if listener.filter_chains:
        packed = listener.filter_chains[0].filters[0].typed_config
    manager = HttpConnectionManager()
    assert packed.Unpack(manager)
    return str(manager.rds.route_config_name)


@FEW
@given(worlds)
def test_no_call_is_sent_where_nobody_is_while_there_is_somebody(seen: World) -> None:
    members = {name: list(each.endpoints) for name, each in assignments(seen).items()}
    for view in snapshot(seen).views.values():
        for name in routed(view):
            service = seen.services[name.partition("@")[0]]
            assert members[name] or not service.endpoints, name


@FEW
@given(worlds)
def test_each_address_is_there_once_and_priorities_have_no_gaps(seen: World) -> None:
    for name, each in assignments(seen).items():
        places = [
            (e.endpoint.address.socket_address.address, e.endpoint.address.socket_address.port_value)
            for locality in each.endpoints
            for e in locality.lb_endpoints
        ]
        assert len(set(places)) == len(places)
        ranks = [locality.priority for locality in each.endpoints]
        assert sorted(set(ranks)) == list(range(len(set(ranks)))), name
        zones = [locality.locality.zone for locality in each.endpoints]
        assert len(set(zones)) == len(zones)
        for locality in each.endpoints:
            weights = [e.load_balancing_weight.value for e in locality.lb_endpoints]
            assert locality.load_balancing_weight.value == sum(weights) > 0


@FEW
@given(instances, kept, st.randoms())
def test_versions_do_not_depend_on_order_or_on_what_was_before(instances, kept, random) -> None:  # type: ignore[no-untyped-def]
    first = snapshot(made(1, instances, kept), LISTENER)
    shuffled = {name: random.sample(each, len(each)) for name, each in reversed(instances.items())}
    assert snapshot(made(2, shuffled, dict(reversed(kept.items()))), LISTENER).views == first.views


@FEW
@given(st.lists(worlds, min_size=2, max_size=4))
def test_a_snapshot_made_of_the_one_before_is_the_one_made_anew(seen: list[World]) -> None:
    before = None
    for each in seen:
        before = snapshot(each, LISTENER, before)
        assert before.views == snapshot(each, LISTENER).views


def test_a_change_of_one_service_leaves_the_others_as_they_were() -> None:
    first = world(1, {"cart": [at(1)], "order": [at(2)]}, {})
    second = world(2, {"cart": [at(1), at(3)], "order": [at(2)]}, {})
    for before, after in pairwise([snapshot(first), snapshot(second)]):
        old, new = before.views[Kind.ENVOY], after.views[Kind.ENVOY]
        assert old[CDS] == new[CDS]
        assert old[RDS] == new[RDS]
        assert {name for name in old[EDS] if old[EDS][name] != new[EDS][name]} == {"cart"}


def test_who_registered_last_at_an_address_has_it() -> None:
    old, new = Endpoint("a", "10.0.0.1", 1, revision=4), Endpoint("b", "10.0.0.1", 1, revision=7)
    assert distinct([old, new]) == distinct([new, old]) == (new,)


def test_zones_fail_over_in_the_order_of_the_policy() -> None:
    policy = Policy(zones=("b", "x", "a"))
    seen = one(policy, at(1, zone="a"), at(2, zone="b"), at(3, zone="c"), at(4, zone=""))
    ranks = {each.locality.zone: each.priority for each in assignments(seen)["cart"].endpoints}
    assert ranks == {"b": 0, "a": 1, "c": 2, "": 2}


def test_shares_go_to_the_versions_that_there_are() -> None:
    policy = Policy(shares=(("1", 90), ("2", 10), ("9", 50), ("3", 0)))
    seen = one(policy, at(1, version="1"), at(2, version="2"), at(3, version="3"))
    routes = RouteConfiguration.FromString(snapshot(seen).views[Kind.GRPC][RDS]["cart"].body)
    [route] = routes.virtual_hosts[0].routes
    shares = {each.name: each.weight.value for each in route.route.weighted_clusters.clusters}
    assert shares == {"cart@1": 90, "cart@2": 10}


def test_a_client_of_grpc_is_not_told_what_it_would_refuse() -> None:
    seen = one(Policy(balancer=Balancer.LEAST_REQUEST, slow_start_s=30), at(1))
    told = {kind: Cluster.FromString(view[CDS]["cart"].body) for kind, view in snapshot(seen).views.items()}
    assert told[Kind.ENVOY].lb_policy == Cluster.LEAST_REQUEST
    assert told[Kind.ENVOY].least_request_lb_config.slow_start_config.slow_start_window.seconds == 30
    assert told[Kind.GRPC].lb_policy == Cluster.ROUND_ROBIN


def test_a_ring_hashes_the_header_that_the_policy_names() -> None:
    seen = one(Policy(balancer=Balancer.RING_HASH, hash_header="x-user"), at(1))
    for kind, view in snapshot(seen).views.items():
        assert Cluster.FromString(view[CDS]["cart"].body).lb_policy == Cluster.RING_HASH
        for each in view[RDS].values():
            routes = RouteConfiguration.FromString(each.body)
            assert {
                policy.header.header_name
                for host in routes.virtual_hosts
                for route in host.routes
                for policy in route.route.hash_policy
            } == {"x-user"}, kind


def test_a_service_with_a_policy_alone_is_known_and_has_no_instances() -> None:
    assert set(assignments(world(1, {}, {"cart": PLAIN}))) == {"cart"}
