"""A process registers itself with a real registry, whatever becomes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from services.chassis import registration
from services.chassis.host import Hosted, Parts, hosting
from services.chassis.registration import About
from services.chassis.registration_settings import RegistrationSettings
from services.chassis.telemetry import BY_CALLER
from services.chassis.testing import BASE, WAIT_S, until
from services.registry.app import build
from tests import databases
from tests.registry.answering import LOOPBACK
from tests.servers import Shared, free_port
from weft.registry.v1.instance_pb2 import HEALTH_NOT_SERVING, HEALTH_SERVING, Instance
from weft.registry.v1.registry_pb2 import DeregisterInstanceRequest, ListInstancesRequest
from weft.registry.v1.registry_pb2_grpc import RegistryServiceStub

MIGRATIONS = databases.ROOT / "services" / "registry" / "migrations"
GUEST = "guest"


@dataclass
class World:
    """A registry that comes and goes, and a service beside it."""

    registry: Any  # Settings of each.
    guest: Any
    sick: bool = False
    about: About = field(
        default_factory=lambda: About(
            settings=RegistrationSettings(register=True, register_lease_s=1.0, zone="north"), metrics_port=9
        )
    )

    def there(self) -> Any:
        """The registry, for a block."""
        return hosting({"registry": lambda tools: build(tools, {})}, self.registry)

    def living(self) -> Any:
        """The service, for a block."""

        async def check() -> None:
            if self.sick:
                raise ConnectionError

        parts = Parts(checks={"own": check})
        return hosting({GUEST: lambda tools: parts}, self.guest, about=self.about)


async def listed(registry: Hosted) -> list[Instance]:
    stub = RegistryServiceStub(registry.mesh["registry"])  # type: ignore[arg-type]
    return list((await stub.ListInstances(ListInstancesRequest(filter='service = "guest"'))).instances)


async def one(registry: Hosted, health: Any = HEALTH_SERVING) -> Instance:
    """The guest's instance, once it is there and so."""

    async def there() -> list[Instance]:
        return [each for each in await listed(registry) if each.health == health]

    [instance] = await until(there)
    assert isinstance(instance, Instance)
    return instance


@pytest.fixture
async def world(servers: Shared, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(registration, "LEAVE_S_MAX", WAIT_S)  # Of a machine that is busy.
    async with _database(servers, MIGRATIONS) as first, _database(servers) as second:
        port = free_port()
        both = replace(BASE, nats_url=servers.account(), drain_s=0.1)
        registry = replace(both, database_url=first, address=f"{LOOPBACK}:{port}")
        guest = replace(both, database_url=second, mesh_address=f"{LOOPBACK}:{port}")
        yield World(registry, guest)


@asynccontextmanager
async def _database(servers: Shared, *migrations: Any) -> AsyncIterator[str]:
    async with databases.fresh(servers.postgres(), databases.CHASSIS, *migrations) as url:
        yield url


async def test_a_process_is_registered_while_it_serves_and_gone_when_it_stops(world: World) -> None:
    async with world.there() as registry:
        async with world.living() as guest:
            first = await one(registry)
            assert (first.settings.address, first.settings.port) == (LOOPBACK, guest.port)
            assert (first.settings.zone, first.settings.labels["metrics-port"]) == ("north", "9")

            async def renewed() -> bool:
                return (await one(registry)).expire_time.ToDatetime() > first.expire_time.ToDatetime()

            await until(renewed)
            world.sick = True
            await guest.readiness.round()
            assert (await one(registry, HEALTH_NOT_SERVING)).instance_id == first.instance_id
        assert await listed(registry) == []
        world.sick = False
        async with world.living():
            assert (await one(registry)).instance_id != first.instance_id
    answered = {
        sample.labels["caller"]
        for family in BY_CALLER.collect()
        for sample in family.samples
        if sample.name.endswith("_count") and sample.labels["service"] == "registry" and sample.value
    }
    assert GUEST not in answered, "a registry that does not register itself counts nobody apart"


async def test_the_registry_may_come_late_go_and_come_back(world: World) -> None:
    async with world.living():
        async with world.there() as registry:
            first = await one(registry)
            stub = RegistryServiceStub(registry.mesh["registry"])  # type: ignore[arg-type]
            await stub.DeregisterInstance(DeregisterInstanceRequest(instance_id=first.instance_id))

            async def again() -> bool:
                return [each.revision for each in await listed(registry)] > [first.revision]

            await until(again)
        async with world.there() as registry:
            back = await one(registry)
            assert back.instance_id == first.instance_id

            async def renewed() -> bool:
                return (await one(registry)).expire_time.ToDatetime() > back.expire_time.ToDatetime()

            await until(renewed)
    # Nobody is there to be told that it stops; it stops.
