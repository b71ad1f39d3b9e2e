"""buf's checks see bad names, bad layout, and what would break callers, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from generation import buf
from generation.protoc import Refused
from tests.generation.planting import OPTIONS, ROOT

PROTO = """syntax = "proto3";

package weft.planted.v1;

// A thing.
message Thing {
  string name = 1;
  int32 size = 2;
}
"""
SERVICE = """
// Keeps things.
service ThingService {
  // Answers the thing that it was given.
  rpc GetThing(GetThingRequest) returns (GetThingResponse);
}

// What is asked.
message GetThingRequest {}

// What is answered.
message GetThingResponse {}
"""
NAME = "protos/weft/planted/v1/planted.proto"
OTHER = "protos/weft/planted/v1/other.proto"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository's protos and its buf.yaml."""
    root = tmp_path / "repository"
    for name, text in {
        NAME: PROTO + SERVICE,
        OTHER: PROTO.replace("Thing", "Other"),
        f"protos/{OPTIONS}": (ROOT / "protos" / OPTIONS).read_text(),
        "buf.yaml": (ROOT / "buf.yaml").read_text(),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def released(root: Path, scratch: Path) -> Path:
    """The repository, once its contract is released."""
    buf.freeze(root, scratch)
    return root


def test_protos_that_keep_the_rules_pass(root: Path, scratch: Path) -> None:
    assert buf.lint(root, scratch) == "protos keep buf's rules"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("int32 size", "int32 thingSize", r"planted\.proto:8:9:.*lower_snake_case"),
        ("// Keeps things.\n", "", r"planted\.proto:11:1:.*comment"),
        ("  // Answers the thing that it was given.\n", "", r"planted\.proto:13:3:.*comment"),
    ],
)
def test_a_broken_rule_is_refused_with_its_line(
    root: Path, scratch: Path, old: str, new: str, said: str
) -> None:
    change(root, old, new)
    with pytest.raises(Refused, match=said):
        buf.lint(root, scratch)


def test_a_bad_layout_is_refused_with_the_command_that_mends_it(root: Path, scratch: Path) -> None:
    change(root, "  int32", "      int32")
    with pytest.raises(Refused, match="buf format -w protos"):
        buf.lint(root, scratch)


def test_before_the_first_release_nothing_can_break(root: Path, scratch: Path) -> None:
    assert buf.breaking(root, scratch) == "no released contract yet; `scripts/contract.py freeze` makes one"


def test_the_same_protos_break_nothing(released: Path, scratch: Path) -> None:
    assert buf.breaking(released, scratch) == "protos break nothing of the released contract"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("int32 size = 2;", "int32 size = 2;\n  int32 weight = 3;"),
        ("// A thing.", "// A thing that changed its description."),
    ],
)
def test_additions_and_comments_break_nothing(released: Path, scratch: Path, old: str, new: str) -> None:
    change(released, old, new)
    assert buf.breaking(released, scratch) == "protos break nothing of the released contract"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("int32 size = 2;", "int64 length = 2;"),
        ("int32 size = 2;", "string size = 2;"),
        ("  int32 size = 2;\n", ""),
        (PROTO.partition("// A thing.")[2], ""),
        ("rpc GetThing", "rpc FindThing"),
        ("returns (GetThingResponse)", "returns (stream GetThingResponse)"),
    ],
)
def test_a_change_that_breaks_callers_is_refused(released: Path, scratch: Path, old: str, new: str) -> None:
    change(released, old, new)
    with pytest.raises(Refused, match=r"planted\.proto"):
        buf.breaking(released, scratch)


def test_a_file_that_is_gone_breaks_callers(released: Path, scratch: Path) -> None:
    (released / OTHER).unlink()
    with pytest.raises(Refused, match='message "Other" was deleted'):
        buf.breaking(released, scratch)


def test_what_breaks_on_purpose_is_released_anew(released: Path, scratch: Path) -> None:
    change(released, "int32 size", "string size")
    buf.freeze(released, scratch)
    assert buf.breaking(released, scratch) == "protos break nothing of the released contract"


def test_a_release_holds_no_comments(released: Path) -> None:
    assert b"A thing" not in (released / buf.RELEASED).read_bytes()


def change(root: Path, old: str, new: str) -> None:
    text = (root / NAME).read_text()
    assert old in text
    (root / NAME).write_text(text.replace(old, new))
