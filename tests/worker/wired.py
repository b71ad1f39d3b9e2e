"""A worker's parts on a real NATS, with a queue that is a table in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from google.rpc import code_pb2, status_pb2

from services.chassis.bus import Bus
from services.chassis.errors import CallFailed
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.publisher import Publisher
from services.chassis.jetstream.servers import Options
from services.chassis.jobs import streams
from services.chassis.jobs.handlers import Registry
from services.chassis.jobs.queues import Known
from services.chassis.jobs.sending import item
from services.chassis.telemetry import Tracing
from services.worker.cells.keeper import Cells
from services.worker.desk import Desk
from services.worker.feeding import Feeder
from services.worker.living import Live
from services.worker.packing import stamp
from services.worker.performing import Performers
from services.worker.reporting import Reporter
from services.worker.runner import Room, Runner
from tests.worker.running import MODULES, delivery
from weft.jobs.v1.attempt_pb2 import AttemptOutcome, AttemptReport, Successes
from weft.jobs.v1.job_pb2 import EndReason, Envelope, JobState, Payload
from weft.queue.v1.queue_pb2 import Queue
from weft.queue.v1.record_pb2 import (
    Checkpoint,
    GetCheckpointRequest,
    GetCheckpointResponse,
    Lookup,
    LookupJobsRequest,
    LookupJobsResponse,
    ReportAttemptsRequest,
    ReportAttemptsResponse,
    SaveCheckpointRequest,
    SaveCheckpointResponse,
)

FINAL = {
    AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED: JobState.JOB_STATE_SUCCEEDED,
    AttemptOutcome.ATTEMPT_OUTCOME_FAILED: JobState.JOB_STATE_FAILED,
    AttemptOutcome.ATTEMPT_OUTCOME_CANCELLED: JobState.JOB_STATE_CANCELLED,
    AttemptOutcome.ATTEMPT_OUTCOME_EXPIRED: JobState.JOB_STATE_EXPIRED,
}


@dataclass
class Book:
    """weft.queue.v1.RecordService, remembering."""

    finals: dict[tuple[str, int], AttemptReport] = field(default_factory=dict)
    reports: list[AttemptReport] = field(default_factory=list)
    checkpoints: dict[str, SaveCheckpointRequest] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    lookups: int = 0
    restored: int = 0
    refuses: Callable[[AttemptReport], bool] = lambda report: False
    away: bool = False
    stirred: asyncio.Event = field(default_factory=asyncio.Event)

    async def ReportAttempts(self, request: ReportAttemptsRequest) -> ReportAttemptsResponse:
        self._answers()
        reports = [*request.attempts, *(report for each in request.successes for report in one_by_one(each))]
        if any(self.refuses(report) for report in reports):
            raise _failed(code_pb2.INVALID_ARGUMENT)
        known = [n for n, report in enumerate(reports) if not self._write(report)]
        self.stirred.set()
        return ReportAttemptsResponse(known=known)

    def _write(self, report: AttemptReport) -> bool:
        self.reports.append(report)
        if report.outcome not in FINAL:
            return True
        key = (report.job_id, report.run)
        return self.finals.setdefault(key, report) is report

    async def LookupJobs(self, request: LookupJobsRequest) -> LookupJobsResponse:
        self._answers()
        self.lookups += len(request.jobs)
        return LookupJobsResponse(jobs=[self._lookup(each.job_id, each.run) for each in request.jobs])

    def _lookup(self, job_id: str, run: int) -> Lookup:
        final = self.finals.get((job_id, run))
        ended = FINAL[final.outcome] if final else None
        return Lookup(ended=ended, cancel=job_id in self.cancelled, checkpoint=job_id in self.checkpoints)

    async def SaveCheckpoint(self, request: SaveCheckpointRequest) -> SaveCheckpointResponse:
        self._answers()
        self.checkpoints[request.job_id] = request
        self.stirred.set()
        return SaveCheckpointResponse()

    async def GetCheckpoint(self, request: GetCheckpointRequest) -> GetCheckpointResponse:
        self._answers()
        self.restored += 1
        if (saved := self.checkpoints.get(request.job_id)) is None:
            return GetCheckpointResponse()
        kept = Checkpoint(attempt=saved.attempt, step=saved.step, state=saved.state)
        return GetCheckpointResponse(checkpoint=kept)

    def _answers(self) -> None:
        if self.away:
            raise _failed(code_pb2.UNAVAILABLE)

    async def until(self, happened: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not happened():
                self.stirred.clear()
                await self.stirred.wait()

    async def ends(self, jobs: Sequence[Envelope]) -> list[AttemptReport]:
        """The final reports of these, in order."""
        keys = [(job.job_id, job.run) for job in jobs]
        await self.until(lambda: self.finals.keys() >= set(keys))
        return [self.finals[key] for key in keys]


def one_by_one(successes: Successes) -> Iterator[AttemptReport]:
    """What is told in columns, as if each had been told alone."""
    for n, (due_s, start_s, end_s) in enumerate(
        zip(successes.due_s, successes.start_s, successes.end_s, strict=True)
    ):
        yield AttemptReport(
            job_id=str(UUID(bytes=successes.job_ids[16 * n : 16 * n + 16])),
            run=successes.run,
            attempt=successes.attempt,
            queue=successes.queue,
            type=successes.type,
            priority=successes.priority,
            group_id=successes.group_id,
            unique=successes.unique,
            announce=successes.announce,
            labels=successes.labels,
            outcome=AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED,
            reason=EndReason.END_REASON_RETURNED,
            due_time=stamp(due_s),
            start_time=stamp(start_s),
            end_time=stamp(end_s),
            result=Payload(data=successes.results[n], content_type=successes.result_type)
            if successes.results
            else None,
            lane=successes.lane,
            lane_epoch=successes.lane_epoch,
        )


def _failed(code: int) -> CallFailed:
    return CallFailed("/weft.queue.v1.RecordService", status_pb2.Status(code=code))


@dataclass
class Wired:
    """One worker, its queue and its NATS."""

    connection: Connection
    bus: Bus
    book: Book
    runner: Runner
    feeder: Feeder
    reporter: Reporter
    live: Live

    async def enqueue(self, *jobs: Envelope) -> None:
        await Publisher(self.connection).publish_all([item(job, 0) for job in jobs])

    async def unacknowledged(self) -> int:
        """Messages that were delivered, or wait to be."""
        infos = [await self.bus.js.consumer_info(streams.STREAM, f"default_{place}") for place in "hml"]
        return sum((info.num_ack_pending or 0) + (info.num_pending or 0) for info in infos)


def job(type_name: str, payload: Any = None, **fields: Any) -> Envelope:
    return delivery(type_name, payload, **fields).envelope


def known(**fields: Any) -> dict[str, Known]:
    """The queue `default`."""
    return {"default": Known.of(Queue(queue="default", **fields))}


@asynccontextmanager
async def wired(
    url: str, *, book: Book | None = None, room: Room | None = None, queues: dict[str, Known] | None = None
) -> AsyncIterator[Wired]:
    """Until the block ends; then it is drained."""
    async with AsyncExitStack() as stack:
        bus, connection = Bus(url), Connection(Options.of(url))
        await bus.connect()
        stack.push_async_callback(bus.close)
        await connection.open()
        stack.push_async_callback(connection.close)
        await streams.ensure_streams(bus)
        await streams.ensure_queue(bus, "default", 0)
        book = book or Book()
        registry = Registry.of(MODULES)
        live = Live(connection, "w1")
        reporter = Reporter(book, connection, "w1", live.flush_lines)
        performers = Performers(registry, Cells(MODULES))
        runner = Runner(registry, Desk(book, live, reporter), Tracing(0), performers, room or Room(8, 2, 1))
        stack.push_async_callback(runner.close)
        feeder = Feeder(connection, book, runner, reporter, ["default"])
        feeder.follow(queues or known())
        running = asyncio.create_task(feeder.run())
        stack.callback(running.cancel)
        yield Wired(connection, bus, book, runner, feeder, reporter, live)
        book.away = False
        await feeder.stop()
        await runner.drain(0.0)
        await reporter.close(20.0)
