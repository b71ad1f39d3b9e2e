"""One queue service for all tests of this folder: each test has queues of its own names."""

from collections.abc import AsyncIterator

import pytest

from services.chassis.testing import Lab, laboratory
from services.queue.app import build
from tests.queue.plant import Plant
from tests.servers import Shared


@pytest.fixture(scope="session")
async def lab(servers: Shared) -> AsyncIterator[Lab]:
    made = laboratory({"queue": build}, postgres_url=servers.postgres(), nats_url=servers.account())
    async with made as lab:
        yield lab


@pytest.fixture
async def plant(lab: Lab) -> AsyncIterator[Plant]:
    async with Plant.of(lab) as plant:
        yield plant
