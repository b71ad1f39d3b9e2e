"""Where jobs stand in JetStream: the names of streams, subjects, consumers and messages, and nothing else.

The same for enqueuers, the queue and workers; `weft/jobs/v1/job.proto` says what each is for.
"""

from zlib import crc32

STREAM = "jobs"  # What is due, and what is not yet.
LIVE = "jobs-live"  # What happens now, for watchers.
CLAIMS = "jobs-claims"  # Who holds which message.
DUE, LATER, HAPPENING = "jobs.q", "jobs.s", "jobs.live"  # First tokens of their subjects.
CLAIMED = "jobs.claims"
TAKEN = "jobs.lanes"  # In CLAIMS, too: how far owners of lanes had come.
EVERYONE = "jobs.control.all"
HISTORY = "record"  # The queue's own consumer of STREAM: its record of what others enqueued.

HIGH, MEDIUM, LOW = "h", "m", "l"
PRIORITIES = (HIGH, MEDIUM, LOW)


def lane_of(key: str, lanes: int) -> int:
    """The lane of a key, from 0."""
    return crc32(key.encode()) % lanes


def due(queue: str, place: str) -> str:
    """Where a job waits for a worker. `place` is a priority, or `k<lane>`."""
    return f"{DUE}.{queue}.{place}"


def later(queue: str, job_id: str) -> str:
    """Where a job waits for its time: a subject of its own, so that it can be purged alone."""
    return f"{LATER}.{queue}.{job_id}"


def live(queue: str) -> str:
    """Where it is told what happens to a queue's jobs; many in one message."""
    return f"{HAPPENING}.{queue}"


def control(worker: str) -> str:
    return f"jobs.control.{worker}"


def consumer(queue: str, place: str) -> str:
    """The durable of one due subject; no queue's name has an underscore."""
    return f"{queue}_{place}"


def places(lanes: int) -> list[str]:
    """Of a keyed queue with that many lanes; of one that is not keyed, 0."""
    return [f"k{lane}" for lane in range(lanes)] or list(PRIORITIES)


def message_id(job_id: str, run: int, attempt: int, move: int = 0) -> str:
    """Nats-Msg-Id of an envelope: publishing the same again within JetStream's window changes nothing.

    `move` counts how often the job was put elsewhere, for then it must not be taken for the same.
    """
    return f"{job_id}:{run}:{attempt}:{move}" if move else f"{job_id}:{run}:{attempt}"
