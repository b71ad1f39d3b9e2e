"""Connections: how fast they are made, and what an idle one holds in memory."""

from __future__ import annotations

import socket
import tempfile
import time
from pathlib import Path

import psutil

from bench import h2load
from bench.mesh import HOST
from bench.peers.echoes import SERVICE
from bench.peers.running import Peer
from bench.read import LAYOUTS
from bench.report import Report
from bench.wire import servers
from bench.wire.servers import GRPC, GRPC_KINDS

COUNT = 500
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")  # And empty SETTINGS.
SETTLE_S = 1.0


def run(report: Report, seconds: float, repeats: int) -> None:
    report.say(f"### {COUNT} connections, plain TCP, the server on core 0, the load on core 1")
    rows = []
    with servers.running(GRPC_KINDS) as peers, tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
        cores, load = LAYOUTS["pinned"]
        servers.pinned(peers, cores)
        body = Path(folder) / "body"
        body.write_bytes(servers.framed(b"x" * 100))
        for kind in GRPC_KINDS:
            at = peers[kind.name]
            url = f"{at.url}/{SERVICE}/Unary"
            idle = _idle_kb(at)  # First: memory that was freed once is not asked for again.
            took = [h2load.connect(url, GRPC, body, COUNT, load) for _ in range(repeats)]
            rows.append([kind.name, COUNT / servers.middle(took), idle])
    report.table(["server", "connections/s, one call each", "kB an idle connection"], rows)


def _idle_kb(at: Peer) -> float:
    """What the server's resident memory grows by, a connection."""
    process = psutil.Process(at.pid)
    before = process.memory_info().rss
    lines = [socket.create_connection((HOST, at.port), timeout=10) for _ in range(COUNT)]
    try:
        for line in lines:
            line.sendall(PREFACE)
        for line in lines:
            if not line.recv(9):
                raise h2load.LoadFailed("the server closed an idle connection")
        time.sleep(SETTLE_S)
        return (process.memory_info().rss - before) / COUNT / 1024
    finally:
        for line in lines:
            line.close()
