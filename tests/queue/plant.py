"""What tests do to the queue: enqueue, take messages as a worker does, report on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from services.chassis.clock import uuid7
from services.chassis.jetstream import acks
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.pulling import Delivery, Pull
from services.chassis.jetstream.servers import Options
from services.chassis.jetstream.stream import Stream
from services.chassis.jobs import subjects
from services.chassis.testing import WAIT_S, Lab, until
from weft.jobs.v1.attempt_pb2 import AttemptOutcome, AttemptReport, Failure
from weft.jobs.v1.job_pb2 import EndReason, Envelope, Payload
from weft.queue.v1 import job_messages_pb2 as jobs, queue_pb2, record_pb2, stats_pb2
from weft.queue.v1.dead_letter_pb2_grpc import DeadLetterServiceStub
from weft.queue.v1.group_pb2_grpc import GroupServiceStub
from weft.queue.v1.job_pb2_grpc import JobServiceStub
from weft.queue.v1.queue_pb2_grpc import QueueServiceStub
from weft.queue.v1.record_pb2_grpc import RecordServiceStub
from weft.queue.v1.spec_pb2 import JobSpec
from weft.queue.v1.stats_pb2_grpc import StatsServiceStub

WORKER = "w1"


@dataclass
class Plant:
    """Stubs of all the queue's services, and a connection to the streams."""

    lab: Lab
    connection: Connection
    came: list[Delivery] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def of(cls, lab: Lab) -> AsyncIterator[Plant]:
        connection = Connection(Options.of(lab.settings.nats_url))
        await connection.open()
        yield cls(lab, connection)
        await connection.close()

    def __post_init__(self) -> None:
        channel: Any = self.lab.channel
        self.queues: Any = QueueServiceStub(channel)
        self.jobs: Any = JobServiceStub(channel)
        self.groups: Any = GroupServiceStub(channel)
        self.letters: Any = DeadLetterServiceStub(channel)
        self.stats: Any = StatsServiceStub(channel)
        self.records: Any = RecordServiceStub(channel)
        self.stream = Stream(self.connection, subjects.STREAM)
        self.who = self.lab.bearer()
        self.mesh = self.lab.as_service("worker")

    async def create(self, queue: str, **fields: Any) -> queue_pb2.Queue:
        request = queue_pb2.CreateQueueRequest(queue=queue, **fields)
        return (await self.queues.CreateQueue(request, metadata=self.who)).queue

    async def enqueue(self, kind: str = "noop", **fields: Any) -> jobs.EnqueueJobResponse:
        spec = JobSpec(type=kind, **{"payload": Payload(data=b"x"), **fields})
        return await self.jobs.EnqueueJob(jobs.EnqueueJobRequest(job=spec), metadata=self.who)

    async def batch(self, specs: Sequence[JobSpec], **fields: Any) -> jobs.EnqueueBatchResponse:
        request = jobs.EnqueueBatchRequest(jobs=specs, **fields)
        return await self.jobs.EnqueueBatch(request, metadata=self.who)

    async def get(self, job_id: str) -> jobs.Job:
        return (await self.jobs.GetJob(jobs.GetJobRequest(job_id=job_id), metadata=self.who)).job

    async def list(self, **fields: Any) -> jobs.ListJobsResponse:
        return await self.jobs.ListJobs(jobs.ListJobsRequest(**fields), metadata=self.who)

    async def take(
        self, queue: str = "default", place: str = "m", count: int = 1, wait_s: float = WAIT_S
    ) -> list[Delivery]:
        """The next messages, as a worker gets them."""
        came: list[Delivery] = []
        name = subjects.consumer(queue, place)
        pull = Pull(self.connection, subjects.STREAM, name, came.extend, count)
        pull.start()

        async def enough() -> bool:
            return len(came) >= count

        try:
            await until(enough, wait_s)
        finally:
            await pull.stop()
        return came

    async def acknowledge(self, came: Sequence[Delivery]) -> None:
        await acks.confirm(self.connection, [each.reply for each in came])

    async def report(self, *reports: AttemptReport, worker: str = WORKER) -> Any:
        request = record_pb2.ReportAttemptsRequest(worker=worker, attempts=reports)
        return await self.records.ReportAttempts(request, metadata=self.mesh)

    async def finish(self, job_id: str, outcome: str = "SUCCEEDED", **fields: Any) -> Any:
        """As a worker that has run the job."""
        envelope = (await self.get(job_id)).envelope
        return await self.report(report_on(envelope, outcome, **fields))

    async def drain(self, queue: str) -> None:
        await self.queues.DrainQueue(queue_pb2.DrainQueueRequest(queue=queue), metadata=self.who)

    async def pause(self, queue: str) -> None:
        await self.queues.PauseQueue(queue_pb2.PauseQueueRequest(queue=queue), metadata=self.who)

    async def resume(self, queue: str) -> None:
        await self.queues.ResumeQueue(queue_pb2.ResumeQueueRequest(queue=queue), metadata=self.who)

    async def depth(self, queue: str) -> int:
        """Due jobs that no worker holds."""
        request = stats_pb2.GetStatsRequest(queue=queue)
        waiting = (await self.stats.GetStats(request, metadata=self.who)).queues[0].waiting
        return int(waiting.high + waiting.medium + waiting.low)

    async def raw(self, sql: str, *args: Any) -> Any:
        return await self.lab.db("queue").fetch(sql, *args)


def report_on(envelope: Envelope, outcome: str = "SUCCEEDED", **fields: Any) -> AttemptReport:
    """A report of an attempt that took some milliseconds."""
    ended = {
        "SUCCEEDED": EndReason.END_REASON_RETURNED,
        "CANCELLED": EndReason.END_REASON_CANCELLED_BY_REQUEST,
    }
    made = AttemptReport(
        job_id=envelope.job_id,
        run=envelope.run,
        attempt=envelope.attempt,
        queue=envelope.queue,
        type=envelope.type,
        priority=envelope.priority,
        group_id=envelope.group_id,
        unique=envelope.unique,
        announce=envelope.announce,
        outcome=AttemptOutcome.Value(f"ATTEMPT_OUTCOME_{outcome}"),
        reason=ended.get(outcome, EndReason.END_REASON_RAISED),
        due_time=envelope.create_time,
    )
    made.start_time.GetCurrentTime()
    made.end_time.GetCurrentTime()
    if outcome in ("FAILED", "RETRYING"):
        made.failure.CopyFrom(Failure(kind="ValueError", message="seven is no colour", trace="line 7"))
    made.MergeFrom(AttemptReport(**fields))
    return made


def envelope_of(came: Delivery) -> Envelope:
    return Envelope.FromString(came.payload)


def new_id() -> str:
    return str(uuid7())


def as_uuid(text: str) -> UUID:
    return UUID(text)
