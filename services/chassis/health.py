"""Whether this process answers at all (liveness), and whether its services can do their work (readiness).

grpc.health.v1, with these names: `` (all services of the process), `live` (the process), each service's
folder name and each full gRPC service name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from grpc_health.v1 import health_pb2 as pb, health_pb2_grpc

from services.chassis.errors import NotFound
from services.chassis.method import Call
from services.chassis.telemetry import READY

Check = Callable[[], Awaitable[object]]

LIVE = "live"
PROCESS = "process"
INTERVAL_S = 2.0  # Between two rounds of checks; a dead dependency is seen within about this.
CHECK_S_MAX = 1.5  # A check that takes longer is late; late twice in a row has failed.
SERVING, NOT_SERVING = pb.HealthCheckResponse.SERVING, pb.HealthCheckResponse.NOT_SERVING
UNKNOWN, UNTOLD = pb.HealthCheckResponse.SERVICE_UNKNOWN, -1

log = logging.getLogger("weft.health")


class UnknownService(NotFound):
    """No service {name} is hosted here."""


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # generated without types
    """grpc.health.v1.Health over the statuses of one process."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Condition()

    async def Check(self, request: pb.HealthCheckRequest, call: Call) -> pb.HealthCheckResponse:
        if request.service not in self._statuses:
            raise UnknownService(name=request.service)
        return pb.HealthCheckResponse(status=self._statuses[request.service])

    async def List(self, request: pb.HealthListRequest, call: Call) -> pb.HealthListResponse:
        answers = {name: pb.HealthCheckResponse(status=status) for name, status in self._statuses.items()}
        return pb.HealthListResponse(statuses=answers)

    async def Watch(
        self, request: pb.HealthCheckRequest, call: Call
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        """The status now, and each change of it; a name that is unknown now may come later."""
        told = UNTOLD
        while True:
            told = await self.other_than(told, request.service)
            yield pb.HealthCheckResponse(status=told)

    async def other_than(self, told: int, name: str) -> int:
        """The status of `name`, once it is not `told`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.status(name) != told)
        return self.status(name)

    def status(self, name: str) -> int:
        """Of `name` now."""
        return int(self._statuses.get(name, UNKNOWN))

    async def set(self, name: str, status: int) -> None:
        """Tells whoever watches."""
        if self._statuses.get(name) != status:
            async with self._changed:
                self._statuses[name] = status
                self._changed.notify_all()


class Readiness:
    """Runs the checks of the services hosted here and answers grpc.health for them."""

    def __init__(self) -> None:
        self.servicer = Health()
        self._checks: dict[str, dict[str, Check]] = {}
        self._names: dict[str, list[str]] = {}
        self._failing: dict[str, str] = {}  # By service: the check that failed, and why.
        self._late: set[str] = set()  # Services whose last round found a late check.
        self._judged = self._draining = False

    def add(self, service: str, names: list[str], checks: Mapping[str, Check]) -> None:
        """`names` are the gRPC services that stand or fall with `service`."""
        self._names[service], self._checks[service] = [service, *names], dict(checks)
        self._failing[service] = "not checked yet"

    @property
    def failing(self) -> dict[str, str]:
        """What keeps calls away, and why: services that fail, or the process itself. From any thread."""
        if self._draining or not self._judged:
            return {PROCESS: "draining" if self._draining else "starting"}
        return dict(self._failing)

    async def run(self) -> None:
        """Checks for ever."""
        await self.servicer.set(LIVE, SERVING)
        while not self._draining:
            await self.round()
            await asyncio.sleep(INTERVAL_S)

    async def round(self) -> None:
        """One round of all checks."""
        for service, checks in self._checks.items():
            why, late = await _first_failure(checks)
            if self._forgiven(service, late):
                continue
            if why != self._failing.get(service, ""):
                facts = {"facts": {"service": service, "why": why or "all checks pass"}}
                log.log(logging.WARNING if why else logging.INFO, "readiness changed", extra=facts)
            if why:
                self._failing[service] = why
            else:
                self._failing.pop(service, None)
            READY.labels(service).set(0 if why else 1)
            await self._tell(service, not why)
        self._judged = True
        await self.servicer.set("", NOT_SERVING if self._failing or self._draining else SERVING)

    def _forgiven(self, service: str, late: bool) -> bool:
        """One late check is a process that is busy; taking it away would make the others busier."""
        first = late and service not in self._late
        (self._late.add if late else self._late.discard)(service)
        return first

    async def drain(self) -> None:
        """Readiness goes, liveness stays: the edge sends no new calls, those in flight end."""
        self._draining = True
        await self.servicer.set("", NOT_SERVING)
        for service in self._checks:
            await self._tell(service, ready=False)

    async def _tell(self, service: str, ready: bool) -> None:
        status = SERVING if ready and not self._draining else NOT_SERVING
        for name in self._names[service]:
            await self.servicer.set(name, status)


async def _first_failure(checks: Mapping[str, Check]) -> tuple[str, bool]:
    """Names the first check that fails (empty when all pass), and whether it was only late."""
    for name, check in checks.items():
        limit = asyncio.timeout(CHECK_S_MAX)
        try:
            async with limit:
                await check()
        except Exception as error:
            return f"{name}: {type(error).__name__}", limit.expired()
    return "", False
