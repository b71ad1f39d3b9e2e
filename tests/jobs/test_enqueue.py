"""A job that was enqueued stands where its worker looks for it, once; one that cannot be is refused."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.chassis.bus import Bus
from services.chassis.clock import Clock, uuid7
from services.chassis.db import Database
from services.chassis.errors import Refusal
from services.chassis.events import Provenance, provenance
from services.chassis.host import Parts, Tools
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.stream import Record, Stream
from services.chassis.jobs import queues as module
from services.chassis.jobs.enqueue import (
    Enqueuer,
    JobsAway,
    NeedsRecord,
    QueueTakesNone,
    TooManyJobs,
    record,
    request,
    spec,
)
from services.chassis.jobs.queues import NoSuchQueue, Queues, QueuesUnknown
from services.chassis.jobs.sending import OversizedJob, UntimelyJobId, item
from services.chassis.jobs.subjects import lane_of
from services.chassis.mesh import Mesh
from services.chassis.rpc import Malformed
from services.chassis.testing import Lab, laboratory
from tests.chassis.waiting import until
from tests.servers import Shared
from weft.jobs.v1.job_pb2 import Envelope, Payload, Priority, RetryPolicy
from weft.queue.v1.events_pb2 import JobRequested
from weft.queue.v1.job_messages_pb2 import EnqueueJobRequest, EnqueueJobResponse
from weft.queue.v1.job_pb2_grpc import JobServiceServicer, add_JobServiceServicer_to_server
from weft.queue.v1.queue_pb2 import Queue
from weft.queue.v1.record_pb2 import WatchQueuesRequest, WatchQueuesResponse
from weft.queue.v1.record_pb2_grpc import RecordServiceServicer, add_RecordServiceServicer_to_server
from weft.queue.v1.settings_pb2 import QueueSettings, QueueState
from weft.queue.v1.spec_pb2 import Dependencies, JobSpec, Unique

ACTIVE, DRAINING = QueueState.QUEUE_STATE_ACTIVE, QueueState.QUEUE_STATE_DRAINING
DEFAULT = Queue(queue="default", state=ACTIVE)
LEDGER = Queue(queue="ledger", state=ACTIVE, keyed=True, settings=QueueSettings(lanes=8))
CLOSING = Queue(queue="closing", state=DRAINING)


@dataclass
class Mail:
    to: str


class Control(RecordServiceServicer, JobServiceServicer):
    """A queue service of a few words."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[list[Queue] | None] = asyncio.Queue()
        self.calls, self.enqueued = 0, list[JobSpec]()

    async def WatchQueues(
        self, request: WatchQueuesRequest, context: Any
    ) -> AsyncIterator[WatchQueuesResponse]:  # type: ignore[override]
        self.calls += 1
        while (queues := await self.told.get()) is not None:
            yield WatchQueuesResponse(queues=queues)

    async def EnqueueJob(self, request: EnqueueJobRequest, context: Any) -> EnqueueJobResponse:  # type: ignore[override]
        self.enqueued.append(request.job)
        return EnqueueJobResponse()


@pytest.fixture
def control() -> Control:
    return Control()


@pytest.fixture
async def lab(control: Control, servers: Shared, nats_url: str) -> AsyncIterator[Lab]:
    def build(tools: Tools) -> Parts:
        return Parts(
            servicers={
                add_RecordServiceServicer_to_server: control,
                add_JobServiceServicer_to_server: control,
            }
        )

    async with laboratory({"stub": build}, postgres_url=servers.postgres(), nats_url=nats_url) as lab:
        yield lab


@pytest.fixture
def mesh(lab: Lab) -> Mesh:
    return lab.hosted.mesh["stub"]


@pytest.fixture
async def queues(mesh: Mesh, control: Control) -> AsyncIterator[Queues]:
    made = Queues(mesh)
    running = asyncio.create_task(made.run())
    control.told.put_nowait([DEFAULT, LEDGER, CLOSING])
    yield made
    running.cancel()
    await asyncio.wait([running])


@pytest.fixture
async def enqueuer(bus: Bus, connection: Connection, queues: Queues) -> Enqueuer:
    return Enqueuer(connection, queues, Clock())


async def stored(connection: Connection) -> list[tuple[Record, Envelope]]:
    """What is in the stream, in order."""
    last = (await connection.api("STREAM.INFO.jobs"))["state"]["last_seq"]
    records = [await Stream(connection, "jobs").get(n) for n in range(1, last + 1)]
    return [(each, Envelope.FromString(each.payload)) for each in records if each]


async def test_a_job_stands_in_its_queue_with_all_that_was_said(
    enqueuer: Enqueuer, connection: Connection
) -> None:
    provenance.set(Provenance(actor="user:ann"))
    made = spec(
        "mail.send",
        Mail("bob"),
        priority=Priority.PRIORITY_HIGH,
        labels={"tenant": "acme"},
        retry=RetryPolicy(attempts_max=3),
        execution_timeout=timedelta(seconds=7),
        announce=True,
    )
    job_id = await enqueuer.enqueue(made)
    [(record_, envelope)] = await stored(connection)
    assert record_.subject == "jobs.q.default.h"
    assert record_.headers["Nats-Msg-Id"] == f"{job_id}:1:1"
    assert envelope.create_time.ToNanoseconds() > 0
    envelope.ClearField("create_time")
    assert envelope == Envelope(
        job_id=str(job_id),
        run=1,
        attempt=1,
        queue="default",
        priority=Priority.PRIORITY_HIGH,
        type="mail.send",
        payload=made.payload,
        labels={"tenant": "acme"},
        retry=RetryPolicy(attempts_max=3),
        execution_timeout=made.execution_timeout,
        enqueuer="user:ann",
        announce=True,
    )
    assert envelope.payload.data == b'{"to":"bob"}'


async def test_priority_or_key_choose_where_it_waits(enqueuer: Enqueuer, connection: Connection) -> None:
    keyless = spec("a", queue="ledger")
    await enqueuer.enqueue_all(
        [
            spec("a"),
            spec("a", priority=Priority.PRIORITY_LOW),
            spec("a", queue="ledger", key="account-7"),
            keyless,
        ]
    )
    assert [record_.subject for record_, _ in await stored(connection)] == [
        "jobs.q.default.m",
        "jobs.q.default.l",
        f"jobs.q.ledger.k{lane_of('account-7', 8)}",
        f"jobs.q.ledger.k{lane_of(keyless.job_id, 8)}",
    ]


async def test_a_later_job_waits_for_its_time_and_comes_due(
    enqueuer: Enqueuer, connection: Connection
) -> None:
    soon, late = spec("a", delay=timedelta(seconds=1)), spec("a", due_time=datetime(2000, 1, 1, tzinfo=UTC))
    year = spec("a", due_time=datetime.now(UTC) + timedelta(days=365))
    await enqueuer.enqueue_all([soon, late, year])
    at = {envelope.job_id: record_.subject for record_, envelope in await stored(connection)}
    assert at == {
        soon.job_id: f"jobs.s.default.{soon.job_id}",
        late.job_id: "jobs.q.default.m",
        year.job_id: f"jobs.s.default.{year.job_id}",
    }

    async def due() -> bool:
        found = await stored(connection)
        return ("jobs.q.default.m", soon.job_id) in [(one.subject, each.job_id) for one, each in found]

    await until(due)
    assert await Stream(connection, "jobs").last(f"jobs.s.default.{soon.job_id}") is None


async def test_an_id_makes_one_job_however_often_it_is_enqueued(
    enqueuer: Enqueuer, connection: Connection
) -> None:
    job = spec("a")
    ids = await asyncio.gather(*(enqueuer.enqueue(job) for _ in range(10)))
    assert set(ids) == {UUID(job.job_id)}
    assert len(await stored(connection)) == 1


async def test_two_hundred_callers_share_batches(enqueuer: Enqueuer, connection: Connection) -> None:
    async def caller() -> None:
        for _ in range(10):
            await enqueuer.enqueue(JobSpec(type="a"))

    await asyncio.gather(*(caller() for _ in range(200)))
    assert (await connection.api("STREAM.INFO.jobs"))["state"]["messages"] == 2_000
    assert enqueuer._publisher.batches < 100


REFUSED = [
    (JobSpec(type="no spaces"), Malformed),
    (JobSpec(type="a", queue="nobody"), NoSuchQueue),
    (JobSpec(type="a", queue="closing"), QueueTakesNone),
    (JobSpec(type="a", unique=Unique(key="k")), NeedsRecord),
    (JobSpec(type="a", after=Dependencies(job_ids=[str(uuid7())])), NeedsRecord),
    (JobSpec(type="a", job_id="7d444840-9dc0-11d1-b245-5ffdce74fad2"), UntimelyJobId),
    (JobSpec(type="a", job_id=str(uuid7(datetime(2020, 1, 1, tzinfo=UTC)))), UntimelyJobId),
]


@pytest.mark.parametrize(("job", "refusal"), REFUSED, ids=[kind.__name__ for _, kind in REFUSED])
async def test_what_cannot_be_enqueued_is_refused_with_all_that_came_with_it(
    enqueuer: Enqueuer, connection: Connection, job: JobSpec, refusal: type[Refusal]
) -> None:
    with pytest.raises(refusal):
        await enqueuer.enqueue_all([JobSpec(type="fine"), job])
    assert await stored(connection) == []


async def test_too_much_is_refused(enqueuer: Enqueuer, connection: Connection) -> None:
    job = spec("a", b"x" * 786_432)
    await enqueuer.enqueue(job)
    for n in range(32):
        job.labels[f"l{n}"] = "x" * 200
        job.payload.metadata[f"m{n}"] = "x" * 1_024
    job.retry.not_retried_errors.extend([f"{n:03}{'é' * 197}" for n in range(50)])
    await enqueuer.enqueue(job)
    with pytest.raises(Malformed):
        await enqueuer.enqueue(spec("a", b"x" * 786_433))
    with pytest.raises(TooManyJobs):
        await enqueuer.enqueue_all([JobSpec(type="a")] * 10_001)


async def test_a_job_like_one_that_was_well_formed_is_checked_where_it_may_differ(
    enqueuer: Enqueuer, connection: Connection
) -> None:
    await enqueuer.enqueue(spec("a", b"x"))
    await enqueuer.enqueue(spec("a", b"y"))
    like = spec("a", b"x")
    for wrong, refused in (
        (JobSpec(job_id="7d444840"), Malformed),
        (JobSpec(job_id=str(uuid7(datetime(2020, 1, 1, tzinfo=UTC)))), UntimelyJobId),
        (JobSpec(payload=Payload(data=b"x" * 786_433)), Malformed),
        (JobSpec(labels={"no spaces": ""}), Malformed),
        (JobSpec(unique=Unique(key="k")), NeedsRecord),
    ):
        for _ in range(2):
            job = JobSpec()
            job.CopyFrom(like)
            job.MergeFrom(wrong)
            with pytest.raises(refused):
                await enqueuer.enqueue(job)
    assert len(await stored(connection)) == 2


def test_an_envelope_that_fits_no_message_is_refused() -> None:
    with pytest.raises(OversizedJob):
        item(Envelope(job_id=str(uuid7()), labels={"a": "x" * 900_000}), 0)


async def test_a_jetstream_that_is_away_is_said(lab: Lab, connection: Connection, queues: Queues) -> None:
    away = Enqueuer(connection, queues, Clock())  # No stream was made.
    away._publisher._give_up_s = 0.2
    with pytest.raises(JobsAway):
        await away.enqueue(spec("a"))


async def test_queues_are_followed_and_outlive_their_service(
    enqueuer: Enqueuer, queues: Queues, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    seen: list[set[str]] = []
    await queues.get("default")
    queues.on_change(lambda known: seen.append(set(known)))
    control.told.put_nowait([DEFAULT])
    await until(lambda: len(seen) == 2)
    with pytest.raises(NoSuchQueue):
        await enqueuer.enqueue(spec("a", queue="ledger"))
    control.told.put_nowait(None)  # The call ends, as when the service stops.
    await until(lambda: control.calls > 1)
    assert (await queues.get("default")).lanes == 0
    control.told.put_nowait([DEFAULT, LEDGER])
    await until(lambda: len(seen) == 3)
    assert (await queues.get("ledger")).lanes == 8
    assert seen == [{"default", "ledger", "closing"}, {"default"}, {"default", "ledger"}]


async def test_queues_that_nobody_told_of_are_unknown(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_S_MAX", 0.02)
    with pytest.raises(QueuesUnknown):
        await Queues(mesh).get("default")


async def test_a_job_is_recorded_by_rpc(mesh: Mesh, control: Control) -> None:
    job = spec("a", unique=Unique(key="k"))
    await record(mesh, job)
    assert control.enqueued == [job]


async def test_a_job_requested_in_a_transaction_exists_if_it_commits(lab: Lab) -> None:
    db: Database = lab.db("stub")
    kept, dropped = spec("a", Mail("bob")), spec("b")
    async with db.transaction() as tx:
        assert await request(tx, kept) == [UUID(kept.job_id)]
    with pytest.raises(RuntimeError):
        async with db.transaction() as tx:
            await request(tx, dropped)
            raise RuntimeError("rolled back")
    rows = await db.fetch("select type, key, payload from event where type like 'weft.queue.%'")
    assert [(row["type"], row["key"]) for row in rows] == [("weft.queue.v1.JobRequested", kept.job_id)]
    assert JobRequested.FromString(rows[0]["payload"]).job == kept
    async with db.transaction() as tx:
        for wrong, refusal in [(spec("a", b"x" * 70_000), OversizedJob), (JobSpec(type="no way"), Malformed)]:
            with pytest.raises(refusal):
                await request(tx, wrong)
