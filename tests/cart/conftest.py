"""Carts in real time for a whole module: its tests leave each other alone."""

from collections.abc import AsyncIterator

import pytest

from tests.cart.world import World, world
from tests.servers import Shared


@pytest.fixture(scope="module")
async def shared_world(servers: Shared) -> AsyncIterator[World]:
    async with world(servers) as made:
        yield made


@pytest.fixture
async def shop(shared_world: World) -> AsyncIterator[World]:
    """Where everybody is there and confirms."""
    yield shared_world
    shared_world.clear()
