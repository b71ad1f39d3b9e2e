"""A job on its way into JetStream: from what its enqueuer said to the message that is published."""

import re
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from services.chassis import telemetry
from services.chassis.clock import uuid7
from services.chassis.errors import InvalidArgument
from services.chassis.events import provenance
from services.chassis.jetstream.publisher import Item
from services.chassis.jobs.subjects import HIGH, LOW, MEDIUM, due, lane_of, later, message_id
from weft.jobs.v1.job_pb2 import Envelope, Priority
from weft.queue.v1.spec_pb2 import JobSpec

ENVELOPE_BYTES_MAX = 900_000  # As weft/jobs/v1/job.proto says: it must fit a message with its headers.
ID_MS_MAX = 86_400_000  # A day: ids choose the partition of the record, which has those of these days.
SOON_S = 0.001  # Due within that is due now.
DEFAULT = "default"
CANONICAL = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch  # As most ids come.

PLACES = {
    Priority.PRIORITY_UNSPECIFIED: MEDIUM,
    Priority.PRIORITY_HIGH: HIGH,
    Priority.PRIORITY_MEDIUM: MEDIUM,
    Priority.PRIORITY_LOW: LOW,
}


class OversizedJob(InvalidArgument):
    """The job {job_id} takes {bytes} bytes on its way; the most is {max}."""


class UntimelyJobId(InvalidArgument):
    """The id {job_id} is no UUIDv7 of these days."""


def envelope(spec: JobSpec, now_s: float) -> Envelope:
    """What travels: the first attempt of the first run. Raises UntimelyJobId.

    Takes along whose call it is part of, and its trace. `now_s` is in Unix seconds.
    """
    made = Envelope(
        job_id=timely(spec.job_id, now_s) if spec.job_id else str(uuid7()),
        run=1,
        attempt=1,
        queue=spec.queue or DEFAULT,
        priority=spec.priority,
        type=spec.type,
        key=spec.key,
        payload=spec.payload,
        enqueuer=provenance.get().actor,
        group_id=spec.group_id,
        announce=spec.announce,
    )
    if spec.labels:  # To copy an empty map costs as much as all of the above.
        made.labels.update(spec.labels)
    trace = telemetry.current_trace.get()
    if trace.trace_id:
        made.trace = trace.header()
    if spec.HasField("retry"):
        made.retry.CopyFrom(spec.retry)
    if spec.HasField("execution_timeout"):
        made.execution_timeout.CopyFrom(spec.execution_timeout)
    if spec.HasField("expire_time"):
        made.expire_time.CopyFrom(spec.expire_time)
    made.create_time.seconds, made.create_time.nanos = divmod(int(now_s * 1e9), 1_000_000_000)
    if (due_s := _due_s(spec, now_s)) > now_s + SOON_S:
        made.due_time.FromNanoseconds(int(due_s * 1e9))
    return made


def timely(given: str, now_s: float) -> str:
    """The id, written as ids are. Raises UntimelyJobId."""
    text = given if CANONICAL(given) else str(UUID(given))
    ms = int(text[:8] + text[9:13], 16)  # RFC 9562 section 5.7.
    if text[14] != "7" or text[19] not in "89ab" or abs(ms - now_s * 1000) > ID_MS_MAX:
        raise UntimelyJobId(job_id=given)
    return text


def _due_s(spec: JobSpec, now_s: float) -> float:
    """Unix seconds; not after `now_s`: at once."""
    if spec.HasField("due_time"):
        return spec.due_time.ToNanoseconds() / 1e9
    return now_s + (seconds(spec.delay) if spec.HasField("delay") else 0.0)


def seconds(duration: Duration) -> float:
    return duration.ToNanoseconds() / 1e9


def place(job: Envelope, lanes: int) -> str:
    """Where it waits for a worker, in a queue with that many lanes (0: it is not keyed)."""
    return f"k{lane_of(job.key or job.job_id, lanes)}" if lanes else PLACES[job.priority]


def item(job: Envelope, lanes: int, move: int = 0, payload: bytes = b"") -> Item:
    """The message: due, or a schedule that JetStream turns into one. Raises OversizedJob.

    `payload` is the job in bytes, where somebody has them. The schedule is deleted when it fires. What it
    makes has no message id: nobody publishes it twice.
    """
    payload = payload or job.SerializeToString()
    if len(payload) > ENVELOPE_BYTES_MAX:
        raise OversizedJob(job_id=job.job_id, bytes=len(payload), max=ENVELOPE_BYTES_MAX)
    name = message_id(job.job_id, job.run, job.attempt, move)
    subject = due(job.queue, place(job, lanes))
    if not job.HasField("due_time"):
        return Item(subject, payload, name)
    at = datetime.fromtimestamp(job.due_time.ToNanoseconds() / 1e9, UTC)
    schedule = {
        "Nats-Schedule": f"@at {at.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}",
        "Nats-Schedule-Target": subject,
    }
    return Item(later(job.queue, job.job_id), payload, name, schedule)
