"""The state of the world as xDS resources: a pure function of what the registry knows.

Each resource's version is a hash of its content, so whoever computes it, and when, tells the same version:
a registry that restarts sends nothing that its clients have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.registry.domain import clusters, endpoints, listeners, routes
from services.registry.domain.resource import CDS, EDS, LDS, RDS, Kind, Resource, View
from services.registry.domain.world import Service, World


@dataclass(frozen=True)
class Part:
    """The resources of one service, and what they were made of."""

    service: Service
    views: Mapping[Kind, View]


@dataclass(frozen=True)
class Snapshot:
    """What each kind of client is told at one revision."""

    revision: int
    views: Mapping[Kind, View]
    parts: Mapping[str, Part] = field(repr=False, default_factory=dict)


def snapshot(world: World, listener: str = "", before: Snapshot | None = None) -> Snapshot:
    """`listener` is host:port of the mesh's listener that Envoys open; empty: they are told of none.

    Only what has changed since `before` is made anew. The result is the same without it.
    """
    known = before.parts if before else {}
    parts = {
        name: old if (old := known.get(name)) and old.service == service else _part(service)
        for name, service in world.services.items()
    }
    views: dict[Kind, View] = {}
    for kind in Kind:
        view: dict[str, dict[str, Resource]] = {CDS: {}, EDS: {}, LDS: {}, RDS: {}}
        for part in parts.values():
            for type_url, resources in part.views[kind].items():
                view[type_url].update(resources)
        if kind is Kind.ENVOY:
            view[RDS][routes.MESH] = routes.mesh(list(world.services.values()))
            if listener:
                view[LDS][routes.MESH] = listeners.envoy(routes.MESH, listener)
        views[kind] = view
    return Snapshot(world.revision, views, parts)


def _part(service: Service) -> Part:
    names = {"": service.name, **{each: clusters.name(service, each) for each in service.policy.versions()}}
    assigned = [
        endpoints.assignment(service, name, service.of_version(version) if version else service.endpoints)
        for version, name in names.items()
    ]
    shared = {EDS: _named(assigned)}
    envoy = {**shared, CDS: _named([clusters.envoy(service, version) for version in names])}
    grpc = {
        **shared,
        CDS: _named([clusters.grpc(service, version) for version in names]),
        LDS: _named([listeners.grpc(service.name)]),
        RDS: _named([routes.alone(service)]),
    }
    return Part(service, {Kind.ENVOY: envoy, Kind.GRPC: grpc})


def _named(resources: list[Resource]) -> dict[str, Resource]:
    return {each.name: each for each in resources}
