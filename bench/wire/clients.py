"""Clients: what a unary call costs its caller, alone and with 32 in flight, against one fast server."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from bench import h2load
from bench.mesh import ROOT
from bench.peers.running import Peer
from bench.read import LAYOUTS
from bench.report import Report
from bench.wire import servers
from bench.wire.servers import KINDS, OURS, REFERENCE

CALLERS = (OURS, REFERENCE, "grpc sync", "grpclib")
FLIGHTS = (1, 32)
SLACK_S = 20.0


def run(report: Report, seconds: float, repeats: int) -> None:
    report.say("### Clients: 100 bytes there and back, the client on core 1, wire's server on core 0")
    server = next(kind for kind in KINDS if kind.name == OURS)
    cores, load = LAYOUTS["pinned"]
    with servers.running([server]) as peers:
        servers.pinned(peers, cores)
        rows = []
        for caller in CALLERS:
            row: list[object] = [caller]
            for flight in FLIGHTS:
                turns = [_cost(caller, peers[OURS], flight, seconds, load) for _ in range(repeats)]
                row += [servers.middle([rate for rate, _ in turns]), servers.middle([us for _, us in turns])]
            rows.append(row)
    headings = [
        heading for flight in FLIGHTS for heading in (f"calls/s, {flight} in flight", "CPU us a call")
    ]
    report.table(["client", *headings], rows)


def _cost(caller: str, at: Peer, flight: int, seconds: float, load: str) -> tuple[float, float]:
    """Calls a second, and processor microseconds of each."""
    words = ["taskset", "-c", load, sys.executable, "-m", "bench.peers.caller", caller]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"}
    done = subprocess.run(
        [*words, str(at.port), str(flight), str(seconds)],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + SLACK_S,
    )
    if done.returncode:
        raise h2load.LoadFailed(done.stderr[-600:])
    said = json.loads(done.stdout)
    return said["calls"] / said["seconds"], said["cpu"] / said["calls"] * 1e6
