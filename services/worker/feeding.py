"""Brings jobs of a worker's queues to its runner: pulled by priority, looked up when they came before.

Every queue that is not keyed has a pull for each priority. All of them have room for what the runner could
begin at once and a little more; the runner draws by weight and age from what is here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from google.protobuf.message import DecodeError

from services.chassis.errors import CallFailed, Refusal
from services.chassis.jetstream import acks
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import JetStreamError
from services.chassis.jetstream.pulling import Delivery as Message, Pull
from services.chassis.jobs import subjects
from services.chassis.jobs.drawing import Weights
from services.chassis.jobs.queues import Known, Queues
from services.chassis.jobs.sending import seconds
from services.worker.delivery import Delivery
from services.worker.ending import merged
from services.worker.holding import Claims, Handle, release
from services.worker.lookups import LOOKUP_MAX, Lookups, Record
from services.worker.ready import Rank
from services.worker.reporting import Reporter
from services.worker.runner import Runner
from weft.jobs.v1.job_pb2 import Envelope, RetryPolicy
from weft.queue.v1.settings_pb2 import QueueKind, QueueState

FIT_EVERY_S = 0.05  # Rooms follow the rate this fast.
BEAT_S = 10.0  # Between two signs of life for a message; JetStream waits at least three times as long.
AGAIN_S = 1.0  # Until what could not be looked up comes again.
POLICIES_MAX = 100  # Kept for jobs to come; an odd queue may have one for each job.

log = logging.getLogger("weft.worker")


class Lanes(Protocol):
    """What brings the jobs of keyed queues."""

    def open(self, queues: Sequence[Known]) -> None:
        """These, as they are now; no others."""

    def resize(self, room: int) -> None:
        """No lane takes more than so many; 0: nothing, for now."""

    def stop(self) -> None:
        """Begins nothing any more."""

    async def close(self) -> None:
        """Gives all up."""


class Feeder:
    """All queues of one worker."""

    def __init__(
        self,
        connection: Connection,
        record: Record,
        runner: Runner,
        reporter: Reporter,
        names: Sequence[str],
        worker: str = "",
    ) -> None:
        self._connection, self._runner, self._reporter = connection, runner, reporter
        self._names, self._lookups = names, Lookups(record, worker)
        self.claims: Claims | None = None  # Set before it starts, where there are such.
        self.lanes: Lanes | None = None
        self._pulls: dict[tuple[str, str], Pull] = {}
        self._terms: dict[str, Terms] = {}
        self._held: dict[str, Delivery] = {}  # By job id.
        self._looking: set[asyncio.Task[None]] = set()
        self._stopped = False
        reporter.eased = self._fit

    def start(self, queues: Queues) -> None:
        """Follows the queues from now on."""
        queues.on_change(self.follow)

    def follow(self, queues: Mapping[str, Known]) -> None:
        """Pulls from those that are ours and hand out jobs."""
        if self._stopped:
            return
        ours = [queue for name in self._names if (queue := queues.get(name))]
        self._terms = {queue.name: Terms.of(queue) for queue in ours}
        open_now = [queue for queue in ours if queue.state != QueueState.QUEUE_STATE_PAUSED]
        wanted = {
            (queue.name, place) for queue in open_now if not queue.lanes for place in subjects.PRIORITIES
        }
        for gone in self._pulls.keys() - wanted:
            self._later(self._pulls.pop(gone).stop())
        for new in sorted(wanted - self._pulls.keys()):
            self._open(*new)
        if self.lanes:
            self.lanes.open([queue for queue in open_now if queue.lanes])

    def _open(self, queue: str, place: str) -> None:
        tap = _Tap(self)
        name, take = subjects.consumer(queue, place), partial(self._take, tap)
        tap.pull = self._pulls[queue, place] = Pull(
            self._connection, subjects.STREAM, name, take, self._room()
        )
        tap.pull.start()

    async def run(self) -> None:
        """Keeps rooms fitting and messages alive, for ever."""
        loop = asyncio.get_running_loop()
        beat_at = loop.time() + BEAT_S
        while True:
            await asyncio.sleep(FIT_EVERY_S)
            self._fit()
            if loop.time() >= beat_at:
                beat_at = loop.time() + BEAT_S
                self._beat()

    def _fit(self) -> None:
        """There is more room than there was, or less."""
        room = self._room()
        for key, pull in list(self._pulls.items()):
            if pull.gone:  # Its queue was deleted, and perhaps made anew.
                self._later(self._pulls.pop(key).stop())
                if key[0] in self._terms:
                    self._open(*key)
            else:
                pull.resize(room)
        if self.lanes:
            self.lanes.resize(room)

    def _room(self) -> int:
        """As much as can run at once, and in advance only what can soon be told of."""
        if self._stopped or not (left := self._reporter.room):
            return 0
        return min(self._runner.capacity, max(self._runner.slots, left))

    @property
    def behind(self) -> bool:
        """Whether more has ended than can soon be told of."""
        return not self._reporter.room

    def _beat(self) -> None:
        """Nobody else gets what we are at work on."""
        try:
            replies = [each.handle.message.reply for each in self._held.values()]
            acks.send(self._connection, replies, acks.PROGRESS)
        except JetStreamError as error:
            log.info("no sign of life: %s", error)

    def _take(self, tap: _Tap, messages: list[Message]) -> None:
        """What a pull brings."""
        sure, doubtful, strange = list[Delivery](), list[Delivery](), set[int]()
        for message in messages:
            delivery = self.unpack(message, Handle(tap, message))
            if delivery is None:
                strange.add(message.sequence)
            if delivery is None or (delivery.job_id in self._held and self._has(delivery)):
                asyncio.get_running_loop().call_soon(tap.free)  # The pull is not done counting.
            else:
                self._held[delivery.job_id] = delivery
                (doubtful if is_doubtful(delivery) else sure).append(delivery)
        if self.claims:
            self.claims.took([each for each in messages if each.sequence not in strange])
        self._runner.take(sure)
        if doubtful:
            self._later(self._consider(doubtful))

    def _has(self, delivery: Delivery) -> bool:
        """Whether it came again while we have it; then the newer message is the one to answer."""
        known = self._held.get(delivery.job_id)
        if known is None or known.run != delivery.run:
            return False
        known.handle.message = delivery.handle.message
        return True

    def unpack(self, message: Message, handle: Handle) -> Delivery | None:
        """What the message says, by its queue's settings; None when it is given back, or is no job at all."""
        try:
            envelope = Envelope.FromString(message.payload)
        except DecodeError as error:
            log.exception("a message is no job", extra={"facts": {"sequence": message.sequence}})
            self._say([message], acks.term(str(error)))
            return None
        terms = self._terms.get(envelope.queue)
        if terms is None:  # The queue was deleted a moment ago.
            self._say([message], acks.nak_after(AGAIN_S))
            return None
        due_s, often = message.at_ns / 1e9, message.deliveries
        expires_s, policy = terms.expires_s(envelope, due_s), terms.policy(envelope)
        # By place, for this is made once for each job: names would cost as much as the object.
        delivery = Delivery(
            envelope, handle, often, often > 1, due_s, expires_s, terms.timeout_s, policy, terms.rank
        )
        if message.sequence <= terms.purged_sequence:
            envelope.verify = True
        return delivery

    async def _consider(self, deliveries: Sequence[Delivery]) -> None:
        """Hands on what has not ended."""
        for first in range(0, len(deliveries), LOOKUP_MAX):
            part = deliveries[first : first + LOOKUP_MAX]
            try:
                self._runner.take(await self.look_up(part))
            except (CallFailed, Refusal, OSError, TimeoutError) as error:
                log.warning("%d jobs could not be looked up: %s", len(part), error)
                self._say([each.handle.message for each in part], acks.nak_after(AGAIN_S))
                _forget(part)

    async def look_up(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Those that are to run, with their checkpoints; the rest is acknowledged. Raises CallFailed."""
        left, over = await self._lookups.part(deliveries)
        self._say([each.handle.message for each in over], acks.ACK)
        _forget(over)
        return left

    def let_go(self, deliveries: Sequence[Delivery]) -> None:
        """They are out of hand."""
        held = self._held
        for delivery in deliveries:
            if held.get(delivery.job_id) is delivery:
                del held[delivery.job_id]
        if self.claims:
            self.claims.gave([delivery.handle.message for delivery in deliveries])

    def _say(self, messages: Sequence[Message], word: bytes) -> None:
        try:
            if messages:
                acks.send(self._connection, [each.reply for each in messages], word)
        except JetStreamError as error:
            log.info("not said: %s", error)

    async def stop(self) -> None:
        """Takes no more; what is here goes on."""
        self._stopped = True
        if self.lanes:
            self.lanes.stop()
        pulls, self._pulls = list(self._pulls.values()), {}
        await asyncio.gather(*(pull.stop() for pull in pulls), *self._looking)

    def _later(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)


def _forget(deliveries: Sequence[Delivery]) -> None:
    """They never came to the runner."""
    for delivery in deliveries:
        delivery.handle.giver.ran(delivery)
    release(deliveries)


def is_doubtful(delivery: Delivery) -> bool:
    """Whether it may have ended, been called off, or left a checkpoint."""
    return delivery.deliveries > 1 or delivery.envelope.verify or delivery.envelope.attempt > 1


class _Tap:
    """One pull as a Giver."""

    pull: Pull

    def __init__(self, feeder: Feeder) -> None:
        self._feeder = feeder

    def ran(self, delivery: Delivery) -> None:
        if self._feeder.behind:
            self.pull.resize(0)  # Until the feeder looks again: jobs may end by the hundred before it does.
        self.pull.done()

    def done(self, deliveries: Sequence[Delivery]) -> None:
        self._feeder.let_go(deliveries)

    def lost(self, delivery: Delivery) -> None:
        """It came by no lane."""

    def again(self, delivery: Delivery, delay_s: float) -> None:
        """Its retry is a message of its own."""
        self.done([delivery])

    def free(self) -> None:
        """One message less is held, which was nothing new."""
        self.pull.done()


@dataclass(frozen=True, slots=True)
class Terms:
    """A queue's settings, as a delivery needs them."""

    retry: RetryPolicy
    timeout_s: float | None
    queue_timeout_s: float | None
    rank: Rank
    purged_sequence: int = 0  # Up to there a message may be of a job that was purged.
    policies: dict[bytes, RetryPolicy] = field(default_factory=dict)  # By what a job said of its retries.

    @classmethod
    def of(cls, queue: Known) -> Terms:
        settings = queue.settings
        return cls(
            retry=settings.retry,
            timeout_s=seconds(settings.execution_timeout) or None,
            queue_timeout_s=seconds(settings.queue_timeout) or None,
            rank=rank(queue),
            purged_sequence=queue.purged_sequence,
        )

    def policy(self, envelope: Envelope) -> RetryPolicy:
        """How it is retried. Jobs of a queue say alike, if anything: each way is put together once."""
        if not envelope.HasField("retry"):
            return self.retry
        own = envelope.retry.SerializeToString()
        if (known := self.policies.get(own)) is None:
            if len(self.policies) >= POLICIES_MAX:
                self.policies.clear()
            known = self.policies[own] = merged(envelope.retry, self.retry)
        return known

    def expires_s(self, envelope: Envelope, due_s: float) -> float | None:
        """Until when it may begin, Unix seconds."""
        if envelope.HasField("expire_time"):
            return envelope.expire_time.ToNanoseconds() / 1e9
        return due_s + self.queue_timeout_s if self.queue_timeout_s else None


def rank(queue: Known) -> Rank:
    """How a queue wants its jobs drawn."""
    wish = queue.settings.priorities
    usual = Weights()
    weights = Weights(
        high=wish.high_weight or usual.high,
        medium=wish.medium_weight or usual.medium,
        low=wish.low_weight or usual.low,
        climb_after_s=seconds(wish.climb_after) if wish.HasField("climb_after") else usual.climb_after_s,
    )
    return Rank(weights, batch=queue.kind == QueueKind.QUEUE_KIND_BATCH)
