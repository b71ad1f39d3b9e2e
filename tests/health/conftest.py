"""A health service that watches one gateway, which a test opens and closes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from services.chassis.testing import laboratory
from services.health.app import build
from tests.health.gateway import Ward, environ
from tests.servers import Shared, free_port


@pytest.fixture(scope="module")
async def ward(servers: Shared, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ward]:
    port, file = free_port(), Path(tmp_path_factory.mktemp("health")) / "capabilities.toml"
    made = laboratory(
        {"health": partial(build, environ=environ(port, file))},
        postgres_url=servers.postgres(),
        nats_url=servers.account(),
        settings={"degrade": True},
    )
    async with made as lab, Ward.of(lab, port) as ward:
        yield ward
