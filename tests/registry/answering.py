"""Instances that answer with their name, and clients that ask them by way of the mesh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx

from envoy.binary import binary
from tests.servers import free_port

METHOD = "/weft.books.v1.BookService/Who"
LOOPBACK = "127.0.0.1"


@dataclass
class Instance:
    """One that answers with its name, after `act`, which may raise, wait or abort."""

    name: str
    port: int = 0
    calls: int = 0
    act: Callable[[Any], Awaitable[None]] | None = None

    async def who(self, request: bytes, context: Any) -> bytes:
        self.calls += 1
        if self.act:
            await self.act(context)
        return self.name.encode()


@asynccontextmanager
async def answering(name: str) -> AsyncIterator[Instance]:
    made = Instance(name)
    handler = grpc.unary_unary_rpc_method_handler(made.who)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    _, service, method = METHOD.split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    made.port = server.add_insecure_port(f"{LOOPBACK}:0")
    await server.start()
    try:
        yield made
    finally:
        await server.stop(None)


@asynccontextmanager
async def instance(name: str) -> AsyncIterator[int]:
    """Its port."""
    async with answering(name) as made:
        yield made.port


@dataclass
class Envoy:
    """A running Envoy that knows where the registry is, and nothing else."""

    admin: str
    listener: str

    async def gauge(self, name: str) -> int:
        """A statistic; -1 while there is none."""
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://{self.admin}/stats", params={"filter": f"^{name}$"})
        return int(answer.text.rpartition(":")[2]) if answer.text else -1

    async def updates(self) -> dict[str, int]:
        """How often it took a configuration, by statistic."""
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://{self.admin}/stats", params={"filter": "update_success$"})
        lines = (line.rpartition(":") for line in answer.text.splitlines())
        return {name: int(count) for name, _, count in lines}


@contextmanager
def envoy(registry: str, listener: str, folder: Path, way: str) -> Iterator[Envoy]:
    """`way` is DELTA_GRPC or GRPC."""
    admin = f"{LOOPBACK}:{free_port()}"
    path = folder / "envoy.json"
    path.write_text(json.dumps(_bootstrap(registry, admin, way)))
    command = [str(binary()), "-c", str(path), "--concurrency", "1", "--disable-hot-restart"]
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen([*command, "--log-level", "warning"], stdout=log, stderr=log)
    try:
        yield Envoy(admin, listener)
    finally:
        process.terminate()
        process.wait(10)


def _bootstrap(registry: str, admin: str, way: str) -> dict[str, Any]:
    ads = {"ads": {}, "resource_api_version": "V3"}
    again = {"retry_back_off": {"base_interval": "0.05s", "max_interval": "0.2s"}}
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {
        "@type": f"type.googleapis.com/{options}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "node": {"id": f"envoy-{way}", "cluster": "edge"},
        "admin": {"address": _socket(admin)},
        "stats_flush_on_admin": True,  # Histograms are what they are when they are asked for.
        "dynamic_resources": {
            "ads_config": {
                "api_type": way,
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "registry", "retry_policy": again}}],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "registry",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "typed_extension_protocol_options": {options: http2},
                    "load_assignment": {
                        "cluster_name": "registry",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket(registry)}}]}],
                    },
                }
            ]
        },
    }


def _socket(place: str) -> dict[str, Any]:
    host, _, port = place.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


# Runs apart: gRPC reads its bootstrap once in a process. Each line it reads is one call.
XDS_CLIENT = """
import sys, grpc
channel = grpc.insecure_channel("xds:///books")
who = channel.unary_unary(sys.argv[1])
for line in sys.stdin:
    headers = [tuple(line.split())] if line.strip() else None
    try:
        print(who(b"", timeout=20, metadata=headers, wait_for_ready=True).decode(), flush=True)
    except grpc.RpcError as error:
        print(error.code().name, error.details(), flush=True)
"""


@contextmanager
def xds_client(registry: str) -> Iterator[Any]:
    """A function that makes one call by gRPC's own xDS client and returns who answered."""
    server = {
        "server_uri": registry,
        "channel_creds": [{"type": "insecure"}],
        "server_features": ["xds_v3"],
    }
    bootstrap = json.dumps({"xds_servers": [server], "node": {"id": "grpc-client"}})
    process = subprocess.Popen(
        [sys.executable, "-c", XDS_CLIENT, METHOD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": bootstrap},
        text=True,
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin
    assert stdout

    def call(header: str = "") -> str:
        stdin.write(f"{header}\n")
        stdin.flush()
        return stdout.readline().strip()

    try:
        yield call
    finally:
        process.kill()
        process.wait()
        stdin.close()
        stdout.close()
