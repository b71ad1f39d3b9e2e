"""A shop for a whole module: its tests leave each other alone, and each begins with a fresh world."""

from collections.abc import AsyncIterator

import pytest

from tests.order.shop import Shop, clear, shop
from tests.servers import Shared


@pytest.fixture(scope="module")
async def shared_shop(servers: Shared) -> AsyncIterator[Shop]:
    async with shop(servers) as made:
        yield made


@pytest.fixture
def store(shared_shop: Shop) -> Shop:
    """In real time."""
    clear(shared_shop.world)
    return shared_shop
