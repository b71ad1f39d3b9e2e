"""A real Envoy and gRPC's own xDS client take their endpoints from the registry."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from services.chassis.host import hosting
from services.chassis.testing import BASE, until
from services.registry.app import build
from tests import databases
from tests.registry.answering import LOOPBACK, Envoy, envoy, xds_client
from tests.registry.calling import LAST, calling, instances
from tests.registry.mesh import LISTENER, LONG, Mesh
from tests.servers import Shared, free_port
from weft.registry.v1.instance_pb2 import HEALTH_NOT_SERVING, HEALTH_SERVING, InstanceSettings
from weft.registry.v1.registry_pb2 import RegisterInstanceRequest
from weft.registry.v1.registry_pb2_grpc import RegistryServiceStub

MIGRATIONS = databases.ROOT / "services" / "registry" / "migrations"


@pytest.mark.parametrize("way", ["DELTA_GRPC", "GRPC"])
async def test_an_envoy_calls_who_is_registered_and_nobody_else(mesh: Mesh, way: str, tmp_path: Path) -> None:
    async with instances("one", "two") as ports:
        one = await mesh.register("books", port=ports[0], version="1")
        with envoy(mesh.address, mesh.listener, tmp_path, way) as running:
            async with calling(running.listener) as caller, calling(running.listener, "books") as named:
                await caller.until_answering({"one"})
                two = await mesh.register("books", port=ports[1], version="2")
                await caller.until_answering({"one", "two"})
                assert await named.answering() == {"one", "two"}
                await mesh.set_policy(
                    "books",
                    shares=[{"version": "1", "weight": 1}],
                    header_rules=[{"header": "x-canary", "value": "yes", "version": "2"}],
                )
                await caller.until_answering({"one"})
                assert await caller.answering(("x-canary", "yes")) == {"two"}
                await mesh.set_policy("books")
                await caller.until_answering({"one", "two"})
                await mesh.renew(one.instance_id, HEALTH_NOT_SERVING)
                await caller.until_answering({"two"})
                await mesh.renew(one.instance_id, HEALTH_SERVING)
                await caller.until_answering({"one", "two"})
                await mesh.end_lease(one.instance_id)
                await caller.until_answering({"two"})
                await mesh.deregister(two.instance_id)
                await caller.until_answering({"UNAVAILABLE"})


async def test_grpcs_own_client_calls_who_is_registered(mesh: Mesh) -> None:
    async with instances("one", "two") as ports:
        one = await mesh.register("books", port=ports[0], version="1")
        with xds_client(mesh.address) as call:

            async def answering(header: str = "") -> set[str]:
                return {await asyncio.to_thread(call, header) for _ in range(LAST)}

            async def until_answering(names: set[str]) -> None:
                async def so() -> bool:
                    return await answering() == names

                await until(so)

            await until_answering({"one"})
            two = await mesh.register("books", port=ports[1], version="2")
            await until_answering({"one", "two"})
            await mesh.set_policy(
                "books",
                balancing={"least_request": {}},
                shares=[{"version": "1", "weight": 1}],
                header_rules=[{"header": "x-canary", "value": "yes", "version": "2"}],
            )
            await until_answering({"one"})
            assert await answering("x-canary yes") == {"two"}
            await mesh.deregister(one.instance_id)
            await until_answering({"two"})
            await mesh.deregister(two.instance_id)
            await mesh.set_policy("books")


async def test_an_envoy_outlives_the_registry_and_is_told_nothing_when_it_is_back(
    servers: Shared, tmp_path: Path
) -> None:
    port, listener = free_port(), f"{LOOPBACK}:{free_port()}"
    async with databases.fresh(servers.postgres(), databases.CHASSIS, MIGRATIONS) as url:
        settings = replace(
            BASE,
            database_url=url,
            nats_url=servers.account(),
            address=f"{LOOPBACK}:{port}",
            drain_s=0.1,
        )

        def start() -> Any:
            builds = {"registry": lambda tools: build(tools, {LISTENER: listener})}
            return hosting(builds, settings)

        async with AsyncExitStack() as stack:
            [one, two] = await stack.enter_async_context(instances("one", "two"))
            async with start() as hosted:
                await _register(hosted, one)
                place = f"{LOOPBACK}:{port}"
                running = stack.enter_context(envoy(place, listener, tmp_path, "DELTA_GRPC"))
                caller = await stack.enter_async_context(calling(listener))
                await caller.until_answering({"one"})
                before = await running.updates()
            await _connected(running, 0)
            assert await caller.answering() == {"one"}
            async with start() as hosted:
                await _connected(running, 1)
                assert await caller.answering() == {"one"}
                assert await running.updates() == before
                await _register(hosted, two)
                await caller.until_answering({"one", "two"})
                # Its one endpoint more, and nothing else, was told since it came back.
                name = "cluster.books.update_success"
                assert await running.updates() == before | {name: before[name] + 1}


async def _connected(running: Envoy, wanted: int) -> None:
    async def so() -> bool:
        return await running.gauge("control_plane.connected_state") == wanted

    await until(so)


async def _register(hosted: Any, port: int) -> None:
    """As the service itself would, by the mesh."""
    settings = InstanceSettings(service="books", address=LOOPBACK, port=port, lease=LONG)
    request = RegisterInstanceRequest(instance_id=str(uuid4()), settings=settings)
    await RegistryServiceStub(hosted.mesh["registry"]).RegisterInstance(request)
