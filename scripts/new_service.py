"""Writes a complete small service: contract, code, migration and tests, ready to run and to grow.

A folder with an app.py is a service; the edge's routes, compose.yaml and deploy/ are derived. So nothing is
edited.
"""

from __future__ import annotations

import argparse
import ast
import keyword
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher import compose, roster
from launcher.kubernetes import writing

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).resolve().parent / "templates" / "service"
NAME = re.compile(r"[a-z][a-z0-9]{1,19}")  # 20 characters keep every generated line within its bound.

# Template, and where its text goes.
FILES = {
    "contract.proto": "protos/weft/@name@/v1/@name@.proto",
    "events.proto": "protos/weft/@name@/v1/events.proto",
    "init.py": "services/@name@/__init__.py",
    "app.py": "services/@name@/app.py",
    "service.py": "services/@name@/service.py",
    "store.py": "services/@name@/store.py",
    "domain.py": "services/@name@/domain.py",
    "migration.sql": "services/@name@/migrations/0001_@name@.sql",
    "test.py": "tests/@name@/test_@name@.py",
}

# Names that mean something else in protos, in databases and streams, among callers, or in our own tree.
RESERVED = """
    bool bytes chassis dead double edge enum extend extensions fixed32 fixed64 float group import int32 int64
    map mesh message none oneof operator option optional options others package postgres public repeated
    replay required reserved rpc service services sfixed32 sfixed64 sint32 sint64 stream string syntax
    template to uint32 uint64 weft
"""
# Nouns that PostgreSQL takes as a table's name only between quotes (appendix C of its manual).
QUOTED = """
    analyse array authorization binary case cast check collation column concurrently constraint default end
    foreign freeze grant limit natural offset order primary references session table user verbose window
"""

NEXT = """
Next:
  scripts/weft down; scripts/weft up
      hosts it and routes /v1/{plural}; an administrator may call it at once, others need a role with
      {name}.{plural}.read or .write (RoleService.CreateRole)
  scripts/weft test tests/{name}
      runs its tests
Then make it yours, contract first:
  protos/weft/{name}/v1/
      say what it is for, name its fields; `scripts/weft gen` after each change
  services/{name}/domain.py
      rows, rules and refusals; each refusal stands below `Errors:` in the proto
  services/{name}/migrations/
      0001 may change until it ran somewhere that matters; then add 0002
docs/adding-a-service.md takes you through it.
"""


class Refused(Exception):
    """Why the service is not written; nothing was changed."""


@dataclass(frozen=True)
class Noun:
    """What the service is about, in the forms that its files need."""

    name: str
    plural: str

    @classmethod
    def of(cls, name: str, plural: str | None, root: Path) -> Noun:
        """Raises Refused unless both are names that nobody uses yet."""
        _check_form(name, "NAME")
        if plural is None and _looks_plural(name):
            raise Refused(f"{name} looks like a plural; give the singular, or its plural by --plural")
        noun = cls(name, plural or pluralised(name))
        _check_form(noun.plural, "--plural")
        if noun.name == noun.plural:
            raise Refused(f"the plural of {name} must differ from it; give another by --plural")
        noun.check_free(root)
        return noun

    @property
    def folders(self) -> list[str]:
        """Where all of the service lies, but for what is generated."""
        return [f"services/{self.name}", f"protos/weft/{self.name}", f"tests/{self.name}"]

    @property
    def identifiers(self) -> set[str]:
        """What the code calls it, one and many."""
        return {self.name, self.plural, self.name.capitalize(), self.plural.capitalize()}

    def check_free(self, root: Path) -> None:
        """Raises Refused when a service, a table of the chassis or a route has the name."""
        for path in self.folders:
            if (root / path).exists():
                raise Refused(f"{path} exists; nothing is overwritten")
        migrations = (root / "services/chassis/migrations").glob("*.sql")
        tables = {name for file in migrations for name in re.findall(r"create table (\w+)", file.read_text())}
        if self.name in tables:
            raise Refused(f"every service's database has a table {self.name} of the chassis already")
        route = re.compile(rf'"/v1/{self.plural}[/:"]')
        for proto in sorted((root / "protos").rglob("*.proto")):
            if route.search(proto.read_text()):
                raise Refused(
                    f"{proto.relative_to(root)} has the route /v1/{self.plural}; choose another --plural"
                )

    def fill(self, text: str) -> str:
        """`text` with its marks replaced."""
        article = "an" if self.name[0] in "aeiou" else "a"
        marks = {
            "@name@": self.name,
            "@Name@": self.name.capitalize(),
            "@NAME@": self.name.upper(),
            "@names@": self.plural,
            "@Names@": self.plural.capitalize(),
            "@a@": article,
            "@A@": article.capitalize(),
            "@table@": f'"{self.name}"' if self.name in QUOTED.split() else self.name,
        }
        for mark, value in marks.items():
            text = text.replace(mark, value)
        return text


def pluralised(noun: str) -> str:
    """The regular English plural."""
    if re.search(r"[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if re.search(r"(s|x|z|ch|sh)$", noun) else f"{noun}s"


def _looks_plural(noun: str) -> bool:
    return bool(re.search(r"[^siu]s$", noun))  # Not address, bus, analysis.


def _check_form(name: str, what: str) -> None:
    if not NAME.fullmatch(name):
        raise Refused(f"{what} {name!r} is not 2 to 20 lower-case letters and digits, a letter first")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in RESERVED.split():
        raise Refused(f"{what} {name!r} is reserved")


def rendered(noun: Noun) -> dict[str, str]:
    """Text by path. Raises Refused when the code uses the name for something else."""
    if taken := _identifiers(_filled(Noun("qq", "qqs"))) & noun.identifiers:
        raise Refused(f"the code of every service uses the name {taken.pop()} for something else")
    return _filled(noun)


def _filled(noun: Noun) -> dict[str, str]:
    return {
        noun.fill(path): noun.fill((TEMPLATES / f"{template}.tmpl").read_text())
        for template, path in FILES.items()
    }


def _identifiers(files: Mapping[str, str]) -> set[str]:
    """Every name that the Python files use."""
    found: set[str] = set()
    for path, text in files.items():
        nodes = ast.walk(ast.parse(text)) if path.endswith(".py") else ()
        for node in nodes:
            found |= {value for _, value in ast.iter_fields(node) if isinstance(value, str)}
    return found


def write(noun: Noun, root: Path) -> list[str]:
    """Writes the service's files and all that is generated from protos. Returns the files' paths."""
    files = rendered(noun)
    try:
        for path, text in files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("x") as file:
                file.write(text)
        python = [path for path in files if path.endswith(".py")]
        # The order of imports depends on the name.
        _run(
            [
                sys.executable,
                "-m",
                "ruff",
                "check",
                "--no-cache",
                "--quiet",
                "--select",
                "I",
                "--fix",
                *python,
            ],
            root,
        )
        _run([sys.executable, "-m", "ruff", "format", "--no-cache", "--quiet", *python], root)
        _run([sys.executable, "scripts/gen.py"], root)
        (root / "compose.yaml").write_text(compose.text(roster.services(root)))
        writing.write(root, roster.services(root))
    except BaseException:
        _unwrite(noun, root)
        raise
    return list(files)


def _unwrite(noun: Noun, root: Path) -> None:
    """Removes the service's folders, which were not there before."""
    for path in noun.folders:
        shutil.rmtree(root / path, ignore_errors=True)


def _run(command: list[str], root: Path) -> None:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"{' '.join(command[1:4])} failed:\n{done.stdout}{done.stderr}".rstrip())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/weft new-service", description=__doc__)
    parser.add_argument(
        "name", metavar="NAME", help="what it is about: a singular lower-case noun, such as supplier"
    )
    parser.add_argument("--plural", help="NAME's plural, when it is not the regular one")
    chosen = parser.parse_args(arguments)
    try:
        noun = Noun.of(chosen.name, chosen.plural, ROOT)
        paths = write(noun, ROOT)
    except Refused as refused:
        sys.stderr.write(f"{refused}\n")
        return 1
    sys.stdout.write("".join(f"  {path}\n" for path in paths))
    sys.stdout.write(NEXT.format(name=noun.name, plural=noun.plural))
    return 0


if __name__ == "__main__":
    sys.exit(main())
