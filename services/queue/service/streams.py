"""What the queue asks JetStream about its queues' consumers, and pausing them."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import nats.errors
from nats.js import api
from nats.js.errors import NotFoundError

from services.chassis.bus import Bus
from services.chassis.jobs import subjects
from services.chassis.jobs.streams import ensure_queue, remove_queue
from weft.queue.v1 import queue_pb2 as pb
from weft.queue.v1.settings_pb2 import QUEUE_STATE_PAUSED

TOGETHER_MAX = 32  # Requests under way at once: a keyed queue has a consumer for each lane.
FAILURES = (nats.errors.Error, TimeoutError)  # Of NATS, of whatever kind.
PAUSE = timedelta(days=36_500)  # Until somebody resumes it.

log = logging.getLogger("weft.queue")


def lanes(queue: pb.Queue) -> int:
    """0 unless it is keyed."""
    return queue.settings.lanes if queue.keyed else 0


def places(queue: pb.Queue) -> list[str]:
    return subjects.places(lanes(queue))


async def open_queue(bus: Bus, queue: pb.Queue) -> None:
    """Its consumers, paused if it is."""
    await ensure_queue(bus, queue.queue, lanes(queue))
    await ensure_counter(bus, queue.queue)
    await set_paused(bus, queue, queue.state == QUEUE_STATE_PAUSED)


async def close_queue(bus: Bus, queue: str) -> None:
    """Its consumers, and what still waits in it. Should NATS be away they stay, and nothing comes to them."""
    try:
        await remove_queue(bus, queue)
        await drop_counter(bus, queue)
    except FAILURES as error:
        log.warning("a deleted queue's consumers stay: %s", type(error).__name__)


async def set_paused(bus: Bus, queue: pb.Queue, paused: bool) -> None:
    """Stops or lets go on what hands out its jobs. Raises a NATS error or TimeoutError."""
    until = (datetime.now(UTC) + PAUSE).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {"pause_until": until} if paused else {}

    async def pause(place: str) -> None:
        name = subjects.consumer(queue.queue, place)
        await bus.request(f"CONSUMER.PAUSE.{subjects.STREAM}.{name}", body)

    await _each(places(queue), pause)


async def info(bus: Bus, queue: pb.Queue) -> dict[str, api.ConsumerInfo]:
    """By place; of a consumer that is not there, nothing."""
    found: dict[str, api.ConsumerInfo] = {}

    async def ask(place: str) -> None:
        try:
            found[place] = await bus.js.consumer_info(subjects.STREAM, subjects.consumer(queue.queue, place))
        except NotFoundError:
            return

    await _each(places(queue), ask)
    return found


def floor(found: api.ConsumerInfo) -> int:
    """Sequence up to which all that the consumer has for its subject is acknowledged."""
    reached = found.ack_floor if found.num_ack_pending else found.delivered
    return reached.stream_seq if reached else 0


def all_handed_out(found: api.ConsumerInfo) -> bool:
    """Whether nothing that was given back waits for a worker.

    A purge makes the server (2.15) forget that it does, and then it comes when its ack wait is over. To one
    who waits it has gone already.
    """
    return not found.num_ack_pending or bool(found.num_waiting)


async def history(bus: Bus) -> api.ConsumerInfo:
    found: api.ConsumerInfo = await bus.js.consumer_info(subjects.STREAM, subjects.HISTORY)
    return found


async def last(bus: Bus) -> int:
    """The last sequence of the stream; 0 while NATS is away."""
    try:
        return int((await bus.js.stream_info(subjects.STREAM)).state.last_seq)
    except FAILURES as error:
        log.warning("what was purged stays in the stream: %s", type(error).__name__)
        return 0


async def recorded(bus: Bus) -> int:
    """The sequence up to which the record has read the stream; 0 while NATS is away."""
    end = await last(bus)
    try:
        found = await history(bus)
    except FAILURES:
        return 0
    return floor(found) if found.num_pending or found.num_ack_pending else end


async def purge_due(bus: Bus, queue: pb.Queue, up_to: int) -> None:
    """Deletes the due messages of a queue up to a sequence, wherever no worker holds one.

    Where one does, its job runs, and its message is needed if the worker dies. The others up to that sequence
    are looked up by the workers, and acknowledged.
    """

    async def purge(place: str) -> None:
        found = await bus.js.consumer_info(subjects.STREAM, subjects.consumer(queue.queue, place))
        if not found.num_ack_pending:
            await bus.request(
                f"STREAM.PURGE.{subjects.STREAM}",
                {"filter": subjects.due(queue.queue, place), "seq": up_to + 1},
            )

    if not up_to:
        return
    try:
        await _each(places(queue), purge)
    except (*FAILURES, NotFoundError) as error:
        log.warning("purged messages stay until they are looked up: %s", type(error).__name__)


async def ensure_counter(bus: Bus, queue: str) -> None:
    """A consumer that nobody asks for messages: it counts those of the queue that await their time."""
    await bus.js.add_consumer(
        subjects.STREAM,
        api.ConsumerConfig(
            durable_name=_counter(queue),
            filter_subject=subjects.later(queue, ">"),
            ack_policy=api.AckPolicy.NONE,
        ),
    )


async def drop_counter(bus: Bus, queue: str) -> None:
    with suppress(NotFoundError):
        await bus.js.delete_consumer(subjects.STREAM, _counter(queue))


async def count_later(bus: Bus, queue: str) -> int:
    try:
        found = await bus.js.consumer_info(subjects.STREAM, _counter(queue))
    except NotFoundError:
        return 0
    return found.num_pending or 0


def _counter(queue: str) -> str:
    """No queue's name has upper case."""
    return f"LATER-{queue}"


async def _each(names: list[str], act: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    for first in range(0, len(names), TOGETHER_MAX):
        await asyncio.gather(*(act(name) for name in names[first : first + TOGETHER_MAX]))
