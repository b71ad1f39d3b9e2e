"""What faults did is undone by whoever is left, also when those who did it died by kill -9."""

import os
import pwd
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from launcher import undoing
from launcher.paths import Home
from tests.launcher.conftest import ROOT, until

CHAOS = """
import os, signal, subprocess, sys
from launcher import undoing
from launcher.paths import Home
from scripts.chaos.mesh import Mesh
from scripts.chaos.guarding import guarded
with guarded(Mesh(Home.of())):
    pid = int(sys.argv[1])
    undoing.note(Home.of(), "paused", processes=undoing.family(pid))
    os.kill(pid, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.make()
    return home


@pytest.fixture
def victim() -> Iterator[psutil.Process]:
    """Does nothing for a while, unless something is done to it."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield psutil.Process(process.pid)
        process.kill()


def stopped(process: psutil.Process) -> bool:
    return process.status() == psutil.STATUS_STOPPED


def pause(home: Home, process: psutil.Process, *, began: int = 0) -> None:
    told = [(process.pid, began)] if began else undoing.family(process.pid)
    undoing.note(home, "paused", processes=told)
    process.suspend()
    until(lambda: stopped(process), "it never stood still")


def test_kill_9_of_who_does_faults_undoes_them(home: Home, victim: psutil.Process) -> None:
    paths = os.pathsep.join(str(ROOT / part) for part in (".", "gen", "gen/client", "scripts"))
    environ = {**os.environ, "WEFT_HOME": str(home.path), "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", CHAOS, str(victim.pid)], env=environ, check=False)
    assert done.returncode == -signal.SIGKILL
    until(lambda: not stopped(victim), "it stood still for ever")
    until(lambda: not undoing.journal(home).exists(), "the note was left")


def test_what_is_left_is_undone_by_the_next_who_comes(home: Home, victim: psutil.Process) -> None:
    pause(home, victim)
    told = home.path / "told"
    told.write_text("")
    undoing.note(home, "file", path=str(told))
    assert undoing.undo_if_left(home) == 2
    until(lambda: not stopped(victim), "it stood still for ever")
    assert not told.exists()
    assert undoing.undo_if_left(home) == 0


def test_while_somebody_is_at_it_nobody_else_undoes(home: Home, victim: psutil.Process) -> None:
    pause(home, victim)
    with undoing.alone(home) as mine:
        assert mine
        assert undoing.undo_if_left(home) == 0
        assert stopped(victim)


def test_a_pid_that_is_another_process_by_now_is_left_alone(home: Home, victim: psutil.Process) -> None:
    pause(home, victim, began=1)
    assert undoing.undo_if_left(home) == 1
    assert stopped(victim)


def test_a_note_that_was_cut_short_is_of_a_fault_that_was_not_done(
    home: Home, victim: psutil.Process
) -> None:
    pause(home, victim)
    with undoing.journal(home).open("a") as file:
        file.write('{"kind": "pau')
    undoing.undo_if_left(home)
    until(lambda: not stopped(victim), "it stood still for ever")


def test_who_may_write_no_file_may_again_with_all_that_it_has_started(home: Home) -> None:
    script = "import subprocess, sys; sys.stdin.readline(); subprocess.run(['sleep', '600'])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as process:
        hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
        undoing.note(home, "limited", processes=undoing.family(process.pid))
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, hard))
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
        until(lambda: len(undoing.family(process.pid)) == 2, "it started nothing")
        undoing.undo_if_left(home)
        family = [pid for pid, _ in undoing.family(process.pid)]
        assert {resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in family} == {(hard, hard)}
        for pid in reversed(family):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root does anything to another account's processes")
def test_another_account_may_write_no_file_and_may_again() -> None:
    nobody = pwd.getpwnam("nobody")
    with subprocess.Popen(
        ["sleep", "600"], user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[]
    ) as process:
        undoing.limit([process.pid])
        assert undoing.limited(process.pid) == "0"
        undoing.lift(undoing.family(process.pid))
        assert undoing.limited(process.pid) == "unlimited"
        process.kill()
