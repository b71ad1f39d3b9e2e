"""The registry: registrations, what a client of discovery waits for, and what a change costs.

The client speaks the protocol by hand, by delta, and takes what it is told at once: what an Envoy makes of it
comes on top.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from statistics import median, quantiles
from time import perf_counter, process_time
from typing import Any
from uuid import uuid4

import grpc.aio
import uvloop

from bench import mesh
from bench.machine import Meter
from bench.mesh import HOST, Mesh
from bench.report import Report
from envoy.service.discovery.v3.ads_pb2_grpc import AggregatedDiscoveryServiceStub
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from services.chassis.caller import OPERATOR
from services.chassis.config import Settings
from services.chassis.jobs.surroundings import surrounding
from services.registry.domain.resource import CDS, EDS, Kind
from services.registry.domain.snapshot import snapshot
from services.registry.domain.world import Endpoint, World, world
from weft.registry.v1 import registry_pb2 as pb
from weft.registry.v1.instance_pb2 import HEALTH_DRAINING, HEALTH_SERVING, InstanceSettings
from weft.registry.v1.registry_pb2_grpc import RegistryServiceStub

SERVICES, EACH = 200, 5  # What the figure is quoted for.
LARGE = 1_000  # Services of ten, as the prototype had them.
AT_ONCE = 16  # Registrations in flight.
CHANGES = 50  # Looked at one by one.
ANSWER_BYTES_MAX = 64 * 1024 * 1024


def run(seconds: float, repeats: int) -> Report:
    found = mesh.up()
    samples = [uvloop.run(_sample(found)) for _ in range(repeats)]
    report = Report("Registry (`bench registry`)")
    report.say(f"{SERVICES} services of {EACH} instances each; a client of delta discovery beside them.")
    headings = ["", "wall ms", "registry CPU ms", "PostgreSQL CPU ms"]
    cases = ("registered", "first client", "next client")
    report.table(headings, [(case, *_middle(samples, case)) for case in cases])
    report.say("From a change to when the client is told, one at a time, in ms:")
    report.table(["", "p50", "p95"], [("a change of health", *_middle(samples, "change"))])
    report.say("The state of the world alone, CPU ms:")
    sizes = [(SERVICES, EACH), (LARGE, 10)]
    report.table(["services x instances", "made anew", "one changed"], [_made(*size) for size in sizes])
    report.disturbance([one["strangers"][0] for one in samples])
    return report


def _middle(samples: Sequence[dict[str, Sequence[float]]], case: str) -> list[float]:
    return [median(column) for column in zip(*(one[case] for one in samples), strict=True)]


def _made(services: int, each: int) -> tuple[str, float, float]:
    seen = _world(services, each, "SERVING")
    began = process_time()
    first = snapshot(seen)
    anew = process_time() - began
    changed = {**seen.services, "s0": _world(1, each, "DRAINING").services["s0"]}
    began = process_time()
    snapshot(World(2, changed), "", first)
    return f"{services} x {each}", anew * 1000, (process_time() - began) * 1000


def _world(services: int, each: int, health: str) -> World:
    instances = {
        f"s{n}": [Endpoint(str(uuid4()), "10.0.0.1", 1 + n * each + k, health=health) for k in range(each)]
        for n in range(services)
    }
    assert Kind.ENVOY in snapshot(world(1, {}, {})).views  # Imports are not counted.
    return world(1, instances, {})


async def _sample(found: Mesh) -> dict[str, Sequence[float]]:
    address = f"{HOST}:{found.doors['registry']}"
    settings = Settings(development=True, mesh_address=address, mesh_key=found.secrets["mesh_key"])
    groups = found.only("registry", "postgres")
    made: dict[str, Sequence[float]] = {}
    async with surrounding(settings, OPERATOR) as around:
        registry = RegistryServiceStub(around.mesh)
        with Meter(groups) as meter:
            ids = await _registered(registry)
        made["registered"] = _row(meter)
        made["strangers"] = [meter.strangers]
        for case in ("first client", "next client"):
            async with _client(address) as told:
                with Meter(groups) as meter:
                    await told(EDS, SERVICES)
                made[case] = _row(meter)
                made["change"] = await _changes(registry, told, ids)
        for each in ids:
            await registry.DeregisterInstance(pb.DeregisterInstanceRequest(instance_id=each))
    return made


def _row(meter: Meter) -> list[float]:
    return [meter.wall * 1000, meter.seconds["registry"] * 1000, meter.seconds["postgres"] * 1000]


async def _registered(registry: Any) -> list[str]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(n: int) -> str:
        settings = InstanceSettings(service=f"bench{n % SERVICES}", address="127.0.0.1", port=1_000 + n)
        settings.lease.seconds = 300
        request = pb.RegisterInstanceRequest(instance_id=str(uuid4()), settings=settings)
        async with room:
            await registry.RegisterInstance(request)
        return request.instance_id

    return list(await asyncio.gather(*(one(n) for n in range(SERVICES * EACH))))


@asynccontextmanager
async def _client(address: str) -> AsyncIterator[Any]:
    """A function that waits until so many more resources of a type were told."""
    queue: asyncio.Queue[DeltaDiscoveryRequest] = asyncio.Queue()

    async def requests() -> AsyncIterator[DeltaDiscoveryRequest]:
        while True:
            yield await queue.get()

    options = [("grpc.max_receive_message_length", ANSWER_BYTES_MAX)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        call = AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources(requests())
        answers = aiter(call)
        first = DeltaDiscoveryRequest(type_url=CDS)
        first.node.id = "bench"
        queue.put_nowait(first)

        async def told(type_url: str, count: int) -> None:
            while count > 0:
                answer = await anext(answers)
                queue.put_nowait(DeltaDiscoveryRequest(type_url=answer.type_url, response_nonce=answer.nonce))
                if answer.type_url == CDS:
                    names = [each.name for each in answer.resources]
                    queue.put_nowait(DeltaDiscoveryRequest(type_url=EDS, resource_names_subscribe=names))
                if answer.type_url == type_url:
                    count -= len(answer.resources)

        yield told
        call.cancel()


async def _changes(registry: Any, told: Any, ids: Sequence[str]) -> list[float]:
    times = []
    for each in ids[:CHANGES]:
        for health in (HEALTH_DRAINING, HEALTH_SERVING):
            began = perf_counter()
            await registry.RenewInstance(pb.RenewInstanceRequest(instance_id=each, health=health))
            await told(EDS, 1)
            times.append((perf_counter() - began) * 1000)
    cuts = quantiles(times, n=20)
    return [cuts[9], cuts[18]]
