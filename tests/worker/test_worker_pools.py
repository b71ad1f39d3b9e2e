"""Pools by rpc, and the processes that follow: started, resized, replaced, drained; none is left behind."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc.aio
import psutil
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from services.chassis.host import Parts, Tools
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.publisher import Publisher
from services.chassis.jetstream.servers import Options
from services.chassis.jobs.sending import item
from services.chassis.testing import Lab, broken_fields, laboratory, reason, until
from services.queue.app import build as queue
from services.worker.app import build
from services.worker.domain import POOLS_MAX
from services.worker.looking import Looker
from services.worker.scaling import Seen
from tests.worker.wired import job, known
from weft.worker.v1 import worker_pb2 as pb
from weft.worker.v1.worker_pb2_grpc import WorkerServiceStub

SETTINGS: dict[str, Any] = {"queues": ["default"], "modules": ["tests.worker.handlers"]}
OWN = {
    "WEFT_WORKER_MODULES": "tests,services",
    "WEFT_WORKER_SCALE_EVERY_S": "0.1",
    "WEFT_WORKER_BEAT_S": "0.2",
    "WEFT_WORKER_DRAIN_S": "1",
}
START_S = 40.0  # A worker is a Python that loads its modules, on a machine that is busy.


class Pools:
    """Stub and caller."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.who = lab, lab.bearer()
        self.stub: Any = WorkerServiceStub(lab.channel)  # type: ignore[no-untyped-call]

    async def create(self, pool: str, **settings: Any) -> pb.Pool:
        request = pb.CreatePoolRequest(pool=pool, settings=pb.PoolSettings(**{**SETTINGS, **settings}))
        return (await self.stub.CreatePool(request, metadata=self.who)).pool  # type: ignore[no-any-return]

    async def get(self, pool: str) -> pb.Pool:
        return (await self.stub.GetPool(pb.GetPoolRequest(pool=pool), metadata=self.who)).pool  # type: ignore[no-any-return]

    async def update(self, pool: str, *paths: str, etag: str = "", **settings: Any) -> pb.Pool:
        request = pb.UpdatePoolRequest(
            pool=pool,
            settings=pb.PoolSettings(**settings),
            update_mask=FieldMask(paths=paths),
            etag=etag,
        )
        return (await self.stub.UpdatePool(request, metadata=self.who)).pool  # type: ignore[no-any-return]

    async def resize(self, pool: str, workers: int) -> pb.Pool:
        request = pb.ResizePoolRequest(pool=pool, workers=workers)
        return (await self.stub.ResizePool(request, metadata=self.who)).pool  # type: ignore[no-any-return]

    async def drain(self, pool: str) -> pb.Pool:
        return (await self.stub.DrainPool(pb.DrainPoolRequest(pool=pool), metadata=self.who)).pool  # type: ignore[no-any-return]

    async def delete(self, pool: str) -> None:
        await self.stub.DeletePool(pb.DeletePoolRequest(pool=pool), metadata=self.who)

    async def workers(self, pool: str = "") -> list[pb.Worker]:
        request = pb.ListWorkersRequest(pool=pool)
        return list((await self.stub.ListWorkers(request, metadata=self.who)).workers)

    async def events(self) -> list[str]:
        """Names of what was announced, in order."""
        rows = await self.lab.db("worker").fetch("select type from event order by position")
        return [row["type"].rpartition(".")[2] for row in rows]


@asynccontextmanager
async def pools(postgres: str, nats_url: str, *, local: bool) -> AsyncIterator[Pools]:
    def worker(tools: Tools) -> Parts:
        return build(tools, OWN | {"WEFT_WORKER_LOCAL": str(int(local))})

    builds = {"queue": queue, "worker": worker}
    async with laboratory(builds, postgres_url=postgres, nats_url=nats_url) as lab:
        yield Pools(lab)


@pytest.fixture
async def declared(postgres: str, nats_url: str) -> AsyncIterator[Pools]:
    """Pools without processes."""
    async with pools(postgres, nats_url, local=False) as made:
        yield made


@pytest.fixture
async def kept(postgres: str, nats_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pools]:
    """Pools with local workers; afterwards none is left."""
    async with pools(postgres, nats_url, local=True) as made:
        monkeypatch.setenv("WEFT_DEVELOPMENT", "1")
        monkeypatch.setenv("WEFT_NATS_URL", nats_url)
        monkeypatch.setenv("WEFT_MESH_ADDRESS", f"127.0.0.1:{made.lab.hosted.port}")
        for name, value in OWN.items():
            monkeypatch.setenv(name, value)
        yield made
    assert processes() == set()


def processes() -> set[int]:
    """Pids of workers below this process."""
    return {each.pid for each in psutil.Process().children() if "services.worker" in _words(each)}


def _words(process: psutil.Process) -> list[str]:
    """None of one that is dead, reaped or not."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return process.cmdline()
    return []


async def test_a_pool_has_defaults_and_keeps_what_was_set(declared: Pools) -> None:
    made = await declared.create("mails", slots=5, type_limits={"echo": 2})
    assert (made.settings.slots, made.settings.threads, made.settings.processes) == (5, 8, 2)
    scaling = made.settings.scaling
    assert (scaling.workers_min, scaling.workers_max, scaling.depth_per_worker) == (1, 1, 1000)
    assert (made.state, made.workers_wanted, made.workers) == (pb.POOL_STATE_ACTIVE, 1, 0)
    changed = await declared.update(
        "mails", "slots", "scaling", slots=9, scaling={"workers_max": 4}, etag=made.etag
    )
    assert (changed.settings.slots, changed.settings.scaling.workers_max) == (9, 4)
    assert dict(changed.settings.type_limits) == {"echo": 2}
    with pytest.raises(grpc.aio.AioRpcError) as stale:
        await declared.update("mails", "slots", slots=1, etag=made.etag)
    assert reason(stale.value) == "ETAG_MISMATCH"
    assert await declared.get("mails") == changed
    assert await declared.events() == ["PoolCreated", "PoolUpdated"]


async def test_what_a_pool_may_not_be_is_refused_by_field(declared: Pools) -> None:
    await declared.create("mails")
    for settings, why, field in (
        ({"scaling": {"workers_min": 3, "workers_max": 2}}, "BOUNDS_REFUSED", "settings.scaling"),
        ({"modules": ["os.path"]}, "MODULE_REFUSED", "settings.modules"),
        ({"modules": ["testsmore"]}, "MODULE_REFUSED", "settings.modules"),
        ({"modules": []}, "NOTHING_TO_RUN", "settings.modules"),
        ({"queues": []}, "NOTHING_TO_RUN", "settings.queues"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await declared.create("other", **settings)
        assert (reason(refused.value), list(broken_fields(refused.value))) == (why, [field])
    with pytest.raises(grpc.aio.AioRpcError) as taken:
        await declared.create("mails", slots=3)
    assert reason(taken.value) == "POOL_EXISTS"
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await declared.get("nobody")
    assert reason(unknown.value) == "UNKNOWN_POOL"
    with pytest.raises(grpc.aio.AioRpcError) as beyond:
        await declared.resize("mails", 2)
    assert (reason(beyond.value), list(broken_fields(beyond.value))) == ("BOUNDS_REFUSED", ["workers"])


async def test_there_are_only_so_many_pools(declared: Pools) -> None:
    insert = """insert into pool select 'p' || n, '{}', 1, 0, now(), 1, now(), now()
        from generate_series(1, $1) n"""
    await declared.lab.db("worker").execute(insert, POOLS_MAX)
    with pytest.raises(grpc.aio.AioRpcError) as full:
        await declared.create("mails")
    assert reason(full.value) == "TOO_MANY_POOLS"


async def test_a_pool_grows_with_what_waits(declared: Pools) -> None:
    await declared.create("mails", scaling={"workers_max": 6, "depth_per_worker": 10})
    connection = Connection(Options.of(declared.lab.settings.nats_url))
    await connection.open()
    try:
        jobs = [job("nothing", priority=n % 4) for n in range(45)]
        await Publisher(connection).publish_all([item(each, 0) for each in jobs])
    finally:
        await connection.close()

    async def grown() -> pb.Pool | None:
        pool = await declared.get("mails")
        return pool if pool.workers_wanted == 5 else None

    pool: pb.Pool = await until(grown)
    assert (pool.depth, pool.HasField("oldest_age")) == (45, True)
    assert await declared.events() == ["PoolCreated", "PoolResized"]
    looker = Looker(declared.lab.bus, declared.lab.clock)
    [seen] = (await looker.look(list(known().values()))).values()
    assert (seen.depth, 0 < seen.oldest_age_s < 30) == (45, True)
    assert (await looker.look([]), Seen(depth=0).oldest_age_s) == ({}, 0.0)


async def test_by_hand_is_by_hand(declared: Pools) -> None:
    await declared.create("mails", scaling={"workers_max": 6, "by_hand": True})
    assert (await declared.resize("mails", 4)).workers_wanted == 4
    assert (await declared.resize("mails", 4)).workers_wanted == 4
    assert (await declared.drain("mails")).state == pb.POOL_STATE_DRAINING
    await declared.delete("mails")
    assert await declared.events() == ["PoolCreated", "PoolResized", "PoolDrained", "PoolDeleted"]


@pytest.mark.timeout(180)
async def test_workers_follow_their_pool(kept: Pools) -> None:
    await kept.create("mails", scaling={"workers_max": 3, "by_hand": True}, slots=4)
    await until(lambda: _count(kept, 1), START_S)
    [first] = await kept.workers("mails")
    assert (first.pool, list(first.queues), first.slots) == ("mails", ["default"], 4)
    assert "echo" in first.types
    await kept.update("mails", "slots", slots=7)
    await until(lambda: _all(kept, lambda each: each.slots == 7 and each.pid == first.pid, 1), START_S)
    await kept.resize("mails", 2)
    await until(lambda: _count(kept, 2), START_S)
    psutil.Process(first.pid).kill()
    await until(lambda: _all(kept, lambda each: each.pid != first.pid, 2), START_S)
    await kept.resize("mails", 1)
    await until(lambda: _count(kept, 1), START_S)
    [before] = processes()
    await kept.update("mails", "type_limits", type_limits={"echo": 1})
    await until(lambda: _all(kept, lambda each: each.pid != before, 1), START_S)
    await kept.drain("mails")
    await until(_none, START_S)


async def _count(kept: Pools, number: int) -> bool:
    pids = {each.pid for each in await kept.workers("mails")}
    return len(pids) == len(processes()) == number and pids == processes()


async def _all(kept: Pools, holds: Any, number: int = 0) -> bool:
    workers = [each for each in await kept.workers("mails") if each.pid in processes()]
    return len(workers) >= number and all(map(holds, workers)) and len(processes()) == len(workers)


async def _none() -> bool:
    return processes() == set()
