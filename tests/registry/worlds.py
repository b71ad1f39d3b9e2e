"""Random worlds: a few services, instances and policies, small enough to collide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from envoy.config.route.v3.route_pb2 import RouteConfiguration
from services.registry.domain.resource import RDS, View
from services.registry.domain.rules import (
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
from services.registry.domain.world import Balancer, Endpoint, Policy, World, world

NAMES = ("books", "cart", "order")
VERSIONS = ("1", "2", "3")
ZONES = ("", "a", "b")

endpoints = st.builds(
    Endpoint,
    instance_id=st.uuids().map(str),
    address=st.sampled_from(("10.0.0.1", "10.0.0.2", "::1")),
    port=st.integers(1, 3),
    version=st.sampled_from(("", *VERSIONS)),
    zone=st.sampled_from(ZONES),
    weight=st.integers(1, 1000),
    health=st.sampled_from(("SERVING", "NOT_SERVING", "DRAINING")),
    revision=st.integers(0, 5),
)
METHODS = (
    "/weft.books.v1.BookService/Get",
    "/weft.books.v1.BookService/GetAll",
    "/weft.cart.v1.CartService/Add",
)
paths = st.one_of(
    st.just(Path()),
    st.builds(Path, st.sampled_from(METHODS), st.just(True)),
    st.builds(Path, st.sampled_from([each[:cut] for each in METHODS for cut in (12, 15, len(each))])),
)
route_rules = st.builds(
    RouteRule,
    path=paths,
    timeout_s=st.sampled_from((0.0, 1.5, 2.5)),
    retries=st.builds(Retries, attempts=st.integers(0, 2), on=st.just(("unavailable",))),
    hedging=st.sampled_from((None, Hedging(0.1))),
)
faults = st.builds(
    Fault,
    path=paths,
    header=st.sampled_from((None, ("x-test", "yes"))),
    delay_s=st.sampled_from((0.0, 0.2)),
    code=st.integers(1, 16),
)
policies = st.builds(
    Policy,
    balancer=st.sampled_from(Balancer),
    hash_header=st.just("x-user"),
    slow_start_s=st.sampled_from((0.0, 30.0)),
    zones=st.lists(st.sampled_from(ZONES), unique=True).map(tuple),
    shares=st.lists(
        st.tuples(st.sampled_from(VERSIONS), st.integers(0, 100)), unique_by=lambda share: share[0]
    ).map(tuple),
    header_rules=st.lists(
        st.builds(HeaderRule, st.just("x-canary"), st.sampled_from("yn"), st.sampled_from(VERSIONS)),
        max_size=2,
    ).map(tuple),
    active_checks=st.booleans(),
    mirror=st.one_of(st.none(), st.builds(Mirror, st.sampled_from(VERSIONS), st.integers(1, 10_000))),
    route_rules=st.lists(route_rules, max_size=3).map(tuple),
    retry_budget=st.sampled_from((None, RetryBudget(20, 3))),
    bulkheads=st.lists(
        st.builds(Bulkhead, st.sampled_from(("", *VERSIONS)), st.integers(0, 9)),
        max_size=2,
        unique_by=lambda each: each.version,
    ).map(tuple),
)
instances = st.dictionaries(st.sampled_from(NAMES), st.lists(endpoints, max_size=6), max_size=3)
kept = st.dictionaries(st.sampled_from(NAMES), policies, max_size=3)


def made(
    revision: int,
    instances: Mapping[str, list[Endpoint]],
    kept: Mapping[str, Policy],
    hurt: Mapping[str, tuple[Fault, ...]] | None = None,
) -> World:
    return world(revision, instances, kept, hurt)


hurt = st.dictionaries(st.sampled_from(NAMES), st.lists(faults, max_size=2).map(tuple), max_size=2)
worlds = st.builds(made, st.just(1), instances, kept, hurt)


def routed(view: View) -> set[str]:
    """Clusters that some route names."""
    found: set[str] = set()
    for each in view[RDS].values():
        found |= clusters_of(RouteConfiguration.FromString(each.body))
    return found


def clusters_of(routes: Any) -> set[str]:
    found = set()
    for host in routes.virtual_hosts:
        for route in host.routes:
            found |= {each.cluster for each in route.route.request_mirror_policies}
            shares = {each.name for each in route.route.weighted_clusters.clusters}
            found |= shares or {route.route.cluster}
    return found
