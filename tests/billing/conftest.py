"""A billing for a whole module: its tests have customers of their own and leave each other alone."""

from collections.abc import AsyncIterator

import pytest

from tests.billing.world import World, world
from tests.servers import Shared


@pytest.fixture(scope="module")
async def billing_world(servers: Shared) -> AsyncIterator[World]:
    async with world(servers) as made:
        yield made


@pytest.fixture
async def own_world(servers: Shared) -> AsyncIterator[World]:
    async with world(servers) as made:
        yield made
