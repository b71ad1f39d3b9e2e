"""gen/ is a function of protos/: the same bytes each time, and stale files are found."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from generation.contract import Contract
from generation.protoc import Refused, Sources, run
from generation.tree import differences, replace
from tests.generation.planting import ROOT, Plant, lay, make

AGAIN = """if True:
    import sys
    from pathlib import Path
    from tests.generation.planting import make
    make(Path(sys.argv[1]), Path(sys.argv[2]))
"""


# Of somebody else, in a folder above the temporary one: esbuild once followed it.
STRANGE = {"compilerOptions": {"baseUrl": str(ROOT / "web" / "node_modules"), "paths": {"*": ["*"]}}}


def test_a_second_process_writes_the_same_bytes(made: Path, tmp_path: Path) -> None:
    path = f"{ROOT}:{ROOT / 'scripts'}"
    (tmp_path / "tsconfig.json").write_text(json.dumps(STRANGE))
    command = [sys.executable, "-c", AGAIN, str(tmp_path), str(made.parent / "protos")]
    run(command, tmp_path, PYTHONPATH=path, PYTHONHASHSEED="7")
    assert differences(tmp_path / "gen", made) == []


def test_differences_are_changed_missing_and_left_over_files(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    files = {
        new: {"same": "1", "changed": "2", "a/missing": "3"},
        old: {"same": "1", "changed": "0", "b/left": "4"},
    }
    for folder, contents in files.items():
        for name, text in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    (old / "__pycache__").mkdir()
    (old / "__pycache__" / "compiled.pyc").touch()
    assert differences(new, old) == ["a/missing", "b/left", "changed"]
    replace(new, old)
    assert differences(new, old) == []
    assert not (old / "b" / "left").exists()


def test_the_edge_gets_every_file_with_options_and_without_comments(made: Path) -> None:
    image = FileDescriptorSet.FromString((made / "envoy" / "weft.binpb").read_bytes())
    names = [file.name for file in image.file]
    assert {"google/rpc/status.proto", "google/rpc/error_details.proto"} < set(names)
    ours = [name for name in names if name.startswith("weft/")]
    assert ours == sorted(ours, key=names.index)
    assert set(ours) == set(Sources(made.parent / "protos", made).files())
    assert not any(file.HasField("source_code_info") for file in image.file)
    contract = Contract(image, ours)
    assert all(contract.option(method, "weft.options.v1.access") for method in contract.methods)


def test_the_inventory_names_every_method_and_marked_field(made: Path) -> None:
    inventory = json.loads((made / "inventory.json").read_text())
    assert inventory["methods"]["weft.identity.v1.UserService.GetUser"] == {
        "access": {"permission": "identity.users.read", "own_field": "user_id", "callers": ["order"]},
        "idempotency": "NO_SIDE_EFFECTS",
        "rest": ["GET /v1/users/{user_id}"],
    }
    assert inventory["fields"]["weft.identity.v1.CreateUserRequest"]["password"] == ["secret"]
    assert inventory["events"]["weft.identity.v1.UserCreated"] == {"key": "user_id", "subject": "user_id"}


def test_protos_that_break_a_rule_leave_nothing_written(tmp_path: Path) -> None:
    body = """message Ask {} message Answer {}
    service PlantedService { rpc Call(Ask) returns (Answer); }"""
    header = 'syntax = "proto3"; package weft.planted.v1;'
    protos = lay(tmp_path / "protos", {"planted.proto": header + body})
    with pytest.raises(Refused, match="no rule of access"):
        make(tmp_path, protos)
    assert list((tmp_path / "gen").iterdir()) == []


def test_protos_that_do_not_compile_are_refused_with_file_and_line(plant: Plant) -> None:
    with pytest.raises(Refused, match=r"planted\.proto:\d+:\d+: \"Absent\" is not defined"):
        plant("message Ask { Absent field = 1; }")


def test_validation_finds_the_rules_of_generated_messages(made: Path, tmp_path: Path) -> None:
    script = """if True:
        import protovalidate
        from weft.identity.v1 import user_pb2
        violations = protovalidate.collect_violations(user_pb2.GetUserRequest(user_id="x"))
        print([violation.proto.rule_id for violation in violations])
    """
    said = run([sys.executable, "-W", "error", "-c", script], tmp_path, PYTHONPATH=str(made))
    assert said == "['string.uuid']\n"
