"""A whole mesh for tests, started as a newcomer starts it, with ports and a data folder of its own."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
START_S_MAX = 180  # Two cores, shared with the other tests.
OFFSETS = (*range(20), *range(20, 36), *range(84, 100))
SPAN = 100  # What --port-base takes, at most.


@dataclass(frozen=True)
class Mesh:
    """The running mesh."""

    home: Path
    edge: str
    ca: Path
    admin: tuple[str, str]  # Address and password.
    ports: Mapping[str, int]
    up: tuple[str, ...] = ()  # The words it was started with.
    settings: Mapping[str, str] = field(default_factory=dict)

    def weft(self, *arguments: str, wait_s: float = START_S_MAX) -> subprocess.CompletedProcess[str]:
        """Runs the launcher against this mesh."""
        return weft(self.home, *arguments, settings=self.settings, wait_s=wait_s)

    def start(self) -> None:
        """Starts it again, with what it was started with."""
        done = self.weft(*self.up)
        assert done.returncode == 0, done.stdout + done.stderr

    def components(self) -> dict[str, Any]:
        """By name: what `status --json` says of each part."""
        told = json.loads(self.weft("status", "--json").stdout)
        return {part["name"]: part for part in told["components"]}

    def parts(self) -> dict[str, Any]:
        """By name: what the supervisor last said of each part. Asks nobody, so it costs nothing."""
        told = json.loads((self.home / "run" / "state.json").read_text())
        supervisor = {"name": "supervisor", "pid": told["pid"], "phase": told["phase"]}
        return {part["name"]: part for part in [*told["components"], supervisor]}


def weft(
    home: Path,
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    wait_s: float = START_S_MAX,
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "weft"), *arguments]
    environment = {**os.environ, **(settings or {}), "WEFT_HOME": str(home), "WEFT_VENV": sys.prefix}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=wait_s, check=False
    )


@contextmanager
def running(*words: str, settings: Mapping[str, str] | None = None) -> Iterator[Mesh]:
    """A mesh, for as long as the block runs. `words` are further ones of `up`."""
    home = Path(tempfile.mkdtemp(prefix="weft-mesh-", dir="/var/tmp"))
    home.chmod(0o755)
    words = ("up", *words, "--port-base", str(free_base()))
    try:
        up = weft(home, *words, settings=settings)
        assert up.returncode == 0, up.stdout + up.stderr
        secrets = json.loads((home / "secrets.json").read_text())
        ports = json.loads((home / "run" / "state.json").read_text())["ports"]
        edge, ca = f"https://127.0.0.1:{ports['edge']}", home / "certificates" / "ca.crt"
        admin = (secrets["admin_email"], secrets["admin_password"])
        yield Mesh(home, edge, ca, admin, ports, words, settings or {})
    finally:
        weft(home, "reset", "--yes")
        shutil.rmtree(home, ignore_errors=True)


def free_base() -> int:
    """A port with SPAN free ones behind it; below those that the system hands out by itself."""
    for _ in range(100):
        base = random.randrange(20_000, 32_000 - SPAN)
        if all(_free(base + offset) for offset in OFFSETS):
            return base
    raise AssertionError("no free ports")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0
