"""Peers as processes beside the mesh, for the length of a block."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.mesh import HOST, ROOT

DATABASE_URL = "WEFT_BENCH_DATABASE_URL"
START_S_MAX = 20.0  # FastAPI and SQLAlchemy load in two seconds on a quiet machine.


@dataclass(frozen=True)
class Peer:
    """A peer that listens."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


@contextmanager
def peer(name: str, database_url: str = "") -> Iterator[Peer]:
    """Runs `bench.peers.<name>`. Raises TimeoutError when it does not listen in time.

    The database's URL has a password, so it goes by the environment, not by the command line.
    """
    port = unused_port()
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}", DATABASE_URL: database_url}
    command = [sys.executable, "-m", f"bench.peers.{name}", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environ)
    try:
        listening(process, port)
        yield Peer(process.pid, port)
    finally:
        process.terminate()
        process.wait()


def listening(process: subprocess.Popen[bytes], port: int) -> None:
    """Waits until the process does. Raises TimeoutError."""
    ends = time.monotonic() + START_S_MAX
    while time.monotonic() < ends and process.poll() is None:
        with socket.socket() as door:
            if door.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"the peer does not listen: {process.args!r}")


def unused_port() -> int:
    with socket.socket() as door:
        door.bind((HOST, 0))
        return int(door.getsockname()[1])
