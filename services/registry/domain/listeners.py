"""Listeners, for LDS: what a channel of gRPC's client asks for by its target, and what an Envoy opens."""

from __future__ import annotations

from typing import Any

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
from services.registry.domain import clusters
from services.registry.domain.resource import Resource, resource

ROUTER = "envoy.filters.http.router"
MANAGER = "envoy.filters.network.http_connection_manager"


def grpc(service: str) -> Resource:
    """The listener of `xds:///<service>`."""
    listener = ApiListener(api_listener=_packed(_manager(service)))
    return resource(service, Listener(name=service, api_listener=listener))


def envoy(name: str, place: str) -> Resource:
    """At host:port `place`, with the routes called `name`."""
    host, _, port = place.rpartition(":")
    manager = _manager(name)
    manager.stat_prefix = name
    chain = FilterChain(filters=[Filter(name=MANAGER, typed_config=_packed(manager))])
    address = Address(socket_address=SocketAddress(address=host.strip("[]"), port_value=int(port)))
    return resource(name, Listener(name=name, address=address, filter_chains=[chain]))


def _manager(routes: str) -> HttpConnectionManager:
    return HttpConnectionManager(
        rds=Rds(route_config_name=routes, config_source=clusters.ads()),
        http_filters=[HttpFilter(name=ROUTER, typed_config=_packed(Router()))],
    )


def _packed(message: Any) -> Packed:
    packed = Packed()
    packed.Pack(message, deterministic=True)
    return packed
