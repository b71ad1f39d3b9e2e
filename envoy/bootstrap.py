"""The whole configuration, written into a folder."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import certificates, clusters, listeners
from .binary import binary
from .methods import Contract
from .settings import LOOPBACK, REGISTRY, Settings
from .wire import Json, extension

CONNECTIONS_MAX = 10_000  # Of all clients together; a connection costs Envoy some 50 kB.
# `grpc_stats` names its counters by dotted package, which Envoy's own tags split at the wrong dot.
GRPC_STATS = r"^cluster\.[^.]+\.grpc\."
STATS_TAGS = [
    {
        "tag_name": "grpc_service",
        "regex": GRPC_STATS + r"((weft\.[a-z0-9_]+\.v\d+\.\w+)\.)",
    },
    {
        "tag_name": "grpc_method",
        "regex": GRPC_STATS + r"weft\.[a-z0-9_]+\.v\d+\.\w+\.((\w+)\.)",
    },
]


def write(settings: Settings, out: Path) -> Path:
    """Writes the bootstrap and all it refers to; returns the bootstrap's path."""
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    contract = Contract(settings.descriptor)
    _replace(out / "weft.binpb", contract.binary)
    if settings.port("https") is not None:
        if settings.development:
            certificates.ensure(settings.certificates, datetime.now(UTC))
        _replace(out / "sds.json", _dump(certificates.secret(settings.certificates)))
    bootstrap = out / "envoy.json"
    _replace(bootstrap, _dump(build(contract, settings, out)))
    return bootstrap


def build(contract: Contract, settings: Settings, out: Path) -> Json:
    """The bootstrap."""
    connections = extension(
        "envoy.resource_monitors.global_downstream_max_connections",
        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        max_active_downstream_connections=CONNECTIONS_MAX,
    )
    return {
        "node": {"id": "edge", "cluster": "weft"},
        "admin": {
            "address": {
                "socket_address": {"address": LOOPBACK, "port_value": settings.port("admin")},
            }
        },
        **(_discovery() if settings.discovery else {}),
        "static_resources": {
            "listeners": listeners.all_(contract, settings, out),
            "clusters": clusters.all_(contract, settings),
        },
        "bootstrap_extensions": [
            extension(
                "envoy.bootstrap.internal_listener",
                "envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
            )
        ],
        "overload_manager": {"refresh_interval": "0.25s", "resource_monitors": [connections]},
        "stats_config": {"stats_tags": STATS_TAGS},
    }


def _discovery() -> Json:
    """Clusters of services are told by the registry (delta ADS): what it told last stays while it is away."""
    again = {"retry_back_off": {"base_interval": "0.05s", "max_interval": "1s"}}
    return {
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": REGISTRY, "retry_policy": again}}],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
        }
    }


def validate(bootstrap: Path) -> str:
    """What Envoy says against a bootstrap; nothing if it is good."""
    command = [str(binary()), "--mode", "validate", "--log-level", "error", "-c", str(bootstrap)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _replace(path: Path, content: bytes) -> None:
    """A reader finds the old file or the new one, never a half."""
    fresh = path.with_name(path.name + ".next")
    fresh.write_bytes(content)
    os.replace(fresh, path)
