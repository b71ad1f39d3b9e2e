"""Three nats-servers that keep each stream three times, and a queue service of its own on them."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.jobs import brokers
from bench.machine import Cores
from bench.mesh import HOST, ROOT, Mesh
from bench.peers.running import unused_port

NODES = 3
LEADER_S = 5.0  # Until they have chosen one; a queue that asks before waits for it by itself.


@contextmanager
def three_nodes(found: Mesh, cores: Cores) -> Iterator[dict[str, str]]:
    """Settings of a process that uses them."""
    ports, routes = ([unused_port() for _ in range(NODES)] for _ in range(2))
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder, ExitStack() as stack:
        for n in range(NODES):
            path = Path(folder) / f"{n}.conf"
            path.write_text(json.dumps(_configuration(n, ports, routes, Path(folder))))
            words = [str(Path(sys.prefix) / "bin" / "nats-server"), "-c", str(path)]
            stack.enter_context(brokers.process(words, ports[n], cores))
        time.sleep(LEADER_S)
        url = stack.enter_context(brokers.postgres(found))
        door = unused_port()
        environ = {
            **brokers.inside(found),
            "WEFT_NATS_URL": ",".join(f"nats://{HOST}:{port}" for port in ports),
            "WEFT_NATS_REPLICAS": str(NODES),
            "WEFT_MESH_ADDRESS": f"{HOST}:{door}",
            "WEFT_DATABASE_URL": url,
        }
        own = {**environ, "WEFT_ADDRESS": f"{HOST}:{door}", "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"}
        stack.enter_context(brokers.process([sys.executable, "-m", "services", "queue"], door, cores, own))
        yield environ


def _configuration(n: int, ports: list[int], routes: list[int], folder: Path) -> dict[str, object]:
    others = [f"nats://{HOST}:{route}" for route in routes if route != routes[n]]
    return {
        "server_name": f"n{n}",
        "listen": f"{HOST}:{ports[n]}",
        "jetstream": {"store_dir": str(folder / f"store{n}"), "sync_interval": "always"},
        "cluster": {"name": "three", "listen": f"{HOST}:{routes[n]}", "routes": others},
    }
