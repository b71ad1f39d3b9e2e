"""Envoy's own API, as it comes out of the installed Envoy."""

from __future__ import annotations

from pathlib import Path

import pytest

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from generation import envoy_api
from generation.protoc import Refused

# attributes = 1, request = 4, http = 2, headers = 3 and path = 4: as Envoy's attribute_context.proto says.
WIRE = bytes.fromhex("0a15 2213 1211") + b"\x1a\x0b\x0a\x01k\x12\x06secret" + b"\x22\x02/x"


def test_a_check_request_has_envoys_wire_form() -> None:
    request = CheckRequest()
    request.attributes.request.http.headers["k"] = "secret"
    request.attributes.request.http.path = "/x"
    assert request.SerializeToString() == WIRE
    assert CheckRequest.FromString(WIRE) == request


def test_everything_wanted_is_found_after_what_it_imports() -> None:
    found = envoy_api.needed(envoy_api.executable(), *envoy_api.SERVICES, *envoy_api.RESOURCES)
    seen: set[str] = set()
    for name, descriptor in found.items():
        assert set(descriptor.dependency) <= seen, name
        seen.add(name)
    assert set(envoy_api.RESOURCES) <= seen
    methods = [[each.name for each in found[file].service[0].method] for file in envoy_api.SERVICES]
    assert methods == [
        ["Check"],
        ["StreamAggregatedResources", "DeltaAggregatedResources"],
        ["ShouldRateLimit"],
        ["DeltaSecrets", "StreamSecrets", "FetchSecrets"],
    ]


def test_a_file_that_envoy_does_not_know_is_refused_by_its_name() -> None:
    with pytest.raises(Refused, match=r"holds no descriptor of envoy/service/auth/v9/nothing\.proto"):
        envoy_api.needed(envoy_api.executable(), "envoy/service/auth/v9/nothing.proto")


def test_a_program_that_only_names_the_file_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "program"
    name = envoy_api.WANTED.encode()
    program.write_bytes(b"before\n" + bytes([len(name)]) + name + b"\xff after" * 3)
    with pytest.raises(Refused, match="holds no descriptor"):
        envoy_api.needed(program, envoy_api.WANTED)
