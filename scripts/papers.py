"""Writes the tables of docs/ that the code knows better: settings, ports, commands, metrics, personal data.

A table stands between `<!-- begin NAME -->` and `<!-- end NAME -->`; all else is a person's.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "gen"), str(ROOT / "scripts")]

MARKED = re.compile(r"(<!-- begin (\w+) -->\n)(.*?)(<!-- end \2 -->)", re.S)
COLUMN = re.compile(r"^    (\w+) [a-z]", re.M)
TABLE = re.compile(r"^create table \"?(\w+)\"? \((.*?)^\);", re.M | re.S)
ADDED = re.compile(r"^alter table \"?(\w+)\"?(.*?);", re.M | re.S)


def rows(head: str, body: Iterable[tuple[str, ...]]) -> str:
    names = head.split("|")
    lines = [names, ["---"] * len(names), *body]
    return "".join(f"| {' | '.join(cell.strip() for cell in line)} |\n" for line in lines)


def settings() -> str:
    """Every setting of the chassis and of each service."""
    body = []
    for kind, prefix in sorted(settings_classes(), key=lambda found: (found[1] != "WEFT_", found[1])):
        for field in dataclasses.fields(kind):
            default = f"`{_shown(field)}`" if field.default not in ("", ()) else ""
            body.append((f"`{prefix}{field.name.upper()}`", default, field.metadata["doc"]))
    return rows("variable | default | what it is", body)


def _shown(field: dataclasses.Field[Any]) -> str:
    """A default as its variable would hold it; a key that everybody knows is not repeated."""
    if field.name.endswith("key"):
        return "for development only"
    if isinstance(field.default, tuple):
        return ",".join(field.default)
    return str(int(field.default) if isinstance(field.default, bool) else field.default)


def settings_classes() -> Iterator[tuple[Any, str]]:
    """Each dataclass whose fields are settings, with the prefix of its variables."""
    for path in sorted((ROOT / "services").glob("*/*.py")):
        if path.name == "config.py" or path.name.endswith("settings.py"):
            dotted = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
            module = importlib.import_module(dotted)
            service = dotted.split(".")[1]
            prefix = "WEFT_" if service == "chassis" else f"WEFT_{service.upper()}_"
            for kind in vars(module).values():
                if dataclasses.is_dataclass(kind) and getattr(kind, "__module__", "") == dotted:
                    yield kind, prefix


def ports() -> str:
    from launcher.ports import Ports, variable

    return rows(
        "port | default | variable | moved with `--port-base N` to",
        [
            (f.metadata["doc"], str(f.default), f"`{variable(f.name)}`", f"N+{f.metadata['offset']}")
            for f in dataclasses.fields(Ports)
        ],
    )


def commands() -> str:
    from argparse import SUPPRESS

    from launcher.commands import COMMANDS

    shown = {name: each.help for name, each in COMMANDS.items() if each.help and each.help != SUPPRESS}
    return rows("command|what it does", [(f"`scripts/weft {name}`", said) for name, said in shown.items()])


def metrics() -> str:
    """What every process of services counts, as declared in telemetry.py."""
    from prometheus_client.metrics import MetricWrapperBase

    from services.chassis import telemetry

    body = []
    for metric in vars(telemetry).values():
        if isinstance(metric, MetricWrapperBase):
            family = next(iter(metric.describe()))
            labels = ", ".join(f"`{name}`" for name in metric._labelnames)
            body.append((f"`{family.name}`", family.type, labels, family.documentation))
    return rows("metric | kind | labels | what it counts", body)


def personal() -> str:
    """Columns that bear the name of a field marked personal in their service's contract."""
    marked = json.loads((ROOT / "gen/inventory.json").read_text())["fields"]
    body = []
    for folder in sorted((ROOT / "services").glob("*/migrations")):
        service = folder.parent.name
        names = {
            field
            for message, fields in marked.items()
            if message.startswith(f"weft.{service}.")
            for field, marks in fields.items()
            if "personal" in marks
        }
        for table, columns in _columns(folder).items():
            if held := sorted(columns & names):
                body.append((service, f"`{table}`", ", ".join(f"`{name}`" for name in held)))
    return rows("service | table | columns", body)


def _columns(folder: Path) -> dict[str, set[str]]:
    """Columns by table, as the migrations of a service make them."""
    text = "\n".join(file.read_text() for file in sorted(folder.glob("*.sql")))
    found = {table: set(COLUMN.findall(body)) for table, body in TABLE.findall(text)}
    for table, change in ADDED.findall(text):
        found.setdefault(table, set()).update(re.findall(r"add column \"?(\w+)", change))
    return found


TABLES: dict[str, Callable[[], str]] = {
    made.__name__: made for made in (settings, ports, commands, metrics, personal)
}


def filled(text: str) -> str:
    """`text` with each of its tables made anew."""
    return MARKED.sub(lambda found: found[1] + TABLES[found[2]]() + found[4], text)


def stale() -> dict[Path, str]:
    """What papers should read, of those that read otherwise."""
    papers = {path: path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
    return {path: new for path, text in papers.items() if (new := filled(text)) != text}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a table is stale")
    check = parser.parse_args().check
    changed = stale()
    for path, text in changed.items():
        print(f"{path.relative_to(ROOT)} {'is stale; run scripts/papers.py' if check else 'written'}")
        if not check:
            path.write_text(text)
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
