"""A payment service for a whole module: its tests leave each other alone."""

from collections.abc import AsyncIterator

import pytest

from tests.payment.till import Till, till
from tests.servers import Shared


@pytest.fixture(scope="module")
async def shared_till(servers: Shared) -> AsyncIterator[Till]:
    async with till(servers) as made:
        yield made
