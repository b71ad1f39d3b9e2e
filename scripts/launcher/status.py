"""The mesh at a glance: each part, its health now, its memory; for people and as JSON."""

import json
from argparse import Namespace
from dataclasses import asdict, dataclass
from typing import Any

from launcher import archive, backup, edge, links, ports, standing, state
from launcher.paths import Home
from launcher.problem import Problem, say
from launcher.progress import title

HEALTHY, UNHEALTHY = "healthy", "unhealthy"
DAYS_FROM_H = 48  # An age is said in days from here on.
NUMBERS = {"pid", "port", "memory", "restarts"}


@dataclass(frozen=True)
class Row:
    """One part, with its health asked for now."""

    part: state.Component
    illness: str  # Empty: none.
    bytes: int
    role: str = ""  # In a cluster.

    def said(self) -> dict[str, Any]:
        """For programs."""
        health = UNHEALTHY if self.illness else HEALTHY
        asked = {"health": health, "note": self.illness, "memory_bytes": self.bytes, "role": self.role}
        return {**asdict(self.part), **asked}


def status(arguments: Namespace) -> int:
    """0 only if all is healthy."""
    home = Home.of()
    seen = state.read(home)
    if not seen:
        down: dict[str, Any] = {"phase": "down", "components": [], "backup": _told(home)}
        say(json.dumps(down) if arguments.json else f"The mesh does not run.\n{_backups(home)}")
        return 1
    roles = standing.standing(home, seen)
    rows = [
        Row(each, _illness(seen, each), memory(each.pid), roles.get(each.name, ""))
        for each in seen.components
    ]
    well = seen.phase == state.SERVING and not any(each.illness for each in rows)
    keeper = state.Component("supervisor", 0, phase=state.READY, pid=seen.pid)
    rows.append(Row(keeper, "", memory(seen.pid, alone=True)))
    if arguments.json:
        whole: dict[str, Any] = {
            "phase": seen.phase,
            "healthy": well,
            "memory_bytes": sum(each.bytes for each in rows),
        }
        whole |= {"backup": _told(home), "ports": seen.ports, "components": [each.said() for each in rows]}
        say(json.dumps(whole))
    else:
        _print(seen, rows)
        say(_backups(home))
    return 0 if well else 1


def _illness(seen: state.State, component: state.Component) -> str:
    """What is wrong with it; empty when nothing is."""
    if component.phase != state.READY:
        return component.note or component.phase
    if behind := standing.illness(seen, component):
        return behind
    if component.name == "edge":
        served = [name for each in seen.components for name in each.services]
        return edge.unhealthy(seen.ports["stats"], served)
    if monitor := standing.monitor(seen, component.name):
        return "" if edge.answer(monitor, "/healthz") == edge.OK else "does not answer /healthz"
    if component.name == "postgres" or component.role:
        return "" if ports.refusal(component.port) else "does not listen"
    if component.name in {archive.COMPONENT, links.COMPONENT}:
        return component.note
    place = component.port - seen.ports["services"]
    return "" if edge.answer(seen.ports["metrics"] + place, "/ready") == edge.OK else "not ready"


def memory(pid: int | None, *, alone: bool = False) -> int:
    """Proportional memory in bytes of a process and its children: shared pages are counted once."""
    import psutil

    if not pid:
        return 0
    try:
        parent = psutil.Process(pid)
        children = [] if alone else parent.children(recursive=True)
        return sum(_memory(each) for each in (parent, *children))
    except psutil.Error:
        return 0


def _memory(process: object) -> int:
    import psutil

    assert isinstance(process, psutil.Process)
    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, AttributeError):
        return int(process.memory_info().rss)


def _print(seen: state.State, rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("component", "health", "pid", "port", "memory", "restarts", ""):
        table.add_column(heading, justify="right" if heading in NUMBERS else "left")
    for each in rows:
        part = each.part
        health = Text(UNHEALTHY, style="red") if each.illness else Text(HEALTHY, style="green")
        places = (str(part.pid or "-"), str(part.port or "-"), f"{each.bytes / 1e6:.0f} MB")
        table.add_row(title(part), health, *places, str(part.restarts), each.illness or each.role)
    Console(soft_wrap=True).print(table)
    total = sum(each.bytes for each in rows) / 1e6
    say(f"\n{seen.phase}; memory of all: {total:.0f} MB (proportional, shared pages counted once)")


def _told(home: Home) -> dict[str, Any] | None:
    """The same for programs; None while there is no archive, or when it cannot be read."""
    try:
        told = backup.summary(home)
    except Problem:
        return None
    return asdict(told) if told else None


def _backups(home: Home) -> str:
    """How old the last backup is, for people."""
    try:
        told = backup.summary(home)
    except Problem as problem:
        return f"backups: {problem}"
    if told is None or told.last is None:
        return "no WAL is archived; `scripts/weft backup` makes a backup and begins"
    hours = told.age_s / 3_600
    age = f"{hours / 24:.0f} days" if hours >= DAYS_FROM_H else f"{hours:.1f} h"
    sizes = f"{told.kept} kept ({told.bytes / 1e6:.0f} MB), {told.archive_bytes / 1e6:.0f} MB of WAL"
    return f"last backup {age} ago; {sizes}, in {told.folder}"
