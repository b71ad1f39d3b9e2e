"""One worker, put together: from its connection to its slots, and in order when it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from services.chassis.host import patiently
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import JetStreamError
from services.chassis.jetstream.servers import Options
from services.chassis.jobs.claims import Journal
from services.chassis.jobs.handlers import Kind, Registry, opened
from services.chassis.jobs.presence import Presence
from services.chassis.jobs.queues import Queues
from services.chassis.jobs.reaping import Reaper
from services.chassis.jobs.surroundings import Surroundings
from services.worker.beating import Beating, Card, new_id
from services.worker.cells.keeper import Cells
from services.worker.desk import Desk
from services.worker.feeding import Feeder
from services.worker.leasing import Leases
from services.worker.lines import LineHandler
from services.worker.living import Live
from services.worker.orders import Orders
from services.worker.performing import Performers, current_run
from services.worker.reporting import Reporter
from services.worker.runner import Room, Runner
from services.worker.tokens import Gates
from weft.jobs.v1.attempt_pb2 import LogLine
from weft.queue.v1.record_pb2 import ForgetWorkerRequest
from weft.queue.v1.record_pb2_grpc import RecordServiceStub

if TYPE_CHECKING:
    from weft.queue.v1.record_pb2_grpc import RecordServiceAsyncStub

TELL_S_MAX = 4.0  # At the end, for telling how jobs ended; whoever stops a mesh does not wait for long.
AGAIN_S = 1.0  # Between a background loop's failure and its next start.
THREADS_LOST_MAX = 4  # Threads that hang in C code, after which the process is better replaced.

log = logging.getLogger("weft.worker")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one worker is to be."""

    modules: Sequence[str]
    queues: Sequence[str] = ("default",)
    room: Room = field(default_factory=Room)
    limits: Mapping[str, int] = field(default_factory=dict)  # Of types, before what their handlers say.
    pool: str = ""
    worker: str = field(default_factory=new_id)
    drain_s: float = 8.0
    beat_s: float = 2.0


class Worker:
    """A worker that runs. `stopping` is set when it was told to end, or had better."""

    def __init__(self, plan: Plan, runner: Runner, feeder: Feeder, reporter: Reporter) -> None:
        self.plan, self.runner, self.feeder, self.reporter = plan, runner, feeder, reporter
        self.start: Callable[[], None] = lambda: None  # Begins to take jobs.
        self.gates: Gates | None = None
        self.flush: Callable[[], None] = lambda: None  # Tells those who watch.
        self.stopping = asyncio.Event()
        self._grace_s = plan.drain_s

    def stop(self, grace_s: float | None = None) -> None:
        """Takes no more, gives what runs so long (absence: as planned), and ends."""
        self._grace_s = self.plan.drain_s if grace_s is None else grace_s
        self.stopping.set()

    async def drain(self) -> None:
        """Until nothing is left here, and all was told."""
        await self.feeder.stop()
        await self.runner.drain(self._grace_s)
        await self.reporter.close(TELL_S_MAX)
        if self.gates:
            await self.gates.close()
        if self.feeder.lanes:
            await self.feeder.lanes.close()
        self.flush()


@asynccontextmanager
async def working(plan: Plan, around: Surroundings) -> AsyncIterator[Worker]:
    """A worker until the block ends; then it is drained. Raises BadHandler, ImportError, OSError."""
    registry = Registry.of(plan.modules)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(opened(registry.lifespans, around))
        options = Options.of(around.settings.nats_url, name=f"jobs of {plan.worker}")
        connection = Connection(options)
        await patiently("NATS", connection.open)
        stack.push_async_callback(connection.close)
        worker, loops = _assembled(plan, registry, connection, around)
        seen = Presence(connection, options, plan.worker)
        await seen.open()
        stack.push_async_callback(seen.close)
        worker.feeder.claims = journal = Journal(connection, plan.worker)
        stack.push_async_callback(journal.close)
        handler = LineHandler(_line)
        logging.getLogger().addHandler(handler)
        stack.callback(logging.getLogger().removeHandler, handler)
        stack.push_async_callback(worker.runner.close)
        tasks = [asyncio.create_task(_for_ever(loop)) for loop in loops]
        stack.push_async_callback(_ended, tasks)
        stack.push_async_callback(worker.drain)
        worker.start()
        yield worker


def _assembled(
    plan: Plan, registry: Registry, connection: Connection, around: Surroundings
) -> tuple[Worker, list[Callable[[], Awaitable[None]]]]:
    """The worker, and what goes on beside it."""
    record = RecordServiceStub(around.mesh)
    live = Live(connection, plan.worker)
    reporter = Reporter(record, connection, plan.worker, live.flush_lines)
    desk = Desk(record, live, reporter)
    cells = Cells(plan.modules)
    if any(handler.kind is Kind.PROCESS for handler in registry.handlers.values()):
        cells.begin()
    performers = Performers(registry, cells)
    runner = Runner(registry, desk, around.tracing, performers, plan.room, plan.limits)
    feeder = Feeder(connection, record, runner, reporter, plan.queues, plan.worker)
    card = Card(plan.worker, plan.pool, plan.queues, sorted(registry.handlers))
    beating = Beating(card, connection, runner, desk)
    worker = Worker(plan, runner, feeder, reporter)
    orders, queues = Orders(connection, plan.worker, runner), Queues(around.mesh)
    feeder.lanes = leases = Leases(connection, record, feeder, runner, plan.worker)
    orders.drain, orders.lanes_changed = worker.stop, leases.changed
    reaper = Reaper(connection, plan.worker, partial(_forget, record))
    gates = Gates(record, plan.worker)
    runner.limit(gates)

    def start() -> None:
        orders.start()
        queues.on_change(lambda known: gates.follow(known, plan.queues))
        feeder.start(queues)

    worker.start, worker.flush, worker.gates = start, live.flush, gates

    loops = [queues.run, feeder.run, live.run, reaper.run]
    return worker, [*loops, lambda: beating.run(plan.beat_s), lambda: _judge(performers, worker)]


async def _judge(performers: Performers, worker: Worker) -> None:
    """Ends a worker whose threads hang, so that it is replaced."""
    while performers.lost < THREADS_LOST_MAX:  # noqa: ASYNC110 - seldom true, and nobody's event
        await asyncio.sleep(AGAIN_S)
    log.error("%d threads hang: this worker ends to be replaced", performers.lost)
    worker.stop()


async def _forget(record: RecordServiceAsyncStub, gone: str) -> None:
    await record.ForgetWorker(ForgetWorkerRequest(worker=gone))


def _line(line: LogLine) -> None:
    if run := current_run.get():
        run.line(line)


async def _for_ever(loop: Callable[[], Awaitable[None]]) -> None:
    """A loop that fails begins again; one that returns is done."""
    while True:
        try:
            await loop()
        except JetStreamError as error:
            log.info("a background loop waits for NATS: %s", error)
        except Exception:
            log.exception("a background loop failed")
        else:
            return
        await asyncio.sleep(AGAIN_S)


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
