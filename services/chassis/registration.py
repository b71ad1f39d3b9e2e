"""The services of a process at the registry: there once they serve, renewed while they live, gone at a stop.

The registry's absence keeps nobody from starting, serving or stopping: each call has a bound, and what
failed is tried again until it is there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import random
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.rpc import code_pb2

from services.chassis.clock import uuid7
from services.chassis.config import Settings
from services.chassis.errors import CallFailed
from services.chassis.health import SERVING, Readiness
from services.chassis.mesh import Mesh
from services.chassis.registration_settings import RegistrationSettings

if TYPE_CHECKING:
    from weft.registry.v1.instance_pb2 import InstanceSettings

CALL_S_MAX = 2.0  # The registry answers in milliseconds; a renewal that hangs is asked again in time.
LEAVE_S_MAX = 1.0  # Of a stop, which has calls in flight to look after.
RENEWALS = 3  # In a lease, so that two may be lost on the way.
EARLY = 0.2  # By which share of the pause it may come early: those that began together drift apart.
BACKOFF_S = 0.1  # Before the second try; doubles up to a third of the lease, so that a registry is met again.
PROTOCOLS = ("grpc", "grpc.health.v1")
METRICS_PORT = "metrics-port"  # The label by which the registry reads what a process has counted.

log = logging.getLogger("weft.registration")


@dataclass(frozen=True, kw_only=True)
class About:
    """What a process says of itself."""

    settings: RegistrationSettings
    metrics_port: int = 0  # Where it answers /metrics; 0: nowhere.


class Registrations:
    """All services of one process."""

    def __init__(self, about: About, settings: Settings, port: int, readiness: Readiness) -> None:
        self._about, self._settings, self._port, self._readiness = about, settings, port, readiness
        self._kept: list[Registration] = []

    def begin(self, channels: Mapping[str, Mesh]) -> None:
        """Registers each service by its own channel, and keeps it so."""
        for service, channel in channels.items():
            kept = Registration(service, channel, self._said, self._readiness)
            kept.begin(self._about.settings.register_lease_s)
            self._kept.append(kept)

    async def leave(self) -> None:
        """Takes all away. Waits LEAVE_S_MAX at most, and raises nothing."""
        await asyncio.gather(*(each.leave() for each in self._kept))

    async def _said(self, service: str) -> InstanceSettings:
        """Raises OSError while names cannot be resolved."""
        settings = self._about.settings
        address = settings.register_address or await outward(
            self._settings.address, self._settings.mesh_address
        )
        return described(service, self._about, self._settings, (address, self._port))


class Registration:
    """One service of this process, under an id of its own that no other start has."""

    def __init__(self, service: str, channel: Mesh, said: Any, readiness: Readiness) -> None:
        from weft.registry.v1 import instance_pb2, registry_pb2
        from weft.registry.v1.registry_pb2_grpc import RegistryServiceStub

        self._service, self._said, self._readiness = service, said, readiness
        self._pb, self._stub = registry_pb2, RegistryServiceStub(channel)
        self._well, self._sick = instance_pb2.HEALTH_SERVING, instance_pb2.HEALTH_NOT_SERVING
        self._id = str(uuid7())
        self._known = self._asked = False  # It is registered; it may be.
        self._leaving = asyncio.Event()
        self._trouble = "not yet"  # As last logged.
        self._task: asyncio.Task[None] | None = None

    def begin(self, lease_s: float) -> None:
        self._task = asyncio.create_task(self._keep(lease_s), name=f"registration of {self._service}")

    async def _keep(self, lease_s: float) -> None:
        failures = 0
        while not self._leaving.is_set():
            status = self._readiness.servicer.status(self._service)
            try:
                await self._tell(status)
            except Exception as error:  # Whatever it is, it ends neither this loop nor the process.
                failures += 1
                self._note(f"{type(error).__name__}: {error}")
            else:
                failures = 0
                self._note("")
            await self._pause(pause_s(lease_s, failures, random.random()), status)

    async def _tell(self, status: int) -> None:
        """Renews the lease; registers where there is none."""
        health = self._well if status == SERVING else self._sick
        if self._known:
            renewal = self._pb.RenewInstanceRequest(instance_id=self._id, health=health)
            try:
                await self._stub.RenewInstance(renewal, timeout=CALL_S_MAX)
            except CallFailed as error:
                if error.code != code_pb2.NOT_FOUND:
                    raise
                self._known = False
        if not self._known:
            settings = await self._said(self._service)
            wanted = self._pb.RegisterInstanceRequest(instance_id=self._id, settings=settings, health=health)
            self._asked = True
            await self._stub.RegisterInstance(wanted, timeout=CALL_S_MAX)
            self._known = True

    async def _pause(self, seconds: float, told: int) -> None:
        """Less if its health is another one, or it is to leave."""
        changed = self._readiness.servicer.other_than(told, self._service)
        waits = [asyncio.ensure_future(changed), asyncio.ensure_future(self._leaving.wait())]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    def _note(self, trouble: str) -> None:
        """Logs what is new."""
        if trouble != self._trouble:
            self._trouble = trouble
            level, said = (logging.WARNING, "not registered") if trouble else (logging.INFO, "registered")
            log.log(level, said, extra={"facts": {"service": self._service, "why": trouble}})

    async def leave(self) -> None:
        """The call in flight ends first, for what it asked would come after its withdrawal."""
        self._leaving.set()
        if self._task is None:
            return
        with suppress(Exception):
            async with asyncio.timeout(LEAVE_S_MAX):
                await self._task
                if self._asked:
                    request = self._pb.DeregisterInstanceRequest(instance_id=self._id)
                    await self._stub.DeregisterInstance(request)


def pause_s(lease_s: float, failures: int, chance: float) -> float:
    """Until it is told again; `chance` lies in [0, 1)."""
    third = lease_s / RENEWALS
    if not failures:
        return third * (1 - EARLY * chance)
    longest = min(third, BACKOFF_S * 2.0 ** min(failures - 1, 16))
    return longest * (1 + chance) / 2


def described(service: str, about: About, settings: Settings, place: tuple[str, int]) -> InstanceSettings:
    """What the registry is told of one service at `place`."""
    from google.protobuf.duration_pb2 import Duration

    from weft.registry.v1.instance_pb2 import InstanceSettings

    own = about.settings
    labels = dict(each.split("=", 1) for each in own.labels)
    labels |= {"contract": f"weft.{service}.v1", "host": socket.gethostname(), "pid": str(os.getpid())}
    if about.metrics_port:
        labels[METRICS_PORT] = str(about.metrics_port)
    lease = Duration()
    lease.FromMilliseconds(round(own.register_lease_s * 1000))
    return InstanceSettings(
        service=service,
        address=place[0],
        port=place[1],
        version=own.version,
        zone=own.zone,
        owner=own.owner,
        labels=labels,
        protocols=PROTOCOLS,
        docs_url=f"{settings.edge_url}/docs",
        lease=lease,
    )


async def outward(listening: str, mesh: str) -> str:
    """The IP address that others reach `listening` by (host:port). Raises OSError.

    Of any address, it is that of the interface that leads to `mesh`, where all others are.
    """
    host = listening.rpartition(":")[0].strip("[]")
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if not address.is_unspecified:
            return str(address)
        host = ""
    loop = asyncio.get_running_loop()
    if host:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return str(found[0][4][0])
    peer, _, port = mesh.rpartition(":")
    found = await loop.getaddrinfo(peer.strip("[]"), int(port), type=socket.SOCK_DGRAM)
    family, kind, protocol, _, place = found[0]
    with socket.socket(family, kind, protocol) as way:
        way.connect(place)  # Of a datagram's socket: it chooses a way, and sends nothing.
        return str(way.getsockname()[0])
