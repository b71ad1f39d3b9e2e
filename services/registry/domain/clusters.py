"""Clusters, for CDS: one for all instances of a service, and one for each version that its policy names.

Bounds and ejection are those of the edge's own clusters (envoy/clusters.py), for the same reasons.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from google.protobuf.any_pb2 import Any as Packed

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.cluster.v3.outlier_detection_pb2 import OutlierDetection
from envoy.config.core.v3.config_source_pb2 import V3, AggregatedConfigSource, ConfigSource
from envoy.config.core.v3.health_check_pb2 import HealthCheck
from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from services.registry.domain.resource import Resource, resource
from services.registry.domain.world import Balancer, Policy, Service

HTTP2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
CONNECT_TIMEOUT = timedelta(seconds=1)
REQUESTS_MAX = 4096  # In flight to one service: what its event loops can hold with their deadlines kept.
PENDING_MAX = 1024  # Waiting for a connection: about what arrives while one is made.
CONNECTIONS_MAX = 1024  # HTTP/2 needs one an instance; a bound against storms of reconnects.
FAILURES = 5  # Consecutive gateway failures that eject.
EJECTED_PERCENT_MAX = 50  # At least half of the endpoints stay.
RING_MIN, RING_MAX = 1024, 65_536  # Entries: enough that shares are right to a percent for 10 instances.
LB = {
    Balancer.ROUND_ROBIN: Cluster.ROUND_ROBIN,
    Balancer.LEAST_REQUEST: Cluster.LEAST_REQUEST,
    Balancer.RING_HASH: Cluster.RING_HASH,
}


def name(service: Service, version: str) -> str:
    """Of the cluster with the instances of one version. `@` is in no service's name."""
    return f"{service.name}@{version}"


def ads() -> ConfigSource:
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=V3)


def grpc(service: Service, cluster: str) -> Resource:
    """For gRPC's own client, which refuses least request and passes over much of the rest."""
    made = _cluster(cluster)
    balancer = service.policy.balancer
    made.lb_policy = LB[Balancer.ROUND_ROBIN if balancer is Balancer.LEAST_REQUEST else balancer]
    if balancer is Balancer.RING_HASH:
        made.ring_hash_lb_config.CopyFrom(_ring())
    return resource(cluster, made)


def envoy(service: Service, cluster: str) -> Resource:
    made = _cluster(cluster)
    policy = service.policy
    made.lb_policy = LB[policy.balancer]
    made.common_lb_config.healthy_panic_threshold.value = 0  # Nobody is served by a sick instance.
    made.common_lb_config.update_merge_window.seconds = 0
    made.ignore_health_on_host_removal = True
    options = HttpProtocolOptions(explicit_http_config={"http2_protocol_options": Http2ProtocolOptions()})
    made.typed_extension_protocol_options[HTTP2].CopyFrom(_packed(options))
    if policy.balancer is Balancer.RING_HASH:
        made.ring_hash_lb_config.CopyFrom(_ring())
    _start_slowly(made, policy)
    if policy.active_checks:
        made.health_checks.append(_check())
    return resource(cluster, made)


def _cluster(cluster: str) -> Cluster:
    return Cluster(
        name=cluster,
        type=Cluster.EDS,
        eds_cluster_config=Cluster.EdsClusterConfig(eds_config=ads(), service_name=cluster),
        connect_timeout=CONNECT_TIMEOUT,
        circuit_breakers=CircuitBreakers(
            thresholds=[
                CircuitBreakers.Thresholds(
                    max_connections={"value": CONNECTIONS_MAX},
                    max_pending_requests={"value": PENDING_MAX},
                    max_requests={"value": REQUESTS_MAX},
                )
            ]
        ),
        outlier_detection=OutlierDetection(
            consecutive_gateway_failure={"value": FAILURES},
            enforcing_consecutive_gateway_failure={"value": 100},
            enforcing_consecutive_5xx={"value": 0},  # A bug's INTERNAL is no reason to lose an instance.
            enforcing_success_rate={"value": 0},
            interval=timedelta(seconds=1),
            base_ejection_time=timedelta(seconds=3),
            max_ejection_percent={"value": EJECTED_PERCENT_MAX},
        ),
    )


def _ring() -> Cluster.RingHashLbConfig:
    return Cluster.RingHashLbConfig(
        minimum_ring_size={"value": RING_MIN}, maximum_ring_size={"value": RING_MAX}
    )


def _start_slowly(made: Cluster, policy: Policy) -> None:
    """A new instance's share grows to its weight."""
    if not policy.slow_start_s or policy.balancer is Balancer.RING_HASH:
        return
    window = timedelta(seconds=policy.slow_start_s)
    config = (
        made.least_request_lb_config
        if policy.balancer is Balancer.LEAST_REQUEST
        else made.round_robin_lb_config
    )
    config.slow_start_config.slow_start_window.FromTimedelta(window)


def _check() -> HealthCheck:
    return HealthCheck(
        interval=timedelta(seconds=1),
        timeout=timedelta(milliseconds=800),
        no_traffic_interval=timedelta(seconds=1),
        unhealthy_interval=timedelta(milliseconds=250),
        unhealthy_threshold={"value": 2},  # One lost check is not an outage.
        healthy_threshold={"value": 1},
        grpc_health_check=HealthCheck.GrpcHealthCheck(),
    )


def _packed(message: Any) -> Packed:
    packed = Packed()
    packed.Pack(message, deterministic=True)
    return packed
