"""The record of jobs that came straight into the stream: read from there, written in hundreds."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

from google.protobuf.message import DecodeError

from services.chassis.host import Tools
from services.chassis.jetstream import acks
from services.chassis.jetstream.headers import decode
from services.chassis.jetstream.pulling import Delivery, Pull
from services.chassis.jobs import subjects
from services.queue.domain.job import NewJob, floor_id
from services.queue.service.intake import LATE, new_job
from services.queue.service.known import Known
from services.queue.service.pack import moment, seconds
from services.queue.service.tallying import Tally
from services.queue.service.wire import Wire
from services.queue.store import intake as store
from weft.jobs.v1.job_pb2 import Envelope

ROOM = 4_000  # Messages fetched ahead: two of the largest batches, twice.
BATCH_MAX = 1_000  # Rows of one transaction.
TEXT_CHARS_MAX = 200  # Of a type or key that nobody checked.
CONTROL = dict.fromkeys([*range(32), 127])  # Characters that no text of the record has.
LATER = f"{subjects.LATER}.".encode()

log = logging.getLogger("weft.queue")


class History:
    """Of all replicas, one reads."""

    def __init__(self, tools: Tools, wire: Wire, known: Known, tally: Tally) -> None:
        self._db, self._clock = tools.db, tools.clock
        self._wire, self._known, self._tally = wire, known, tally
        self._came: list[Delivery] = []
        self._stirred = asyncio.Event()

    async def run(self) -> None:
        """For ever. Raises when the database is away; whoever runs it begins again."""
        async with self._db.leases.hold("queue.history") as lease:
            pull = Pull(self._wire.connection, subjects.STREAM, subjects.HISTORY, self._take, ROOM)
            batch: list[Delivery] = []
            pull.start()
            try:
                while True:
                    lease.check()
                    batch = await self._next()
                    if batch:
                        await self._write(batch)
                        await acks.confirm(self._wire.connection, [each.reply for each in batch])
                        pull.done(len(batch))
                        batch = []
            finally:
                await pull.stop()
                self._give_back(batch)

    def _give_back(self, batch: Sequence[Delivery]) -> None:
        """What was fetched and not written comes again at once, to whoever reads next."""
        unwritten, self._came = [*batch, *self._came], []
        if unwritten and self._wire.connection.connected:
            acks.send(self._wire.connection, [each.reply for each in unwritten], acks.NAK)

    def _take(self, deliveries: list[Delivery]) -> None:
        self._came += deliveries
        self._stirred.set()

    async def _next(self) -> list[Delivery]:
        if not self._came:
            self._stirred.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self._stirred.wait()
            except TimeoutError:
                return []
        batch, self._came = self._came[:BATCH_MAX], self._came[BATCH_MAX:]
        return batch

    async def _write(self, batch: Sequence[Delivery]) -> None:
        new: dict[UUID, NewJob] = {}
        moved: list[tuple[UUID, int]] = []
        counted: Counter[tuple[str, str]] = Counter()
        for came, envelope, job_id in _envelopes(batch):
            if not _is_first(came, envelope):
                moved.append((job_id, came.sequence))
                continue
            counted[envelope.queue, envelope.type] += 1
            if not envelope.recorded and job_id not in new:
                new[job_id] = self._row(envelope, came, job_id)
        if new or moved:  # What was recorded already is only counted.
            async with self._db.fast() as tx:
                if new:
                    await store.add(tx, list(new.values()), floor_id(self._clock.now() - LATE))
                if moved:
                    await store.moved(tx, moved)
        now_s = self._clock.now().timestamp()
        for (queue, kind), jobs in counted.items():
            self._tally.enqueued(queue, kind, now_s, jobs)

    def _row(self, envelope: Envelope, came: Delivery, job_id: UUID) -> NewJob:
        """As the queue itself would have written it, but for what only an enqueuing rpc can decide."""
        changed = _cleaned(envelope)
        queue = self._known.find(envelope.queue)
        limit_s = seconds(queue.settings.queue_timeout) if queue else 0.0
        if limit_s and not envelope.HasField("expire_time"):
            due = envelope.due_time if envelope.HasField("due_time") else envelope.create_time
            envelope.expire_time.FromDatetime(moment(due) + timedelta(seconds=limit_s))
            changed = True
        raw = envelope.SerializeToString() if changed else came.payload
        return new_job(envelope, raw, sequence=came.sequence, job_id=job_id)


def _cleaned(envelope: Envelope) -> bool:
    """Takes out what no text of the record has. Returns whether there was any."""
    changed = False
    for name in ("type", "key"):
        if not _is_clean(text := getattr(envelope, name)):
            setattr(envelope, name, _clean(text))
            changed = True
    if envelope.labels:
        for name, value in list(envelope.labels.items()):
            if not _is_clean(value):
                envelope.labels[name] = _clean(value)
                changed = True
    return changed


def _is_clean(text: str) -> bool:
    """What is printable has no control characters; the rest is looked at more closely."""
    return len(text) <= TEXT_CHARS_MAX and (text.isprintable() or text.translate(CONTROL) == text)


def _clean(text: str) -> str:
    return text.translate(CONTROL)[:TEXT_CHARS_MAX]


def _is_first(came: Delivery, envelope: Envelope) -> bool:
    """Whether the job is new, and not at its second place: after its time came, on a retry, moved."""
    fired = b"Nats-Scheduler" in came.head and not came.subject.startswith(LATER)
    return envelope.run == 1 and envelope.attempt == 1 and not fired


def _envelopes(batch: Sequence[Delivery]) -> Iterator[tuple[Delivery, Envelope, UUID]]:
    """Without what is no job: whoever published that went past every check."""
    for came in batch:
        try:
            envelope = Envelope.FromString(came.payload)
            job_id = UUID(envelope.job_id)
        except (DecodeError, ValueError):
            facts = {"subject": came.subject.decode(errors="replace"), "headers": decode(came.head)}
            log.error("a message in the stream of jobs is no job", extra={"facts": facts})  # noqa: TRY400
        else:
            yield came, envelope, job_id
