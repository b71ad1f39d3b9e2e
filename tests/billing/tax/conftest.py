"""Billing alone, for the tests of its taxes: with a clock that stands, and VIES as a test plays it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import pytest

from services.billing.app import build
from services.chassis.clock import FakeClock
from services.chassis.testing import Lab, laboratory
from tests.servers import Shared

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
Billing = Callable[..., AbstractAsyncContextManager[Lab]]


@pytest.fixture(scope="module")
def billing(servers: Shared) -> Billing:
    """Starts a billing with the settings given."""

    @asynccontextmanager
    async def start(**environ: str) -> AsyncIterator[Lab]:
        chosen = {"WEFT_BILLING_VIES_URL": "", **environ}
        builds = {"billing": partial(build, environ=chosen)}
        async with laboratory(
            builds, postgres_url=servers.postgres(), nats_url=servers.account(), clock=FakeClock(START)
        ) as lab:
            yield lab

    return start


@pytest.fixture(scope="module")
async def lab(billing: Billing) -> AsyncIterator[Lab]:
    async with billing() as made:
        yield made
