"""A gateway that is there or not, and what a health service says of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.chassis.testing import Lab, until
from weft.health.v1 import health_pb2 as pb, state_pb2
from weft.health.v1.health_pb2_grpc import HealthServiceStub

CAPABILITIES = """
[capabilities.shop]
needs = ["gateway.cards"]
money = true
degraded = { off = ["catalog.facets"], stale = ["catalog.products"], queue = ["notification.send"] }
emergency = { shed = ["/weft.health.v1."] }

[capabilities.mail]
needs = ["postgres", "nats"]
wants = ["gateway.mail"]
"""
NORMAL, DEGRADED, EMERGENCY = state_pb2.MODE_NORMAL, state_pb2.MODE_DEGRADED, state_pb2.MODE_EMERGENCY


def environ(port: int, file: Path) -> dict[str, str]:
    """Quick to decide, and patient with a machine that is busy."""
    file.write_text(CAPABILITIES)
    values = {
        "MONITOR": "1",
        "CAPABILITIES": str(file),
        "PROBES": f"gateway.cards=tcp://127.0.0.1:{port}",
        "INTERVAL_S": "0.1",
        "TIMEOUT_S": "30",
        "BUDGET_S": "30",
        "WINDOW": "2",
        "FALL": "2",
        "RISE": "1",
        "BACKOFF_S": "0.05",
        "BACKOFF_S_MAX": "0.1",
        "HOLD_S": "0",
    }
    return {f"WEFT_HEALTH_{name}": value for name, value in values.items()}


@dataclass
class Ward:
    """The service, and the gateway's port."""

    lab: Lab
    port: int
    health: Any = field(init=False)
    _server: asyncio.Server | None = None

    def __post_init__(self) -> None:
        self.health = HealthServiceStub(self.lab.channel)

    @classmethod
    @asynccontextmanager
    async def of(cls, lab: Lab, port: int) -> AsyncIterator[Ward]:
        """With a gateway that is there."""
        ward = cls(lab, port)
        await ward.open()
        try:
            yield ward
        finally:
            ward.close()

    async def open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(_hang_up, "127.0.0.1", self.port)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def mode(self, capability: str = "shop") -> int:
        return (await self.capability(capability)).mode

    async def capability(self, name: str) -> Any:
        system = await self.health.GetSystem(pb.GetSystemRequest(), metadata=self.lab.bearer())
        return next(each for each in system.capabilities if each.capability == name)

    async def until_mode(self, mode: int, capability: str = "shop") -> None:
        async def reached() -> bool:
            return await self.mode(capability) == mode

        await until(reached)

    async def incidents(self, filter: str = 'capability = "shop"') -> list[Any]:
        """Newest first."""
        request = pb.ListIncidentsRequest(filter=filter)
        return list((await self.health.ListIncidents(request, metadata=self.lab.bearer())).incidents)

    async def announced(self, key: str) -> list[str]:
        """Names of the events of one key, in order."""
        rows = await self.lab.db("health").fetch(
            "select type from event where key = $1 order by position", key
        )
        return [row["type"].rpartition(".")[2] for row in rows]


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()
