"""Clusters, for CDS: one for all instances of a service, and one for each version that its policy names.

Bounds and ejection are those of the edge's own clusters (envoy/clusters.py), for the same reasons.
"""

from __future__ import annotations

from datetime import timedelta

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.cluster.v3.outlier_detection_pb2 import OutlierDetection
from envoy.config.core.v3.config_source_pb2 import V3, AggregatedConfigSource, ConfigSource
from envoy.config.core.v3.health_check_pb2 import HealthCheck
from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from services.registry.domain.resource import Resource, packed, resource
from services.registry.domain.rules import Breaker, Bulkhead
from services.registry.domain.world import Balancer, Policy, Service

HTTP2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
CONNECT_TIMEOUT = timedelta(seconds=1)
REQUESTS_MAX = 4096  # In flight to one service: what its event loops can hold with their deadlines kept.
PENDING_MAX = 1024  # Waiting for a connection: about what arrives while one is made.
CONNECTIONS_MAX = 1024  # HTTP/2 needs one an instance; a bound against storms of reconnects.
KEEPALIVE = {"interval": timedelta(seconds=30), "timeout": timedelta(seconds=10)}  # Finds dead peers.
FAILURES = 5  # Consecutive gateway failures that eject.
EJECTED_S = 3.0  # At first; longer each time.
EJECTED_PERCENT_MAX = 50  # At least half of the endpoints stay.
RING_MIN, RING_MAX = 1024, 65_536  # Entries: enough that shares are right to a percent for 10 instances.
LB = {
    Balancer.ROUND_ROBIN: Cluster.ROUND_ROBIN,
    Balancer.LEAST_REQUEST: Cluster.LEAST_REQUEST,
    Balancer.RING_HASH: Cluster.RING_HASH,
}


def name(service: Service, version: str) -> str:
    """Of the cluster with the instances of one version, or of all. `@` is in no service's name."""
    return f"{service.name}@{version}" if version else service.name


def ads() -> ConfigSource:
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=V3)


def grpc(service: Service, version: str = "") -> Resource:
    """For gRPC's own client, which refuses least request and passes over much of the rest."""
    made = _cluster(service, version)
    balancer = service.policy.balancer
    made.lb_policy = LB[Balancer.ROUND_ROBIN if balancer is Balancer.LEAST_REQUEST else balancer]
    if balancer is Balancer.RING_HASH:
        made.ring_hash_lb_config.CopyFrom(_ring())
    return resource(made.name, made)


def envoy(service: Service, version: str = "") -> Resource:
    made = _cluster(service, version)
    policy = service.policy
    made.lb_policy = LB[policy.balancer]
    made.common_lb_config.healthy_panic_threshold.value = 0  # Nobody is served by a sick instance.
    made.common_lb_config.update_merge_window.seconds = 0
    made.ignore_health_on_host_removal = True
    made.upstream_connection_options.tcp_keepalive.keepalive_time.value = 60
    http2 = Http2ProtocolOptions(connection_keepalive=KEEPALIVE)
    options = HttpProtocolOptions(explicit_http_config={"http2_protocol_options": http2})
    made.typed_extension_protocol_options[HTTP2].CopyFrom(packed(options))
    if policy.balancer is Balancer.RING_HASH:
        made.ring_hash_lb_config.CopyFrom(_ring())
    _start_slowly(made, policy)
    if policy.active_checks:
        made.health_checks.append(_check(service.name if policy.checked_by_name else ""))
    return resource(made.name, made)


def _cluster(service: Service, version: str) -> Cluster:
    cluster, policy = name(service, version), service.policy
    return Cluster(
        name=cluster,
        type=Cluster.EDS,
        eds_cluster_config=Cluster.EdsClusterConfig(eds_config=ads(), service_name=cluster),
        connect_timeout=CONNECT_TIMEOUT,
        circuit_breakers=CircuitBreakers(thresholds=[_bounds(policy.bulkhead(version), policy)]),
        outlier_detection=_ejection(policy.breaker),
    )


def _bounds(bulkhead: Bulkhead, policy: Policy) -> CircuitBreakers.Thresholds:
    made = CircuitBreakers.Thresholds(
        max_connections={"value": bulkhead.connections or CONNECTIONS_MAX},
        max_pending_requests={"value": bulkhead.pending or PENDING_MAX},
        max_requests={"value": bulkhead.requests or REQUESTS_MAX},
    )
    if policy.retry_budget:
        made.retry_budget.budget_percent.value = policy.retry_budget.percent
        made.retry_budget.min_retry_concurrency.value = policy.retry_budget.always
    return made


def _ejection(breaker: Breaker) -> OutlierDetection:
    return OutlierDetection(
        consecutive_gateway_failure={"value": breaker.failures or FAILURES},
        enforcing_consecutive_gateway_failure={"value": 100},
        enforcing_consecutive_5xx={"value": 0},  # A bug's INTERNAL is no reason to lose an instance.
        enforcing_success_rate={"value": 0},
        interval=timedelta(seconds=1),
        base_ejection_time=timedelta(seconds=breaker.ejection_s or EJECTED_S),
        max_ejection_percent={"value": breaker.ejected_percent_max or EJECTED_PERCENT_MAX},
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


def _check(asked: str) -> HealthCheck:
    """`asked` is what grpc.health.v1 is asked for; empty: the whole process."""
    return HealthCheck(
        interval=timedelta(seconds=1),
        timeout=timedelta(milliseconds=800),
        no_traffic_interval=timedelta(milliseconds=250),  # Also of an unhealthy one before its first call.
        no_traffic_healthy_interval=timedelta(seconds=1),
        initial_jitter=timedelta(milliseconds=50),
        unhealthy_interval=timedelta(milliseconds=250),
        unhealthy_threshold={"value": 2},  # One lost check is not an outage.
        healthy_threshold={"value": 1},
        grpc_health_check=HealthCheck.GrpcHealthCheck(service_name=asked),
    )
