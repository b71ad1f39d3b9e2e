"""Finds messages that nobody holds: delivered to a worker that died before it could claim them.

They lay in its socket. A consumer tells how far it has delivered, not to whom; so who lives is asked first,
and by answering has claimed all that came before the question. What was delivered, is not acknowledged and
claimed by nobody is then given back. To give back what is acknowledged changes nothing.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import NamedTuple

from services.chassis.jetstream import acks
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.pulling import Place, like
from services.chassis.jetstream.stream import Stream
from services.chassis.jobs.claims import claimants, claimed
from services.chassis.jobs.presence import alive
from services.chassis.jobs.subjects import CLAIMS, STREAM

SPAN_MAX = 200_000  # Sequences between the oldest and the newest delivery: a longer sweep is not worth it.
SETTLE_S = 0.01  # What the server counts as delivered may yet be on its way out.
ANSWER_S_MAX = 1.0  # Who does not answer by then may hold anything: nothing is swept.

log = logging.getLogger("weft.jobs")


class Extent(NamedTuple):
    """What a consumer has delivered and not all of which is acknowledged."""

    like: bytes  # Some ack subject of it.
    floor: int  # Up to this sequence of the stream all is acknowledged.
    last: int  # The last sequence delivered.
    delivery: int  # Number of the last delivery.


async def sweep(connection: Connection, replies: Iterable[bytes], me: str) -> int:
    """Gives back what nobody holds of the consumers that a dead worker had something of.

    `replies` are those it had claimed; `me` is empty for who is no worker. Returns for how many sequences it
    said so. Raises a JetStreamError.
    """
    consumers = {Place.of(reply).consumer: reply for reply in replies}
    extents = [found for each in consumers.items() if (found := await _extent(connection, *each))]
    if not extents:
        return 0
    await asyncio.sleep(SETTLE_S)
    living = await claimants(connection) - {me}
    answers = await asyncio.gather(*(alive(connection, worker, ANSWER_S_MAX) for worker in living))
    await connection.flush()  # What I hold myself I have claimed now, too.
    if None in answers:
        log.info("a worker does not answer: what nobody claims waits for its ack")
        return 0
    held = await _held(connection, {*living, me} - {""})
    said = 0
    for extent in extents:
        consumer = Place.of(extent.like).consumer
        sequences = (n for n in range(extent.floor + 1, extent.last + 1) if (consumer, n) not in held)
        free = [like(extent.like, n, extent.delivery) for n in sequences]
        acks.send(connection, free, acks.NAK)
        said += len(free)
    return said


async def _extent(connection: Connection, consumer: str, reply: bytes) -> Extent | None:
    said = await connection.api(f"CONSUMER.INFO.{STREAM}.{consumer}")
    if not said["num_ack_pending"]:
        return None
    floor, last = said["ack_floor"]["stream_seq"], said["delivered"]["stream_seq"]
    if last - floor > SPAN_MAX:
        log.info("what nobody claims waits for its ack: too much lies between", extra={"facts": said})
        return None
    return Extent(reply, floor, last, said["delivered"]["consumer_seq"])


async def _held(connection: Connection, workers: Iterable[str]) -> set[Place]:
    """Consumer and sequence of all that is claimed."""
    stream = Stream(connection, CLAIMS)
    claims = await asyncio.gather(*(stream.lasts(claimed(worker, "*")) for worker in workers))
    replies = (reply for records in claims for record in records for reply in record.payload.split(b"\n"))
    return {Place.of(reply) for reply in replies if reply}
