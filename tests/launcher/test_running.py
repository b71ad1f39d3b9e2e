"""A mesh that runs can be found, looked at, restarted in part, and keeps itself running."""

import json
import os
import signal
import stat

import psutil

from launcher import state
from launcher.credentials import Credentials
from tests.launcher.conftest import Mesh, until


def test_a_second_up_finds_what_runs(running: Mesh) -> None:
    before = running.pid("supervisor")
    done = running.up()
    assert "runs already" in done.stdout
    assert running.pid("supervisor") == before


def test_status_is_zero_and_shows_each_part_with_its_memory(running: Mesh) -> None:
    done = running.weft("status")
    assert done.returncode == 0
    for name in ("postgres", "nats", "alpha", "beta", "memory of all"):
        assert name in done.stdout
    told = json.loads(running.weft("status", "--json").stdout)
    assert {each["health"] for each in told["components"]} == {"healthy"}
    assert told["memory_bytes"] == sum(each["memory_bytes"] for each in told["components"])


def test_a_killed_service_comes_back(running: Mesh) -> None:
    before = running.pid("alpha")
    os.kill(before, signal.SIGKILL)
    until(lambda: _back(running, "alpha"), "alpha stayed away")
    assert running.pid("alpha") != before
    assert running.weft("status").returncode == 0


def test_killed_servers_come_back(running: Mesh) -> None:
    before = {name: running.pid(name) for name in ("postgres", "nats")}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: all(_back(running, name) for name in before), "a server stayed away")
    assert running.weft("status").returncode == 0


def _back(mesh: Mesh, name: str) -> bool:
    """Whether it was restarted once and is ready again."""
    part = mesh.parts()[name]
    return (part.restarts, part.phase) == (1, state.READY)


def test_restart_takes_a_new_process_for_one_service_only(running: Mesh) -> None:
    alpha, beta = running.pid("alpha"), running.pid("beta")
    assert running.weft("restart", "beta").returncode == 0
    assert running.pid("beta") != beta
    assert running.pid("alpha") == alpha


def test_a_service_enters_its_own_database_and_no_other(running: Mesh) -> None:
    own = running.weft("psql", "alpha", "-Atc", "select current_user || '@' || current_database()")
    assert own.stdout.strip() == "alpha@alpha", own.stderr
    other = running.weft("psql", "alpha", "-d", "beta", "-c", "select 1")
    assert "permission denied for database" in other.stderr


def test_logs_of_a_service_are_shown(running: Mesh) -> None:
    assert "serving beta" in running.weft("logs", "beta").stdout
    assert "ready to accept connections" in running.weft("logs", "postgres").stdout


def test_a_name_that_is_not_there_gets_the_names_that_are(running: Mesh) -> None:
    done = running.weft("restart", "gamma")
    assert done.returncode == 1
    assert "alpha, beta, nats, postgres" in done.stderr


def test_everything_listens_on_loopback_only(running: Mesh) -> None:
    pids = {each.pid for each in running.parts().values()}
    links = [link for pid in pids for link in psutil.Process(pid).net_connections("inet")]
    listening = [link.laddr for link in links if link.status == psutil.CONN_LISTEN]
    assert listening
    assert {place[0] for place in listening} == {"127.0.0.1"}


def test_secrets_are_readable_by_their_owner_only_and_in_no_command_line(running: Mesh) -> None:
    path = running.home / "secrets.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((running.home / "nats" / "nats.conf").stat().st_mode) == 0o600
    secret = Credentials.of(path, [])
    words = " ".join(running.processes())
    for each in (secret.postgres, secret.nats, secret.mesh_key, *secret.databases.values()):
        assert each not in words
