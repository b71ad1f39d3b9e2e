"""Routes, for RDS: from a service's name to its clusters, by path, header, segment and share.

gRPC's client has one configuration for each target. Envoy has one for all, `mesh`: a call is for the service
that its authority names, else for the one whose contract its path names (`/weft.cart.v1.CartService/Get…`).
The first route that fits a call decides, so the narrower come first: by the policy's rules of rpcs, in each
by faults, in each by header rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from envoy.config.core.v3.base_pb2 import RuntimeFractionalPercent
from envoy.config.route.v3.route_components_pb2 import (
    HeaderMatcher,
    Route,
    RouteAction,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.type.v3.percent_pb2 import FractionalPercent
from services.registry.domain import clusters, faults, matching, treatment
from services.registry.domain.resource import Kind, Resource, resource
from services.registry.domain.rules import EVERYTHING, Fault, HeaderRule, Path, RouteRule
from services.registry.domain.world import Service

MESH = "mesh"


def alone(service: Service) -> Resource:
    """All calls of a channel of gRPC's client are for this service."""
    routes = list(_routes(service, EVERYTHING, Kind.GRPC))
    host = VirtualHost(name=service.name, domains=["*"], routes=routes)
    return resource(service.name, RouteConfiguration(name=service.name, virtual_hosts=[host]))


def mesh(services: Sequence[Service]) -> Resource:
    """The routes of an Envoy."""
    hosts = [
        VirtualHost(
            name=each.name,
            domains=[each.name, f"{each.name}:*"],
            routes=_routes(each, Path("/"), Kind.ENVOY),
        )
        for each in services
    ]
    by_path = [route for each in services for route in _routes(each, Path(f"/weft.{each.name}."), Kind.ENVOY)]
    hosts.append(VirtualHost(name=MESH, domains=["*"], routes=by_path))
    return resource(MESH, RouteConfiguration(name=MESH, virtual_hosts=hosts))


def _routes(service: Service, within: Path, kind: Kind) -> Iterator[Route]:
    for rule in (*service.policy.route_rules, RouteRule()):
        ruled = rule.path.within(within)
        for fault in (*service.faults, None):
            path = ruled and ruled.within(fault.path if fault else EVERYTHING)
            if path is None:
                continue
            for header_rule in (*service.header_rules(), None):
                action = treatment.action(service.policy, rule, kind)
                _to(service, header_rule, action)
                if kind is Kind.ENVOY:
                    _besides(service, header_rule, action)
                yield _route(path, fault, header_rule, action)
        if ruled == within:
            return  # Nothing is left for those that follow.


def _route(path: Path, fault: Fault | None, header_rule: HeaderRule | None, action: RouteAction) -> Route:
    match = RouteMatch(headers=_headers(fault, header_rule))
    if path.whole:
        match.path = path.text
    else:
        match.prefix = path.text
    route = Route(match=match, route=action)
    if fault:
        route.typed_per_filter_config[faults.FILTER].CopyFrom(faults.config(fault))
    return route


def _headers(fault: Fault | None, header_rule: HeaderRule | None) -> list[HeaderMatcher]:
    found = [matching.header(header_rule)] if header_rule else []
    if fault and fault.header:
        found.append(matching.exactly(*fault.header))
    return found


def _to(service: Service, header_rule: HeaderRule | None, action: RouteAction) -> None:
    """Where the calls go."""
    shares = service.shares()
    if header_rule:
        action.cluster = clusters.name(service, header_rule.version)
    elif shares:
        weights = [
            WeightedCluster.ClusterWeight(name=clusters.name(service, version), weight={"value": weight})
            for version, weight in shares
        ]
        action.weighted_clusters.CopyFrom(WeightedCluster(clusters=weights))
    else:
        action.cluster = service.name


def _besides(service: Service, header_rule: HeaderRule | None, action: RouteAction) -> None:
    """Where some of the calls go too."""
    mirror = service.mirror()
    if mirror is None or (header_rule and header_rule.version == mirror.version):
        return
    share = FractionalPercent(numerator=mirror.share, denominator=FractionalPercent.TEN_THOUSAND)
    action.request_mirror_policies.append(
        RouteAction.RequestMirrorPolicy(
            cluster=clusters.name(service, mirror.version),
            runtime_fraction=RuntimeFractionalPercent(default_value=share),
        )
    )
