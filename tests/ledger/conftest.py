"""A ledger that the tests of a module share; each makes accounts of its own."""

from collections.abc import AsyncIterator

import pytest

from tests.ledger.books import Books, ledger
from tests.servers import Shared


@pytest.fixture(scope="module")
async def books(servers: Shared) -> AsyncIterator[Books]:
    async with ledger(servers) as made:
        yield made
