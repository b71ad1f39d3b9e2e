"""buf's checks see bad names, bad layout, and what would break callers, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from generation import buf
from generation.protoc import Refused, run
from tests.generation.planting import OPTIONS, ROOT

PROTO = """syntax = "proto3";

package weft.planted.v1;

// A thing.
message Thing {
  string name = 1;
  int32 size = 2;
}
"""
NAME = "protos/weft/planted/v1/planted.proto"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository on its trunk whose first commit has PROTO."""
    root = tmp_path / "repository"
    for name, text in {
        NAME: PROTO,
        f"protos/{OPTIONS}": (ROOT / "protos" / OPTIONS).read_text(),
        "buf.yaml": (ROOT / "buf.yaml").read_text(),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(root, "init", "--quiet", "--initial-branch", buf.TRUNK)
    commit(root, "first")
    return root


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_protos_that_keep_the_rules_pass(repository: Path, scratch: Path) -> None:
    assert buf.lint(repository, scratch) == "protos keep buf's rules"


def test_a_bad_name_is_refused_with_its_line(repository: Path, scratch: Path) -> None:
    write(repository, PROTO.replace("int32 size", "int32 thingSize"))
    with pytest.raises(Refused, match=r"planted\.proto:8:9:.*lower_snake_case"):
        buf.lint(repository, scratch)


def test_a_bad_layout_is_refused_with_the_command_that_mends_it(repository: Path, scratch: Path) -> None:
    write(repository, PROTO.replace("  int32", "      int32"))
    with pytest.raises(Refused, match="buf format -w protos"):
        buf.lint(repository, scratch)


def test_the_first_commit_breaks_nothing(repository: Path, scratch: Path) -> None:
    assert buf.breaking(repository, scratch) == "nothing to compare: first commit"


def test_a_commit_without_protos_is_nothing_to_compare_with(repository: Path, scratch: Path) -> None:
    git(repository, "rm", "-r", "--quiet", "--cached", "protos")
    commit(repository, "without protos", add=False)
    commit(repository, "with them again")
    assert buf.breaking(repository, scratch).startswith("nothing to compare: no protos in")


def test_a_new_field_breaks_nothing(repository: Path, scratch: Path) -> None:
    write(repository, PROTO.replace("int32 size = 2;", "int32 size = 2;\n  int32 weight = 3;"))
    assert buf.breaking(repository, scratch).startswith("protos break nothing since")


@pytest.mark.parametrize("change", ["int64 length = 2;", "", "string size = 2;"])
def test_a_change_in_the_tree_that_breaks_callers_is_refused(
    repository: Path, scratch: Path, change: str
) -> None:
    write(repository, PROTO.replace("int32 size = 2;", change))
    with pytest.raises(Refused, match=r"planted\.proto"):
        buf.breaking(repository, scratch)


def test_the_last_commit_of_the_trunk_is_compared_with_the_one_before(
    repository: Path, scratch: Path
) -> None:
    write(repository, PROTO.replace("int32 size = 2;", "string size = 2;"))
    commit(repository, "breaks")
    with pytest.raises(Refused, match="changed type"):
        buf.breaking(repository, scratch)


def test_a_branch_is_compared_with_where_it_left_the_trunk(repository: Path, scratch: Path) -> None:
    git(repository, "switch", "--quiet", "--create", "work")
    write(repository, PROTO.replace("int32 size = 2;", "string size = 2;"))
    commit(repository, "breaks")
    write(repository, PROTO.replace("int32 size = 2;", "string size = 2;\n  int32 weight = 3;"))
    commit(repository, "breaks no more")
    with pytest.raises(Refused, match="changed type"):
        buf.breaking(repository, scratch)


def write(root: Path, text: str) -> None:
    (root / NAME).write_text(text)


def commit(root: Path, message: str, *, add: bool = True) -> None:
    if add:
        git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", message)


def git(root: Path, *arguments: str) -> None:
    author = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com"}
    committer = {"GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.com"}
    settings = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    run(["git", *arguments], root, **author, **committer, **settings)
