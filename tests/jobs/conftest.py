"""A bus and a lean connection to one NATS account of the test's own, with the streams of jobs in it."""

from collections.abc import AsyncIterator

import pytest

from services.chassis.bus import Bus
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.servers import Options
from services.chassis.jobs.streams import ensure_streams


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    opened = Bus(nats_url)
    await opened.connect()
    await ensure_streams(opened)
    yield opened
    await opened.close()


@pytest.fixture
async def connection(nats_url: str) -> AsyncIterator[Connection]:
    opened = Connection(Options.of(nats_url))
    await opened.open()
    yield opened
    await opened.close()
