"""A mesh whose processes meet over links that can be slowed, made lossy or cut: WEFT_CHAOS=1 at `up`.

Each process of services is given a loopback address of its own, 127.0.1.N. On it, at the ports of PostgreSQL,
NATS, the mesh's listener and the process itself, a forwarder listens (forwarding.py), and the process and the
edge are told that address in place of 127.0.0.1. Without WEFT_CHAOS nothing of this is there.
"""

import os
import re
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.paths import Home
from launcher.ports import HOST, Ports
from launcher.roster import Group

COMPONENT = "links"
CHOSEN = "WEFT_CHAOS"
CLOCK = "WEFT_CLOCK_FILE"


@dataclass(frozen=True)
class Link:
    """One way of a process of services: to a server, or from the edge to it."""

    process: str
    server: str  # postgres, nats, mesh; or edge, which calls the process.
    host: str
    port: int

    @property
    def name(self) -> str:
        return f"{self.process}-{self.server}"


def chosen(environ: Mapping[str, str] = os.environ) -> bool:
    return environ.get(CHOSEN, "") in {"1", "true", "yes", "on"}


def host(place: int) -> str:
    """The address of the process in this place."""
    return f"127.0.1.{place + 1}"


def every(groups: Sequence[Group], ports: Ports) -> list[Link]:
    """All links of a mesh."""
    found = []
    for place, group in enumerate(groups):
        doors = {"postgres": ports.postgres, "nats": ports.nats, "mesh": ports.mesh, "edge": group.port}
        found += [Link(group.name, server, host(place), port) for server, port in doors.items()]
    return found


def environment(values: Mapping[str, str], place: int, ports: Ports) -> dict[str, str]:
    """The environment of a process in this place, which meets the others over its links."""
    servers = "|".join(str(port) for port in (ports.postgres, ports.nats, ports.mesh))
    address = re.compile(rf"\b{re.escape(HOST)}:({servers})\b")
    return {
        name: address.sub(rf"{host(place)}:\1", value) if name.startswith("WEFT_") else value
        for name, value in values.items()
    }


def from_the_edge(groups: Sequence[Group]) -> list[Group]:
    """Where Envoy finds the processes."""
    return [replace(group, host=host(place)) for place, group in enumerate(groups)]


def folder(home: Home) -> Path:
    """What tells the forwarder and the clocks what to do; empty: nothing."""
    return home.path / "run" / "chaos"


def faults(home: Home) -> Path:
    return folder(home) / "links.json"


def clock(home: Home, process: str) -> Path:
    return folder(home) / f"clock-{process}"


def command(home: Home, groups: Sequence[Group], ports: Ports) -> list[str]:
    """Runs the forwarder: a program of its own, which imports nothing of the launcher's."""
    shutil.rmtree(folder(home), ignore_errors=True)  # What a mesh before this one was told.
    folder(home).mkdir(parents=True, mode=0o700)
    told = [f"{link.name}={link.host}:{link.port}" for link in every(groups, ports)]
    program = Path(__file__).with_name("forwarding.py")
    return [sys.executable, "-P", str(program), str(faults(home)), HOST, *told]


def unready(groups: Sequence[Group], ports: Ports) -> str:
    """What the forwarder does not listen for yet."""
    for link in every(groups, ports):
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex((link.host, link.port)):
                return f"does not listen for {link.name}"
    return ""
