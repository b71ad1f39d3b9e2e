"""Ports, processes, environments and secrets follow from flags, variables and the services there are."""

import stat
from pathlib import Path

import pytest

from launcher import roster
from launcher.commands import COMMANDS, main
from launcher.credentials import Credentials
from launcher.logs import concerns, tail
from launcher.plan import Plan
from launcher.ports import Ports, check
from launcher.problem import Problem


def test_a_flag_wins_over_its_variable_that_over_the_base_that_over_the_default() -> None:
    environ = {"WEFT_NATS_PORT": "4000", "WEFT_EDGE_PORT": "4001"}
    chosen = Ports.chosen({"nats": 5000, "base": 9000}, environ)
    assert (chosen.nats, chosen.edge, chosen.plain) == (5000, 4001, 9001)
    assert Ports.chosen({}, {}) == Ports()


@pytest.mark.parametrize("environ", [{"WEFT_EDGE_PORT": "many"}, {"WEFT_EDGE_PORT": "65536"}])
def test_what_is_no_port_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(Problem, match="is no port"):
        Ports.chosen({}, environ)


def test_a_port_that_is_wanted_twice_is_refused() -> None:
    with pytest.raises(Problem, match="wanted for edge and for plain"):
        check({"edge": 39_999, "plain": 39_999})


def test_services_are_dealt_to_as_many_processes_as_are_asked_for() -> None:
    names = ["a", "b", "c"]
    two = roster.groups(names, roster.processes("2", len(names)), Ports())
    assert [each.services for each in two] == [("a", "c"), ("b",)]
    assert [each.name for each in two] == ["services-1", "b"]
    each = roster.groups(names, roster.processes("each", len(names)), Ports())
    assert [one.name for one in each] == names
    assert len({one.port for one in each} | {one.metrics for one in each}) == 6
    assert roster.processes("99", 3) == 3
    with pytest.raises(Problem, match="neither a number"):
        roster.processes("0", 3)


def test_a_process_knows_the_databases_of_its_own_services_only(tmp_path: Path) -> None:
    secret = Credentials.of(tmp_path / "secrets.json", ["identity", "audit"])
    one, other = roster.groups(["identity", "audit"], 2, Ports())
    environ = roster.environment(one, Ports(), secret, {"WEFT_LOG_LEVEL": "DEBUG"})
    assert environ["WEFT_LOG_LEVEL"] == "DEBUG"
    assert secret.databases["identity"] in environ["WEFT_DATABASE_URL_IDENTITY"]
    text = " ".join(environ.values())
    assert secret.databases["audit"] not in text
    assert secret.postgres not in text
    assert secret.keys["identity"] not in str(roster.environment(other, Ports(), secret, {}))


def test_secrets_are_made_once_and_completed_for_a_new_service(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = Credentials.of(path, ["a"])
    later = Credentials.of(path, ["b"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert later.postgres == first.postgres
    assert later.databases["a"] == first.databases["a"]
    assert later.databases["b"] not in vars(first).values()
    assert Credentials.of(path, []) == later


def test_a_plan_survives_its_way_to_the_supervisor() -> None:
    plan = Plan(Ports(edge=1), 3, edge=False)
    assert Plan.read(plan.written()) == plan


def test_the_end_of_a_log_is_found_whatever_its_length(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("".join(f"line {place}\n" for place in range(20_000)))
    assert tail(log, 2) == ["line 19998", "line 19999"]
    assert len(tail(log, 100_000)) == 20_000
    assert tail(log, 0) == []


def test_lines_of_another_service_in_the_same_process_are_left_out() -> None:
    others = frozenset({"audit"})
    assert not concerns('{"logger": "weft.audit", "message": "x"}', others)
    assert not concerns('{"logger": "weft.health", "service": "audit"}', others)
    assert concerns('{"logger": "weft.identity", "message": "audit"}', others)
    assert concerns("Traceback (most recent call last):", others)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "supervise"])
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: weft {name}")
