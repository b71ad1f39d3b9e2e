"""The services that sell and bill, each against a floor of the same run: all, or one part by its name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from bench.report import Report

__all__ = ["run"]

PARTS = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


def run(seconds: float, repeats: int) -> Report:
    """All parts, one after the other."""
    report = Report("Commerce (`bench commerce`)")
    for part in PARTS:
        if hasattr(module := import_module(f"bench.commerce.{part}"), "run"):
            found: Report = module.run(seconds, repeats)
            report.say(f"### {found.title}")
            report.parts += found.parts
    return report
