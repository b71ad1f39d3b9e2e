"""A resource of xDS: one message that clients subscribe to by type and name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from google.protobuf.any_pb2 import Any as Packed

GOOGLE = "type.googleapis.com/"
CDS = f"{GOOGLE}envoy.config.cluster.v3.Cluster"
EDS = f"{GOOGLE}envoy.config.endpoint.v3.ClusterLoadAssignment"
LDS = f"{GOOGLE}envoy.config.listener.v3.Listener"
RDS = f"{GOOGLE}envoy.config.route.v3.RouteConfiguration"
SDS = f"{GOOGLE}envoy.extensions.transport_sockets.tls.v3.Secret"
# What is needed comes before what needs it, so that no call is sent where nothing is yet.
ORDER = (CDS, EDS, LDS, RDS)
VERSION_BYTES = 8  # 2**32 contents of one name until two are likely to share a version.

View = Mapping[str, Mapping[str, "Resource"]]  # By type, by name.


class Kind(Enum):
    """Who asks: not all clients can do the same."""

    ENVOY = "envoy"
    GRPC = "grpc"


@dataclass(frozen=True, slots=True)
class Resource:
    """`body` is the serialised message, `version` a hash of it."""

    name: str
    version: str
    body: bytes


def resource(name: str, message: Any) -> Resource:
    body: bytes = message.SerializeToString(deterministic=True)
    return Resource(name, hashlib.blake2s(body, digest_size=VERSION_BYTES).hexdigest(), body)


def packed(message: Any) -> Packed:
    """The same bytes for the same content."""
    made = Packed()
    made.Pack(message, deterministic=True)
    return made


def version_of(resources: Mapping[str, Resource]) -> str:
    """Of all of them together."""
    told = "\n".join(f"{name} {resources[name].version}" for name in sorted(resources))
    return hashlib.blake2s(told.encode(), digest_size=VERSION_BYTES).hexdigest()
