"""What a service hands to the chassis, and how the chassis runs any set of services in one process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha._async import ReflectionServicer
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION
from grpc_reflection.v1alpha.reflection_pb2_grpc import add_ServerReflectionServicer_to_server

from services.chassis import idempotency, mesh, telemetry
from services.chassis.bus import Bus
from services.chassis.caller import Signer, Verifier
from services.chassis.clock import Clock, MovedClock
from services.chassis.config import Settings
from services.chassis.db import Database
from services.chassis.engine import Server, engine
from services.chassis.health import Check, Readiness
from services.chassis.inbox import Consumer, Every, Handler, Many
from services.chassis.jobs import effects
from services.chassis.keys import Keys
from services.chassis.mesh import Local, Mesh, Ways
from services.chassis.method import Methods
from services.chassis.modes import Modes
from services.chassis.registration import About, Registrations
from services.chassis.relay import Relay
from services.chassis.rpc import Answering

SERVICES = Path(__file__).parent.parent
START_S_MAX = 60.0  # PostgreSQL and NATS may come up later than we do; after this we say so and end.
LOOP_BACKOFF_S, LOOP_BACKOFF_S_MAX = 0.5, 30.0  # Between a background loop's failure and its next start.
CANCEL_AGAIN_S = 1.0  # Between two cancellations of a background loop that did not end.
FORGET_EVERY_S = 3_600.0

log = logging.getLogger("weft.host")


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What the chassis lends a service."""

    name: str  # The service's folder, database, stream and mesh identity.
    settings: Settings
    db: Database
    bus: Bus
    mesh: Mesh  # To every service: the method's full name is the address.
    clock: Clock
    keys: Keys  # The issuer's public keys, known to every process.
    verifier: Verifier
    modes: Modes  # What holds for capabilities; all is normal unless WEFT_DEGRADE is set.
    log: logging.Logger


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a service is made of."""

    servicers: Mapping[Callable[[Any, Any], None], object] = field(default_factory=dict)
    consumers: Mapping[type[Message] | Every, Handler | Many] = field(default_factory=dict)
    loops: Sequence[Callable[[], Awaitable[None]]] = ()  # Run for ever; restarted when they fail.
    checks: Mapping[str, Check] = field(default_factory=dict)  # Readiness beyond database and bus.
    starts: Sequence[Callable[[], Awaitable[None]]] = ()  # Before the first call; must be repeatable.


Build = Callable[[Tools], Parts]


@dataclass(frozen=True, kw_only=True)
class Hosted:
    """A running process."""

    port: int
    readiness: Readiness
    mesh: Mapping[str, Mesh]  # By service: a channel that calls as that service.
    tools: Mapping[str, Tools]


@asynccontextmanager
async def hosting(
    builds: Mapping[str, Build],
    settings: Settings,
    *,
    clock: Clock | None = None,
    tracing: telemetry.Tracing | None = None,
    readiness: Readiness | None = None,
    about: About | None = None,
) -> AsyncIterator[Hosted]:
    """Runs the named services in this process until the block ends, then drains and stops them.

    `readiness` is for who asks before the services are there, and while they drain; `about` is what they
    say of themselves at the registry, where there is one to be told.
    """
    async with AsyncExitStack() as stack:
        process = _Process(settings, clock or _clock(settings), tracing or _tracing(settings), stack, about)
        process.readiness = readiness or process.readiness
        await process.open()
        for name, build in builds.items():
            await process.add(name, build)
        yield await process.serve()


def _clock(settings: Settings) -> Clock:
    return MovedClock(Path(settings.clock_file)) if settings.clock_file else Clock()


def _tracing(settings: Settings) -> telemetry.Tracing:
    return telemetry.Tracing.to(settings.otlp_endpoint, settings.trace_ratio)


class _Process:
    """One process in the making: shared parts first, then each service, then the socket."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        tracing: telemetry.Tracing,
        stack: AsyncExitStack,
        about: About | None,
    ) -> None:
        self._about = about
        self._settings, self._clock, self._tracing, self._stack = settings, clock, tracing, stack
        self._verifier = Verifier(
            issuer=settings.issuer, audience=settings.audience, mesh_key=settings.mesh_key, clock=clock
        )
        self._methods, self.readiness = Methods(), Readiness()
        self._modes = Modes(clock)
        self._answering = Answering(
            self._verifier, tracing, clock, modes=self._modes, by_caller=about is not None
        )
        self._tools: dict[str, Tools] = {}
        self._loops: list[tuple[str, str, Callable[[], Awaitable[None]]]] = []

    async def open(self) -> None:
        """Bus, keys and the channel out."""
        self._stack.callback(self._tracing.close)
        self._bus = Bus(self._settings.nats_url, replicas=self._settings.nats_replicas)
        await patiently("NATS", self._bus.connect)
        self._stack.push_async_callback(self._bus.close)
        self._keys = Keys(self._bus, self._verifier)
        await self._keys.open()
        self._loops.append(("process", "keys", self._keys.watch))
        self._loops.append(("process", "readiness", self.readiness.run))
        self._loops.append(("process", "trespasses", self._answering.trespasses.run))
        if self._settings.degrade:
            self._loops.append(("process", "modes", lambda: self._modes.follow(self._bus)))
        driver = engine(self._settings.engine)
        retrying = driver.connect(self._settings.mesh_address, mesh.retrying())
        once = driver.connect(self._settings.mesh_address, "{}")
        for client in (retrying, once):
            self._stack.push_async_callback(client.close)
        self._ways = Ways(Local(self._methods, self._answering), retrying, once)

    async def add(self, name: str, build: Build) -> None:
        """Opens and migrates the service's database, builds it, and takes its parts in."""
        db = Database(self._settings.database(name), pool_max=self._settings.pool_max, clock=self._clock)
        await patiently(f"the database of {name}", db.open)
        self._stack.push_async_callback(db.close)
        await db.migrate(SERVICES / "chassis" / "migrations", SERVICES / name / "migrations")
        tools = self._lend(name, db)
        before = set(self._methods.services())
        parts = build(tools)
        for register, servicer in parts.servicers.items():
            register(servicer, self._methods)
        await self._bus.ensure_stream(name)
        self._take(tools, parts)
        names = sorted(set(self._methods.services()) - before)
        self._answering.trespasses.tell_in(db, names)
        checks = {"database": lambda: db.fetchval("select 1"), "bus": self._bus.check, **parts.checks}
        self.readiness.add(name, names, checks)
        for start in parts.starts:
            await start()

    def _lend(self, name: str, db: Database) -> Tools:
        signer = Signer(name, self._settings.mesh_key, self._clock)
        self._tools[name] = Tools(
            name=name,
            settings=self._settings,
            db=db,
            bus=self._bus,
            mesh=Mesh(self._ways, signer, self._tracing),
            clock=self._clock,
            keys=self._keys,
            verifier=self._verifier,
            modes=self._modes,
            log=logging.getLogger(f"weft.{name}"),
        )
        return self._tools[name]

    def _take(self, tools: Tools, parts: Parts) -> None:
        """The background work of one service."""
        name, relay = tools.name, Relay(tools.db, tools.bus, tools.name, tools.clock)
        self._loops.append((name, "relay", relay.run))
        self._loops.append((name, "forget", _forgetting(tools)))
        for kind, handler in parts.consumers.items():
            consumer = Consumer(tools.db, tools.bus, name, kind, handler, tools.clock)
            self._loops.append((name, f"consumer {getattr(handler, '__qualname__', handler)}", consumer.run))
        for loop in parts.loops:
            self._loops.append((name, getattr(loop, "__qualname__", "loop"), loop))

    async def serve(self) -> Hosted:
        """Opens the socket, starts the loops, and declares readiness."""
        add_HealthServicer_to_server(self.readiness.servicer, self._methods)
        names = [*self._methods.services(), REFLECTION]
        add_ServerReflectionServicer_to_server(ReflectionServicer(names), self._methods)  # type: ignore[no-untyped-call]
        driver = engine(self._settings.engine)
        server = await driver.serve(self._settings.address, self._methods.by_path, self._answering)
        loops = [asyncio.create_task(_for_ever(*loop), name=loop[1]) for loop in self._loops]
        self._stack.push_async_callback(_stop, loops)
        self._stack.push_async_callback(self._drain, server)
        await self.readiness.round()
        channels = {name: tools.mesh for name, tools in self._tools.items()}
        if self._about:
            registrations = Registrations(self._about, self._settings, server.port, self.readiness)
            registrations.begin(channels)
            self._stack.push_async_callback(registrations.leave)  # First of all: no new calls come then.
        return Hosted(port=server.port, readiness=self.readiness, mesh=channels, tools=self._tools)

    async def _drain(self, server: Server) -> None:
        await self.readiness.drain()
        await server.stop(self._settings.drain_s)


async def patiently(what: str, attempt: Callable[[], Awaitable[Any]]) -> None:
    """Tries until START_S_MAX has passed; raises the last error then."""
    ends = asyncio.get_running_loop().time() + START_S_MAX
    delay = 0.1
    while True:
        try:
            await attempt()
        except (OSError, TimeoutError, ConnectionError) as error:
            if asyncio.get_running_loop().time() + delay > ends:
                raise
            log.warning("%s is not there yet: %s", what, type(error).__name__)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 2.0)
        else:
            return


def _forgetting(tools: Tools) -> Callable[[], Awaitable[None]]:
    async def forget() -> None:
        while True:
            await tools.db.execute(idempotency.FORGET, idempotency.RETENTION_H)
            await tools.db.execute(effects.FORGET, effects.KEPT_D)
            await asyncio.sleep(FORGET_EVERY_S)

    return forget


async def _for_ever(service: str, name: str, loop: Callable[[], Awaitable[None]]) -> None:
    """A loop that fails begins again, later and later; one that returns is done."""
    delay = LOOP_BACKOFF_S
    while True:
        began = asyncio.get_running_loop().time()
        try:
            await loop()
        except Exception:
            log.exception("a background loop failed", extra={"facts": {"service": service, "loop": name}})
        else:
            return
        telemetry.LOOP_RESTARTS.labels(service, name).inc()
        if asyncio.get_running_loop().time() - began > LOOP_BACKOFF_S_MAX:
            delay = LOOP_BACKOFF_S
        await asyncio.sleep(delay)
        delay = min(delay * 2, LOOP_BACKOFF_S_MAX)


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    """Cancels until all are done: a driver that is interrupted may answer with an error of its own."""
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_S)
