"""Audit services for tests: one of a test's own, and one that tests without anchors share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from services.audit.app import build
from services.chassis.bus import Bus
from services.chassis.testing import Lab, laboratory
from tests.audit import trail
from tests.servers import Shared

SETTINGS = {"WEFT_AUDIT_ANCHOR_ENTRIES": "1000000", "WEFT_AUDIT_ANCHOR_S": "1000000"}


@asynccontextmanager
async def audit(servers: Shared) -> AsyncIterator[Lab]:
    """Anchors only when the test says so. The producer is there first, which spares its discovery."""
    builds, url = {"audit": partial(build, environ=SETTINGS)}, servers.account()
    bus = Bus(url)
    await bus.connect()
    for producer in ("notification", "queue"):
        await bus.ensure_stream(producer)
    await bus.close()
    async with laboratory(builds, postgres_url=servers.postgres(), nats_url=url) as lab:
        yield lab


@pytest.fixture
async def lab(servers: Shared) -> AsyncIterator[Lab]:
    async with audit(servers) as lab:
        yield lab


@pytest.fixture(scope="module")
async def module_lab(servers: Shared) -> AsyncIterator[Lab]:
    async with audit(servers) as lab:
        yield lab


@pytest.fixture
async def blank(module_lab: Lab) -> Lab:
    """With an empty trail. Anchors outside cannot be emptied, so none may be made here."""
    await trail.empty(module_lab)
    return module_lab
