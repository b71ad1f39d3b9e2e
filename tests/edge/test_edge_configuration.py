"""Every combination of settings that ships gives a configuration that Envoy takes."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from envoy import bootstrap, certificates, limits, settings
from envoy.methods import BadContract, Contract
from envoy.templates import Template
from tests.edge.conftest import ROOT, free_ports, values_of

COMBINATIONS: dict[str, dict[str, Any]] = {
    "development": {},
    "production": {"development": False, "access_log": "/dev/stdout", "segments": ["plan", "home_city"]},
    "no tls": {"ports": {"https": None}},
    "tls alone": {"ports": {"http": None}},
    "traced": {"otlp": "127.0.0.1:4317"},
    "one endpoint": {"services": {"probe": ["127.0.0.1:1"], "identity": ["127.0.0.1:1"]}},
    "many endpoints": {"services": {"probe": [f"127.0.0.1:{port}" for port in (1, 2, 3)]}},
    "named endpoints": {"services": {"probe": ["probe:50051"], "identity": ["identity:50051"]}},
    "all addresses": {"host": "0.0.0.0", "development": False},
    "no service yet": {"services": {}},
    "told by the registry": {"discovery": "ads", "services": {"registry": ["127.0.0.1:1"], "probe": []}},
    "no pages": {"pages": "/nowhere", "openapi": "/nowhere"},
    "global limits": {"global_limits": {"closed": ["weft.probe.v1.ProbeService.S"], "headers": ["x-tenant"]}},
}


@pytest.fixture
def values(descriptor: Path, tmp_path: Path) -> dict[str, Any]:
    return values_of(descriptor, tmp_path, ["127.0.0.1:1"], free_ports(5))


@pytest.mark.parametrize("name", COMBINATIONS)
def test_envoy_takes_the_configuration(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    change = COMBINATIONS[name]
    ports = {**values["ports"], **change.get("ports", {})}
    chosen = settings.from_values({**values, **change, "ports": ports})
    if not chosen.development:  # brings its own certificate
        certificates.ensure(chosen.certificates, datetime.now(UTC))
    assert bootstrap.validate(bootstrap.write(chosen, tmp_path / "out")) == ""


def test_the_admin_stays_on_loopback(values: dict[str, Any], tmp_path: Path) -> None:
    chosen = settings.from_values({**values, "host": "0.0.0.0"})
    written = json.loads(bootstrap.write(chosen, tmp_path / "out").read_bytes())
    assert written["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"


def test_a_load_test_may_multiply_the_rate_limits(descriptor: Path) -> None:
    methods = Contract(descriptor).methods
    once, often = (limits.filter_(methods, factor)["typed_config"]["descriptors"] for factor in (1, 100))
    for one, many in zip(once, often, strict=True):
        for key in ("max_tokens", "tokens_per_fill"):
            assert many["token_bucket"][key] == 100 * one["token_bucket"][key]


def test_the_command_writes_and_validates(values: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(values))
    command = [
        sys.executable,
        "-m",
        "envoy",
        "--out",
        str(tmp_path / "out"),
        "--settings",
        str(file),
        "--validate",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).is_file()


def test_the_same_settings_give_the_same_files(values: dict[str, Any], tmp_path: Path) -> None:
    chosen = settings.from_values(values)
    first = bootstrap.write(chosen, tmp_path / "out").read_bytes()
    assert bootstrap.write(chosen, tmp_path / "out").read_bytes() == first


@pytest.mark.parametrize(
    "wrong",
    [
        {"sevices": {}},
        {"ports": {"htps": 1}},
        {"services": {"probe": ["nowhere"]}},
        {"ports": {"mesh": None}},
        {"discovery": "xds"},
        {"discovery": "ads"},
    ],
)
def test_wrong_settings_are_named_in_one_line(wrong: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(wrong))
    command = [sys.executable, "-m", "envoy", "--out", str(tmp_path), "--settings", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("envoy: ")
    assert done.stderr.count("\n") == 1


def test_a_method_without_access_stops_the_generation(descriptor: Path, tmp_path: Path) -> None:
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptor.read_bytes())
    probe = next(file for file in files.file if file.package == "weft.probe.v1")
    probe.service[0].method[0].ClearField("options")
    bare = tmp_path / "bare.binpb"
    bare.write_bytes(files.SerializeToString())
    with pytest.raises(BadContract, match=r"GetThing has no \(weft.options.v1.access\)"):
        Contract(bare)


def test_a_certificate_is_renewed_near_its_end_only(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    certificates.ensure(tmp_path, now)
    leaf = tmp_path / "current" / "edge.crt"
    authority, first = (tmp_path / "ca.crt").read_bytes(), leaf.read_bytes()
    certificates.ensure(tmp_path, now)
    assert leaf.read_bytes() == first
    certificates.ensure(tmp_path, now + certificates.LEAF_LIFE - certificates.RENEW_BEFORE)
    assert leaf.read_bytes() != first
    assert (tmp_path / "ca.crt").read_bytes() == authority
    assert (tmp_path / "current" / "edge.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("text", "regex", "prefix"),
    [
        ("/v1/users", r"/v1/users", "/v1/users"),
        ("/v1/users/{user_id}", r"/v1/users/[^/?]+", "/v1/users"),
        ("/v1/users/{user.id=*}:suspend", r"/v1/users/[^/?]+:suspend", "/v1/users"),
        ("/v1/{name=files/**}", r"/v1/files/[^?]*", "/v1/files"),
        ("/v1/things:watch", r"/v1/things:watch", "/v1/things"),
        ("/.well-known/jwks.json", r"/\.well\-known/jwks\.json", "/.well-known/jwks.json"),
    ],
)
def test_a_path_template_becomes_a_matcher(text: str, regex: str, prefix: str) -> None:
    assert (Template(text).regex, Template(text).prefix) == (regex, prefix)


def test_the_more_specific_template_comes_first() -> None:
    texts = ["/v1/{a=**}", "/v1/users/{id}", "/v1/users/me", "/v1/users/{id}:stop", "/v1/{b}/me"]
    ordered = sorted(texts, key=lambda text: Template(text).rank)
    assert ordered == ["/v1/users/me", "/v1/users/{id}:stop", "/v1/users/{id}", "/v1/{b}/me", "/v1/{a=**}"]
