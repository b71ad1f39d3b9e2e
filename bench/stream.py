"""An account's activity fanned out to its watchers, as server-sent events and as a gRPC stream.

Changes of profiles are written straight to identity, so that all of Envoy's time is the streams'.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median

import grpc.aio

from bench import h2load, machine, mesh
from bench.h2load import Shot, frame
from bench.machine import ALL, Meter
from bench.mesh import HOST, Mesh
from bench.people import Person, people
from bench.read import GRPC, LAYOUTS
from bench.report import Report
from weft.identity.v1 import activity_pb2, activity_pb2_grpc, user_pb2

ACCOUNTS, WATCHERS = 4, 10  # An account may have ten streams at one process.
UPDATE_USER = "/weft.identity.v1.UserService/UpdateUser"
NAMES = ("Ada Lovelace", "Augusta Ada King")  # Two writers take turns, so that each change is one.
SETTLE_S = 2.0  # Until every watcher has what happened before.
CHUNK = 65_536

Watch = Callable[[Mesh, Person, "Count"], Coroutine[object, object, None]]


@dataclass
class Count:
    """Events that have arrived, at all watchers."""

    events: int = 0


@dataclass(frozen=True)
class Sample:
    """One run."""

    events: float  # A second, at all watchers together.
    updates: float  # A second.
    us: dict[str, float]  # Processor microseconds for each event at a watcher.
    strangers: float


def run(seconds: float, repeats: int) -> Report:
    h2load.require()
    found = mesh.up()
    persons = people(found, ACCOUNTS)
    report = Report("Stream fan-out (`bench stream`)")
    report.say(
        f"{ACCOUNTS} accounts with {WATCHERS} watchers each; {len(NAMES)} writers an account change its "
        "profile as fast as they are answered. Microseconds are for each event that reached a watcher, the "
        "writing included (but for Envoy, which the writers go past)."
    )
    strangers = []
    for layout, (servers, load) in LAYOUTS.items():
        machine.pin(found.pids.values(), servers)
        machine.pin([os.getpid()], load)
        rows = []
        for name, watch in (("SSE", _sse), ("gRPC", _grpc)):
            samples = [asyncio.run(_sample(found, persons, watch, seconds, load)) for _ in range(repeats)]
            strangers += [sample.strangers for sample in samples]
            rows.append([f"{name}, {layout}", *_medians(samples)])
        headings = [
            "watchers",
            "events/s",
            "updates/s",
            "Envoy us",
            "identity us",
            "PostgreSQL us",
            "NATS us",
        ]
        report.table([*headings, "client us"], rows)
    machine.pin([os.getpid()], ALL)
    report.disturbance(strangers)
    return report


async def _sample(found: Mesh, persons: Sequence[Person], watch: Watch, seconds: float, load: str) -> Sample:
    count = Count()
    watchers = [asyncio.create_task(watch(found, one, count)) for one in persons for _ in range(WATCHERS)]
    shots = [_change(found, person, name) for person in persons for name in NAMES]
    await asyncio.to_thread(h2load.fire, shots, SETTLE_S / 2, load)
    await asyncio.sleep(SETTLE_S)
    with Meter(found.pids) as meter:
        before = count.events
        answers = h2load.together(await asyncio.to_thread(h2load.fire, shots, seconds, load))
        arrived = count.events - before
    for task in watchers:
        task.cancel()
    for ended in await asyncio.gather(*watchers, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
    used = {**meter.seconds, "client": meter.load}
    us = {name: used[name] / max(1, arrived) * 1e6 for name in used}
    return Sample(arrived / meter.wall, answers.rps, us, meter.strangers)


def _medians(samples: Sequence[Sample]) -> list[float]:
    hops = ("edge", "identity", "postgres", "nats", "client")
    first = [median(sample.events for sample in samples), median(sample.updates for sample in samples)]
    return [*first, *(median(sample.us[hop] for sample in samples) for hop in hops)]


def _change(found: Mesh, person: Person, name: str) -> Shot:
    profile = user_pb2.Profile(display_name=name)
    request = user_pb2.UpdateUserRequest(user_id=person.user_id, profile=profile)
    url = f"http://{HOST}:{found.doors['identity']}{UPDATE_USER}"
    return Shot(url, {**GRPC, **person.bearer}, frame(request))


async def _sse(found: Mesh, person: Person, count: Count) -> None:
    """One watcher by REST; counts without reading what the events say."""
    reader, writer = await asyncio.open_connection(HOST, found.ports["plain"])
    path = f"/v1/users/{person.user_id}/activity:watch"
    head = [f"GET {path} HTTP/1.1", f"host: {HOST}", "accept: text/event-stream"]
    head += [f"authorization: Bearer {person.token}", "", ""]
    writer.write("\r\n".join(head).encode())
    status = await reader.readline()
    if b" 200 " not in status:
        raise h2load.LoadFailed(f"the stream answers {status.decode().strip()}")
    rest = b""
    try:
        while chunk := await reader.read(CHUNK):
            whole = rest + chunk
            count.events += whole.count(b"data:")
            rest = whole[-4:]  # `data:` may be cut in two; four bytes of it cannot be counted twice.
    finally:
        writer.close()
    raise h2load.LoadFailed("the stream ended")


async def _grpc(found: Mesh, person: Person, count: Count) -> None:
    """One watcher by gRPC, each on a connection of its own as people's programs are."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"{HOST}:{found.ports['plain']}", options=options) as channel:
        stub = activity_pb2_grpc.ActivityServiceStub(channel)
        request = activity_pb2.WatchActivityRequest(user_id=person.user_id)
        stream = stub.WatchActivity(request, metadata=tuple(person.bearer.items()))
        with suppress(asyncio.CancelledError):
            async for _ in stream:
                count.events += 1
            raise h2load.LoadFailed("the stream ended")
