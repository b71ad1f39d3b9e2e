"""What the parts wrote: the end of their logs, and what comes."""

import json
import time
from argparse import Namespace
from pathlib import Path

from launcher import state
from launcher.paths import Home
from launcher.problem import Problem, say

LINES = 200  # Of each log, unless asked for more.
POLL_S = 0.2
BLOCK_BYTES = 65_536


def logs(arguments: Namespace) -> int:
    """Prints the end of one log or of all, then follows if asked to."""
    home = Home.of()
    files, others = _chosen(home, arguments.service)
    many = len(files) > 1
    for file in files:
        for line in tail(file, arguments.lines):
            _print(file, line, others, many=many)
    if arguments.follow:
        _follow(files, others)
    return 0


def _chosen(home: Home, name: str | None) -> tuple[list[Path], frozenset[str]]:
    """The files, and the services that share them and whose lines are not wanted."""
    there = {file.stem: file for file in sorted(home.logs.glob("*.log"))}
    if not there:
        raise Problem(f"there are no logs in {home.logs}", "`scripts/weft up` starts the mesh")
    if name is None:
        return list(there.values()), frozenset()
    if name in there:
        return [there[name]], frozenset()
    if seen := state.last(home):
        hosts = seen.every(name)
        return [home.log(each.name) for each in hosts], frozenset(hosts[0].services) - {name}
    raise Problem(f"there is no log of {name}", f"one of: {', '.join(there)}")


def tail(file: Path, count: int) -> list[str]:
    """The last `count` lines."""
    with file.open("rb") as opened:
        place, data = opened.seek(0, 2), b""
        while place and data.count(b"\n") <= count:
            size = min(BLOCK_BYTES, place)
            place -= size
            opened.seek(place)
            data = opened.read(size) + data
    return data.decode("utf-8", "replace").splitlines()[-count:] if count else []


def concerns(line: str, others: frozenset[str]) -> bool:
    """Whether a line is wanted: all are, but those that name one of `others`."""
    if not others or not line.startswith("{"):
        return True
    try:
        said = json.loads(line)
    except ValueError:
        return True
    named = str(said.get("service") or said.get("logger", ""))
    return named.removeprefix("weft.").split(".")[0] not in others


def _follow(files: list[Path], others: frozenset[str]) -> None:
    """Until Ctrl-C. A log that became shorter was begun anew."""
    places = {file: file.stat().st_size for file in files}
    while True:
        for file in files:
            size = file.stat().st_size
            if size < places[file]:
                places[file] = 0
            if size > places[file]:
                places[file] = _print_from(file, places[file], others, many=len(files) > 1)
        time.sleep(POLL_S)


def _print_from(file: Path, place: int, others: frozenset[str], *, many: bool) -> int:
    """Prints the whole lines behind `place`; returns where the next begins."""
    with file.open("rb") as opened:
        opened.seek(place)
        whole = opened.read().rpartition(b"\n")[0]
    if not whole:
        return place
    for line in whole.decode("utf-8", "replace").split("\n"):
        _print(file, line, others, many=many)
    return place + len(whole) + 1


def _print(file: Path, line: str, others: frozenset[str], *, many: bool) -> None:
    if concerns(line, others):
        say(f"{file.stem:<12} {line}" if many else line)
