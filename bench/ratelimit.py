"""Global rate limits: what a decision costs, what a lot costs the store, and a call that the edge asks about.

The ways in which counts could be kept are measured beside each other: rows with a log and without, and keys
of JetStream that are changed by their revision.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import uvloop

from bench import h2load, mesh
from bench.h2load import Shot, frame
from bench.machine import ALL, Meter
from bench.mesh import HOST, ROOT, Mesh
from bench.people import Person, administrator, people
from bench.read import GET_USER, GRPC, grpc_shots
from bench.report import Report
from envoy.service.ratelimit.v3 import rls_pb2
from services.chassis.bus import Bus
from services.chassis.clock import Clock
from services.chassis.db import Database
from services.ratelimit.domain.limit import Limit
from services.ratelimit.service.deciding import Decider
from services.ratelimit.service.rules import Rules
from services.ratelimit.store import taking
from services.ratelimit.store.taking import Ask

DATABASE = "bench_ratelimit"
DECIDE = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
METHOD = GET_USER.strip("/").replace("/", ".")
ROUTES = {"not asked": "weft.none.", "asked, no limit": METHOD}
ONE_LIMIT = "asked, one limit"
PEOPLE = 16
KEYS = 64  # Of one statement, and callers that take at once.
DECISIONS = 20_000
MADE = {
    "generation": 1,
    "revision": 1,
    "prefix": "",
    "plans": frozenset(),
    "keys": frozenset(),
    "entry": "user",
}


def run(seconds: float, repeats: int) -> Report:
    h2load.require()
    through: dict[str, list[list[float]]] = {name: [] for name in (*ROUTES, ONE_LIMIT)}
    strangers: list[float] = []
    for name, routes in ROUTES.items():
        with _mesh(routes) as found:
            persons = people(found, PEOPLE)
            through[name] = [_fired(found, persons, seconds, strangers) for _ in range(repeats)]
            if routes == METHOD:
                _limited(found)
                through[ONE_LIMIT] = [_fired(found, persons, seconds, strangers) for _ in range(repeats)]
                direct = [_direct(found, seconds, strangers) for _ in range(repeats)]
                apart = uvloop.run(_apart(found, seconds))
    report = Report("Global rate limits (`bench ratelimit`)")
    report.say("Processor us of one decision, and of one lot that is taken; ms of a caller's wait:")
    over_grpc = [median(column) for column in zip(*direct, strict=True)]
    report.table(["", "process us", "server us", "ms"], [("decision, over gRPC", *over_grpc), *apart])
    report.say("GetUser by gRPC through the edge, processor us a call:")
    rows = [
        (name, *(median(column) for column in zip(*samples, strict=True)))
        for name, samples in through.items()
    ]
    report.table(["", "calls/s", "edge us", "ratelimit us", "p50 ms", "p99 ms"], rows)
    report.disturbance(strangers)
    return report


@contextmanager
def _mesh(routes: str) -> Iterator[Mesh]:
    """One whose edge asks for these routes."""
    ours = {"WEFT_EDGE_RATELIMIT": "1", "WEFT_EDGE_RATELIMIT_ROUTES": routes}
    os.environ.update(ours)
    try:
        mesh.down()
        yield mesh.up("identity", "ratelimit")
    finally:
        for name in ours:
            del os.environ[name]


def _limited(found: Mesh) -> None:
    """A limit that every call counts under and none ever reaches."""
    settings = {"name": "bench", "key": "KEY_KIND_USER", "unit": "UNIT_SECOND", "requests": 1_000_000}
    body = {"rateLimitId": str(uuid4()), "settings": settings}
    with httpx.Client(base_url=found.plain, headers=administrator(found).bearer) as client:
        client.post("/v1/ratelimit/limits", json=body).raise_for_status()


def _fired(found: Mesh, persons: Sequence[Person], seconds: float, strangers: list[float]) -> list[float]:
    shots = grpc_shots(found.plain, persons, GRPC)
    with Meter(found.only("edge", "ratelimit", "identity", "postgres")) as meter:
        answers = h2load.fire(shots, seconds, ALL)
    strangers.append(meter.strangers)
    count = sum(each.count for each in answers)
    costs = [meter.seconds[name] / count * 1e6 for name in ("edge", "ratelimit")]
    return [count / seconds, *costs, *(median(each.ms(share) for each in answers) for share in (0.5, 0.99))]


def _direct(found: Mesh, seconds: float, strangers: list[float]) -> list[float]:
    """The edge's own question, without the edge."""
    url = f"http://{HOST}:{found.doors['ratelimit']}{DECIDE}"
    shots = [Shot(url, GRPC, frame(_request(f"u{n}")), in_flight=2) for n in range(PEOPLE)]
    with Meter(found.only("ratelimit", "postgres")) as meter:
        answers = h2load.fire(shots, seconds, ALL)
    strangers.append(meter.strangers)
    count = sum(each.count for each in answers)
    costs = [meter.seconds[name] / count * 1e6 for name in ("ratelimit", "postgres")]
    return [*costs, median(each.ms(0.5) for each in answers)]


def _request(user: str) -> rls_pb2.RateLimitRequest:
    made = rls_pb2.RateLimitRequest(domain="weft")
    said = {"rpc": METHOD, "route": GET_USER, "user": user, "api_key": "weft"}
    descriptor = made.descriptors.add()
    for key, value in (said | {"masked_remote_address": "127.0.0.1/32"}).items():
        descriptor.entries.add(key=key, value=value)
    return made


async def _apart(found: Mesh, seconds: float) -> list[tuple[object, ...]]:
    """Each part by itself, in this process."""
    nats = f"nats://weft:{found.secrets['nats']}@{HOST}:{found.ports['nats']}"
    at = partial(found.database, superuser=True)
    async with database(at) as db, bucket(nats) as change:
        rate = Limit(
            rate_limit_id=UUID(int=1), name="rate", unit="SECOND", requests=10**6, burst=10**6, **_rest()
        )
        quota = Limit(rate_limit_id=UUID(int=2), name="quota", unit="DAY", requests=10**9, burst=0, **_rest())
        ways: list[tuple[str, str, int, Callable[[], Awaitable[object]]]] = [
            ("a lot of a rate", "postgres", 1, lambda: _take(db, rate, 1)),
            (f"a lot of a rate, {KEYS} keys at once", "postgres", KEYS, lambda: _take(db, rate, KEYS)),
            ("a lot of a quota", "postgres", 1, lambda: _take(db, quota, 1)),
            (f"a lot of a quota, {KEYS} keys at once", "postgres", KEYS, lambda: _take(db, quota, KEYS)),
            ("a key of JetStream changed", "nats", 1, change),
        ]
        memory = ("decision, from memory", await decision_us(db), 0.0, 0.0)
        return [
            memory,
            *[(way[0], *await measured(found.only(way[1]), seconds, way[2], way[3])) for way in ways],
        ]


def _rest() -> dict[str, Any]:
    return {**MADE, "closed": False, "shadow": False, "priority": 0}


@asynccontextmanager
async def database(at: Callable[[str], str]) -> AsyncIterator[Database]:
    """An empty one with the service's tables; `at` is the URL of a database."""
    admin = await asyncpg.connect(at("postgres"))
    await admin.execute(f"drop database if exists {DATABASE} with (force)")
    await admin.execute(f"create database {DATABASE}")
    db = Database(at(DATABASE))
    try:
        await db.open()
        folders = [ROOT / "services" / name / "migrations" for name in ("chassis", "ratelimit")]
        await db.migrate(*folders)
        yield db
    finally:
        await db.close()
        await admin.execute(f"drop database {DATABASE} with (force)")
        await admin.close()


@asynccontextmanager
async def bucket(url: str) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """A change of one key by its revision, as a count kept there would be."""
    bus = Bus(url)
    await bus.connect()
    kept = await bus.js.create_key_value(bucket=DATABASE)
    revision = await kept.put("u", b"0")

    async def change() -> None:
        nonlocal revision
        await kept.get("u")
        revision = await kept.update("u", b"1", revision)

    try:
        yield change
    finally:
        await bus.js.delete_key_value(DATABASE)
        await bus.close()


async def _take(db: Database, limit: Limit, keys: int) -> object:
    return await taking.take(db, [Ask(limit, f"u{n}", 1) for n in range(keys)])


async def decision_us(db: Database) -> float:
    """Of this process, without gRPC."""
    made = {"rate_limit_id": UUID(int=3), "name": "bench", "key_kind": "USER", "unit": "SECOND"}
    values = {**made, "requests": 10**6, "burst": 10**6, "failure": "OPEN"}
    names, places = ", ".join(values), ", ".join(f"${n}" for n in range(1, len(values) + 1))
    rest = "prefix, plans, keys, header, shadow, priority, generation, revision, created_at, updated_at"
    given = "'', '{}', '{}', '', false, 0, 1, 1, now(), now()"
    await db.execute(f"insert into rate_limit ({names}, {rest}) values ({places}, {given})", *values.values())
    rules = Rules(db, Clock())
    decider, request, call = Decider(db, Clock(), rules), _request("u"), None
    looking = asyncio.create_task(rules.run())
    for _ in range(DECISIONS // 10):
        await decider.ShouldRateLimit(request, call)  # type: ignore[arg-type]
    began = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(DECISIONS):
        await decider.ShouldRateLimit(request, call)  # type: ignore[arg-type]
    ended = resource.getrusage(resource.RUSAGE_SELF)
    looking.cancel()
    return (ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime) / DECISIONS * 1e6


async def measured(
    pids: dict[str, int], seconds: float, each: int, work: Callable[[], Awaitable[object]]
) -> list[float]:
    """Processor us of this process and of the server, and ms, of one in `each`, one after the other."""
    await work()
    count, ends = 0, perf_counter() + seconds
    with Meter(pids) as meter:
        while perf_counter() < ends:
            await work()
            count += each
    [server] = meter.seconds.values()
    return [meter.load / count * 1e6, server / count * 1e6, meter.wall / count * each * 1e3]
