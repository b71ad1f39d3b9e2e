"""The senders: they take due messages from JetStream, several at once, in as many processes as there are.

JetStream tells at once; PostgreSQL remembers. A message whose time is yet to come leaves the stream, and
`wake` announces it when it is due, so that a relay that is away for hours fills no queue and holds up
nobody.
"""

import asyncio
import logging
from uuid import UUID

import nats.errors
from nats.aio.msg import Msg
from nats.js import api

from services.chassis.bus import Bus
from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.errors import Refusal
from services.chassis.events import Provenance, emit, provenance
from services.chassis.pull import Pull
from services.chassis.relay import HEADER, parse
from services.notification import store
from services.notification.delivering import Deliverer
from weft.notification.v1.events_pb2 import MessageAccepted, MessageDue

STREAM = "notification"
DURABLE = "notification-sender"
ACK_PENDING_MAX = 1_000  # Handed out to all senders together.
WAKE_EVERY_S = 0.5
ERASE_EVERY_S = 30.0
AGAIN_S = 2.0  # After the database was away.
FINISH_S_MAX = 5.0  # What a stop gives the attempts that are under way.

log = logging.getLogger("weft.notification")


class Sender:
    """This process's share of the work."""

    def __init__(
        self, db: Database, bus: Bus, clock: Clock, deliverer: Deliverer, *, room: int, lease_s: float
    ) -> None:
        self._db, self._bus, self._clock, self._deliverer = db, bus, clock, deliverer
        self._room, self._lease_s = room, lease_s
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """For ever. Raises when the bus is away; whoever runs it begins again."""
        await self._bus.ensure_stream(STREAM)
        await self._bus.js.add_consumer(STREAM, self._consumer())
        try:
            async with Pull(self._bus, STREAM, DURABLE, room=2 * self._room) as pull:
                while True:
                    message = await pull.next(len(self._tasks))
                    if message is not None:
                        await self._start(message)
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=FINISH_S_MAX)
            for task in self._tasks:
                task.cancel()

    def _consumer(self) -> api.ConsumerConfig:
        kinds = (MessageAccepted, MessageDue)
        return api.ConsumerConfig(
            durable_name=DURABLE,
            filter_subjects=[f"{kind.DESCRIPTOR.full_name}.>" for kind in kinds],
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=self._lease_s,
            max_ack_pending=ACK_PENDING_MAX,
        )

    async def _start(self, message: Msg) -> None:
        while len(self._tasks) >= self._room:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._work(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, message: Msg) -> None:
        """Acknowledged whatever became of the attempt: the row says what comes next."""
        try:
            envelope = parse((message.headers or {})[HEADER], message.data)
            cause = Provenance(f"service:{STREAM}", "", envelope.trace, envelope.id)
            provenance.set(cause)  # Of this task only: what the attempt announces names what led to it.
            await self._deliverer.attempt(UUID(envelope.key))
        except (Refusal, OSError, TimeoutError) as error:
            log.warning("a message waits: %s", type(error).__name__)
            await _answer(message.nak(delay=AGAIN_S))
        except Exception:
            log.exception("a message could not be attempted")
            await _answer(message.ack())
        else:
            await _answer(message.ack())

    async def wake(self) -> None:
        """Announces messages whose time has come, for ever."""
        while True:
            async with self._db.transaction() as tx:
                rows = await store.wake(tx, self._clock.now())
                due = [MessageDue(message_id=str(message_id), user_id=user) for message_id, user in rows]
                if due:
                    await emit(tx, *due)
            if len(rows) < store.WAKE_MAX:
                await asyncio.sleep(WAKE_EVERY_S)

    async def erase(self) -> None:
        """Erases the values of settled messages when their time has come, for ever."""
        while True:
            async with self._db.transaction() as tx:
                erased = await store.erase(tx, self._clock.now())
            if erased < store.ERASE_MAX:
                await self._clock.sleep(ERASE_EVERY_S)


async def _answer(answering: object) -> None:
    """A lost answer only brings the message once more."""
    try:
        await answering  # type: ignore[misc]
    except (nats.errors.Error, TimeoutError):
        return
