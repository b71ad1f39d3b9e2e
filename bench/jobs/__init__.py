"""Jobs against the job systems that Python has: enqueue, drain and latency, all on one core, in one run."""

from __future__ import annotations

import os

from bench import machine, mesh
from bench.jobs import ours, systems
from bench.jobs.brokers import Missing
from bench.jobs.systems import SYSTEMS, Result
from bench.report import Report

__all__ = ["run"]

COUNT = int(os.environ.get("WEFT_BENCH_COUNT", "20000"))  # Jobs that do nothing.
WHAT = os.environ.get("WEFT_BENCH_JOBS", "peers")  # `weft`: what only Weft is asked for; `all`: both.
CORES = "0"  # Servers and clients share it; the other core is left to the machine.


def run(seconds: float, repeats: int) -> Report:
    """Each system once: a run takes as long as its jobs do, whatever `seconds` and `repeats` say."""
    report = Report("Jobs (`bench jobs`)")
    report.say(f"{COUNT:,} jobs that do nothing; servers, client and worker on core {CORES}.")
    found = mesh.up("identity", "queue", "worker")
    machine.pin(found.pids.values(), CORES)
    if WHAT != "peers":
        ours.report(report, found, COUNT, CORES)
    if WHAT == "weft":
        return report
    machine.pin(found.pids.values(), CORES)
    python = systems.environment().python
    rows: list[list[object]] = []
    for system in SYSTEMS:
        try:
            rows.append([system.name, *_row(systems.measure(system, found, python, COUNT, CORES))])
        except Missing as missing:
            report.say(f"{system.name}: left out, {missing}.")
    headings = ["system", "enqueue/s", "in bulk/s", "drain/s", "p50 ms", "p95 ms", "p99 ms", "worker MB"]
    report.table(headings, rows)
    return report


def _row(result: Result) -> list[object]:
    times = [result.p50, result.p95, result.p99]
    return [result.enqueue, result.bulk or "", result.drain, *times, result.worker_mb]
