"""One billing for the tests of a module; each test has a currency of its own."""

from collections.abc import AsyncIterator
from functools import partial

import pytest

from services.billing.app import build
from services.chassis.clock import FakeClock
from services.chassis.testing import Lab, laboratory
from tests.billing.reports.world import ENVIRON, START
from tests.servers import Shared


@pytest.fixture(scope="module")
async def lab(servers: Shared) -> AsyncIterator[Lab]:
    builds = {"billing": partial(build, environ=ENVIRON)}
    async with laboratory(
        builds, postgres_url=servers.postgres(), nats_url=servers.account(), clock=FakeClock(START)
    ) as made:
        yield made
