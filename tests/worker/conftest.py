"""A runner of each test's own."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.jetstream import brokers
from tests.worker.running import Laid, running


@pytest.fixture(autouse=True)
def no_broker_stays() -> Iterator[None]:
    """Servers of a test's own end with it."""
    yield
    brokers.end_all()


@pytest.fixture
async def laid() -> AsyncIterator[Laid]:
    async with running() as laid:
        yield laid
