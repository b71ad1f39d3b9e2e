"""The generated edge, told by the registry where services are, calls those that registered themselves."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from envoy import bootstrap, settings as edge_settings
from envoy.binary import binary
from services.chassis.host import Parts, hosting
from services.chassis.registration import About
from services.chassis.registration_settings import RegistrationSettings
from services.chassis.testing import BASE, until
from services.registry.app import build
from tests import databases
from tests.registry.answering import LOOPBACK, Envoy
from tests.servers import Shared, free_port
from weft.catalog.v1.product_pb2_grpc import (
    ProductServiceServicer,
    ProductServiceStub,
    add_ProductServiceServicer_to_server,
)
from weft.catalog.v1.search_pb2 import SearchProductsRequest, SearchProductsResponse

SERVICES = databases.ROOT / "services"
TOLD = About(settings=RegistrationSettings(register=True))
SERVICE = "catalog"  # Any whose contract the edge has routes to; its real servicers are not needed.


class Products(ProductServiceServicer):
    """Answers with a name."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def SearchProducts(self, request: Any, call: Any) -> SearchProductsResponse:  # type: ignore[override]
        return SearchProductsResponse(next_page_token=self._name)


@dataclass
class World:
    """A registry that comes and goes, and as many instances of a service as wanted."""

    registry: Any  # Settings of each.
    service: Any
    mesh: str

    def there(self) -> Any:
        """The registry, for a block."""
        told = {"WEFT_REGISTRY_LIKE_EDGE": "1"}
        return hosting({"registry": lambda tools: build(tools, told)}, self.registry)

    def instance(self, name: str) -> Any:
        """One more, for a block."""
        parts = Parts(servicers={add_ProductServiceServicer_to_server: Products(name)})
        return hosting({SERVICE: lambda tools: parts}, self.service, about=TOLD)


@contextmanager
def _edge(folder: Path, registry: str, mesh: int) -> Iterator[Envoy]:
    """Started from what `python -m envoy` writes."""
    ports = {"https": None, "http": None, "mesh": mesh, "admin": free_port(), "stats": free_port()}
    chosen = edge_settings.from_values(
        {"discovery": "ads", "services": {"registry": [registry], SERVICE: []}, "ports": ports}
    )
    written = bootstrap.write(chosen, folder / "edge")
    command = [str(binary()), "-c", str(written), "--concurrency", "1", "--disable-hot-restart"]
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen([*command, "--log-level", "warning"], stdout=log, stderr=log)
    try:
        yield Envoy(f"{LOOPBACK}:{ports['admin']}", f"{LOOPBACK}:{mesh}")
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
async def world(servers: Shared) -> AsyncIterator[World]:
    async with _database(servers, "registry") as first, _database(servers, SERVICE) as second:
        registry, mesh = f"{LOOPBACK}:{free_port()}", f"{LOOPBACK}:{free_port()}"
        both = replace(BASE, nats_url=servers.account(), drain_s=0.1, mesh_address=mesh)
        own = replace(both, database_url=first, address=registry)
        yield World(own, replace(both, database_url=second), mesh)


@asynccontextmanager
async def _database(servers: Shared, service: str) -> AsyncIterator[str]:
    migrations = SERVICES / service / "migrations"
    async with databases.fresh(servers.postgres(), databases.CHASSIS, migrations) as url:
        yield url


@pytest.mark.slow
async def test_an_edge_that_is_told_calls_who_registered_and_outlives_the_registry(
    world: World, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack, grpc.aio.insecure_channel(world.mesh) as channel:
        search = ProductServiceStub(channel).SearchProducts

        async def who() -> str:
            try:
                return (
                    await search(SearchProductsRequest(), wait_for_ready=True, timeout=10)
                ).next_page_token
            except grpc.aio.AioRpcError as error:
                return str(error.code().name)

        def answering(*names: str) -> Any:
            async def so() -> bool:
                return {await who() for _ in range(16)} == set(names)

            return until(so)

        mesh = int(world.mesh.rpartition(":")[2])
        async with world.there():
            edge = stack.enter_context(_edge(tmp_path, world.registry.address, mesh))
            await answering("UNAVAILABLE")
            await stack.enter_async_context(world.instance("one"))
            await answering("one")
            before = await edge.updates()
        await until(lambda: _connected(edge, 0))
        assert {await who() for _ in range(16)} == {"one"}
        async with world.there():
            await until(lambda: _connected(edge, 1))
            assert await edge.updates() == before
            async with world.instance("two"):
                await answering("one", "two")
            await answering("one")


async def _connected(edge: Envoy, wanted: int) -> bool:
    return await edge.gauge("control_plane.connected_state") == wanted
