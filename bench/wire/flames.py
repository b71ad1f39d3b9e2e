"""Where wire's time goes: flame graphs of a busy server and a busy client, by py-spy.

`python -m bench.wire.flames FOLDER [SECONDS]` writes wire-server.svg and wire-client.svg.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench import h2load
from bench.mesh import ROOT
from bench.peers.running import Peer
from bench.read import LAYOUTS
from bench.wire import servers, unary
from bench.wire.servers import KINDS, OURS

RATE_HZ = 500
START_S = 1.0  # Until py-spy looks, and until the client is warm.


def record(pid: int, seconds: float, target: Path) -> subprocess.Popen[bytes]:
    spy = Path(sys.prefix) / "bin" / "py-spy"
    flags = ["-d", str(round(seconds)), "-r", str(RATE_HZ), "-f", "flamegraph", "--nonblocking"]
    return subprocess.Popen([spy, "record", *flags, "-p", str(pid), "-o", target], stdout=subprocess.DEVNULL)


def of_server(at: Peer, folder: Path, seconds: float, load: str) -> None:
    kind = next(kind for kind in KINDS if kind.name == OURS)
    shot = servers.call(kind, at, unary.SIZE, unary.CONNECTIONS, unary.STREAMS)
    spy = record(at.pid, seconds, folder / "wire-server.svg")
    h2load.fire([shot], seconds + START_S, load)
    spy.wait()


def of_client(at: Peer, folder: Path, seconds: float, load: str) -> None:
    words = ["taskset", "-c", load, sys.executable, "-m", "bench.peers.caller", OURS]
    process = subprocess.Popen(
        [*words, str(at.port), "32", str(seconds + 2 * START_S)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    record(process.pid, seconds, folder / "wire-client.svg").wait()
    process.wait()


def without_paths(picture: Path) -> None:
    """py-spy writes the command that it was; where this tree lies is nobody's business."""
    picture.write_text(picture.read_text().replace(f"{ROOT}/", ""))


def main(folder: Path, seconds: float) -> None:
    h2load.require()
    folder.mkdir(parents=True, exist_ok=True)
    kind = next(kind for kind in KINDS if kind.name == OURS)
    cores, load = LAYOUTS["pinned"]
    with servers.running([kind]) as peers:
        servers.pinned(peers, cores)
        of_server(peers[OURS], folder, seconds, load)
        of_client(peers[OURS], folder, seconds, load)
    for picture in folder.glob("wire-*.svg"):
        without_paths(picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 5.0)
