"""NATS with JetStream from its wheel: one server, its configuration written at each start."""

import json
import os
import sys
from pathlib import Path

from launcher.credentials import Credentials
from launcher.ports import HOST, Ports

USER = "weft"

# What the mesh asks of NATS; compose.yaml is tested against it.
JETSTREAM = {
    "max_memory_store": 268_435_456,  # 256 MB: claims and live status are the only streams in memory.
    "max_file_store": 10_737_418_240,  # 10 GB of events; a limit, nothing is reserved.
    # Written through to disk at least so often. A process killed loses nothing; only a power cut may, and
    # then the event tables still hold every event. `always` would hold single publishes to 0.6-4k/s.
    "sync_interval": "10s",
}
SETTINGS = {
    "max_payload": 1_048_576,  # NATS's default, said aloud: an event must fit.
    "max_connections": 1_024,
    "write_deadline": "10s",
    "lame_duck_duration": "30s",
    "lame_duck_grace_period": "2s",
}


def program() -> Path:
    return Path(sys.prefix) / "bin" / "nats-server"


def write(folder: Path, ports: Ports, credentials: Credentials) -> Path:
    """The configuration (JSON is valid NATS configuration); only its owner may read it."""
    values = {
        "server_name": "weft",
        "listen": f"{HOST}:{ports.nats}",
        "http": f"{HOST}:{ports.monitor}",
        "authorization": {"user": USER, "password": credentials.nats},
        "jetstream": {"store_dir": str(folder / "store"), **JETSTREAM},
        **SETTINGS,
    }
    path = folder / "nats.conf"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        json.dump(values, file, indent=2)
    return path


def command(configuration: Path) -> list[str]:
    return [str(program()), "--config", str(configuration)]
