"""Pricing in real time for a whole module: its tests leave each other alone."""

from collections.abc import AsyncIterator

import pytest

from tests.pricing.world import World, world
from tests.servers import Shared


@pytest.fixture(scope="module")
async def shared_world(servers: Shared) -> AsyncIterator[World]:
    async with world(servers) as made:
        yield made


@pytest.fixture
async def shop(shared_world: World) -> AsyncIterator[World]:
    """Without promotions and price lists."""
    yield shared_world
    await shared_world.clear()
