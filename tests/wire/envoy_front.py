"""Envoy before our server: gRPC, gRPC-Web, JSON and a page, on one port."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from envoy.binary import binary
from tests.servers import free_port

FILTERS = "type.googleapis.com/envoy.extensions.filters"
START_S = 20.0  # Envoy itself needs less than one.
FILE_BYTES_MAX = 4 << 20  # Of a page; a bundle for browsers has some hundred kB.


@asynccontextmanager
async def fronted(
    port: int, folder: Path, descriptor: Path | None = None, pages: Mapping[str, Path] | None = None
) -> AsyncIterator[int]:
    """Envoy's port. `pages` are files by path; `descriptor` holds peers.v1.EchoService for JSON."""
    front = free_port()
    config = folder / "envoy.json"
    config.write_text(json.dumps(bootstrap(front, port, descriptor, pages or {})))
    command = [str(binary()), "-c", str(config), "--concurrency", "1", "--disable-hot-restart"]
    with (folder / "envoy.log").open("wb") as log:
        process = _start([*command, "--log-level", "warning"], log)
        try:
            async with asyncio.timeout(START_S):
                while not await _listens(front):
                    assert process.poll() is None, (folder / "envoy.log").read_text()
                    await asyncio.sleep(0.02)
            yield front
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, START_S)


def _start(command: list[str], log: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=log, stderr=log)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def bootstrap(front: int, port: int, descriptor: Path | None, pages: Mapping[str, Path]) -> dict[str, Any]:
    filters = [named("grpc_web", "http.grpc_web.v3.GrpcWeb")]
    if descriptor:
        fields = {"proto_descriptor": str(descriptor), "services": ["peers.v1.EchoService"]}
        filters.append(named("json", "http.grpc_json_transcoder.v3.GrpcJsonTranscoder", **fields))
    filters.append(named("router", "http.router.v3.Router"))
    files = [page(path, file) for path, file in pages.items()]
    to_us = {"match": {"prefix": "/"}, "route": {"cluster": "us", "timeout": "0s"}}
    routes: dict[str, Any] = {
        "max_direct_response_body_size_bytes": FILE_BYTES_MAX,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [*files, to_us]}],
    }
    manager = {"stat_prefix": "in", "codec_type": "AUTO", "route_config": routes, "http_filters": filters}
    chain = {
        "filters": [named("http", "network.http_connection_manager.v3.HttpConnectionManager", **manager)]
    }
    listener = {"name": "front", "address": address(front), "filter_chains": [chain]}
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {
        "@type": f"type.googleapis.com/{options}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]
    cluster = {
        "name": "us",
        "type": "STATIC",
        "typed_extension_protocol_options": {options: http2},
        "load_assignment": {"cluster_name": "us", "endpoints": endpoints},
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def named(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{FILTERS}.{kind}", **fields}}


def page(path: str, file: Path) -> dict[str, Any]:
    header = {"key": "content-type", "value": "text/javascript" if path.endswith(".js") else "text/html"}
    return {
        "match": {"path": path},
        "direct_response": {"status": 200, "body": {"filename": str(file)}},
        "response_headers_to_add": [{"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
    }


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
