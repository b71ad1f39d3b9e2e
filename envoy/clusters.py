"""Clusters: each service with its bounds and health, the inner listener, the admin, the trace collector."""

from __future__ import annotations

from datetime import timedelta

from . import cache
from .methods import Contract
from .settings import LOOPBACK, REGISTRY, Settings, address
from .wire import Json, seconds, typed

ADMIN = "admin"
COLLECTOR = "collector"
# Only its workers reach the inner listener; keys are fetched outside them, by the loopback door.
SELF = "self"
CONNECT_TIMEOUT = timedelta(seconds=1)  # Endpoints are on this machine or in this data centre.
CONNECTIONS_MAX = 64  # HTTP/2 needs few; a bound against storms of reconnects.
REQUESTS_MAX = 4096  # In flight to one service: what its event loops can hold with their deadlines kept.
PENDING_MAX = 1024  # Waiting for a connection: about what arrives while one is made.
RETRY_BUDGET_PERCENT = 20  # Retries add at most a fifth to a service's load.
RETRIES_ALWAYS = 3  # Concurrent retries granted even at rest, where a percentage is nothing.
HEALTH_INTERVAL = timedelta(seconds=1)
HEALTH_TIMEOUT = timedelta(milliseconds=800)  # Below the interval; a busy loop answers in a few ms.
UNHEALTHY_AFTER = 2  # One lost check is not an outage.
EJECTION = timedelta(seconds=3)  # Short: health checks decide lasting outages.
EJECTED_PERCENT_MAX = 50  # At least half of the endpoints stay.
FAILURES = 5  # Consecutive gateway failures that eject.
KEEPALIVE = {"interval": "30s", "timeout": "10s"}  # Finds dead peers behind silent networks.


def all_(contract: Contract, settings: Settings) -> list[Json]:
    """Every cluster of the bootstrap."""
    health = {**contract.services, **settings.health}
    names = [REGISTRY] if settings.discovery else sorted({*contract.services, *settings.services})
    found = [_service(name, settings.services.get(name, []), health.get(name, "")) for name in names]
    found += [
        cache.cluster(),
        _plain(ADMIN, [f"{LOOPBACK}:{settings.port('admin')}"]),
        _plain(SELF, [f"{settings.loop}:{settings.port('stats')}"]),
    ]
    if settings.otlp:
        found.append(_collector(settings.otlp))
    return found


def _service(name: str, endpoints: list[str], health: str) -> Json:
    return {
        **_http2(name, endpoints),
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {
            # Where no endpoint is healthy, nobody is served by a sick one: callers hear it at once.
            "healthy_panic_threshold": {"value": 0},
            # What health checks find counts at once; by default workers may learn of it a second later.
            "update_merge_window": "0s",
        },
        "circuit_breakers": {"thresholds": [_threshold()]},
        "outlier_detection": {
            "consecutive_gateway_failure": FAILURES,
            "enforcing_consecutive_gateway_failure": 100,
            "enforcing_consecutive_5xx": 0,  # A bug's INTERNAL is no reason to lose an endpoint.
            "interval": "1s",
            "base_ejection_time": seconds(EJECTION),
            "max_ejection_percent": EJECTED_PERCENT_MAX,
        },
        "health_checks": [
            {
                "interval": seconds(HEALTH_INTERVAL),
                "timeout": seconds(HEALTH_TIMEOUT),
                "no_traffic_interval": "0.25s",  # Also that of an unhealthy endpoint before its first call.
                "initial_jitter": "0.05s",
                "unhealthy_interval": "0.25s",
                "no_traffic_healthy_interval": seconds(HEALTH_INTERVAL),
                "unhealthy_threshold": UNHEALTHY_AFTER,
                "healthy_threshold": 1,
                "grpc_health_check": {"service_name": health},
            }
        ],
        "ignore_health_on_host_removal": True,
    }


def _threshold() -> Json:
    return {
        "max_connections": CONNECTIONS_MAX,
        "max_pending_requests": PENDING_MAX,
        "max_requests": REQUESTS_MAX,
        "retry_budget": {
            "budget_percent": {"value": RETRY_BUDGET_PERCENT},
            "min_retry_concurrency": RETRIES_ALWAYS,
        },
    }


def _http2(name: str, endpoints: list[str]) -> Json:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    protocol = {"http2_protocol_options": {"connection_keepalive": KEEPALIVE}}
    return {
        **_plain(name, endpoints),
        "typed_extension_protocol_options": {options: typed(options, explicit_http_config=protocol)},
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 60}},
    }


def _plain(name: str, endpoints: list[str]) -> Json:
    named = any(not host.replace(".", "").isdigit() for host, _ in map(address, endpoints))
    sockets = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}
        for host, port in map(address, endpoints)
    ]
    return {
        "name": name,
        "type": "STRICT_DNS" if named else "STATIC",
        "connect_timeout": seconds(CONNECT_TIMEOUT),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": sockets}]},
    }


def _collector(endpoint: str) -> Json:
    return _http2(COLLECTOR, [endpoint])
