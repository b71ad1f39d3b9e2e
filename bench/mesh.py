"""The mesh under load: in a data folder of its own, a process for each service, its rate limits raised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
HOME = Path(os.environ.get("WEFT_BENCH_HOME", ROOT / ".weft" / "bench"))
PORT_BASE = int(os.environ.get("WEFT_BENCH_PORT_BASE", "24600"))
RATE_FACTOR = 100_000  # The limits are in place and count each call; none is ever reached.
TOKEN_S = 3_600  # Access tokens outlive the longest run.
HOST = "127.0.0.1"
SUPERVISOR = "supervisor"  # The parent of all the others.


class MeshFailed(Exception):
    """The launcher could not do what it was asked."""


@dataclass(frozen=True)
class Mesh:
    """A mesh that serves."""

    ports: Mapping[str, int]
    pids: Mapping[str, int]  # By component: edge, identity, postgres, nats ...
    doors: Mapping[str, int]  # By service: the port of its process.
    secrets: Mapping[str, Any]

    @property
    def edge(self) -> str:
        return f"https://{HOST}:{self.ports['edge']}"

    @property
    def plain(self) -> str:
        return f"http://{HOST}:{self.ports['plain']}"

    def database(self, name: str, *, superuser: bool = False) -> str:
        """URL of one database, as its owner or as PostgreSQL's superuser."""
        role = "postgres" if superuser else name
        password = self.secrets["postgres"] if superuser else self.secrets["databases"][name]
        return f"postgresql://{role}:{password}@{HOST}:{self.ports['postgres']}/{name}"

    def only(self, *names: str) -> dict[str, int]:
        """Process ids of these components."""
        return {name: self.pids[name] for name in names}


def weft(*words: str, home: Path = HOME, environ: Mapping[str, str] | None = None) -> str:
    """What `scripts/weft` printed. Raises MeshFailed."""
    own = {"WEFT_HOME": str(home), "WEFT_RATE_FACTOR": str(RATE_FACTOR)}
    own["WEFT_IDENTITY_ACCESS_S"] = str(TOKEN_S)
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "weft"), *words],
        env={**os.environ, **own, **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise MeshFailed(f"weft {words[0]}: {done.stdout[-400:]}{done.stderr[-400:]}")
    return done.stdout


def up(*services: str, processes: str = "each") -> Mesh:
    """Starts the mesh of the benchmarks, unless it runs; of these services alone and from nothing, if named.

    On the cores of one machine each service that only listens to the events (audit, say) takes from those
    that are measured, and so does who still reads the events of an earlier run.
    """
    HOME.mkdir(parents=True, exist_ok=True)
    if services:
        weft("reset", "--yes")
    named = {"WEFT_SERVICES": ",".join(services)}
    weft("up", "--port-base", str(PORT_BASE), "--processes", processes, environ=named)
    return seen()


def seen() -> Mesh:
    """The mesh that runs in the benchmarks' data folder."""
    status = json.loads(weft("status", "--json"))
    parts = status["components"]
    return Mesh(
        ports=status["ports"],
        pids={part["name"]: part["pid"] for part in parts if part["name"] != SUPERVISOR},
        doors={service: part["port"] for part in parts for service in part["services"]},
        secrets=json.loads((HOME / "secrets.json").read_text()),
    )


def down() -> None:
    weft("down")
