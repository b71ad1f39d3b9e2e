"""A registry for a whole module: its tests have services of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.chassis.testing import laboratory
from services.registry.app import build
from tests.registry.mesh import LISTENER, Mesh
from tests.servers import Shared, free_port


@pytest.fixture(scope="module")
async def mesh(servers: Shared) -> AsyncIterator[Mesh]:
    listener = f"127.0.0.1:{free_port()}"
    environ = {LISTENER: listener}
    async with laboratory(
        {"registry": lambda tools: build(tools, environ)},
        postgres_url=servers.postgres(),
        nats_url=servers.account(),
    ) as lab:
        yield Mesh(lab, listener)
