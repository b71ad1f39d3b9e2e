"""A stranger's first service: written by one command, it is routed, checked and tested with no edit."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = ("bench/", "docs/", "tests/")
KEPT = (
    "tests/conftest.py",
    "tests/servers.py",
    "tests/databases.py",
    "tests/spread.py",
    "tests/test_tidy.py",
    "tests/test_schema.py",
)
RUN_S_MAX = 200  # A busy machine takes ten times what a quiet one does.
LINT_IMPORTS = "import sys; sys.path.insert(0, 'gen'); from importlinter.cli import *; lint_imports_command()"

pytestmark = pytest.mark.timeout(2 * RUN_S_MAX)


@dataclass(frozen=True)
class Tree:
    """A copy of the repository that may be written into."""

    root: Path
    came: dict[str, bytes]  # Each file as it was copied.

    def run(self, *command: str, fails: bool = False) -> str:
        """What a Python program of the tree says; it must end well, or `fails`."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("WEFT_", "PYTEST_"))}
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.root,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_S_MAX,
        )
        said = done.stdout + done.stderr
        assert bool(done.returncode) == fails, said
        return said

    def written(self) -> set[str]:
        """Files that are new or read differently now."""
        skip = ("web/node_modules/", ".mypy_cache/", ".git/")
        files = (path for path in self.root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        named = ((path.relative_to(self.root).as_posix(), path) for path in files)
        return {n for n, path in named if not n.startswith(skip) and self.came.get(n) != path.read_bytes()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """What is committed or may be, before the one command."""
    copy, came = tmp_path_factory.mktemp("tree"), {}
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file() and (name in KEPT or not name.startswith(LEFT_OUT)):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
            came[name] = (copy / name).read_bytes()
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
    if (ROOT / "web/node_modules").exists():
        (copy / "web/node_modules").symlink_to(ROOT / "web/node_modules")
    if (ROOT / ".mypy_cache").exists():
        shutil.copytree(ROOT / ".mypy_cache", copy / ".mypy_cache")
    return Tree(copy, came)


@pytest.fixture(scope="module")
def service(tree: Tree) -> Tree:
    """The tree after the one command."""
    assert "hosts it and routes /v1/threads" in tree.run("scripts/new_service.py", "thread")
    return tree


def test_nothing_but_the_service_and_what_is_generated_is_written(service: Tree) -> None:
    own = ("services/thread/", "protos/weft/thread/", "tests/thread/")
    derived = ("gen/", "compose.yaml", "deploy/")
    assert {name for name in service.written() if not name.startswith((*own, *derived))} == set()
    assert "thread" in (service.root / "compose.yaml").read_text()
    assert (service.root / "deploy/base/thread.yaml").exists()


def test_its_rpcs_are_described_to_the_edge_and_to_people(service: Tree) -> None:
    inventory = json.loads((service.root / "gen/inventory.json").read_text())
    create = inventory["methods"]["weft.thread.v1.ThreadService.CreateThread"]
    assert create["rest"] == ["POST /v1/threads"]
    assert create["access"] == {"permission": "thread.threads.write"}
    openapi = json.loads((service.root / "gen/openapi/weft.json").read_text())
    assert set(openapi["paths"]["/v1/threads/{threadId}"]) == {"get", "patch", "delete"}


def test_the_edge_routes_it(service: Tree) -> None:
    service.run("-m", "envoy", "--out", "edge")
    edge = (service.root / "edge" / "envoy.json").read_text()
    shutil.rmtree(service.root / "edge")
    assert "/weft.thread.v1.ThreadService" in edge
    assert "/v1/threads" in edge


def test_the_linters_and_the_type_checker_have_nothing_to_say(service: Tree) -> None:
    own = ["services/thread", "tests/thread"]
    service.run("-m", "ruff", "check", "--no-cache", *own)
    service.run("-m", "ruff", "format", "--no-cache", "--check", *own)
    service.run("-m", "mypy", "-p", "services.thread")
    service.run("scripts/contract.py", "lint")
    contracts = [
        word for name in ("strangers", "inside", "pure", "domain", "sql") for word in ("--contract", name)
    ]
    service.run("-c", LINT_IMPORTS, *contracts)


def test_its_own_tests_and_those_of_the_trees_shape_pass_on_real_servers(service: Tree) -> None:
    chosen = ["tests/thread", "tests/test_tidy.py", "tests/test_schema.py"]
    said = service.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, "-k", "thread")
    assert " passed" in said
    assert "skipped" not in said


def test_it_is_not_written_twice(service: Tree) -> None:
    before = (service.root / "services/thread/domain.py").read_bytes()
    assert "nothing is overwritten" in service.run("scripts/new_service.py", "thread", fails=True)
    assert (service.root / "services/thread/domain.py").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["Order"], "lower-case"),
        (["class"], "reserved"),
        (["chassis"], "reserved"),
        (["operator"], "reserved"),
        (["event"], "a table event"),
        (["identity"], "exists"),
        (["orders"], "looks like a plural"),
        (["call"], "uses the name"),
        (["token"], "uses the name"),
        (["member", "--plural", "users"], "has the route /v1/users"),
        (["sheep", "--plural", "sheep"], "must differ"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_name_that_cannot_work_is_refused_and_nothing_written(
    service: Tree, words: list[str], why: str
) -> None:
    before = service.written()
    assert why in service.run("scripts/new_service.py", *words, fails=True)
    assert service.written() == before


def test_nothing_stays_behind_when_generation_fails(service: Tree) -> None:
    before, broken = service.written(), service.root / "protos/weft/thread/v1/broken.proto"
    broken.write_text('syntax = "proto4";\n')
    service.run("scripts/new_service.py", "needle", fails=True)
    broken.unlink()
    assert service.written() == before
