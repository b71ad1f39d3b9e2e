"""What a benchmark has to say: sentences and tables, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.machine import QUIET_CORES_MAX


@dataclass
class Report:
    """One benchmark's findings, in the order in which they were made."""

    title: str
    parts: list[str] = field(default_factory=list)

    def say(self, sentence: str) -> None:
        self.parts.append(sentence)

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        lines = [headings, ["---", *("---:" for _ in headings[1:])], *(list(map(_cell, row)) for row in rows)]
        self.parts.append("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines))

    def disturbance(self, strangers: Sequence[float]) -> None:
        """Says how much of the processor other programs used."""
        middle, worst = median(strangers), max(strangers)
        verdict = "quiet" if worst <= QUIET_CORES_MAX else "NOT quiet"
        self.say(f"Others used {middle:.2f} cores in the middle run, {worst:.2f} at worst: {verdict}.")

    def markdown(self) -> str:
        return "\n\n".join([f"## {self.title}", *self.parts]) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
