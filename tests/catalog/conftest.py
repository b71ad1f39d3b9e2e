"""One catalog for all tests of this folder: each test has products, categories and words of its own."""

from collections.abc import AsyncIterator

import pytest

from services.catalog.app import build
from services.chassis.testing import Lab, laboratory
from tests.catalog.shop import Shop
from tests.servers import Shared


@pytest.fixture(scope="session")
async def lab(servers: Shared) -> AsyncIterator[Lab]:
    made = laboratory({"catalog": build}, postgres_url=servers.postgres(), nats_url=servers.account())
    async with made as lab:
        yield lab


@pytest.fixture
def shop(lab: Lab) -> Shop:
    return Shop.of(lab)


@pytest.fixture
async def empty_shop(servers: Shared) -> AsyncIterator[Shop]:
    """A catalog of this test's own, for what speaks of all products."""
    made = laboratory({"catalog": build}, postgres_url=servers.postgres(), nats_url=servers.account())
    async with made as lab:
        yield Shop.of(lab)
