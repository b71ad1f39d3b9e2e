"""The words after `scripts/weft chaos`."""

from __future__ import annotations

import asyncio
import signal
import sys
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path

import grpc.aio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from launcher import undoing
from launcher.paths import Home
from scripts.chaos.mesh import Mesh, Refused
from scripts.chaos.playing import play
from scripts.chaos.report import WIDTH, Report, show
from scripts.chaos.scenario import BadScenario, Scenario, read
from scripts.chaos.users import NotReady

SHIPPED = Path(__file__).parent / "scenarios"
SUFFIX = ".toml"
BYTES_MAX = 100_000  # Of a file: a scenario is a page.
STOPPED = 130


def parser() -> ArgumentParser:
    whole = ArgumentParser(prog="weft chaos", description="Faults under load, and what users saw of them.")
    words = whole.add_subparsers(dest="command", metavar="COMMAND", required=True)
    words.add_parser("list", help="the scenarios there are")
    one = words.add_parser("run", help="play one on the mesh that runs; 0 only if all objectives were kept")
    one.add_argument("scenario", help=f"a name of the list, or a file NAME{SUFFIX} of your own")
    one.add_argument(
        "--json", type=Path, metavar="FILE", help="where the report goes (default: chaos/ in the data folder)"
    )
    words.add_parser("undo", help="undo what a run that was killed may have left")
    return whole


def found(name: str) -> Scenario:
    """Raises BadScenario."""
    file = Path(name) if name.endswith(SUFFIX) else SHIPPED / f"{name}{SUFFIX}"
    try:
        with file.open("rb") as opened:
            text = opened.read(BYTES_MAX).decode()
    except OSError:
        raise BadScenario(f"there is no scenario {name}: `weft chaos list` shows them") from None
    except UnicodeDecodeError:
        raise BadScenario(f"{file}: is no text in UTF-8") from None
    try:
        return read(file.stem, text)
    except BadScenario as error:
        raise BadScenario(f"{file}: {error}") from None


def shipped() -> list[Scenario]:
    return [found(name) for name in sorted(file.stem for file in SHIPPED.glob(f"*{SUFFIX}"))]


def list_(console: Console) -> int:
    table = Table(box=None, pad_edge=False, width=WIDTH, padding=(0, 2, 0, 0))
    for name in ("scenario", "s", "needs", "what is done"):
        table.add_column(name, justify="right" if name == "s" else "left", no_wrap=name != "what is done")
    for each in shipped():
        needs = "WEFT_CHAOS=1" if each.needs_links else ""
        table.add_row(each.name, f"{each.seconds:g}", needs, each.what)
    console.print(table)
    return 0


async def run(scenario: Scenario, home: Home, file: Path | None, console: Console) -> int:
    """0 only if every objective was kept."""
    here = asyncio.current_task()
    assert here
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, here.cancel)
    report = Report.of(await play(Mesh(home), scenario, lambda said: console.print(said, highlight=False)))
    show(report, console)
    if file is None:
        folder = home.path / "chaos"
        folder.mkdir(mode=0o700, exist_ok=True)
        file = folder / f"{scenario.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_text(report.json())
    words = "all objectives kept" if report.kept else "objectives BROKEN"
    console.print(f"{words}; the whole report: {file}", soft_wrap=True, highlight=False)
    return 0 if report.kept else 1


def main(words: list[str]) -> int:
    given, console, home = parser().parse_args(words), Console(), Home.of()
    if not console.is_terminal:
        console.width = WIDTH
    try:
        if given.command == "list":
            return list_(console)
        if given.command == "undo":
            console.print(f"{undoing.undo_if_left(home)} things undone")
            return 0
        return asyncio.run(run(found(given.scenario), home, given.json, console))
    except (Refused, BadScenario, NotReady) as refusal:
        console.print(Text(str(refusal), "red"), soft_wrap=True)
    except grpc.aio.AioRpcError as error:
        console.print(Text(f"the mesh could not be asked: {error.code().name} {error.details()}", "red"))
    except asyncio.CancelledError:
        console.print("stopped; what was done is undone")
        return STOPPED
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
