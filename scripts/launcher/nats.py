"""NATS with JetStream from its wheel: one server, or each of a cluster's; configured at each start."""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.credentials import Credentials
from launcher.ports import HOST, Ports
from launcher.problem import Problem

USER = "weft"
ACCOUNT, SYSTEM = "WEFT", "SYS"
# Who ends a connection is told to the mesh: what a killed worker held is then given to others at once.
ENDED = f"$SYS.ACCOUNT.{ACCOUNT}.DISCONNECT"
ROUTE_S_MAX = 5  # For a server to say to another who it is.
SYNC_VARIABLE = "WEFT_NATS_SYNC"
SYNC = re.compile(r"always|[1-9][0-9]*(ms|s|m)")

# What the mesh asks of NATS; compose.yaml is tested against it.
JETSTREAM = {
    "max_memory_store": 268_435_456,  # 256 MB: of replicated streams workers' claims are in memory.
    "max_file_store": 10_737_418_240,  # 10 GB of events and jobs; a limit, nothing is reserved.
    # Written through to disk before it is acknowledged: a job that was enqueued outlives a power cut. What
    # is published in batches pays once for each (docs/decisions/0009).
    "sync_interval": "always",
}
SETTINGS = {
    "max_payload": 1_048_576,  # NATS's default, said aloud: an event must fit.
    "max_connections": 1_024,
    "write_deadline": "10s",
    "lame_duck_duration": "30s",
    "lame_duck_grace_period": "2s",
}


@dataclass(frozen=True)
class Member:
    """One server of a cluster."""

    name: str  # Of its component.
    port: int
    monitor: int
    route: int  # Where the others reach it.


def program() -> Path:
    return Path(sys.prefix) / "bin" / "nats-server"


def write(folder: Path, ports: Ports, credentials: Credentials) -> Path:
    """The configuration (JSON is valid NATS configuration); only its owner may read it. Raises Problem."""
    store = folder / "store"
    values = _server("weft", store, (ports.nats, ports.monitor), credentials)
    _keep_streams(store / "jetstream")
    return _keep(folder / "nats.conf", values)


def write_member(folder: Path, member: Member, members: Sequence[Member], secret: Credentials) -> Path:
    """The same for one of a cluster, whose streams lie apart from a single server's."""
    values = _server(member.name, folder / "cluster" / member.name, (member.port, member.monitor), secret)
    values["cluster"] = {
        "name": "weft",
        "listen": f"{HOST}:{member.route}",
        "authorization": {"user": USER, "password": secret.nats, "timeout": ROUTE_S_MAX},
        "routes": [f"nats://{USER}:{secret.nats}@{HOST}:{each.route}" for each in members if each != member],
        "no_advertise": True,  # Clients know all of them already.
    }
    return _keep(folder / f"{member.name}.conf", values)


def _server(name: str, store: Path, ports: tuple[int, int], secret: Credentials) -> dict[str, Any]:
    """What any server is told. `ports` are for clients and for statistics."""
    return {
        "server_name": name,
        "listen": f"{HOST}:{ports[0]}",
        "http": f"{HOST}:{ports[1]}",
        **accounts(secret.nats),
        "jetstream": {"store_dir": str(store), **JETSTREAM, "sync_interval": sync_interval(os.environ)},
        **SETTINGS,
    }


def _keep(path: Path, values: Mapping[str, Any]) -> Path:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        json.dump(values, file, indent=2)
    return path


def accounts(password: str) -> dict[str, Any]:
    """One account for the mesh, which hears from the server's own who disconnected."""
    heard = {"stream": {"account": SYSTEM, "subject": ENDED}}
    user = {"user": USER, "password": password}
    return {
        "accounts": {
            ACCOUNT: {"jetstream": "enabled", "users": [user], "imports": [heard]},
            SYSTEM: {"exports": [{"stream": ENDED, "accounts": [ACCOUNT]}]},
        },
        "system_account": SYSTEM,
    }


def sync_interval(environ: Mapping[str, str]) -> str:
    """How often streams are written through to disk. Raises Problem."""
    chosen = environ.get(SYNC_VARIABLE) or JETSTREAM["sync_interval"]
    if not SYNC.fullmatch(str(chosen)):
        raise Problem(f"{SYNC_VARIABLE} must be `always` or a time such as 10s", "correct it, or unset it")
    return str(chosen)


def _keep_streams(folder: Path) -> None:
    """Streams that were made before the account had a name are its own."""
    nameless = folder / "$G"
    if nameless.exists() and not (folder / ACCOUNT).exists():
        nameless.rename(folder / ACCOUNT)


def command(configuration: Path) -> list[str]:
    return [str(program()), "--config", str(configuration)]
