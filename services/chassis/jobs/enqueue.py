"""Enqueuing, in three ways; each returns when the job can no longer be lost.

    enqueuer = Enqueuer(connection, queues, clock)
    await enqueuer.enqueue(spec("mail.send", SendMail(to=...)))     fast: straight into JetStream
    await record(tools.mesh, spec(...))                             by the queue's rpc, which decides
    await request(tx, spec(...))                                    if and when the transaction commits

Fast shares one group commit among all callers of a process, and the queue's record follows. What only the
queue can decide goes by its rpc: unique keys, dependencies, routing rules. `request` rides in the caller's
own outbox: an event that the queue takes in once.
"""

from collections.abc import Sequence
from typing import Any

from asyncpg.pgproto.pgproto import UUID  # As the library's own, and made five times as fast.

from services.chassis import telemetry
from services.chassis.clock import Clock, uuid7
from services.chassis.db import AnyTx
from services.chassis.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, Unavailable
from services.chassis.events import emit, provenance
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import Disconnected, NotStored, Overrun, Refused, TooLarge
from services.chassis.jetstream.publisher import Item, Publisher, Stored
from services.chassis.jobs import alike
from services.chassis.jobs.alike import Kind
from services.chassis.jobs.payload import codec
from services.chassis.jobs.queues import Known, Queues
from services.chassis.jobs.sending import PLACES, OversizedJob, envelope, item, timely
from services.chassis.jobs.subjects import due, lane_of
from services.chassis.mesh import Mesh
from services.chassis.rpc import check
from weft.jobs.v1.job_pb2 import Envelope, Payload
from weft.queue.v1 import job_pb2  # noqa: F401 - its stub names messages only, and forgets the contract
from weft.queue.v1.events_pb2 import JobRequested
from weft.queue.v1.job_messages_pb2 import EnqueueJobRequest, EnqueueJobResponse
from weft.queue.v1.job_pb2_grpc import JobServiceStub
from weft.queue.v1.settings_pb2 import QueueState
from weft.queue.v1.spec_pb2 import JobSpec

JOBS_MAX = 10_000  # In one call, as the queue's own EnqueueBatch takes them.
DRAINING = QueueState.QUEUE_STATE_DRAINING
EVENT_BYTES_MAX = 60_000  # Of a job in an event: an event has 64 KiB with all that is about it.


class NeedsRecord(InvalidArgument):
    """Only the queue can decide about `{field}` of a job: enqueue it by record."""


class QueueTakesNone(FailedPrecondition):
    """Queue {queue} is draining: it takes no jobs in."""


class TooManyJobs(InvalidArgument):
    """There are {count} jobs; the most in one call is {max}."""


class JobsAway(Unavailable):
    """Jobs cannot be stored at the moment. A job may have been: the same id can be tried again."""


class JobsBusy(ResourceExhausted):
    """More jobs wait to be stored than JetStream keeps up with."""


def spec(kind: str, value: Any = None, **fields: Any) -> JobSpec:
    """A job of the type `kind` with `value` (a message, a dataclass, bytes) for its payload.

    `fields` are further ones of weft.queue.v1.JobSpec: `queue="mails"`, `key=...`,
    `delay=timedelta(hours=1)`, `due_time=...`. It has an id from now on: enqueued twice, it is one job.
    """
    how = codec(type(value))
    payload = Payload(data=how.encode(value), content_type=how.content_type)
    made = JobSpec(type=kind, payload=payload, **fields)
    made.job_id = made.job_id or str(uuid7())
    return made


class Enqueuer:
    """The fast way, for all callers of a process."""

    def __init__(self, connection: Connection, queues: Queues, clock: Clock) -> None:
        self._publisher, self._queues, self._clock = Publisher(connection), queues, clock
        self._kinds: dict[tuple[bytes, bytes], Kind] = {}

    async def enqueue(self, job: JobSpec) -> UUID:
        """Returns the job's id when JetStream has it. Idempotent by `job_id`, within two minutes.

        Raises Malformed, NeedsRecord, NoSuchQueue, QueueTakesNone, QueuesUnknown, OversizedJob,
        UntimelyJobId, JobsBusy, JobsAway.
        """
        return (await self.enqueue_all([job]))[0]

    async def enqueue_all(self, jobs: Sequence[JobSpec]) -> list[UUID]:
        """As `enqueue`, in order. All are checked before the first is stored; then it is not all or none."""
        if len(jobs) > JOBS_MAX:
            raise TooManyJobs(count=len(jobs), max=JOBS_MAX)
        now_s = self._clock.epoch()
        trace = telemetry.current_trace.get()
        said = alike.about(now_s, trace.header() if trace.trace_id else "", provenance.get().actor)
        ids, items = [], []
        for job in jobs:
            job_id = job.job_id
            like = alike.parts(job) if job_id else None
            kind = self._kinds.get(like.kind) if like else None
            if like is None or kind is None:
                made = self._made(job, like, now_s)
                ids.append(UUID(made.job_id))
                items.append(item(made, (await self._open_queue(made.queue)).lanes))
                continue
            queue = self._queues.find(kind.queue) or await self._open_queue(kind.queue)
            if queue.state == DRAINING:
                raise QueueTakesNone(queue=queue.name)
            job_id = timely(job_id, now_s)
            ids.append(UUID(job_id))
            key = like.key.decode() or job_id
            where = f"k{lane_of(key, queue.lanes)}" if queue.lanes else PLACES[kind.priority]
            raw = alike.envelope(job_id, kind, like, said)
            items.append(Item(due(kind.queue, where), raw, f"{job_id}:1:1"))
        await _published(self._publisher, items)
        return ids

    async def _open_queue(self, name: str) -> Known:
        """Raises NoSuchQueue, QueueTakesNone, QueuesUnknown."""
        queue = self._queues.find(name) or await self._queues.get(name)
        if queue.state == DRAINING:
            raise QueueTakesNone(queue=queue.name)
        return queue

    def _made(self, job: JobSpec, like: alike.Parts | None, now_s: float) -> Envelope:
        """A job by itself; those like it are known after that.

        Raises Malformed, NeedsRecord, UntimelyJobId.
        """
        check(job)
        for field in ("unique", "after"):
            if job.HasField(field):
                raise NeedsRecord(field=field)
        made = envelope(job, now_s)
        if like and len(self._kinds) < alike.KINDS_MAX and (kind := alike.kind(job, made)):
            self._kinds[like.kind] = kind
        return made

    async def close(self) -> None:
        """Waits until all that was given is stored or refused."""
        await self._publisher.close()


async def _published(publisher: Publisher, items: Sequence[Item]) -> Sequence[Stored]:
    """Stores all. Raises JobsBusy, JobsAway or OversizedJob."""
    try:
        return await publisher.publish_all(items)
    except Overrun:
        raise JobsBusy from None
    except TooLarge as error:
        raise OversizedJob(job_id="", bytes=str(error), max="less") from None
    except (NotStored, Disconnected, Refused) as error:
        raise JobsAway from error


async def record(mesh: Mesh, job: JobSpec) -> EnqueueJobResponse:
    """By the queue's rpc: written down first, then published. Raises CallFailed, with the queue's reasons."""
    stub = JobServiceStub(mesh)
    answered: EnqueueJobResponse = await stub.EnqueueJob(EnqueueJobRequest(job=job))
    return answered


async def request(tx: AnyTx, *jobs: JobSpec) -> list[UUID]:
    """The jobs exist if and when `tx` commits. Returns their ids. Raises Malformed or OversizedJob.

    What the queue refuses then (a queue that is not there) becomes a dead event of its consumer.
    """
    for job in jobs:
        check(job)
        job.job_id = job.job_id or str(uuid7())
        if (size := job.ByteSize()) > EVENT_BYTES_MAX:
            raise OversizedJob(job_id=job.job_id, bytes=size, max=EVENT_BYTES_MAX)
    await emit(tx, *(JobRequested(job_id=job.job_id, job=job) for job in jobs))
    return [UUID(job.job_id) for job in jobs]
