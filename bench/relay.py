"""Events from a commit to a consumer: the chassis's relay and inbox on real servers, one process.

The floor is the same messages given to NATS by a bare client, without a table, an order or a promise.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import uvloop
from nats.aio.msg import Msg

from bench import mesh
from bench.machine import Meter
from bench.mesh import HOST, ROOT, Mesh
from bench.peers.running import listening, unused_port
from bench.report import Report
from services.chassis.bus import Bus
from services.chassis.clock import Clock
from services.chassis.db import Database, Tx
from services.chassis.events import Envelope, emit
from services.chassis.inbox import Consumer
from services.chassis.relay import Relay
from weft.identity.v1.events_pb2 import UserUpdated

DATABASE, STREAM = (
    "bench_relay",
    "identity",
)  # The stream is that of the event's producer, on a NATS of our own.
EVENTS_A_SECOND = 4_000  # Are laid up for each second of the run: enough that the relay is what is measured.
WRITE_MAX = 500  # Events of one transaction.
PACE_S = 0.01  # Between two commits whose way to the consumer is timed.
WARM_S = 1.0
WAIT_S = 60.0


@dataclass
class Timed:
    """Moments by event, as the process's clock shows them."""

    committed: dict[UUID, float] = field(default_factory=dict)
    handled: dict[UUID, float] = field(default_factory=dict)

    def ms(self) -> list[float]:
        """From commit to handler, rising."""
        both = self.committed.keys() & self.handled.keys()
        return sorted((self.handled[one] - self.committed[one]) * 1000 for one in both)


def run(seconds: float, repeats: int) -> Report:
    found = mesh.up()
    report = Report("Outbox relay (`bench relay`)")
    samples = []
    for _ in range(repeats):
        with _nats() as (url, nats):
            samples.append(uvloop.run(_sample(found, url, nats, seconds)))
    rows = [
        (name, *(median(column) for column in zip(*(one[name] for one in samples), strict=True)))
        for name in ("relay", "bare publish")
    ]
    report.say("Throughput: events laid up in the table, then relayed into JetStream.")
    report.table(["", "events/s", "process us", "NATS us", "PostgreSQL us"], rows)
    ways = ("commit to handler", "bare publish to subscriber", "bare JetStream publish, acknowledged")
    rows = [
        (name, *(median(column) for column in zip(*(one[name] for one in samples), strict=True)))
        for name in ways
    ]
    report.say(f"Latency, one event every {PACE_S * 1000:.0f} ms, in ms:")
    report.table(["", "p50", "p95", "p99"], rows)
    report.disturbance([one["strangers"][0] for one in samples])
    return report


@contextmanager
def _nats() -> Iterator[tuple[str, int]]:
    """A JetStream server of this benchmark's own, and its process."""
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
        port = unused_port()
        program = Path(sys.prefix) / "bin" / "nats-server"
        words = [str(program), "-a", HOST, "-p", str(port), "-js", "-sd", folder]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            listening(process, port)
            yield f"nats://{HOST}:{port}", process.pid
        finally:
            process.terminate()
            process.wait()


@asynccontextmanager
async def _database(found: Mesh) -> AsyncIterator[Database]:
    """An empty one with the chassis's tables."""
    admin = await asyncpg.connect(found.database("postgres", superuser=True))
    await admin.execute(f"drop database if exists {DATABASE} with (force)")
    await admin.execute(f"create database {DATABASE}")
    db = Database(found.database(DATABASE, superuser=True))
    try:
        await db.open()
        await db.migrate(ROOT / "services" / "chassis" / "migrations")
        yield db
    finally:
        await db.close()
        await admin.execute(f"drop database {DATABASE} with (force)")
        await admin.close()


async def _sample(found: Mesh, url: str, nats: int, seconds: float) -> dict[str, Sequence[float]]:
    bus = Bus(url)
    await bus.connect()
    await bus.ensure_stream(STREAM)
    async with _database(found) as db:
        groups = {"nats": nats, "postgres": found.pids["postgres"]}
        count = int(EVENTS_A_SECOND * seconds)
        laid = await _lay(db, count)
        relay = Relay(db, bus, STREAM, Clock())
        with Meter(groups) as meter:
            task = asyncio.create_task(relay.run())
            await _arrived(bus, count)
        relayed = _costs(meter, count)
        with Meter(groups) as floor:
            await _publish(bus, laid)
            await _arrived(bus, 2 * count)
        latency = await _latency(db, bus, seconds)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        bare, stored = await _bare(bus, seconds)
    await bus.close()
    return {
        "relay": relayed,
        "bare publish": _costs(floor, count),
        "commit to handler": latency,
        "bare publish to subscriber": bare,
        "bare JetStream publish, acknowledged": stored,
        "strangers": [max(meter.strangers, floor.strangers)],
    }


def _costs(meter: Meter, count: int) -> list[float]:
    own = [meter.load, meter.seconds["nats"], meter.seconds["postgres"]]
    return [count / meter.wall, *(used / count * 1e6 for used in own)]


def _event() -> UserUpdated:
    return UserUpdated(user_id=str(uuid4()), paths=["profile.display_name"])


async def _lay(db: Database, count: int) -> list[Envelope]:
    """Writes events that nothing relays yet."""
    laid: list[Envelope] = []
    while len(laid) < count:
        async with db.fast() as tx:
            laid += await emit(tx, *(_event() for _ in range(min(WRITE_MAX, count - len(laid)))))
    return laid


async def _arrived(bus: Bus, count: int) -> None:
    """Until the stream holds so many."""
    async with asyncio.timeout(WAIT_S):
        while (await bus.js.stream_info(STREAM)).state.messages < count:  # noqa: ASYNC110 - NATS is asked
            await asyncio.sleep(0.02)


async def _publish(bus: Bus, events: Sequence[Envelope]) -> None:
    for event in events:
        await bus.nc.publish(f"{event.type}.{event.key}", event.payload)
    await bus.nc.flush()


async def _latency(db: Database, bus: Bus, seconds: float) -> list[float]:
    """p50, p95 and p99 in milliseconds from a commit to the handler of a durable consumer."""
    timed = Timed()

    async def handle(event: Any, envelope: Envelope, tx: Tx) -> None:
        timed.handled.setdefault(envelope.id, time.perf_counter())

    await bus.js.purge_stream(STREAM)
    consumer = Consumer(db, bus, "bench", UserUpdated, handle, Clock())
    task = asyncio.create_task(consumer.run())
    await _commit(db, WARM_S, Timed())
    await _commit(db, seconds, timed)
    async with asyncio.timeout(WAIT_S):
        while timed.committed.keys() - timed.handled.keys():  # noqa: ASYNC110 - two sets
            await asyncio.sleep(PACE_S)
    consumer.stop()
    await task
    return _percentiles(timed.ms())


async def _commit(db: Database, seconds: float, timed: Timed) -> None:
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        async with db.transaction() as tx:
            made = await emit(tx, _event())
        timed.committed[made[0].id] = time.perf_counter()
        await asyncio.sleep(PACE_S)


async def _bare(bus: Bus, seconds: float) -> tuple[list[float], list[float]]:
    """Publish to subscriber; and publish to JetStream's acknowledgement."""
    heard: list[float] = []
    stored: list[float] = []

    async def listen(message: Msg) -> None:
        heard.append((time.perf_counter() - float(message.data)) * 1000)

    subscription = await bus.nc.subscribe("bench.bare", cb=listen)
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        await bus.nc.publish("bench.bare", repr(time.perf_counter()).encode())
        began = time.perf_counter()
        await bus.js.publish(f"weft.{STREAM}.v1.Bare.1", os.urandom(64))
        stored.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(PACE_S)
    await subscription.unsubscribe()
    return _percentiles(sorted(heard)), _percentiles(sorted(stored))


def _percentiles(values: Sequence[float]) -> list[float]:
    return [values[min(len(values) - 1, int(len(values) * share))] for share in (0.5, 0.95, 0.99)]
