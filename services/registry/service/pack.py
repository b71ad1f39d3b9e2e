"""Rows as messages of the wire, and as what discovery is made of."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.masks import etag
from services.registry.domain.fault import Fault
from services.registry.domain.instance import LEASE, Instance
from services.registry.domain.rejection import Rejection
from services.registry.domain.traffic_policy import TrafficPolicy
from services.registry.domain.world import Endpoint
from weft.registry.v1 import fault_pb2, instance_pb2, registry_pb2, traffic_policy_pb2

PROTOCOLS = ["grpc"]  # Of an instance that names none.


def columns(settings: instance_pb2.InstanceSettings) -> dict[str, Any]:
    """A row's part of what an instance says of itself."""
    return {
        "service": settings.service,
        "address": settings.address,
        "port": settings.port,
        "version": settings.version,
        "zone": settings.zone,
        "weight": settings.weight or 1,
        "owner": settings.owner,
        "labels": sorted(f"{key}={value}" for key, value in settings.labels.items()),
        "protocols": list(settings.protocols) or PROTOCOLS,
        "settings": settings.SerializeToString(deterministic=True),
        "lease": settings.lease.ToTimedelta() if settings.HasField("lease") else LEASE,
    }


def instance(row: Instance) -> instance_pb2.Instance:
    made = _instance(row)
    made.expire_time.FromDatetime(row.expires_at)
    return made


def told(row: Instance) -> bytes:
    """What watchers are told: without what each renewal changes."""
    return _instance(row).SerializeToString(deterministic=True)


def _instance(row: Instance) -> instance_pb2.Instance:
    return instance_pb2.Instance(
        instance_id=str(row.instance_id),
        settings=instance_pb2.InstanceSettings.FromString(row.settings),
        health=instance_pb2.Health.Value(f"HEALTH_{row.health}"),
        revision=row.revision,
        register_time=stamp(row.registered_at),
    )


def health(given: instance_pb2.Health.ValueType) -> str:
    """As rows have it; empty when it is not given."""
    name = instance_pb2.Health.Name(given).removeprefix("HEALTH_")
    return "" if name == "UNSPECIFIED" else name


def traffic_policy(row: TrafficPolicy) -> traffic_policy_pb2.TrafficPolicy:
    return traffic_policy_pb2.TrafficPolicy(
        service=row.service,
        settings=traffic_policy_pb2.TrafficPolicySettings.FromString(row.settings),
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at),
        etag=etag(row.revision),
    )


def fault(row: Fault) -> fault_pb2.Fault:
    return fault_pb2.Fault(
        fault_id=str(row.fault_id),
        settings=fault_pb2.FaultSettings.FromString(row.settings),
        begin_time=stamp(row.began_at),
        end_time=stamp(row.ends_at),
    )


def rejection(row: Rejection) -> registry_pb2.Rejection:
    return registry_pb2.Rejection(
        node_id=row.node_id,
        type_url=row.type_url,
        version=row.version,
        message=row.message,
        times=row.times,
        first_time=stamp(row.first_at),
        last_time=stamp(row.last_at),
    )


def endpoints(rows: Iterable[Any]) -> dict[str, list[Endpoint]]:
    """By service."""
    found: dict[str, list[Endpoint]] = {}
    for row in rows:
        made = Endpoint(
            instance_id=str(row.instance_id),
            address=row.address,
            port=row.port,
            version=row.version,
            zone=row.zone,
            weight=row.weight,
            health=row.health,
            revision=row.revision,
        )
        found.setdefault(row.service, []).append(made)
    return found


def stamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made
