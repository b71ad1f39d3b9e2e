"""The streams that jobs travel in, and a durable consumer for each place where they wait.

Made and changed by the queue service, as often as it likes: what is there already is left as it is.
"""

import re

from nats.js import api

from services.chassis.bus import Bus
from services.chassis.jobs.subjects import (
    CLAIMED,
    CLAIMS,
    DUE,
    HAPPENING,
    HISTORY,
    LATER,
    LIVE,
    STREAM,
    TAKEN,
    consumer,
    due,
    places,
)

HOUR_S = 3_600.0
DUPLICATE_WINDOW_S = 120.0  # Four times what a publisher tries for; each id in it costs the server 140 bytes.
LIVE_MESSAGES_MAX = 1_000_000  # Of the last hour, the last that many: a busy hour has more.
LIVE_BYTES_MAX = 1024**3  # Log lines and progress are small; this is disk, not memory.
CLAIMS_BYTES_MAX = 128 * 1024**2  # A worker's claims are some 100 bytes for each job it holds.
CLAIMS_AGE_S_MAX = 24 * HOUR_S  # A claim this old belongs to nobody; its job has had other owners since.
ACK_WAIT_S = 30.0  # Only for workers that froze, or died unseen: live ones say that they are at work.
ACK_PENDING_MAX = 50_000  # Of one place in all workers' hands; it bounds what a crash brings again.
LANE_PENDING_MAX = 2_000  # Of one lane, in its one owner's hands.
WAITING_MAX = 4_096  # Pull requests that wait at once: some of each worker.


async def ensure_streams(bus: Bus) -> None:
    """The streams, and the queue's own consumer of what is enqueued."""
    for config in (_jobs(), _live(), _claims()):
        # Nobody waits for what is written asynchronously. A replicated stream knows no such mode; a stream in
        # the memory of a single server would be gone with it.
        if bus.replicas == 1 and config.name != STREAM:
            config.storage, config.persist_mode = api.StorageType.FILE, api.PersistMode.ASYNC
        await bus.ensure(config)
    # One reader takes all in order, so one acknowledgement says that all before was taken, too.
    await _ensure_consumer(bus, HISTORY, [f"{DUE}.>", f"{LATER}.>"], ACK_PENDING_MAX, api.AckPolicy.ALL)


def _jobs() -> api.StreamConfig:
    return api.StreamConfig(
        name=STREAM,
        subjects=[f"{DUE}.>", f"{LATER}.>"],
        # No limit of size: it would delete the oldest jobs. The server has one, and refuses when full.
        retention=api.RetentionPolicy.LIMITS,
        duplicate_window=DUPLICATE_WINDOW_S,
        allow_atomic=True,
        allow_direct=True,
        allow_msg_schedules=True,
        allow_msg_ttl=True,
    )


def _live() -> api.StreamConfig:
    return api.StreamConfig(
        name=LIVE,
        subjects=[f"{HAPPENING}.>"],
        max_age=HOUR_S,
        max_msgs=LIVE_MESSAGES_MAX,
        max_bytes=LIVE_BYTES_MAX,
        no_ack=True,
        allow_direct=True,
    )


def _claims() -> api.StreamConfig:
    return api.StreamConfig(
        name=CLAIMS,
        subjects=[f"{CLAIMED}.>", f"{TAKEN}.>"],
        storage=api.StorageType.MEMORY,
        max_age=CLAIMS_AGE_S_MAX,
        max_bytes=CLAIMS_BYTES_MAX,
        max_msgs_per_subject=1,
        allow_direct=True,
    )


async def ensure_queue(bus: Bus, queue: str, lanes: int) -> None:
    """A consumer for each place of the queue, and none for lanes that it had. `lanes` is 0 unless keyed."""
    wanted = {consumer(queue, place): due(queue, place) for place in places(lanes)}
    pending_max = LANE_PENDING_MAX if lanes else ACK_PENDING_MAX
    for name, subject in wanted.items():
        await _ensure_consumer(bus, name, [subject], pending_max)
    for name in await _consumers(bus, queue):
        if name not in wanted:
            await bus.js.delete_consumer(STREAM, name)


async def remove_queue(bus: Bus, queue: str) -> None:
    """Deletes its consumers and whatever still waits in it."""
    for name in await _consumers(bus, queue):
        await bus.js.delete_consumer(STREAM, name)
    for first in (DUE, LATER):
        await bus.js.purge_stream(STREAM, subject=f"{first}.{queue}.>")


async def _ensure_consumer(
    bus: Bus,
    name: str,
    subjects: list[str],
    pending_max: int,
    policy: api.AckPolicy = api.AckPolicy.EXPLICIT,
) -> None:
    config = api.ConsumerConfig(
        durable_name=name,
        ack_policy=policy,
        ack_wait=ACK_WAIT_S,
        max_ack_pending=pending_max,
        max_waiting=WAITING_MAX,
    )
    if len(subjects) == 1:
        config.filter_subject = subjects[0]  # By this its requests can be permitted by subject.
    else:
        config.filter_subjects = subjects
    await bus.settled(lambda: bus.js.add_consumer(STREAM, config))


async def _consumers(bus: Bus, queue: str) -> list[str]:
    """Names of the consumers of the queue's places that exist."""
    found: list[str] = []
    while True:
        page = await bus.request(f"CONSUMER.NAMES.{STREAM}", {"offset": len(found)})
        found += page["consumers"] or []
        if not page["consumers"] or len(found) >= page["total"]:
            own = re.compile(rf"{re.escape(consumer(queue, ''))}([hml]|k\d+)")
            return [name for name in found if own.fullmatch(name)]
