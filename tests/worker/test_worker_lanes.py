"""Jobs of one key run in order and one at a time, whoever has the lane, and whoever dies."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from launcher import nats
from services.chassis.bus import Bus
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.pulling import Delivery, Pull
from services.chassis.jetstream.servers import Options
from services.chassis.jobs.streams import ensure_queue, ensure_streams
from services.worker import lanes, leasing
from tests.chassis.waiting import until
from tests.jetstream.brokers import Broker, broker
from tests.worker.keyed import LANES, QUEUE, Ledger, Worker, enqueue, jobs, queue
from weft.queue.v1.settings_pb2 import QueueKind

Start = Callable[..., Awaitable[Worker]]


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    opened = Bus(nats_url)
    await opened.connect()
    await ensure_streams(opened)
    await ensure_queue(opened, QUEUE, LANES)
    yield opened
    await opened.close()


@pytest.fixture
async def connection(bus: Bus, nats_url: str) -> AsyncIterator[Connection]:
    opened = Connection(Options.of(nats_url))
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
async def start(ledger: Ledger, nats_url: str, bus: Bus) -> AsyncIterator[Start]:
    """Workers with a connection of their own, closed with the test."""
    workers: list[tuple[Worker, Connection]] = []

    async def open_one(name: str = "a", known: object = None, work_s: float = 0.001) -> Worker:
        connection = Connection(Options.of(nats_url))
        await connection.open()
        worker = Worker(connection, ledger, name, work_s)
        worker.open(known or queue())  # type: ignore[arg-type]
        workers.append((worker, connection))
        return worker

    yield open_one
    for worker, connection in workers:
        await worker.close()
        await connection.close()


def in_order(log: Sequence[tuple[str, int, str, int]]) -> bool:
    """Whether no job of a key began before the one before it had ended."""
    last: dict[str, tuple[int, str]] = {}
    for key, number, what, _ in log:
        before = last.get(key, (-1, "end"))
        if (number, what) not in {(before[0] + (what == "begin"), what)} or before[1] == what:
            return False
        last[key] = number, what
    return True


def most_at_once(log: Sequence[tuple[str, int, str, int]]) -> int:
    now, most = Counter[str](), 0
    for key, _, what, _ in log:
        now[key] += 1 if what == "begin" else -1
        most = max(most, now[key])
    return most


async def test_jobs_of_a_key_run_in_order_and_one_at_a_time(
    connection: Connection, start: Start, ledger: Ledger
) -> None:
    await enqueue(connection, jobs(keys=40, each=25))
    worker = await start()
    await until(lambda: len(ledger.finals) == 1_000)
    assert in_order(worker.log)
    assert len(worker.log) == 2_000

    async def acknowledged() -> bool:
        infos = [await connection.api(f"CONSUMER.INFO.jobs.{QUEUE}_k{lane}") for lane in range(LANES)]
        return not any(info["num_pending"] + info["num_ack_pending"] for info in infos)

    await until(acknowledged)


async def test_what_the_server_gives_to_a_frozen_owner_comes_long_before_its_ack_wait(
    connection: Connection, start: Start, ledger: Ledger
) -> None:
    """Its requests are older, so they are served first."""
    frozen: list[Delivery] = []
    pulls = [Pull(connection, "jobs", f"{QUEUE}_k{lane}", frozen.extend, 20) for lane in range(LANES)]
    for pull in pulls:
        pull.start()
    await connection.flush()
    await start()
    await enqueue(connection, jobs(keys=10, each=2))
    await until(lambda: len(ledger.finals) == 20)  # By then no ack wait is over.
    assert frozen
    for pull in pulls:
        await pull.stop()


async def test_a_key_has_as_many_at_once_as_its_queue_allows(
    connection: Connection, start: Start, ledger: Ledger
) -> None:
    await enqueue(connection, jobs(keys=3, each=40))
    worker = await start(known=queue(QueueKind.QUEUE_KIND_REAL_TIME, per_key=3))
    await until(lambda: len(ledger.finals) == 120)
    assert most_at_once(worker.log) == 3


async def test_a_job_that_awaits_its_retry_holds_back_its_key_and_no_other(
    connection: Connection, start: Start, ledger: Ledger
) -> None:
    worker = await start()
    worker.retries["0-1"] = 2
    worker.delay_s = 0.1
    await enqueue(connection, jobs(keys=8, each=3))
    await until(lambda: len(ledger.finals) == 24)
    own = [each[1:] for each in worker.log if each[0] == "key0"]
    attempts = [
        (1, "begin", 1),
        (1, "end", 1),
        (1, "begin", 2),
        (1, "end", 2),
        (1, "begin", 3),
        (1, "end", 3),
    ]
    assert own == [(0, "begin", 1), (0, "end", 1), *attempts, (2, "begin", 1), (2, "end", 1)]
    assert in_order([each for each in worker.log if each[0] != "key0"])
    assert ledger.finals[-2:] == ["0-1", "0-2"]


async def test_workers_share_lanes_and_hand_them_over_in_order(
    connection: Connection, start: Start, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.lease_s = 1.0
    monkeypatch.setattr(leasing, "MARGIN_S", 0.1)
    monkeypatch.setattr(leasing, "AGAIN_S", 0.02)
    monkeypatch.setattr(lanes, "AGAIN_S", 0.02)
    await enqueue(connection, jobs(keys=20, each=60))
    first = await start("a", work_s=0.01)
    await until(lambda: len(ledger.finals) > 100)
    second = await start("b", work_s=0.01)
    second.log = first.log
    await until(lambda: {each[0] for each in ledger.owners.values()} == {"a", "b"})
    await until(lambda: len(ledger.finals) > 500)
    await first.close()
    await until(lambda: len(ledger.finals) == 1_200)
    assert {each[0] for each in ledger.owners.values()} == {"b"}
    by_key = defaultdict(list)
    for job_id in ledger.finals:
        by_key[job_id.split("-")[0]].append(int(job_id.split("-")[1]))
    assert all(numbers == list(range(60)) for numbers in by_key.values())


async def test_a_queue_that_allows_another_number_at_once_gets_its_lanes_anew(
    connection: Connection, start: Start, ledger: Ledger
) -> None:
    kind = QueueKind.QUEUE_KIND_REAL_TIME
    worker = await start(known=queue(kind, per_key=1))
    await until(lambda: len(worker.leases._queues[QUEUE].lanes()) == LANES)
    before = worker.leases._queues[QUEUE]
    worker.open(queue(kind, per_key=1))
    assert worker.leases._queues[QUEUE] is before
    worker.open(queue(kind, per_key=3))
    await until(lambda: len(worker.leases._queues[QUEUE].lanes()) == LANES)
    assert {lane.per_key for lane in worker.leases.lanes()} == {3}
    assert set(ledger.epochs.values()) == {2}
    await enqueue(connection, jobs(keys=3, each=20))
    await until(lambda: len(ledger.finals) == 60)
    assert most_at_once(worker.log) == 3


async def test_what_went_to_somebody_else_is_missed_and_fetched_before_anything_after_it(
    connection: Connection, start: Start, ledger: Ledger, nats_url: str
) -> None:
    zombie = Connection(Options.of(nats_url))
    await zombie.open()
    eaten: list[object] = []
    inbox = zombie.inbox()
    zombie.subscribe(inbox, eaten.extend)
    await zombie.flush()
    worker = await start()
    await until(lambda: len(ledger.owners) == LANES)
    for lane in range(LANES):
        zombie.publish(f"$JS.API.CONSUMER.MSG.NEXT.jobs.{QUEUE}_k{lane}", b'{"batch":9}', reply=inbox)
    await zombie.flush()
    await enqueue(connection, jobs(keys=20, each=20))
    await until(lambda: len(ledger.finals) == 400)
    assert eaten
    assert in_order(worker.log)
    await zombie.close()


async def test_a_worker_that_cannot_renew_begins_nothing_more_and_what_it_tells_is_not_believed(
    connection: Connection, start: Start, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.lease_s = 0.6
    monkeypatch.setattr(leasing, "MARGIN_S", 0.2)
    monkeypatch.setattr(leasing, "AGAIN_S", 0.05)
    frozen = await start("a")
    frozen.stuck.clear()
    await enqueue(connection, jobs(keys=4, each=3))
    await until(lambda: len(frozen.log) == 4)
    ledger.away = True
    await until(lambda: all(lane.halted for lane in frozen.leases.lanes()))
    ledger.away = False
    for lane in range(LANES):
        ledger.owners.pop(lane, None)
        ledger.epochs[lane] += 1
    frozen.stuck.set()
    await until(lambda: len(ledger.finals) == 12)
    by_key = defaultdict(list)
    for job_id in ledger.finals:
        by_key[job_id.split("-")[0]].append(job_id)
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


async def test_owners_that_came_without_progress_count_as_deliveries(
    connection: Connection, start: Start, ledger: Ledger
) -> None:
    await enqueue(connection, jobs(keys=1, each=2))
    for n in range(1, 4):
        worker = await start(f"w{n}")
        worker.stuck.clear()
        await until(lambda worker=worker: worker.log)
        assert worker.seen == {"0-0": n}
        worker.crash()
        ledger.forget(f"w{n}")
    survivor = await start("last")
    await until(lambda: len(ledger.finals) == 2)
    assert survivor.seen["0-0"] == 4
    following = await start("next")
    ledger.forget("last")
    await enqueue(connection, jobs(keys=1, each=3)[2:])
    await until(lambda: following.seen or "0-2" in survivor.seen)
    assert {**survivor.seen, **following.seen}["0-2"] == 1


async def test_a_lane_holds_so_many_bytes_and_goes_on_when_they_are_done(
    connection: Connection, start: Start, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "BYTES_MAX", 2_000_000)
    monkeypatch.setattr(lanes, "REQUEST_BYTES_MAX", 1_100_000)
    worker = await start()
    worker.stuck.clear()
    many = jobs(keys=1, each=20)
    for each in many:
        each.payload.data = b"x" * 500_000
    await enqueue(connection, many)
    await until(lambda: any(lane._bytes >= 2_000_000 for lane in worker.leases.lanes()))
    await connection.flush()
    assert max(lane._bytes for lane in worker.leases.lanes()) <= 3_600_000
    worker.stuck.set()
    await until(lambda: len(ledger.finals) == 20)
    assert in_order(worker.log)
    await until(lambda: {lane._bytes for lane in worker.leases.lanes()} == {0})


class World:
    """A server that may be killed, and workers as programs."""

    def __init__(self, folder: Path) -> None:
        self.server: Broker = broker(folder / "nats", **nats.accounts("secret"))
        self.url = f"nats://{nats.USER}:secret@127.0.0.1:{self.server.port}"
        self.processes: list[asyncio.subprocess.Process] = []
        self.lines: list[tuple[float, str, int, str]] = []
        self._readers: list[asyncio.Task[None]] = []

    async def worker(self, name: str) -> asyncio.subprocess.Process:
        command = [sys.executable, "-m", "tests.worker.keyed", self.url, name]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=environ)
        self.processes.append(process)
        self._readers.append(asyncio.create_task(self._read(process)))
        return process

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        async for line in process.stdout:
            at, key, number, what = line.decode().split()
            self.lines.append((float(at), key, int(number), what))

    async def close(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
        await asyncio.gather(*self._readers)
        self.server.kill()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    bus = Bus(made.url)
    await bus.connect()
    await ensure_streams(bus)
    await ensure_queue(bus, QUEUE, LANES)
    await bus.close()
    yield made
    await made.close()


def kept_order(lines: Sequence[tuple[float, str, int, str]]) -> bool:
    """Whether the first end of each job came after that of the one before, and no begin before it."""
    ended: dict[str, int] = {}
    for _, key, number, what in sorted(lines):
        if what == "begin" and number > ended.get(key, -1) + 1:
            return False
        if what == "end":
            ended[key] = max(number, ended.get(key, -1))
    return True


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_killed_worker_leaves_order_and_record_whole(world: World, how: int, ledger: Ledger) -> None:
    connection = Connection(Options.of(world.url))
    await connection.open()
    ledger.serve(connection)
    ledger.lease_s = 3.0
    victim, _ = await world.worker("victim"), await world.worker("survivor")
    await until(lambda: len({each[0] for each in ledger.owners.values()}) == 2)
    await enqueue(connection, jobs(keys=40, each=30))
    await until(lambda: len(ledger.finals) > 300)
    victim.send_signal(how)
    await until(lambda: len(ledger.finals) == 1_200)
    assert {each[0] for each in ledger.owners.values()} == {"survivor"}
    await connection.close()
    await world.close()
    assert kept_order(world.lines)
    by_key = defaultdict(list)
    for job_id in ledger.finals:
        by_key[job_id.split("-")[0]].append(int(job_id.split("-")[1]))
    assert all(numbers == list(range(30)) for numbers in by_key.values())


async def test_a_killed_server_costs_no_order_and_no_job(world: World, ledger: Ledger) -> None:
    connection = Connection(Options.of(world.url))
    await connection.open()
    worker = Worker(connection, ledger, "a", 0.004)
    worker.open(queue())
    await enqueue(connection, jobs(keys=30, each=30))
    for enough in (200, 500):
        await until(lambda enough=enough: len(ledger.finals) > enough)
        world.server.kill()
        world.server.start()
    await until(lambda: len(ledger.finals) == 900)
    assert in_order(worker.log)
    assert len(ledger.finals) == len(set(ledger.finals))
    await worker.close()
    await connection.close()
