"""Events on their way in: delivered at least once, handled once, in order for each key.

A consumer is a durable of its own in the producer's stream, worked by one process at a time (a lease), so
that order holds across replicas. Keys are lanes: events of one key are handled one after the other, those
of different keys side by side. An event whose handler fails is tried again in its lane, so nothing
overtakes it; when it is given up it goes to the stream `dead`, and the lane moves on.

The handler's changes and the note that the event was handled commit together. The acknowledgement comes
after; if it is lost, the next delivery finds the note. A new holder first resets the durable to its
acknowledged floor, so that what a dead process had in hand comes again before anything newer.
"""

import asyncio
import logging
import re
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import nats.errors
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2
from nats.aio.msg import Msg

from services.chassis import dead_letters, telemetry
from services.chassis.bus import Bus, within
from services.chassis.clock import Clock
from services.chassis.db import Conflict, Database, DatabaseAway, DatabaseBusy, Tx, fetch
from services.chassis.errors import CallFailed, Refusal
from services.chassis.event_store import decode
from services.chassis.events import Envelope, Provenance, provenance
from services.chassis.grouping import Grouping
from services.chassis.lanes import Lanes
from services.chassis.lease import Lease
from services.chassis.pull import ACK_WAIT_S, Pull, ensure_consumer
from services.chassis.relay import HEADER, parse

Handler = Callable[[Any, Envelope, Tx], Awaitable[None]]


class Heard(NamedTuple):
    """An event that has come."""

    event: Any
    envelope: Envelope
    by: Provenance  # Of what is done because of it.


@dataclass(frozen=True, slots=True)
class Many:
    """Handles the events that wait, many in one transaction; no two of them are of one key.

    Where that fails each half is, and so on: one that cannot be handled fails alone, and holds up no other.
    """

    handle: Callable[[Sequence[Heard], Tx], Awaitable[None]]
    called: str  # The consumer is named after it; with another name it would begin anew.


class Every:
    """Stands for all events of all producers, those that come later included; handlers get bytes."""


EVERY = Every()

ATTEMPTS_MAX = 5  # A handler that fails this often has a bug, or the event has.
AWAY_ATTEMPTS_MAX = 60  # Something else is away: about half an hour.
RETRY_S, RETRY_S_MAX = 0.1, 30.0
LANES_MAX = 64  # Events in hand; a key that waits keeps its own there, and so bounds the others at worst.
DISCOVER_EVERY_S = 2.0  # A new producer is heard of by EVERY within about this.
FORGET_EVERY_S = 21_600.0
KEPT_D = 7  # A note outlives by far the time between a commit and its acknowledgement.
FORGET = "delete from inbox where consumer = $1 and at < now() - make_interval(days => $2)"
NOTE = """
insert into inbox (consumer, event_id) select $1, new.id from unnest($2::uuid[]) as new (id)
on conflict do nothing returning event_id
"""
AWAY = {code_pb2.UNAVAILABLE, code_pb2.DEADLINE_EXCEEDED, code_pb2.RESOURCE_EXHAUSTED}
OURS = (DatabaseAway, DatabaseBusy, Conflict)  # Never the event's fault: tried for ever.

log = logging.getLogger("weft.inbox")


class Consumer:
    """Feeds one kind of event, or EVERY event, to one handler of one service."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        service: str,
        kind: type[Message] | Every,
        handler: Handler | Many,
        clock: Clock,
    ) -> None:
        self._db, self._bus, self._service, self._handler, self._clock = db, bus, service, handler, clock
        self._kind: type[Message] | None = None if isinstance(kind, Every) else kind
        called = getattr(handler, "__qualname__", type(handler).__qualname__)
        if isinstance(handler, Many):
            called = handler.called
        of = self._kind.DESCRIPTOR.full_name if self._kind else "every"
        self.name = re.sub(r"\W+", "_", f"{service}-{of}-{called.replace('<locals>.', '')}")
        self._stopping = asyncio.Event()
        self._grouping = Grouping[Heard, None](self._apart, LANES_MAX)

    async def run(self) -> None:
        """Until `stop`. Raises when the bus or the database is away; whoever runs it begins again."""
        async with self._db.leases.hold(f"consumer.{self.name}") as lease:
            await self._bus.ensure_dead()
            forgetting = asyncio.create_task(self._forget())
            try:
                if self._kind:
                    await self._consume_kind(self._kind.DESCRIPTOR.full_name, lease)
                else:
                    await self._consume_every(lease)
            finally:
                forgetting.cancel()

    def stop(self) -> None:
        """Takes no more events; `run` returns when those in hand are done."""
        self._stopping.set()

    async def _forget(self) -> None:
        """Deletes old notes, now and then."""
        while True:
            await self._db.execute(FORGET, self.name, KEPT_D)
            await asyncio.sleep(FORGET_EVERY_S)

    async def _consume_kind(self, kind: str, lease: Lease) -> None:
        producer = kind.split(".")[1]
        await self._bus.ensure_stream(producer)
        await self._consume(producer, f"{kind}.>", lease)

    async def _consume_every(self, lease: Lease) -> None:
        async with asyncio.TaskGroup() as group:
            known: set[str] = set()
            while not self._stopping.is_set():
                for stream in set(await self._bus.event_streams()) - known:
                    known.add(stream)
                    group.create_task(self._consume(stream, f"weft.{stream}.>", lease))
                await within(self._stopping, DISCOVER_EVERY_S)

    async def _consume(self, stream: str, subjects: str, lease: Lease) -> None:
        """One stream, until stopped; then what is in hand is finished."""
        replays = f"replay.{stream}.{self.name}.>"
        await ensure_consumer(self._bus, stream, self.name, [subjects, replays])
        pull = Pull(self._bus, stream, self.name, room=LANES_MAX)

        async def work(message: Msg) -> None:
            await self._work(message)
            pull.stir()

        lanes = Lanes(work, LANES_MAX)
        alive = asyncio.create_task(_keep_alive(lanes))
        try:
            async with pull:
                while not self._stopping.is_set():
                    lease.check()
                    if message := await pull.next(held=len(lanes)):
                        await lanes.put(message.subject.rpartition(".")[2], message)
                await lanes.idle()
        finally:
            alive.cancel()
            await lanes.cancel()

    async def _work(self, message: Msg) -> None:
        """Handles one message, however often that takes, and acknowledges it."""
        try:
            event, envelope = self._read(message)
        except (DecodeError, ValueError, KeyError, TypeError) as error:
            await self._give_up(message, error, attempts=1)
            return
        failures = Counter[bool]()  # By whether something else was away: an outage uses up no bug's attempts.
        while True:
            try:
                await self._deliver(event, envelope, alone=failures.total() > 0)
            except OURS as error:
                log.warning("an event waits: %s", type(error).__name__, extra=self._facts(envelope))
                await asyncio.sleep(RETRY_S_MAX / 30)
            except Exception as error:
                away = _away(error)
                failures[away] += 1
                if failures[away] >= (AWAY_ATTEMPTS_MAX if away else ATTEMPTS_MAX):
                    await self._give_up(message, error, failures.total())
                    return
                log.warning("a handler failed", exc_info=error, extra=self._facts(envelope))
                await asyncio.sleep(min(RETRY_S * 2 ** (failures[away] - 1), RETRY_S_MAX))
            else:
                await message.ack()
                telemetry.EVENTS_HANDLED.labels(self.name, "done").inc()
                return

    def _read(self, message: Msg) -> tuple[Any, Envelope]:
        """Raises DecodeError, ValueError, KeyError or TypeError on what is no event."""
        envelope = parse((message.headers or {})[HEADER], message.data)
        if self._kind is None:
            return message.data, envelope
        event = decode(envelope)
        if not isinstance(event, self._kind):
            raise TypeError(envelope.type)
        return event, envelope

    async def _deliver(self, event: Any, envelope: Envelope, *, alone: bool) -> None:
        """One attempt. `alone`: it has failed among others."""
        here = telemetry.Trace(envelope.trace, secrets.token_hex(8), sampled=False)
        telemetry.current_trace.set(here if envelope.trace else telemetry.NO_TRACE)
        by = Provenance(f"service:{self._service}", "", envelope.trace, envelope.id)
        heard = Heard(event, envelope, by)
        if isinstance(self._handler, Many) and not alone:
            await self._grouping.do(heard)
        else:
            await self._handle([heard])

    async def _apart(self, batch: Sequence[Heard]) -> list[Any]:
        """All of them together; where that fails, each half, and so on. None for each, or why not."""
        try:
            await self._handle(batch)
        except OURS:
            raise
        except Exception as error:
            if len(batch) == 1:
                return [error]
            half = len(batch) // 2
            return await self._apart(batch[:half]) + await self._apart(batch[half:])
        return [None] * len(batch)

    async def _handle(self, batch: Sequence[Heard]) -> None:
        """The handler and the notes, in one transaction; what is noted already was handled before."""
        provenance.set(batch[0].by)
        async with self._db.background, self._db.transaction() as tx:
            noted = await fetch(tx, NOTE, self.name, [each.envelope.id for each in batch])
            new = {row["event_id"] for row in noted}
            fresh = [each for each in batch if each.envelope.id in new]
            if isinstance(self._handler, Many):
                if fresh:
                    await self._handler.handle(fresh, tx)
            else:
                for each in fresh:
                    await self._handler(each.event, each.envelope, tx)

    async def _give_up(self, message: Msg, error: BaseException, attempts: int) -> None:
        """Puts the message among the dead, whatever that takes; then it is done here."""
        log.error("an event is given up", exc_info=error, extra={"facts": {"consumer": self.name}})
        while True:
            try:
                await dead_letters.bury(self._bus, self.name, message, error, attempts, self._clock.now())
            except (nats.errors.Error, TimeoutError):
                await asyncio.sleep(RETRY_S_MAX / 30)
            else:
                await message.ack()
                telemetry.EVENTS_HANDLED.labels(self.name, "dead").inc()
                return

    def _facts(self, envelope: Envelope) -> dict[str, Any]:
        facts = {"consumer": self.name, "event": str(envelope.id), "type": envelope.type}
        return {"facts": facts}


async def _keep_alive(lanes: Lanes[Msg]) -> None:
    """Tells JetStream that what is in hand is being worked on."""
    while True:
        await asyncio.sleep(ACK_WAIT_S / 3)
        for message in lanes:
            if not message.is_acked:
                await message.in_progress()


def _away(error: Exception) -> bool:
    """Whether something else must come back first."""
    if isinstance(error, Refusal | CallFailed):
        return error.code in AWAY
    return isinstance(error, TimeoutError | ConnectionError | nats.errors.Error)
