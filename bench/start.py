"""From `weft up` to serving, in a fresh data folder and again; and the idle mesh's memory."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from bench.machine import Meter
from bench.mesh import HOME, PORT_BASE, weft
from bench.report import Report

FOLDER = HOME.with_name(f"{HOME.name}-start")  # Another mesh than the one that the other benchmarks load.
SHIFT = 200  # Of its ports.
IDLE_S = 5.0
LIMITS = {"WEFT_RATE_FACTOR": "1"}
AIM_S, AIM_AGAIN_S = 15, 5


def run(seconds: float, repeats: int) -> Report:
    report = Report("Start and idle memory (`bench start`)")
    report.say(
        "From the launcher's first instruction until it returns, the mesh healthy. Packages are installed, "
        f"bytecode is written. Aims: {AIM_S} s at first, {AIM_AGAIN_S} s again."
    )
    rows, memory, strangers = [], [], []
    for processes, name in (
        ("", "as many processes as cores to spare"),
        ("each", "a process for each service"),
    ):
        runs = [_cycle(processes) for _ in range(repeats)]
        strangers += [one["strangers"] for one in runs]
        first, again = ([one[when] for one in runs] for when in ("first", "again"))
        rows.append([name, median(first), _listed(first), median(again), _listed(again)])
        memory.append((name, runs[-1]["memory"]))
    report.table(["services in", "first s", "all", "again s", "all"], rows)
    report.say(f"Idle, {IDLE_S:.0f} s after the start; MB, pages that are shared counted once:")
    for name, parts in memory:
        report.say(f"{name}: " + ", ".join(f"{part} {size:.0f}" for part, size in parts.items()))
    report.disturbance(strangers)
    return report


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def _cycle(processes: str) -> dict[str, Any]:
    """One mesh's life."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    _weft("reset", "--yes")
    try:
        first = _up(processes)
        time.sleep(IDLE_S)
        memory = _memory()
        _weft("down")
        again = _up(processes)
    finally:
        _weft("reset", "--yes")
    return {"first": first, "again": again, "memory": memory, "strangers": _noise()}


def _noise() -> float:
    """Cores that others use right afterwards, while nothing of ours runs."""
    with Meter({}) as meter:
        time.sleep(2.0)
    return meter.strangers


def _up(processes: str) -> float:
    words = ["up", "--port-base", str(PORT_BASE + SHIFT), *(["--processes", processes] if processes else [])]
    began = time.perf_counter()
    _weft(*words)
    return time.perf_counter() - began


def _memory() -> dict[str, float]:
    status = json.loads(_weft("status", "--json"))
    parts = {part["name"]: part["memory_bytes"] / 1e6 for part in status["components"]}
    return {**parts, "all": status["memory_bytes"] / 1e6}


def _weft(*words: str) -> str:
    return weft(*words, home=FOLDER, environ=LIMITS)
