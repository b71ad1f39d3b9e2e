"""Listeners, for LDS: what a channel of gRPC's client asks for by its target, and what an Envoy opens."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as Packed

from envoy.config.core.v3.address_pb2 import Address, SocketAddress
from envoy.config.listener.v3.api_listener_pb2 import ApiListener
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from services.registry.domain import clusters, faults
from services.registry.domain.resource import GOOGLE, Resource, packed, resource

ROUTER = "envoy.filters.http.router"
# Counts answers by code for each cluster: what rollouts go by. After the faults, which are no version's.
COUNTER = "envoy.filters.http.grpc_stats"
COUNTER_TYPE = f"{GOOGLE}envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"
MANAGER = "envoy.filters.network.http_connection_manager"


def grpc(service: str) -> Resource:
    """The listener of `xds:///<service>`."""
    listener = ApiListener(api_listener=packed(_manager(service)))
    return resource(service, Listener(name=service, api_listener=listener))


def envoy(name: str, place: str) -> Resource:
    """At host:port `place`, with the routes called `name`."""
    host, _, port = place.rpartition(":")
    manager = _manager(name, HttpFilter(name=COUNTER, typed_config=Packed(type_url=COUNTER_TYPE)))
    manager.stat_prefix = name
    chain = FilterChain(filters=[Filter(name=MANAGER, typed_config=packed(manager))])
    address = Address(socket_address=SocketAddress(address=host.strip("[]"), port_value=int(port)))
    return resource(name, Listener(name=name, address=address, filter_chains=[chain]))


def _manager(routes: str, *more: HttpFilter) -> HttpConnectionManager:
    """Faults are none until a route has one: another filter would be another listener, which drains."""
    return HttpConnectionManager(
        rds=Rds(route_config_name=routes, config_source=clusters.ads()),
        http_filters=[
            HttpFilter(name=faults.FILTER, typed_config=faults.none()),
            *more,
            HttpFilter(name=ROUTER, typed_config=packed(Router())),
        ],
    )
