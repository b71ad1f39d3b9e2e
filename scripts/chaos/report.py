"""What users saw, for a terminal of 100 columns and for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scripts.chaos.measures import NEVER, WELL, Measured, Verdict, judged, phases, recovery_s, seconds
from scripts.chaos.playing import Played

WIDTH = 100
LINE_S = 80  # Seconds that a line of the chart holds.
BARS = "▁▂▃▄▅▆▇█"
P95_MS_FULL = 1_000.0  # A bar of this height or more is full: nobody likes to wait for longer.


@dataclass(frozen=True)
class Report:
    """A run, judged."""

    played: Played
    by_second: list[Measured]
    by_phase: dict[str, Measured]
    recovered_s: float
    verdicts: list[Verdict]

    @property
    def kept(self) -> bool:
        return all(each.kept for each in self.verdicts)

    @classmethod
    def of(cls, played: Played) -> Report:
        scenario, calls = played.scenario, played.calls
        found, recovered = phases(calls, scenario), recovery_s(calls, scenario)
        verdicts = judged(scenario.slo, found, recovered, played.proof.broken)
        well = played.well_after_s
        told = "never" if well is None else f"{well:.1f} s after the load"
        verdicts.append(Verdict("every part is well again", "yes", told, well is not None))
        return cls(played, seconds(calls, scenario.seconds), found, recovered, verdicts)

    def doubts(self) -> str:
        """Why what was found may not be the faults' doing; empty: nothing speaks for that."""
        before, slo = self.by_phase["before"], self.played.scenario.slo
        if before.availability >= WELL and (before.p95_ms or 0.0) <= slo.p95_ms:
            return ""
        return (
            f"Before anything was done {before.availability:.0%} were answered, p95 {_ms(before.p95_ms)} ms:"
            " this machine is too busy for this load, and what is broken is not broken by the faults alone."
        )

    def json(self) -> str:
        """Times in seconds after the run's start."""
        played = self.played
        whole: dict[str, Any] = {
            "scenario": asdict(played.scenario),
            "began": played.began.isoformat(),
            "kept": self.kept,
            "doubts": self.doubts(),
            "slo": [asdict(each) for each in self.verdicts],
            "recovery_s": None if self.recovered_s == NEVER else self.recovered_s,
            "capacity": played.capacity,
            "strikes": [asdict(each) for each in played.strikes],
            "phases": {name: _told(each) for name, each in self.by_phase.items()},
            "seconds": [_told(each) for each in self.by_second],
            "proof": asdict(played.proof),
        }
        return json.dumps(whole, indent=1)


def _told(measured: Measured) -> dict[str, Any]:
    return {**asdict(measured), "availability": measured.availability}


def show(report: Report, console: Console) -> None:
    """All of it."""
    scenario = report.played.scenario
    console.print()
    console.print(Text.assemble((scenario.name, "bold"), f"  {scenario.what}"))
    console.print()
    for first in range(0, len(report.by_second), LINE_S):
        _chart(report, first, console)
    console.print(_phases(report))
    console.print()
    console.print(_verdicts(report))
    console.print()
    console.print(_proved(report))
    if doubts := report.doubts():
        console.print(Text(doubts, "yellow"))


def _chart(report: Report, first: int, console: Console) -> None:
    """A bar a second: how many were answered, how slowly, and what was done then."""
    line = report.by_second[first : first + LINE_S]
    answered, slow = Text("answered  "), Text("p95       ")
    for each in line:
        style = "green" if each.availability >= WELL else "red"
        answered.append(bar(each.availability), style)
        slow.append(
            bar(min(1.0, (each.p95_ms or P95_MS_FULL) / P95_MS_FULL)), "cyan" if each.answered else "red"
        )
    steps = report.played.scenario.steps
    done = (
        any(s.at < n + 1 and max(s.ends, s.at + 0.01) > n for s in steps)
        for n in range(first, first + len(line))
    )
    console.print(answered)
    console.print(slow)
    console.print(Text("faults    " + "".join("▲" if each else "·" for each in done), "yellow"))
    console.print(Text(f"          {_scale(first, len(line))}", "dim"))


def _scale(first: int, count: int) -> str:
    """`0    5    10   ...`"""
    marks = "".join(f"{first + n:<10}" for n in range(0, count, 10))
    return f"{marks[:count]} s, a full bar: all; p95 of 1 s"


def bar(share: float) -> str:
    """A block for 0 to 1. Only all is a full one."""
    return BARS[min(int(share * (len(BARS) - 1)), len(BARS) - 1)]


def _phases(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, width=WIDTH, padding=(0, 2, 0, 0))
    for name in ("", "calls", "answered", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    table.add_column("not answered, by code", ratio=1)
    for name, each in report.by_phase.items():
        codes = ", ".join(f"{code} {count:,}" for code, count in each.codes.items())
        times = (_ms(value) for value in (each.p50_ms, each.p95_ms, each.p99_ms))
        table.add_row(name, f"{each.calls:,}", f"{each.availability:.2%}", *times, codes or "none")
    return table


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _verdicts(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, width=WIDTH, padding=(0, 2, 0, 0))
    for name in ("objective", "aim", "found", ""):
        table.add_column(name, justify="left" if name in ("objective", "") else "right", no_wrap=True)
    table.add_column("", ratio=1)
    for each in report.verdicts:
        kept = Text("✓ kept", "green") if each.kept else Text("✗ broken", "bold red")
        table.add_row(each.what, each.aim, each.found, kept)
    return table


def _proved(report: Report) -> Text:
    proof = report.played.proof
    where = "and in the audit trail, once each" if proof.trail else "(no audit in this mesh to ask)"
    words = f"{proof.acknowledged:,} writes acknowledged; read back within {proof.settled_s:.1f} s"
    if not proof.broken:
        return Text(f"{words}: all there {where}")
    counts = f"{len(proof.lost)} lost, {len(proof.untold)} events lost, {len(proof.twice)} events twice"
    return Text(f"{words}: {counts}", "bold red")
