"""One Envoy with the generated configuration before one real gRPC server, for all tests of the edge."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import files as wheel_files
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from envoy import bootstrap, settings
from envoy.binary import binary
from tests.edge.probe import INTERFACE, ISSUER, Probe, Schema

ROOT = Path(__file__).parents[2]
PROTOS = Path(__file__).parent / "protos"
PROTO = "weft/probe/v1/probe.proto"
READY_WITHIN = 20.0  # seconds; Envoy itself needs less than one


@dataclass
class Edge:
    """A running Envoy and what stands behind it."""

    settings: settings.Settings
    out: Path
    probe: Probe
    envoy: subprocess.Popen[bytes]

    def url(self, door: str) -> str:
        scheme = "https" if door == "https" else "http"
        return f"{scheme}://127.0.0.1:{self.settings.port(door)}"

    def target(self, door: str) -> str:
        return f"127.0.0.1:{self.settings.port(door)}"

    def token(self, **claims: Any) -> dict[str, str]:
        return {"authorization": f"Bearer {self.probe.token(**claims)}"}

    def get(self, door: str, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url(door) + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)


def until(condition: Callable[[], bool], what: str, within: float = READY_WITHIN) -> None:
    """Waits for a condition."""
    ends = time.monotonic() + within
    while not condition():
        assert time.monotonic() < ends, f"not within {within} s: {what}"
        time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="package")
def descriptor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The descriptor set of the probe's proto."""
    out = tmp_path_factory.mktemp("descriptor") / "probe.binpb"
    tools = _wheel("grpcio-tools", "_proto/google/protobuf/any.proto", 2)
    apis = _wheel("googleapis-common-protos", "google/api/annotations.proto", 2)
    includes = [f"-I{path}" for path in (tools, apis, ROOT / "protos", PROTOS)]
    command = [sys.executable, "-m", "grpc_tools.protoc", *includes, "--include_imports", f"-o{out}", PROTO]
    subprocess.run(command, check=True)
    return out


@pytest.fixture(scope="package")
def schema(descriptor: Path) -> Schema:
    return Schema(descriptor)


@pytest.fixture(scope="package")
def edge(descriptor: Path, schema: Schema, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    yield from serve(descriptor, schema, tmp_path_factory.mktemp("edge"))


@pytest.fixture
def own_edge(descriptor: Path, schema: Schema, tmp_path: Path) -> Iterator[Edge]:
    """An edge that a test may break."""
    yield from serve(descriptor, schema, tmp_path)


def serve(
    descriptor: Path,
    schema: Schema,
    folder: Path,
    *,
    awake: bool = True,
    identity: list[str] | None = None,
    **changes: Any,
) -> Iterator[Edge]:
    """Starts probe and Envoy, waits until both serve, stops them.

    Not awake: the probe is not started. `identity`: its endpoints, where they are not the probe's.
    """
    port, *ports = free_ports(6)
    probe = Probe(schema, port)
    if awake:
        probe.start()
    values = {**values_of(descriptor, folder, [probe.address], ports), **changes}
    if identity:
        values["services"]["identity"] = identity
    chosen = settings.from_values(values)
    path = bootstrap.write(chosen, folder / "out")
    with (folder / "envoy.log").open("wb") as log:
        command = [str(binary()), "-c", str(path), "--concurrency", "1", "--disable-hot-restart"]
        envoy = subprocess.Popen([*command, "--log-level", "warning"], stdout=log, stderr=log)
    running = Edge(chosen, folder / "out", probe, envoy)
    try:
        until(
            lambda: running.get("stats", "/healthz/probe")[0] == (200 if awake else 503),
            "an edge that serves",
        )
        until(lambda: not awake or _verifies(running), "the keys are fetched")
        yield running
    finally:
        envoy.terminate()
        envoy.wait(10)
        probe.stop()


def values_of(descriptor: Path, folder: Path, endpoints: list[str], ports: list[int]) -> dict[str, Any]:
    """Settings of an edge in a folder."""
    pages = folder / "pages"
    pages.mkdir(exist_ok=True)
    (pages / "index.html").write_text("<h1>Weft</h1>")
    (pages / "signin.html").write_text("<h1>Sign in</h1>")
    (pages / "signin.js").write_text("console.log(1)")
    openapi = folder / "openapi.json"
    openapi.write_text(json.dumps({"openapi": "3.1.0", "info": {"title": "A <probe>"}, "paths": {}}))
    return {
        "services": {"probe": endpoints, "identity": endpoints},
        "health": {"identity": "identity"},
        "ports": dict(zip(("https", "http", "mesh", "admin", "stats"), ports, strict=True)),
        "issuer": ISSUER,
        "certificates": str(folder / "certificates"),
        "origins": ["https://app.example.com"],
        "descriptor": str(descriptor),
        "openapi": str(openapi),
        "pages": str(pages),
    }


def _verifies(running: Edge) -> bool:
    url = running.url("http") + "/v1/things/1"
    return httpx.get(url, headers=running.token()).status_code == 200


def _wheel(name: str, file: str, up: int) -> Path:
    """The folder of a wheel that lies `up` above a file's own."""
    for each in wheel_files(name) or []:
        if str(each).endswith(file):
            return Path(str(each.locate())).parents[up]
    raise FileNotFoundError(file)


@pytest.fixture(scope="package")
def web(edge: Edge) -> Iterator[httpx.Client]:
    """A REST client of the TLS door, by HTTP/2."""
    trust = ssl.create_default_context(cafile=str(edge.settings.certificates / "ca.crt"))
    with httpx.Client(base_url=edge.url("https"), verify=trust, http2=True, timeout=10) as client:
        yield client


@pytest.fixture(scope="package")
def channel(edge: Edge) -> Iterator[grpc.Channel]:
    """A gRPC channel to the TLS door."""
    trust = (edge.settings.certificates / "ca.crt").read_bytes()
    with grpc.secure_channel(edge.target("https"), grpc.ssl_channel_credentials(trust)) as channel:
        yield channel


@pytest.fixture(scope="package")
def call(channel: grpc.Channel, schema: Schema) -> Callable[..., Any]:
    """call("GetThing", {...}, metadata=...): a unary call by gRPC."""
    return caller(channel, schema)


def caller(channel: grpc.Channel, schema: Schema) -> Callable[..., Any]:
    """Unary calls on a channel."""

    def invoke(method: str, fields: dict[str, Any] | None = None, **options: Any) -> Any:
        stub = channel.unary_unary(
            f"/{INTERFACE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=schema.output(method).FromString,  # type: ignore[attr-defined]
        )
        return stub(schema.input(method)(**(fields or {})), timeout=options.pop("timeout", 10), **options)

    return invoke
