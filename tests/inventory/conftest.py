"""One inventory for all tests of this folder: each has SKUs and locations of its own."""

from collections.abc import AsyncIterator

import pytest

from services.chassis.testing import Lab, laboratory
from services.inventory.app import build
from tests.inventory.warehouse import Warehouse
from tests.servers import Shared


@pytest.fixture(scope="session")
async def lab(servers: Shared) -> AsyncIterator[Lab]:
    made = laboratory({"inventory": build}, postgres_url=servers.postgres(), nats_url=servers.account())
    async with made as lab:
        yield lab


@pytest.fixture
async def warehouse(lab: Lab) -> Warehouse:
    return await Warehouse.of(lab)
