"""What happens to jobs, on its way to those who watch: many updates in one message, and back.

Nobody waits for it, and nobody relies on it. A message is read as far as it can be.
"""

from collections.abc import Iterable, Iterator
from uuid import UUID

from google.protobuf.message import DecodeError

from services.chassis.jetstream.protocol import publication, subject
from services.chassis.jobs.subjects import live
from weft.jobs.v1.live_pb2 import Same, Update, Updates

TOGETHER_MAX = 1_000  # Updates in one message.
MESSAGE_BYTES_MAX = 512 * 1024  # Half of what NATS lets through; log lines may be long.
ID_BYTES = 16


def told(updates: Iterable[Update], same: Iterable[Same] = ()) -> bytes:
    """The commands that publish these, a message or more for each queue."""
    queues: dict[str, list[Update | Same]] = {}
    for update in updates:
        queues.setdefault(update.queue, []).append(update)
    for each in same:
        queues.setdefault(each.update.queue, []).append(each)
    return b"".join(
        publication(subject(live(queue)), b"", b"", message.SerializeToString())
        for queue, parts in queues.items()
        for message in _messages(parts)
    )


def _messages(parts: Iterable[Update | Same]) -> Iterator[Updates]:
    message, count, size = Updates(), 0, 0
    for part in parts:
        bytes_more = part.ByteSize()
        if count and (count >= TOGETHER_MAX or size + bytes_more > MESSAGE_BYTES_MAX):
            yield message
            message, count, size = Updates(), 0, 0
        if isinstance(part, Update):
            message.updates.append(part)
        else:
            message.same.append(part)
        count, size = count + 1, size + bytes_more
    yield message


def read(payload: bytes) -> Updates:
    """What a message says; nothing, if it is none."""
    try:
        return Updates.FromString(payload)
    except DecodeError:
        return Updates()


def each_of(message: Updates) -> Iterator[Update]:
    """Every update, each with its job's id, in order."""
    yield from message.updates
    for same in message.same:
        for job_id in ids(same):
            update = Update()
            update.CopyFrom(same.update)
            update.job_id = str(UUID(bytes=job_id))
            yield update


def ids(same: Same) -> Iterator[bytes]:
    """Its jobs, 16 bytes each."""
    packed = same.job_ids
    return (packed[n : n + ID_BYTES] for n in range(0, len(packed) - ID_BYTES + 1, ID_BYTES))


def mentions(payload: bytes, job_id: UUID) -> bool:
    """Whether a message may speak of a job: a glance that spares reading all the others."""
    return str(job_id).encode() in payload or job_id.bytes in payload
