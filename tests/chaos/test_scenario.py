"""A scenario is played on a real mesh by `scripts/weft chaos run`: judged, told, and undone."""

import json
from pathlib import Path

import pytest

from launcher.paths import Home
from scripts.chaos.mesh import Mesh as Here, Refused
from scripts.chaos.scenario import read
from tests.chaos.faults import healthy
from tests.meshes import Mesh

SHORT = """
what = "Notification dies, and identity stands still for a moment"
seconds = 2
rate = 40
[[step]]
at = 0.3
fault = "kill"
target = "notification"
[[step]]
at = 0.6
fault = "pause"
target = "identity"
for = 0.2
[slo]
availability = 0.01
p95_ms = 60000
recovery_s = 0.2
"""
PLAY_S_MAX = 150.0  # Two seconds of load; the rest is a busy machine.


def play(mesh: Mesh, tmp_path: Path, text: str) -> tuple[int, str, dict[str, object]]:
    """Exit code, words and report."""
    (tmp_path / "short.toml").write_text(text)
    told = tmp_path / "report.json"
    done = mesh.weft("chaos", "run", str(tmp_path / "short.toml"), "--json", str(told), wait_s=PLAY_S_MAX)
    report = json.loads(told.read_text()) if told.exists() else {}
    return done.returncode, done.stdout + done.stderr, report


@pytest.mark.timeout(240)
async def test_a_run_tells_what_users_saw_and_that_nothing_acknowledged_was_lost(
    mesh: Mesh, tmp_path: Path
) -> None:
    await healthy(mesh)
    victim = mesh.parts()["notification"]["pid"]
    code, said, report = play(mesh, tmp_path, SHORT)
    verdicts = {each["what"]: each["kept"] for each in report["slo"]}  # type: ignore[attr-defined]
    assert verdicts["acknowledged and lost"], said
    assert verdicts["every part is well again"], said
    assert (code == 0) == all(verdicts.values()), said
    assert f"pid {victim}" in said
    assert mesh.parts()["notification"]["pid"] != victim
    assert report["phases"]["all"]["calls"] in (80, 81)  # type: ignore[index]
    assert report["proof"]["acknowledged"] > 0  # type: ignore[index]
    assert [each["said"] for each in report["strikes"]] == [  # type: ignore[attr-defined]
        "kill notification",
        "pause identity for 0.2 s",
    ]
    assert not (mesh.home / "run" / "chaos.jsonl").exists()


def test_what_this_mesh_has_not_is_refused_before_anything_is_done(mesh: Mesh) -> None:
    here = Here(Home(mesh.home))
    cut = SHORT.replace('"pause"', '"partition"')
    for text, told in (
        (cut, "WEFT_CHAOS=1"),
        (SHORT.replace('"identity"', '"billing"'), "nothing in this mesh is called billing"),
        (SHORT.replace('"identity"', '"supervisor"'), "nothing in this mesh is called supervisor"),
    ):
        with pytest.raises(Refused, match=told):
            here.check(read("short", text))
    with pytest.raises(Refused, match="no mesh runs"):
        Here(Home(mesh.home / "logs")).check(read("short", SHORT))
