"""A runner of each test's own."""

from collections.abc import AsyncIterator

import pytest

from tests.worker.running import Laid, running


@pytest.fixture
async def laid() -> AsyncIterator[Laid]:
    async with running() as laid:
        yield laid
