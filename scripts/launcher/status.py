"""The mesh at a glance: each part, its health now, its memory; for people and as JSON."""

import json
from argparse import Namespace
from dataclasses import asdict

from launcher import edge, ports, state
from launcher.paths import Home
from launcher.problem import say

HEALTHY, UNHEALTHY = "healthy", "unhealthy"


def status(arguments: Namespace) -> int:
    """0 only if all is healthy."""
    home = Home.of()
    seen = state.read(home)
    if not seen:
        say(json.dumps({"phase": "down", "components": []}) if arguments.json else "The mesh does not run.")
        return 1
    rows = [row(seen, each) for each in seen.components]
    well = seen.phase == state.SERVING and all(each["health"] == HEALTHY for each in rows)
    rows.append({**asdict(state.Component("supervisor", 0, pid=seen.pid)), "health": HEALTHY, "rss": memory(seen.pid, alone=True)})
    total = sum(each["rss"] for each in rows)
    if arguments.json:
        say(json.dumps({"phase": seen.phase, "healthy": well, "rss": total, "ports": seen.ports, "components": rows}))
    else:
        _print(seen, rows, total)
    return 0 if well else 1


def row(seen: state.State, component: state.Component) -> dict[str, object] | dict[str, int]:
    """What is known of one part, with its health asked for now."""
    why = _illness(seen, component)
    health = {"health": UNHEALTHY if why else HEALTHY, "note": why, "rss": memory(component.pid)}
    return {**asdict(component), **health}


def _illness(seen: state.State, component: state.Component) -> str:
    """What is wrong with it; empty when nothing is."""
    if component.phase != state.READY:
        return component.note or component.phase
    if component.name == "edge":
        served = [name for each in seen.components for name in each.services]
        return edge.unhealthy(seen.ports["stats"], served)
    if component.name == "nats":
        return "" if edge.answer(seen.ports["monitor"], "/healthz") == edge.OK else "does not answer /healthz"
    if component.name == "postgres":
        return "" if ports.refusal(component.port) else "does not listen"
    place = component.port - seen.ports["services"]
    return "" if edge.answer(seen.ports["metrics"] + place, "/ready") == edge.OK else "not ready"


def memory(pid: int | None, *, alone: bool = False) -> int:
    """Proportional memory in bytes of a process and its children: shared pages are counted once."""
    import psutil

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


def _print(seen: state.State, rows: list[dict[str, object]], total: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("component", "health", "pid", "port", "memory", "restarts", ""):
        table.add_column(heading, justify="right" if heading in {"pid", "port", "memory", "restarts"} else "left")
    for each in rows:
        services = each["services"]
        name = f"{each['name']} ({', '.join(services)})" if len(services) > 1 else str(each["name"])
        style = "green" if each["health"] == HEALTHY else "red"
        pid, port = each["pid"] or "-", each["port"] or "-"
        megabytes = f"{each['rss'] / 1e6:.0f} MB"
        table.add_row(name, Text(str(each["health"]), style=style), str(pid), str(port), megabytes, str(each["restarts"]), str(each["note"]))
    Console(soft_wrap=True).print(table)
    say(f"\n{seen.phase}; memory of all: {total / 1e6:.0f} MB (proportional, shared pages counted once)")
