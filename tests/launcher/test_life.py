"""However a mesh ends, nothing of it stays behind; whatever it ends in, it starts again."""

import os
import pwd
import signal
import sys
from pathlib import Path

import pytest

from launcher import account
from tests.launcher.conftest import Mesh, until

LONG = "a-folder-whose-name-alone-is-longer-than-what-is-left-of-a-socket's-path-" * 2


def test_down_leaves_nothing_running_and_up_starts_again(mesh: Mesh) -> None:
    mesh.up()
    assert mesh.weft("down").returncode == 0
    assert not mesh.processes()
    assert mesh.weft("status").returncode == 1
    mesh.up()
    assert mesh.weft("status").returncode == 0


def test_kill_9_of_the_supervisor_leaves_nothing_running(mesh: Mesh) -> None:
    mesh.up()
    os.kill(mesh.pid("supervisor"), signal.SIGKILL)
    until(lambda: not mesh.processes(), "orphans are left")
    mesh.up()


def test_ctrl_c_ends_an_attached_mesh_whole(mesh: Mesh) -> None:
    with mesh.attached() as attached:
        attached.send_signal(signal.SIGINT)
        assert attached.wait(20) == 130
    until(lambda: not mesh.processes(), "orphans are left")


def test_kill_9_of_an_attached_launcher_ends_the_mesh(mesh: Mesh) -> None:
    with mesh.attached() as attached:
        attached.kill()
    until(lambda: not mesh.processes(), "orphans are left")


def test_a_service_that_cannot_start_is_named_with_its_last_words(mesh: Mesh) -> None:
    (mesh.home / "die").touch()
    done = mesh.weft("up", "--no-edge")
    assert done.returncode == 1
    assert "services-1 is crash-looping: ended with 1" in done.stderr
    assert "no heart to go on" in done.stderr
    until(lambda: not mesh.processes(), "something stayed behind")


def test_a_data_folder_with_a_long_path_works(empty: Mesh) -> None:
    empty.home = empty.home.parent / LONG
    empty.up()


def test_reset_asks_and_removes_everything(mesh: Mesh) -> None:
    mesh.up()
    asked = mesh.weft("reset")
    assert asked.returncode == 1
    assert "--yes" in asked.stderr
    assert mesh.weft("status").returncode == 0
    assert mesh.weft("reset", "--yes").returncode == 0
    assert not mesh.home.exists()
    assert not mesh.processes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders that PostgreSQL's account cannot enter")
def test_root_may_keep_its_data_where_nobody_else_can_go(empty: Mesh) -> None:
    mesh = empty
    mesh.home.parent.chmod(0o700)
    mesh.up()
    command = Path(f"/proc/{mesh.pid('postgres')}/cmdline").read_bytes().decode().split("\0")
    apart = Path(command[2]).parent
    assert apart.parent == Path("/var/lib")
    assert mesh.weft("reset", "--yes").returncode == 0
    assert not apart.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="this run is an ordinary user's already")
def test_an_ordinary_user_starts_a_mesh(empty: Mesh) -> None:
    mesh = empty
    nobody = pwd.getpwnam("nobody")
    who = account.Account(nobody.pw_uid, nobody.pw_gid, "nobody")
    interpreter = Path(sys.executable).resolve()
    places = (interpreter, Path(sys.prefix), mesh.root)
    if closed := [str(each) for each in places if not account.reaches(who, each)]:
        pytest.skip(f"an ordinary user cannot reach {', '.join(closed)}")
    mesh.home.mkdir()
    os.chown(mesh.home, nobody.pw_uid, nobody.pw_gid)
    mesh.extra = {"HOME": str(mesh.home)}
    mesh.user = nobody.pw_uid
    mesh.up()
    assert Path(f"/proc/{mesh.pid('postgres')}").stat().st_uid == nobody.pw_uid
