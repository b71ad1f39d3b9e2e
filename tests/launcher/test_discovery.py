"""Registration and discovery are chosen by name, and nothing of them is there unchosen."""

import json
from pathlib import Path

import pytest

from launcher import discovery, edge, roster
from launcher.credentials import Credentials
from launcher.ports import Ports
from launcher.problem import Problem

GROUP = roster.Group("cart", ("cart",), 1, 2)


def told(tmp_path: Path, environ: dict[str, str]) -> dict[str, str]:
    secret = Credentials.of(tmp_path / "secrets.json", ["cart"])
    return roster.environment(GROUP, Ports(), secret, environ)


def test_unchosen_nothing_is_told_of_it(tmp_path: Path) -> None:
    assert not [name for name in told(tmp_path, {}) if name.startswith(("WEFT_REGIST", "WEFT_VERSION"))]


def test_processes_that_register_say_which_version_they_are(tmp_path: Path) -> None:
    environ = told(tmp_path, {"WEFT_REGISTER": "1"})
    assert environ["WEFT_VERSION"][0].isdigit()
    assert environ["WEFT_REGISTRY_ENVOY_METRICS"] == f"127.0.0.1:{Ports().stats}"
    assert "WEFT_REGISTRY_LIKE_EDGE" not in environ
    assert told(tmp_path, {"WEFT_REGISTER": "1", "WEFT_VERSION": "7"})["WEFT_VERSION"] == "7"


def test_an_edge_that_is_told_has_processes_that_register(tmp_path: Path) -> None:
    environ = told(tmp_path, {discovery.VARIABLE: "ads"})
    assert (environ["WEFT_REGISTER"], environ["WEFT_REGISTRY_LIKE_EDGE"]) == ("1", "1")


@pytest.mark.parametrize("chosen", ["", "ads"])
def test_the_edge_is_said_where_its_clusters_come_from(
    chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(discovery.VARIABLE, chosen)
    values = json.loads(edge.write_settings(tmp_path, tmp_path, [GROUP], Ports()).read_text())
    assert values.get("discovery", "") == chosen


def test_a_mesh_without_a_registry_cannot_be_told(tmp_path: Path) -> None:
    discovery.check(["cart"], {})
    discovery.check(["cart", "registry"], {discovery.VARIABLE: "ads"})
    with pytest.raises(Problem, match="needs the registry"):
        discovery.check(["cart"], {discovery.VARIABLE: "ads"})
    with pytest.raises(Problem, match="no way to discover"):
        discovery.check(["registry"], {discovery.VARIABLE: "dns"})
