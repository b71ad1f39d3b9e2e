"""Endpoints of a cluster, for EDS: zones as localities, health as the instances tell it."""

from __future__ import annotations

from collections.abc import Sequence

from envoy.config.core.v3.address_pb2 import Address, SocketAddress
from envoy.config.core.v3.base_pb2 import Locality
from envoy.config.core.v3.health_check_pb2 import DRAINING, HEALTHY, UNHEALTHY
from envoy.config.endpoint.v3.endpoint_components_pb2 import (
    Endpoint as Place,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from services.registry.domain.resource import Resource, resource
from services.registry.domain.world import Endpoint, Service

HEALTH = {"SERVING": HEALTHY, "NOT_SERVING": UNHEALTHY, "DRAINING": DRAINING}


def assignment(service: Service, name: str, endpoints: Sequence[Endpoint]) -> Resource:
    """Of the cluster `name`, which `endpoints` of the service belong to."""
    by_zone: dict[str, list[Endpoint]] = {}
    for each in endpoints:
        by_zone.setdefault(each.zone, []).append(each)
    priorities = service.priorities(endpoints)
    made = ClusterLoadAssignment(cluster_name=name)
    for zone, members in sorted(by_zone.items(), key=lambda item: (priorities[item[0]], item[0])):
        made.endpoints.append(
            LocalityLbEndpoints(
                locality=Locality(zone=zone),
                priority=priorities[zone],
                load_balancing_weight={"value": sum(each.weight for each in members)},
                lb_endpoints=map(_endpoint, members),
            )
        )
    return resource(name, made)


def _endpoint(each: Endpoint) -> LbEndpoint:
    socket = SocketAddress(address=each.address, port_value=each.port)
    return LbEndpoint(
        endpoint=Place(address=Address(socket_address=socket)),
        health_status=HEALTH[each.health],
        load_balancing_weight={"value": each.weight},
    )
