"""What a person sees while the mesh starts or stops: live lines on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from launcher import state
from launcher.problem import say

MARKS = {
    state.READY: "[green]✓[/]",
    state.CRASHING: "[red]✗[/]",
    state.RESTARTING: "[yellow]↻[/]",
    state.STOPPED: "·",
}
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Progress(Protocol):
    """Is shown the state again and again."""

    def show(self, seen: state.State) -> None: ...


class Lines:
    """A line for each change."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._told: dict[str, tuple[str, str]] = {}

    def show(self, seen: state.State) -> None:
        for each in seen.components:
            now = (each.phase, each.note if each.phase in {state.RESTARTING, state.CRASHING} else "")
            if self._told.get(each.name, (state.WAITING, "")) != now:
                self._told[each.name] = now
                passed = time.monotonic() - self._began
                say(f"{passed:6.1f} s  {title(each)}: {each.phase}{f' ({now[1]})' if now[1] else ''}")


class Table:
    """Lines that are drawn anew."""

    def __init__(self, live: Any) -> None:
        self._live, self._began = live, time.monotonic()

    def show(self, seen: state.State) -> None:
        from rich.table import Table as Grid
        from rich.text import Text

        passed = time.monotonic() - self._began
        spin = f"[cyan]{SPINNER[int(passed * 10) % len(SPINNER)]}[/]"
        grid = Grid.grid(padding=(0, 2))
        for each in seen.components:
            mark = MARKS.get(each.phase, spin if each.phase == state.STARTING else " ")
            grid.add_row(Text.from_markup(mark), title(each), f"{each.phase}", Text(each.note, style="dim"))
        grid.add_row("", f"{passed:.1f} s", "", "")
        self._live.update(grid)


@contextmanager
def shown() -> Iterator[Progress]:
    """The display that suits where stdout goes."""
    if not sys.stdout.isatty():
        yield Lines()
        return
    from rich.live import Live

    with Live(refresh_per_second=12) as live:
        yield Table(live)


def title(component: state.Component) -> str:
    """A component's name, with the services in it when they are several."""
    return (
        f"{component.name} ({', '.join(component.services)})"
        if len(component.services) > 1
        else component.name
    )
