"""A ratelimit service for a whole module: its tests have limits, rpcs and callers of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.chassis.host import Parts, Tools
from services.chassis.testing import laboratory
from services.ratelimit.app import build
from services.ratelimit.service.deciding import Decider
from tests.ratelimit.edge import CLOSED, HEADER, Edge
from tests.servers import Shared


@pytest.fixture(scope="module")
async def edge(servers: Shared) -> AsyncIterator[Edge]:
    environ = {"WEFT_RATELIMIT_CLOSED": CLOSED, "WEFT_RATELIMIT_HEADERS": HEADER}
    made: list[Parts] = []

    def building(tools: Tools) -> Parts:
        made.append(build(tools, environ))
        return made[0]

    async with laboratory(
        {"ratelimit": building},
        postgres_url=servers.postgres(),
        nats_url=servers.account(),
    ) as lab:
        [servicer] = [each for each in made[0].servicers.values() if isinstance(each, Decider)]
        yield Edge(lab, servicer)
