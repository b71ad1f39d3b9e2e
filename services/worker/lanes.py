"""One lane of a keyed queue, while this worker has it: jobs of one key in order, so many at once as may.

A lane has one consumer and, by its lease, one owner, so what is true for a key is known in one place. Who
takes a lane over sets its consumer back to what was acknowledged without a hole: the rest comes again, in
order, each with its place in that order, so that one that went elsewhere is missed. How far earlier owners
had come is written down first; up to there every job is looked up before it is run.

A job that is to be tried again keeps its place: those of its key wait behind it. That it was taken over again
and again without any progress counts as deliveries, for it may be the one that its workers die of.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from services.chassis.errors import CallFailed, Refusal
from services.chassis.jetstream import acks
from services.chassis.jetstream.connection import Connection, answer
from services.chassis.jetstream.errors import JetStreamError
from services.chassis.jetstream.pulling import EXPIRES_S, Delivery as Message, Pull
from services.chassis.jetstream.stream import Stream
from services.chassis.jobs import subjects
from services.chassis.jobs.queues import Known
from services.worker.delivery import Delivery
from services.worker.holding import Handle
from weft.jobs.v1.job_pb2 import Envelope
from weft.queue.v1.settings_pb2 import QueueKind

ROOM_MAX = 256  # Of one lane here: a key that waits keeps its own in it, and so bounds the others at worst.
BYTES_MAX = 8 * 1024 * 1024  # Of payloads of one lane here, beyond which no more is asked for.
REQUEST_BYTES_MAX = 4 * 1024 * 1024  # Of what one request may bring: at least four of the largest jobs.
AGAIN_S, AGAIN_S_MAX = 0.1, 5.0  # Between two tries to take a lane over, or to look jobs up.
LOOKUP_MAX = 500  # Jobs looked up at once.
LOOK_S = 0.2  # Between a take-over and the first look for messages that went astray; later ones take longer.

log = logging.getLogger("weft.worker")


class Source(Protocol):
    """Who reads messages and looks jobs up: the feeder."""

    def unpack(self, message: Message, handle: Handle) -> Delivery | None: ...
    async def look_up(self, deliveries: Sequence[Delivery]) -> list[Delivery]: ...


class Runner(Protocol):
    """Who runs them."""

    def take(self, deliveries: Sequence[Delivery]) -> None: ...


class Taken(NamedTuple):
    """What an owner leaves to the next."""

    floor: int  # Up to this sequence all was acknowledged when it came.
    reached: int  # Up to this sequence some owner has had messages.
    lives: int  # Owners that came at this same floor.


class Lane:
    """Begun by `run`, which ends when it is cancelled. Also the giver of its deliveries."""

    def __init__(
        self, connection: Connection, source: Source, runner: Runner, queue: Known, lane: int, epoch: int
    ) -> None:
        self._connection, self._source, self._runner = connection, source, runner
        self.number, self.epoch = lane, epoch
        self.per_key = queue.settings.concurrency.per_key or 1
        if queue.kind == QueueKind.QUEUE_KIND_FIFO:
            self.per_key = 1
        place = f"k{lane}"
        self._consumer = subjects.consumer(queue.name, place)
        self._note = f"{subjects.TAKEN}.{queue.name}.{place}"
        self._held: dict[int, Delivery] = {}  # By sequence: given by JetStream, and not out of hand.
        self._begun: dict[int, str] = {}  # By sequence: the key. They are the runner's, or wait to be again.
        self._lines: dict[str, deque[Delivery]] = {}
        self._going: Counter[str] = Counter()
        self._came: deque[Message] = deque()
        self._stirred = asyncio.Event()
        self._pull: Pull | None = None
        self._counted: set[int] = set()  # Sequences that the pull counts as held.
        self._taken: Taken | None = None
        self._nth, self._last = 0, 0  # Of the last message that came in order; of all that came.
        self._again = False  # The order is broken: take it over anew.
        self._room, self._bytes = ROOM_MAX, 0
        self._retries: dict[int, asyncio.Task[None]] = {}
        self.halted = False

    @property
    def idle(self) -> bool:
        """Whether it has nothing in hand that was begun."""
        return not self._begun

    @property
    def replies(self) -> list[bytes]:
        """Where what it holds is acknowledged."""
        return [each.handle.message.reply for each in self._held.values()]

    async def run(self) -> None:
        """Takes the lane over, then its messages one list after the other. For ever."""
        off = self._connection.on_connect(self._break)
        try:
            while True:
                await self._take_over()
                await self._serve()
        finally:
            off()
            self.halt()
            if self._pull:
                await self._pull.stop()

    async def _serve(self) -> None:
        """Until the order is broken."""
        looking = asyncio.create_task(self._look(), name="looking for what went astray")
        try:
            while not self._again:
                await self._stirred.wait()
                self._stirred.clear()
                await self._admit()
        finally:
            looking.cancel()

    def resize(self, room: int) -> None:
        """Takes no more than so many; 0: no more at all."""
        self._room = 0 if self.halted else min(room, ROOM_MAX)
        if self._pull:
            self._pull.resize(self._room if self._bytes < BYTES_MAX else 0)

    def halt(self) -> None:
        """Begins nothing any more; what runs goes on, and what awaits its retry is let go."""
        self.halted = True
        self.resize(0)
        for sequence, task in self._retries.items():
            task.cancel()
            self._begun.pop(sequence, None)
        self._forget_waiting()

    def _forget_waiting(self) -> None:
        """What has not begun: it comes again, here or elsewhere."""
        self._lines.clear()
        for sequence in self._held.keys() - self._begun.keys():
            self._bytes -= _size(self._held.pop(sequence))

    def _break(self) -> None:
        """What came after may not be what comes next."""
        self._again = True
        self._stirred.set()

    async def _take_over(self) -> None:
        """As its new owner, or anew: after an outage, or when a message went elsewhere."""
        if self._pull:
            await self._pull.stop()
            await asyncio.sleep(AGAIN_S)  # If somebody else is still served, not at once.
        self._again, self._nth = False, 0
        self._came.clear()
        self._counted.clear()
        self._forget_waiting()
        await self._patiently(self._reset)
        if not self._again:
            name, room = self._consumer, self._room
            self._pull = Pull(self._connection, subjects.STREAM, name, self._arrive, room, REQUEST_BYTES_MAX)
            self._pull.start()

    async def _reset(self) -> None:
        """Writes down how far its owners had come, and goes back to what was acknowledged."""
        claims = Stream(self._connection, subjects.CLAIMS)
        info, found = await asyncio.gather(
            self._connection.api(f"CONSUMER.INFO.{subjects.STREAM}.{self._consumer}"),
            claims.last(self._note),
        )
        before = Taken(*json.loads(found.payload)) if found else Taken(-1, 0, 0)
        floor = info["ack_floor"]["stream_seq"]
        lives = before.lives + (self._taken is None) if floor == before.floor else 1
        reached = max(before.reached, self._last, info["delivered"]["stream_seq"])
        taken = Taken(floor, reached, lives)
        answer((await self._connection.request(self._note, json.dumps(taken).encode())).payload)
        await self._connection.api(f"CONSUMER.RESET.{subjects.STREAM}.{self._consumer}")
        self._taken = taken

    async def _patiently(self, attempt: Any, *args: Any) -> Any:
        """Until it succeeds."""
        delay = AGAIN_S
        while True:
            try:
                return await attempt(*args)
            except (JetStreamError, CallFailed, Refusal, OSError, TimeoutError) as error:
                log.info("a lane waits: %s", error)
            await asyncio.sleep(delay)
            delay = min(delay * 2, AGAIN_S_MAX)

    async def _look(self) -> None:
        """Breaks the order when all that came since we took over went elsewhere.

        An owner that is frozen has requests open, which the server serves before ours until they expire.
        """
        wait_s, astray = LOOK_S, -1
        while wait_s < EXPIRES_S:
            await asyncio.sleep(wait_s)
            if await self._patiently(self._delivered) <= self._nth + len(self._came):
                wait_s, astray = wait_s * 2, -1
            elif astray == self._nth:  # It was so before: not merely under way.
                return self._break()
            else:
                astray = self._nth

    async def _delivered(self) -> int:
        """How many messages the consumer has handed out since it was set back."""
        info = await self._connection.api(f"CONSUMER.INFO.{subjects.STREAM}.{self._consumer}")
        return int(info["delivered"]["consumer_seq"])

    def _arrive(self, messages: list[Message]) -> None:
        self._came.extend(messages)
        self._stirred.set()

    async def _admit(self) -> None:
        """What came joins its lines, in order."""
        while self._came and not self._again:
            part = [self._came.popleft() for _ in range(min(len(self._came), LOOKUP_MAX))]
            fresh = [delivery for message in part if (delivery := self._unpacked(message))]
            doubtful = [each for each in fresh if self._is_doubtful(each)]
            if doubtful:
                left = await self._patiently(self._source.look_up, doubtful)
                if self._again:
                    return
                out = {id(each) for each in doubtful} - {id(each) for each in left}
                fresh = [each for each in fresh if id(each) not in out]
            self._queue(fresh)

    def _unpacked(self, message: Message) -> Delivery | None:
        """The delivery of a message that is new here; None for any other."""
        assert self._pull
        if self._again or message.nth != self._nth + 1:
            self._break()
            return None
        self._nth, self._last = message.nth, max(self._last, message.sequence)
        if known := self._held.get(message.sequence):
            known.handle.message = message  # It is the newer one that is to be answered.
            self._count(message.sequence)
            return None
        delivery = self._source.unpack(message, Handle(self, message, self.number, self.epoch))
        if delivery is None:
            self._pull.done()
            return None
        self._held[message.sequence] = delivery
        self._count(message.sequence)
        self._bytes += _size(delivery)
        if self._bytes >= BYTES_MAX:
            self.resize(self._room)
        return delivery

    def _count(self, sequence: int) -> None:
        """The pull holds it, once."""
        assert self._pull
        if sequence in self._counted:
            self._pull.done()
        self._counted.add(sequence)

    def _is_doubtful(self, delivery: Delivery) -> bool:
        """Whether it may have been run before. Notes how often that may have been."""
        envelope = delivery.envelope
        assert self._taken
        if delivery.handle.message.sequence <= self._taken.reached:
            delivery.deliveries = max(delivery.deliveries, self._taken.lives)
            delivery.again = True
            return True
        return delivery.deliveries > 1 or envelope.verify or envelope.attempt > 1

    def _queue(self, deliveries: Sequence[Delivery]) -> None:
        """Behind the others of their keys; begins those that may."""
        ready = []
        for delivery in deliveries:
            key = _key(delivery)
            self._lines.setdefault(key, deque()).append(delivery)
            ready += self._next(key)
        if ready:
            self._runner.take(ready)

    def _next(self, key: str) -> list[Delivery]:
        """Those of the key that may begin now; they count as begun."""
        ready = []
        line = self._lines.get(key)
        while line and self._going[key] < self.per_key and not self.halted:
            delivery = line.popleft()
            self._going[key] += 1
            self._begun[delivery.handle.message.sequence] = key
            if (wait_s := delivery.waits_s - time.time()) > 0:
                self._later(delivery, wait_s)
            else:
                ready.append(delivery)
        if not line:
            self._lines.pop(key, None)
        return ready

    def ran(self, delivery: Delivery) -> None:
        """Its place is kept until that is written down."""

    def done(self, deliveries: Sequence[Delivery]) -> None:
        """They are out of hand: the next ones of their keys."""
        if ready := [following for each in deliveries for following in self._after(each)]:
            self._runner.take(ready)

    def _after(self, delivery: Delivery) -> list[Delivery]:
        """What may begin now that it is out of hand."""
        sequence = delivery.handle.message.sequence
        if self._held.pop(sequence, None) is None:
            return []
        self._leave(sequence, delivery)
        key = self._begun.pop(sequence, None)
        if key is None:
            return []  # It had ended before.
        self._going[key] -= 1
        if not self._going[key]:
            del self._going[key]
        return self._next(key)

    def _leave(self, sequence: int, delivery: Delivery) -> None:
        """There is room for others."""
        full = self._bytes >= BYTES_MAX
        self._bytes -= _size(delivery)
        if full and self._bytes < BYTES_MAX:
            self.resize(self._room)
        if self._pull and sequence in self._counted:
            self._counted.remove(sequence)
            self._pull.done()

    def lost(self, delivery: Delivery) -> None:
        """Another worker has the lane: nothing of it is begun here any more."""
        self.halt()

    def again(self, delivery: Delivery, delay_s: float) -> None:
        """Its next attempt, when it is due; its key waits."""
        sequence = delivery.handle.message.sequence
        if self.halted:
            self._begun.pop(sequence, None)
            self._held.pop(sequence, None)
            return
        following = next_attempt(delivery)
        self._held[sequence] = following
        self._later(following, delay_s)

    def _later(self, delivery: Delivery, delay_s: float) -> None:
        """It begins then; until then it keeps its place."""
        sequence = delivery.handle.message.sequence
        task = self._retries[sequence] = asyncio.create_task(self._retry(delivery, delay_s))
        task.add_done_callback(lambda _: self._retries.pop(sequence, None))

    async def _retry(self, delivery: Delivery, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        # None is left when it has ended meanwhile: then `done` was told.
        self._runner.take(await self._patiently(self._source.look_up, [delivery]))

    def beat(self) -> None:
        """Says that what it holds is worked on. Raises a JetStreamError."""
        acks.send(self._connection, self.replies, acks.PROGRESS)


def _key(delivery: Delivery) -> str:
    return delivery.envelope.key or delivery.job_id


def _size(delivery: Delivery) -> int:
    return len(delivery.handle.message.payload)


def next_attempt(delivery: Delivery) -> Delivery:
    """The same job, once more."""
    envelope = Envelope()
    envelope.CopyFrom(delivery.envelope)
    envelope.attempt += 1
    return Delivery(
        envelope=envelope,
        handle=delivery.handle,
        deliveries=delivery.deliveries,
        due_s=delivery.due_s,
        expires_s=delivery.expires_s,
        timeout_s=delivery.timeout_s,
        policy=delivery.policy,
        rank=delivery.rank,
    )
