"""What handlers' lifespans may use: settings, the mesh, the clock; as a service has them of its host."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from services.chassis import mesh, telemetry
from services.chassis.caller import Signer, Verifier
from services.chassis.clock import Clock
from services.chassis.config import Settings
from services.chassis.engine import engine
from services.chassis.mesh import Local, Mesh, Ways
from services.chassis.method import Methods
from services.chassis.rpc import Answering


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Of one process that runs jobs."""

    settings: Settings
    mesh: Mesh  # To every service, as the service `worker`.
    clock: Clock
    tracing: telemetry.Tracing


@asynccontextmanager
async def surrounding(settings: Settings, name: str) -> AsyncIterator[Surroundings]:
    """A process that answers no calls, and makes them as the service `name`."""
    clock = Clock()
    tracing = telemetry.Tracing.to(settings.otlp_endpoint, settings.trace_ratio)
    verifier = Verifier(
        issuer=settings.issuer, audience=settings.audience, mesh_key=settings.mesh_key, clock=clock
    )
    driver = engine(settings.engine)
    async with AsyncExitStack() as stack:
        stack.callback(tracing.close)
        retrying = driver.connect(settings.mesh_address, mesh.retrying())
        once = driver.connect(settings.mesh_address, "{}")
        for client in (retrying, once):
            stack.push_async_callback(client.close)
        ways = Ways(Local(Methods(), Answering(verifier, tracing, clock)), retrying, once)
        channel = Mesh(ways, Signer(name, settings.mesh_key, clock), tracing)
        yield Surroundings(settings=settings, mesh=channel, clock=clock, tracing=tracing)
