"""Where carts are kept: a table that is logged, one that is not, and a JetStream bucket, measured in turns.

A change of a cart reads it, checks its version and writes it. In JetStream that is a revision that must be
the last, in PostgreSQL a locked row. What carts announce is a row of PostgreSQL in any case, so each way is
measured with its event as well: in the same transaction, or beside the bucket in one of its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Protocol
from uuid import UUID, uuid4

import asyncpg
import uvloop
from nats.js.errors import KeyWrongLastSequenceError

from bench import mesh
from bench.machine import Meter
from bench.mesh import HOST, ROOT, Mesh
from bench.peers.running import listening, unused_port
from bench.report import Report
from services.chassis.bus import Bus
from services.chassis.db import Database
from services.chassis.events import emit
from weft.cart.v1.events_pb2 import CartUpdated

DATABASE, BUCKET = "bench_carts", "bench_carts"
CARTS, LINES = 2_000, 8  # Carts are spread, as shoppers are; each has what a cart has.
CALLERS = (1, 64)
TABLE = """
create {kind} table {name} (cart_id uuid primary key, version bigint not null, body bytea not null)
with (fillfactor = 70)
"""
READ = "select version, body from {name} where cart_id = $1"
LOCK = "select version, body from {name} where cart_id = $1 for update"
WRITE = "update {name} set version = $2, body = $3 where cart_id = $1"

Doing = Callable[[UUID], Awaitable[None]]


class Kept(Protocol):
    """A place where carts are."""

    async def read(self, cart_id: UUID) -> None: ...
    async def change(self, cart_id: UUID) -> None: ...
    async def tell(self, cart_id: UUID) -> None:
        """Changes, with the event."""


def changed(body: bytes) -> bytes:
    """What a change does to a cart, whatever keeps it."""
    cart = json.loads(body)
    cart["lines"][0]["units"] += 1
    cart["version"] += 1
    return json.dumps(cart).encode()


def fresh() -> bytes:
    lines = [
        {"sku": f"SKU-{n:06}", "units": 1, "saved": False, "at": "2026-11-21T10:00:00+00:00"}
        for n in range(LINES)
    ]
    return json.dumps({"version": 1, "currency": "EUR", "coupons": [], "lines": lines}).encode()


def event(cart_id: UUID, version: int) -> CartUpdated:
    return CartUpdated(cart_id=str(cart_id), version=version, lines=LINES, units=LINES + version)


@dataclass
class Rows:
    """A table, logged or not."""

    db: Database
    name: str

    async def read(self, cart_id: UUID) -> None:
        row = await self.db.fetchrow(READ.format(name=self.name), cart_id)
        json.loads(row["body"])

    async def change(self, cart_id: UUID) -> None:
        async with self.db.fast() as tx:
            await self._write(tx, cart_id)

    async def tell(self, cart_id: UUID) -> None:
        async with self.db.fast() as tx:
            await emit(tx, event(cart_id, await self._write(tx, cart_id)))

    async def _write(self, tx: Any, cart_id: UUID) -> int:
        row = await tx.fetchrow(LOCK.format(name=self.name), cart_id)
        version: int = row["version"] + 1
        await tx.execute(WRITE.format(name=self.name), cart_id, version, changed(row["body"]))
        return version


@dataclass
class Keys:
    """A JetStream bucket, synced to disk as decision 9 has it."""

    db: Database
    bucket: Any

    async def read(self, cart_id: UUID) -> None:
        json.loads(await self.bucket.get(cart_id.hex))

    async def change(self, cart_id: UUID) -> None:
        while True:
            body, revision = await self.bucket.look(cart_id.hex)
            try:
                await self.bucket.follow(cart_id.hex, changed(body), revision)
            except KeyWrongLastSequenceError:
                continue
            return

    async def tell(self, cart_id: UUID) -> None:
        await self.change(cart_id)
        async with self.db.fast() as tx:  # A kill between the two leaves a change that nobody heard of.
            await emit(tx, event(cart_id, 1))


def run(seconds: float, repeats: int) -> Report:
    found = mesh.up()
    report = Report("Carts (`bench commerce.cart`)")
    samples: list[dict[tuple[str, str, int], list[float]]] = []
    strangers: list[float] = []
    for _ in range(repeats):
        with _nats() as (url, nats):
            samples.append(uvloop.run(_sample(found, url, nats, seconds / 5, strangers)))
    rows = []
    for case in samples[0]:
        where, what, callers = case
        numbers = (median(column) for column in zip(*(sample[case] for sample in samples), strict=True))
        rows.append([f"{what}, {where}, {callers} at once", *numbers])
    report.say(
        f"{CARTS} carts of {LINES} lines, {len(fresh())} bytes; the disk is written through everywhere."
    )
    report.table(["", "a second", "p50 ms", "p99 ms", "process us", "PostgreSQL us", "NATS us"], rows)
    report.disturbance(strangers)
    return report


@contextmanager
def _nats() -> Iterator[tuple[str, int]]:
    """A JetStream server of this benchmark's own, as the launcher configures it, and its process."""
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
        port, config = unused_port(), Path(folder) / "nats.conf"
        config.write_text(
            f'host: {HOST}\nport: {port}\njetstream {{ store_dir: "{folder}", sync_interval: always }}\n'
        )
        words = [str(Path(sys.prefix) / "bin" / "nats-server"), "-c", str(config)]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            listening(process, port)
            yield f"nats://{HOST}:{port}", process.pid
        finally:
            process.terminate()
            process.wait()


@asynccontextmanager
async def _database(found: Mesh) -> AsyncIterator[Database]:
    """An empty one with the chassis's tables and those of the carts."""
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


async def _sample(
    found: Mesh, url: str, nats: int, seconds: float, strangers: list[float]
) -> dict[tuple[str, str, int], list[float]]:
    """Each case once, the places in turns."""
    bus = Bus(url)
    await bus.connect()
    made: dict[tuple[str, str, int], list[float]] = {}
    async with _database(found) as db:
        carts = [uuid4() for _ in range(CARTS)]
        places = await _places(db, bus, carts)
        groups = {"postgres": found.pids["postgres"], "nats": nats}
        for what in ("read", "change", "tell"):
            for callers in CALLERS:
                for where, place in places.items():
                    with Meter(groups) as meter:
                        times = await _load(getattr(place, what), carts, callers, seconds)
                    strangers.append(meter.strangers)
                    used = (meter.load, meter.seconds["postgres"], meter.seconds["nats"])
                    cost = [each / len(times) * 1e6 for each in used]
                    said = "change with its event" if what == "tell" else what
                    made[where, said, callers] = [len(times) / meter.wall, *_percentiles(times), *cost]
    await bus.close()
    return made


async def _places(db: Database, bus: Bus, carts: Sequence[UUID]) -> dict[str, Kept]:
    """The three, each with all carts."""
    bodies = [(cart_id, 1, fresh()) for cart_id in carts]
    for name, kind in (("logged", ""), ("unlogged", "unlogged")):
        await db.execute(TABLE.format(name=name, kind=kind))
        async with db.fast() as tx:
            await tx.copy_records_to_table(name, records=bodies)
        await db.execute(f"analyze {name}")
    bucket = await bus.kv(BUCKET)
    for cart_id, _, body in bodies:
        await bucket.put(cart_id.hex, body)
    return {
        "logged table": Rows(db, "logged"),
        "unlogged table": Rows(db, "unlogged"),
        "JetStream KV": Keys(db, bucket),
    }


async def _load(doing: Doing, carts: Sequence[UUID], callers: int, seconds: float) -> list[float]:
    """How long each call took, of so many callers that wait for nothing between theirs."""
    times: list[float] = []
    ends = perf_counter() + seconds

    async def one(chance: random.Random) -> None:
        while (began := perf_counter()) < ends:
            await doing(chance.choice(carts))
            times.append(perf_counter() - began)

    await asyncio.gather(*(one(random.Random(n)) for n in range(callers)))
    return times


def _percentiles(times: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(times)
    return ordered[len(ordered) // 2] * 1000, ordered[int(len(ordered) * 0.99)] * 1000
