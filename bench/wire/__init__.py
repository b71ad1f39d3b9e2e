"""The wire engine against the servers and clients that Python has: calls, streams, connections, memory."""

from __future__ import annotations

from bench import h2load
from bench.report import Report
from bench.wire import clients, connections, streams, unary

__all__ = ["run"]


def run(seconds: float, repeats: int) -> Report:
    """Each part with every peer of it, one after another, in the same run."""
    h2load.require()
    report = Report("Wire (`bench wire`)")
    for part in (unary, streams, connections, clients):
        part.run(report, seconds, repeats)
    return report
