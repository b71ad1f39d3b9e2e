"""Clusters that the edge is told of are those that would else be generated for it."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import ParseDict

from envoy import clusters as generated
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from services.chassis.config import load
from services.registry.domain.resource import CDS, Kind
from services.registry.domain.snapshot import snapshot
from services.registry.domain.world import Balancer, Endpoint, Policy, world
from services.registry.settings import PREFIX, RegistrySettings

EDGE = {f"{PREFIX}LIKE_EDGE": "1"}
# Where endpoints come from, and two bounds that a service of a thousand instances needs to be others.
ELSE = ("type", "load_assignment", "eds_cluster_config")


def told(environ: dict[str, str], policies: dict[str, Policy] | None = None) -> Cluster:
    plain = load(RegistrySettings, environ, PREFIX).plain
    seen = world(1, {"cart": [Endpoint("i", "10.0.0.1", 1)]}, policies or {}, plain=plain)
    return Cluster.FromString(snapshot(seen).views[Kind.ENVOY][CDS]["cart"].body)


def alike(cluster: Cluster) -> Any:
    """What both kinds of cluster have."""
    made = Cluster()
    made.CopyFrom(cluster)
    for field in ELSE:
        made.ClearField(field)
    made.circuit_breakers.thresholds[0].ClearField("max_connections")
    made.outlier_detection.ClearField("enforcing_success_rate")
    return made


def test_the_edge_is_told_what_would_be_generated_for_it() -> None:
    static = ParseDict(generated._service("cart", ["10.0.0.1:1"], "cart"), Cluster())
    assert alike(told(EDGE)) == alike(static)


def test_without_these_settings_nothing_is_presumed_of_who_is_told_of() -> None:
    cluster = told({})
    assert cluster.lb_policy == Cluster.ROUND_ROBIN
    assert not cluster.health_checks


def test_a_policy_decides_what_it_says_and_no_more() -> None:
    policy = Policy(balancer=Balancer.RING_HASH, hash_header="x-user", active_checks=True)
    cluster = told(EDGE, {"cart": policy})
    assert cluster.lb_policy == Cluster.RING_HASH
    assert cluster.health_checks[0].grpc_health_check.service_name == ""
