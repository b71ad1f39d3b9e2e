"""The papers say what is so: derived tables are current, links lead somewhere, names in code spans exist."""

import dataclasses
import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAPERS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
DECISION_LINES_MAX = 60  # One page.


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield
    for name in ("papers", *(name for name in sys.modules if name.split(".")[0] == "launcher")):
        sys.modules.pop(name, None)


def test_tables_that_the_code_knows_better_are_current(scripts: None) -> None:
    papers = importlib.import_module("papers")
    assert [str(path.relative_to(ROOT)) for path in papers.stale()] == [], "run scripts/papers.py"


def test_every_setting_says_in_a_sentence_what_it_is(scripts: None) -> None:
    found = list(importlib.import_module("papers").settings_classes())
    settings = [(prefix, field) for kind, prefix in found for field in dataclasses.fields(kind)]
    assert len(settings) > len(found) > 1
    unsaid = [f"{prefix}{f.name.upper()}" for prefix, f in settings if not f.metadata["doc"].endswith(".")]
    assert unsaid == []


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(paper: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", paper.read_text())
    assert [link for link in links if not (paper.parent / link).exists()] == []


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_of_the_tree_that_are_named_are_there(paper: Path) -> None:
    code = re.findall(r"`((?:services|scripts|tests|envoy|docs|gen|protos|web)/[\w./-]+)`", paper.read_text())
    assert [path for path in code if "supplier" not in path and not (ROOT / path).exists()] == []


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_variables_that_are_named_are_read_somewhere(paper: Path) -> None:
    code = "".join(path.read_text() for path in python())
    written = re.sub(r"<!-- begin.*?<!-- end", "", paper.read_text(), flags=re.S)
    named = set(re.findall(r"\bWEFT_[A-Z0-9_]*[A-Z0-9]\b(?![*<_])", written))
    assert {name for name in named if not is_read(name, code)} == set()


def python() -> Iterator[Path]:
    for folder in ("services", "scripts", "tests", "envoy"):
        yield from (path for path in (ROOT / folder).rglob("*.py") if path != Path(__file__))


def is_read(name: str, code: str) -> bool:
    """By its whole name; or as a setting, by a field of that name in a dataclass of settings."""
    parts = name.removeprefix("WEFT_").lower().split("_")
    fields = ("_".join(parts[n:]) for n in range(len(parts)))
    return name in code or any(re.search(rf"^    {field}: .*= setting\(", code, re.M) for field in fields)


def test_the_changelog_has_an_entry_for_what_comes_next() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## \[([^\]]+)\].*?\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert newest
    assert newest[1] in ("Unreleased", version)
    assert re.search(r"^- \S", newest[2], re.M), "say what people will notice"


def test_decisions_are_numbered_without_a_gap_and_take_a_page() -> None:
    files = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1))
    for file in files:
        lines = file.read_text().splitlines()
        assert lines[0].startswith(f"# {int(file.name[:4])}. ")
        assert len(lines) <= DECISION_LINES_MAX, file.name


def test_every_paper_is_reached_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    papers = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("*.md"))]
    assert [path for path in [*papers, "CONTRIBUTING.md", "LICENSE"] if f"({path})" not in text] == []
