"""A graph as tables of text, for terminals of 100 columns."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from weft.registry.v1.graph_pb2 import (
    READING_DONE,
    GetGraphResponse,
    GraphInstance,
    GraphNode,
    Reading,
    Traffic,
)
from weft.registry.v1.instance_pb2 import HEALTH_SERVING, Health

BAR_CELLS = 14  # Of the busiest pair; the others' are shorter.
NAME_CHARS_MAX, MARK_CHARS_MAX = 20, 12  # Of a service; of a version or zone. Longer ones are cut.
NOTHING = """\
Nothing has registered with the registry.

    WEFT_REGISTER=1 scripts/weft up       has every process of the mesh register itself
    WEFT_EDGE_DISCOVERY=ads scripts/weft up      besides, the edge learns from it where they are
"""
NOT_READ = {
    "SILENT": "did not answer",
    "UNTOLD": "tells no counts",
    "PASSED_OVER": "not read",
}


def silent(code: str, details: str) -> RenderableType:
    """What is said of a registry that does not answer."""
    return Text(f"The registry does not answer: {code} {details}", style="red") + Text(
        "\n`scripts/weft status` tells how the mesh is, `scripts/weft logs registry` what it wrote."
    )


def drawn(graph: GetGraphResponse, now: float) -> RenderableType:
    """Everything. `now`: Unix seconds."""
    if not graph.nodes:
        return Text(NOTHING)
    parts: list[RenderableType] = [_head(graph, now), _instances(graph, now)]
    parts.append(_calls(graph) if graph.edges else Text("\nNo calls were counted.", style="dim"))
    if any(node.HasField("by_envoy") for node in graph.nodes):
        parts.append(_by_envoy(graph))
    return Group(*parts)


def _head(graph: GetGraphResponse, now: float) -> Text:
    found = [each.instance for node in graph.nodes for each in node.instances]
    sick = sum(each.health != HEALTH_SERVING for each in found)
    words = f"  {len(graph.nodes)} services   {len(found)} instances"
    head = Text("weft mesh", style="bold") + Text(
        time.strftime(" %H:%M:%S", time.localtime(now)), style="dim"
    )
    head += Text(words) + Text(f"   {sick} not serving" if sick else "", style="red")
    if graph.HasField("measured"):
        calls = sum(edge.traffic.calls_per_second for edge in graph.edges)
        head += Text(f"   {calls:,.1f} calls/s") + Text(f"   over {_time(graph.measured)}", style="dim")
    return head


def _table(title: str, left: list[str], right: list[str]) -> Table:
    table = Table(
        box=None,
        pad_edge=False,
        header_style="dim",
        title=f"\n{title}",
        title_justify="left",
        title_style="bold",
    )
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _instances(graph: GetGraphResponse, now: float) -> Table:
    table = _table("instances", ["service", "health", "address", "version", "zone"], ["up", "lease"])
    table.add_column("")
    for node in graph.nodes:
        for place, each in enumerate(node.instances):
            table.add_row("" if place else _cut(node.service), *_instance(each, now))
    return table


def _instance(each: GraphInstance, now: float) -> list[str | Text]:
    instance, settings = each.instance, each.instance.settings
    health = Health.Name(instance.health).removeprefix("HEALTH_").lower().replace("_", " ")
    host = f"[{settings.address}]" if ":" in settings.address else settings.address
    left_s = max(0.0, instance.expire_time.ToNanoseconds() / 1e9 - now)
    said = Reading.Name(each.reading).removeprefix("READING_")
    return [
        Text(health, style="green" if instance.health == HEALTH_SERVING else "red"),
        f"{host}:{settings.port}",
        _cut(settings.version, MARK_CHARS_MAX) or Text("-", style="dim"),
        _cut(settings.zone, MARK_CHARS_MAX) or Text("-", style="dim"),
        span(max(0.0, now - instance.register_time.ToNanoseconds() / 1e9)),
        span(left_s),
        Text("" if each.reading == READING_DONE else NOT_READ.get(said, ""), style="yellow"),
    ]


def _calls(graph: GetGraphResponse) -> Table:
    """The busiest first."""
    table = _table("calls", ["caller", "callee"], ["calls/s", "failed", "p50", "p99"])
    table.add_column("")
    edges = sorted(graph.edges, key=lambda edge: (-edge.traffic.calls_per_second, edge.caller, edge.callee))
    most = edges[0].traffic.calls_per_second
    for edge in edges:
        share = edge.traffic.calls_per_second / most if most else 0.0
        bar = Text("━" * round(BAR_CELLS * share), style="cyan")
        table.add_row(_cut(edge.caller), f"→ {_cut(edge.callee)}", *_figures(edge.traffic), bar)
    return table


def _by_envoy(graph: GetGraphResponse) -> Table:
    table = _table("calls by Envoy", ["service"], ["calls/s", "unanswered", "p50", "p99"])
    for node in _busiest(graph):
        table.add_row(_cut(node.service), *_figures(node.by_envoy))
    return table


def _busiest(graph: GetGraphResponse) -> list[GraphNode]:
    seen = [node for node in graph.nodes if node.HasField("by_envoy")]
    return sorted(seen, key=lambda node: (-node.by_envoy.calls_per_second, node.service))


def _figures(traffic: Traffic) -> list[str | Text]:
    """What was not measured is empty."""
    calls, failed = traffic.calls_per_second, traffic.failed_per_second
    share = Text(f"{100 * failed / calls:.1f} %" if calls else "", style="red" if failed else "dim")
    times = [_time(getattr(traffic, name)) if traffic.HasField(name) else "" for name in ("p50", "p99")]
    return [f"{calls:,.1f}", share, *times]


def _time(duration: Any) -> str:
    return span(duration.ToNanoseconds() / 1e9)


def span(length_s: float) -> str:
    """`3.5 ms`, `350 ms`, `4.2 s`, `3 min`, `5 h`, `2 d`."""
    if length_s < 1:
        return f"{length_s * 1000:.{0 if length_s >= 0.01 else 1}f} ms"
    for most, divisor, unit in ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if length_s < most:
            return f"{length_s / divisor:.{1 if unit == 's' and length_s < 10 else 0}f} {unit}"
    return f"{length_s / 86_400:.0f} d"


def _cut(name: str, most: int = NAME_CHARS_MAX) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
