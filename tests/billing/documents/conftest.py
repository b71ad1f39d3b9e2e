"""One press for the tests of a module, and the loop it lives in."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from services.billing.documents.pressing import Press


@pytest.fixture(scope="module")
async def press() -> AsyncIterator[Press]:
    made = Press()
    yield made
    await made.stop()


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """For tests of properties, which are no coroutines."""
    with asyncio.Runner() as made:
        yield made
