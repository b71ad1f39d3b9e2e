"""What a cluster has more than one of has ports and names of its own, and everybody is told of all."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from launcher import edge, layout, nats, pair, preflight, replica, roster
from launcher.commands import parser
from launcher.credentials import Credentials
from launcher.fencing import fence
from launcher.mesh import plan
from launcher.paths import Home
from launcher.plan import Plan
from launcher.ports import Ports
from launcher.problem import Problem
from launcher.roles import Roles
from launcher.state import Component, State
from services.chassis.jetstream.servers import Options

NAMES = ["audit", "identity", "notification"]
PORTS = Ports.chosen({"base": 26_000}, {})


def secret(folder: Path) -> Credentials:
    return Credentials.of(folder / "secrets.json", NAMES)


def test_a_mesh_without_a_cluster_is_told_what_it_was_always_told() -> None:
    groups = roster.groups(NAMES, 2, PORTS)
    assert [(each.name, each.port, each.metrics, each.instance) for each in groups] == [
        ("services-1", 26_020, 26_084, 1),
        ("identity", 26_021, 26_085, 1),
    ]
    assert edge.endpoints(groups) == {
        name: [f"127.0.0.1:{group.port}"] for group in groups for name in group.services
    }


def test_every_port_of_a_cluster_is_wanted_once_and_lies_behind_the_base() -> None:
    wanted = preflight._wanted(Plan(PORTS, 3, edge=True, instances=layout.INSTANCES_MAX), NAMES)
    assert len(set(wanted.values())) == len(wanted)
    assert {port for port in wanted.values() if port < PORTS.services} <= set(range(26_000, PORTS.services))
    assert len([name for name in wanted if name.startswith("services")]) == 3 * layout.INSTANCES_MAX


def test_instances_have_names_ports_and_mailboxes_of_their_own(tmp_path: Path) -> None:
    groups = roster.groups(NAMES, 3, PORTS, instances=2)
    assert [each.name for each in groups] == [*NAMES, *(f"{name}-2" for name in NAMES)]
    assert len({port for each in groups for port in (each.port, each.metrics)}) == 12
    assert edge.endpoints(groups)["audit"] == ["127.0.0.1:26020", "127.0.0.1:26023"]
    boxes = {
        layout.environment(each, PORTS, secret(tmp_path), {}).get("WEFT_NOTIFICATION_MAILBOX_ADDRESS")
        for each in groups
    }
    assert boxes == {None, f"127.0.0.1:{PORTS.smtp}", f"127.0.0.1:{layout.mailbox(PORTS, 2)}"}


def test_more_instances_than_there_are_ports_are_refused() -> None:
    with pytest.raises(Problem, match="ports are kept for 64"):
        roster.groups([f"s{n}" for n in range(33)], 33, PORTS, instances=2)


def test_every_process_knows_all_servers(tmp_path: Path) -> None:
    group = roster.groups(NAMES, 1, PORTS, instances=2)[1]
    told = layout.environment(group, PORTS, secret(tmp_path), {"WEFT_LOG_LEVEL": "DEBUG"})
    known = urlsplit(told["WEFT_DATABASE_URL_AUDIT"])
    assert known.netloc.rpartition("@")[2] == "127.0.0.1:26005,127.0.0.1:26009"
    assert known.query == "target_session_attrs=read-write"
    assert told["WEFT_NATS_REPLICAS"] == "3"
    servers = Options.of(told["WEFT_NATS_URL"])
    assert len(servers.servers) == 3
    assert servers.password == secret(tmp_path).nats


def test_members_know_each_other_and_their_streams_lie_apart(tmp_path: Path) -> None:
    members = layout.members(PORTS)
    told = [
        json.loads(nats.write_member(tmp_path, each, members, secret(tmp_path)).read_text())
        for each in members
    ]
    assert len({each["server_name"] for each in told}) == layout.MEMBERS
    assert len({each["jetstream"]["store_dir"] for each in told}) == layout.MEMBERS
    for own, each in zip(members, told, strict=True):
        routes = {urlsplit(route).port for route in each["cluster"]["routes"]}
        assert routes == {other.route for other in members} - {own.route}
    assert {path.stat().st_mode & 0o077 for path in tmp_path.glob("*.conf")} == {0}


def test_a_plan_travels_to_the_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_PORT_BASE", "26000")
    asked = plan(parser().parse_args(["up", "--cluster"]))
    assert asked.instances == layout.INSTANCES
    assert Plan.read(asked.written()) == asked
    assert plan(parser().parse_args(["up"])).instances == 0
    with pytest.raises(Problem, match="--instances is for a cluster"):
        plan(parser().parse_args(["up", "--instances", "2"]))
    with pytest.raises(Problem, match="not from 1 to 4"):
        plan(parser().parse_args(["up", "--cluster", "--instances", "5"]))


def test_data_of_one_kind_is_not_started_as_the_other(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (tmp_path / "nats" / "store").mkdir(parents=True)
    with pytest.raises(Problem, match="was made without --cluster"):
        preflight._kind(home, clustered=True)
    preflight._kind(home, clustered=False)
    Roles().write(pair.file(home))
    preflight._kind(home, clustered=True)
    with pytest.raises(Problem, match="is a cluster's"):
        preflight._kind(home, clustered=False)


def test_who_is_the_primary_is_kept_and_never_guessed(tmp_path: Path) -> None:
    path = tmp_path / "cluster.json"
    assert Roles.read(path) is None
    Roles(1, in_step=True).write(path)
    assert Roles.read(path) == Roles(1, in_step=True)
    path.write_text("{")
    with pytest.raises(Problem, match="says which PostgreSQL is the primary"):
        Roles.read(path)


def test_whom_commits_wait_for_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    kept = tmp_path / replica.SETTINGS_FILE
    kept.write_text(f"# by hand\nwork_mem = '8MB'\n{replica.NAMES} = 'weft_2'\n")
    replica.forget_names(tmp_path)
    assert kept.read_text() == "# by hand\nwork_mem = '8MB'\n"


def test_a_service_is_found_in_each_process_that_hosts_it() -> None:
    parts = [Component("postgres", 1), Component("audit", 2, ("audit",)), Component("audit-2", 3, ("audit",))]
    seen = State(1, {"postgres": 1}, edge=False, components=parts, instances=2, primary=9)
    assert seen.every("audit") == parts[1:]
    assert seen.every("audit-2") == parts[2:]
    assert seen.every("postgres") == parts[:1]
    assert seen.postgres == 9


def test_fencing_ends_what_works_in_the_folder_and_nobody_else(tmp_path: Path) -> None:
    """Stand-ins of the server's name, one of them stopped; and somebody else in the same folder."""
    program = tmp_path / "postgres"
    shutil.copy(shutil.which("sleep") or "", program)
    data, other = tmp_path / "data", tmp_path / "other"
    data.mkdir()
    other.mkdir()
    command = ["sleep", "60"]
    inside = [subprocess.Popen(command, executable=program, cwd=data) for _ in range(3)]
    beside = [subprocess.Popen(command, executable=program, cwd=other), subprocess.Popen(command, cwd=data)]
    try:
        os.kill(inside[0].pid, signal.SIGSTOP)
        assert fence(data) == len(inside)
        assert [each.wait() for each in inside] == [-signal.SIGKILL] * len(inside)
        assert [each.poll() for each in beside] == [None, None]
        assert fence(data) == 0
    finally:
        for each in (*inside, *beside):
            each.kill()
            each.wait()
