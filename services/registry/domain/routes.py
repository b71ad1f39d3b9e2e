"""Routes, for RDS: from a service's name to its clusters, by header rules and shares.

gRPC's client has one configuration for each target. Envoy has one for all, `mesh`: a call is for the service
that its authority names, else for the one whose contract its path names (`/weft.cart.v1.CartService/Get…`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from envoy.config.route.v3.route_components_pb2 import (
    HeaderMatcher,
    RetryPolicy,
    Route,
    RouteAction,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from services.registry.domain import clusters
from services.registry.domain.resource import Resource, resource
from services.registry.domain.world import Balancer, HeaderRule, Service

MESH = "mesh"
RETRIES = 2  # Of calls that no instance has begun to answer.
RETRIED = "connect-failure,refused-stream"  # Neither was seen by a handler.


def alone(service: Service) -> Resource:
    """All calls of a channel are for this service."""
    host = VirtualHost(name=service.name, domains=["*"], routes=_routes(service, ""))
    return resource(service.name, RouteConfiguration(name=service.name, virtual_hosts=[host]))


def mesh(services: Sequence[Service]) -> Resource:
    """The routes of an Envoy."""
    hosts = [
        VirtualHost(name=each.name, domains=[each.name, f"{each.name}:*"], routes=_routes(each, "/"))
        for each in services
    ]
    by_path = [route for each in services for route in _routes(each, f"/weft.{each.name}.")]
    hosts.append(VirtualHost(name=MESH, domains=["*"], routes=by_path))
    return resource(MESH, RouteConfiguration(name=MESH, virtual_hosts=hosts))


def _routes(service: Service, prefix: str) -> list[Route]:
    found = [_by_header(service, prefix, rule) for rule in service.header_rules()]
    found.append(Route(match=RouteMatch(prefix=prefix), route=_shared(service)))
    return found


def _by_header(service: Service, prefix: str, rule: HeaderRule) -> Route:
    wanted = HeaderMatcher(name=rule.header, string_match=StringMatcher(exact=rule.value))
    action = _action(service)
    action.cluster = clusters.name(service, rule.version)
    return Route(match=RouteMatch(prefix=prefix, headers=[wanted]), route=action)


def _shared(service: Service) -> RouteAction:
    action, shares = _action(service), service.shares()
    if shares:
        weights = [
            WeightedCluster.ClusterWeight(name=clusters.name(service, version), weight={"value": weight})
            for version, weight in shares
        ]
        action.weighted_clusters.CopyFrom(WeightedCluster(clusters=weights))
    else:
        action.cluster = service.name
    return action


def _action(service: Service) -> RouteAction:
    """Calls last as long as their callers wait."""
    action = RouteAction(
        timeout=timedelta(0),
        max_stream_duration=RouteAction.MaxStreamDuration(grpc_timeout_header_max=timedelta(0)),
        retry_policy=RetryPolicy(retry_on=RETRIED, num_retries={"value": RETRIES}),
    )
    if service.policy.balancer is Balancer.RING_HASH:
        header = RouteAction.HashPolicy.Header(header_name=service.policy.hash_header)
        action.hash_policy.append(RouteAction.HashPolicy(header=header))
    return action
