"""An Envoy serves with what SDS gives it, and goes over to the next certificate without a lost call."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import OctKey

from envoy.binary import binary
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest
from envoy.service.secret.v3.sds_pb2_grpc import SecretDiscoveryServiceStub
from services.chassis.caller import SERVICE_HEADER, mesh_token
from services.chassis.clock import FakeClock
from services.chassis.testing import Lab, laboratory, until
from services.registry.app import build
from services.registry.domain import authority as domain
from services.registry.domain.resource import SDS
from services.registry.service.secrets import CERTIFICATE, ROOTS
from tests.registry.mesh import refused
from tests.registry.test_registry_certificates import KEY, Office
from tests.servers import Shared, free_port

LOOPBACK = "127.0.0.1"
CALLERS = 4
RENEWAL_S = 2_400  # Two thirds of an hour.
ASK = b"GET / HTTP/1.1\r\nhost: mesh\r\nconnection: close\r\n\r\n"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@pytest.fixture(scope="module")
async def office(servers: Shared) -> AsyncIterator[Office]:
    """What is signed now and what is signed a renewal later are both good by the clock on the wall."""
    clock = FakeClock(datetime.now(UTC) - timedelta(seconds=RENEWAL_S))
    urls = {"postgres_url": servers.postgres(), "nats_url": servers.account()}
    async with laboratory({"registry": lambda tools: build(tools, {})}, **urls, clock=clock) as lab:
        yield Office(lab, clock)


@dataclass
class Caller:
    """A process of the mesh, or somebody who would be one."""

    port: int
    context: ssl.SSLContext | None

    async def call(self) -> str:
        """The serial of who answered. Raises OSError when nobody does."""
        reader, writer = await asyncio.open_connection(LOOPBACK, self.port, ssl=self.context)
        try:
            writer.write(ASK)
            await writer.drain()
            if b"200 OK" not in await reader.read():
                raise ConnectionError("no answer")
            secured = writer.get_extra_info("ssl_object")
            shown = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True))
            (name,) = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert str(name.value).startswith("spiffe://weft.mesh/service/edge/instance/")
            return domain.serial_of(shown)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def context(folder: Path, bundle: str, chain: str = "", key: Any = KEY) -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=bundle)
    made.check_hostname = False  # Names are SPIFFE ids.
    if chain:
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / "client.pem").write_bytes(pem + chain.encode())
        made.load_cert_chain(folder / "client.pem")
    return made


@contextmanager
def envoy(lab: Lab, folder: Path, way: str) -> Iterator[int]:
    """Its port, which takes who shows a certificate of the mesh."""
    port = free_port()
    signed = mesh_token(
        "edge", OctKey.import_key(lab.settings.mesh_key), int(lab.clock.epoch()) + 10 * RENEWAL_S
    )
    path = folder / "envoy.json"
    path.write_text(json.dumps(_bootstrap(f"{LOOPBACK}:{lab.hosted.port}", port, way, signed)))
    command = [str(binary()), "-c", str(path), "--concurrency", "1", "--disable-hot-restart"]
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen([*command, "--log-level", "warning"], stdout=log, stderr=log)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _bootstrap(registry: str, port: int, way: str, token: str) -> dict[str, Any]:
    grpc_service = {
        "envoy_grpc": {"cluster_name": "registry"},
        "initial_metadata": [{"key": SERVICE_HEADER, "value": token}],
    }
    source = {"api_type": way, "transport_api_version": "V3", "grpc_services": [grpc_service]}
    told = {"api_config_source": source, "resource_api_version": "V3"}
    tls = {
        "@type": TLS,
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [{"name": CERTIFICATE, "sds_config": told}],
            "validation_context_sds_secret_config": {"name": ROOTS, "sds_config": told},
        },
    }
    everything = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    manager = {
        "@type": HCM,
        "stat_prefix": "mesh",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [everything]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
    }
    chain = {
        "filters": [{"name": "http", "typed_config": manager}],
        "transport_socket": {"name": "tls", "typed_config": tls},
    }
    listener = {"name": "mesh", "address": _socket(f"{LOOPBACK}:{port}"), "filter_chains": [chain]}
    http2 = {"@type": f"type.googleapis.com/{HTTP}", "explicit_http_config": {"http2_protocol_options": {}}}
    endpoint = {"endpoint": {"address": _socket(registry)}}
    cluster = {
        "name": "registry",
        "type": "STATIC",
        "typed_extension_protocol_options": {HTTP: http2},
        "load_assignment": {"cluster_name": "registry", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    return {
        "node": {"id": f"edge-{way}", "cluster": "edge"},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


def _socket(place: str) -> dict[str, Any]:
    host, _, port = place.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


@pytest.mark.parametrize("way", ["GRPC", pytest.param("DELTA_GRPC", marks=pytest.mark.slow)])
async def test_an_envoy_takes_another_certificate_while_it_serves(
    office: Office, tmp_path: Path, way: str
) -> None:
    answer = await office.issue("cart")
    trusted = context(tmp_path, answer.trust_bundle, answer.chain)
    seen, failed, stopping = Counter[str](), list[Exception](), asyncio.Event()
    with envoy(office.lab, tmp_path, way) as port:
        caller = Caller(port, trusted)

        async def serves() -> bool:
            with suppress(OSError):
                return bool(await caller.call())
            return False

        async def load() -> None:
            while not stopping.is_set():
                try:
                    seen[await caller.call()] += 1
                except OSError as error:
                    failed.append(error)

        async def another() -> bool:
            return len(seen) > 1

        async def some() -> bool:
            return bool(seen)

        await until(serves)
        callers = [asyncio.create_task(load()) for _ in range(CALLERS)]
        await until(some)
        office.clock.advance(RENEWAL_S)
        await until(another)
        stopping.set()
        await asyncio.gather(*callers)
        assert (failed, len(seen)) == ([], 2)
        await _strangers_are_refused(port, tmp_path, answer.trust_bundle)
    office.clock.advance(-RENEWAL_S)


async def _strangers_are_refused(port: int, folder: Path, bundle: str) -> None:
    foreign_key = ec.generate_private_key(ec.SECP256R1())
    root = domain.make_root("weft.mesh", datetime.now(UTC))
    name = domain.Name("weft.mesh", "cart", UUID(int=7))
    forged = domain.sign(root, foreign_key.public_key(), name, datetime.now(UTC), timedelta(hours=1))
    strangers = {
        "without a certificate": context(folder, bundle),
        "of another root": context(folder, bundle, domain.pem([forged]), foreign_key),
        "in plain text": None,
    }
    for who, made in strangers.items():
        with suppress(OSError):
            pytest.fail(f"{who}: {await Caller(port, made).call()}")


async def test_keys_are_told_to_nobody_who_proves_no_service(office: Office) -> None:
    fetch = SecretDiscoveryServiceStub(office.lab.channel).FetchSecrets
    request = DiscoveryRequest(type_url=SDS, resource_names=[CERTIFICATE, ROOTS])
    denied = (grpc.StatusCode.PERMISSION_DENIED, "MESH_ONLY")
    assert await refused(fetch(request)) == denied
    assert await refused(fetch(request, metadata=office.lab.bearer())) == denied
    told = await fetch(request, metadata=office.lab.as_service("edge"))
    assert {each.type_url for each in told.resources} == {SDS}
    assert len(told.resources) == 2
