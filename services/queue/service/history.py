"""The record of jobs that came straight into the stream: read from there, written in hundreds."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from google.protobuf.message import DecodeError

from services.chassis.bus import within
from services.chassis.host import Tools
from services.chassis.ids import UUID
from services.chassis.jetstream import acks
from services.chassis.jetstream.headers import decode
from services.chassis.jetstream.pulling import Delivery, Pull
from services.chassis.jobs import subjects
from services.chassis.lease import Lease
from services.queue.domain.job import SEPARATOR, JobKind, NewJobs, floor_id
from services.queue.service.intake import LATE
from services.queue.service.known import Known
from services.queue.service.pack import moment, seconds, uuid_or_none
from services.queue.service.tallying import Tally
from services.queue.service.wire import Wire
from services.queue.store import intake as store
from weft.jobs.v1.job_pb2 import Envelope, Priority

ROOM = 4_000  # Messages fetched ahead: two of the largest batches, twice.
BATCH_MAX = 1_000  # Rows of one transaction.
TEXT_CHARS_MAX = 200  # Of a type or key that nobody checked.
LABELS_MAX, NAME_CHARS_MAX = 32, 63  # Of labels that nobody checked, as JobSpec has them: each is a row.
CONTROL = dict.fromkeys([*range(32), 127])  # Characters that no text of the record has.
LATER = f"{subjects.LATER}.".encode()

log = logging.getLogger("weft.queue")


class History:
    """Of all replicas, one reads: everything, in order. What it did not write comes to who reads next."""

    def __init__(self, tools: Tools, wire: Wire, known: Known, tally: Tally) -> None:
        self._db, self._clock = tools.db, tools.clock
        self._wire, self._known, self._tally = wire, known, tally
        self._came: list[Delivery] = []
        self._nth = 0  # Of the last delivery.
        self._broken = False  # Something was delivered that did not come here.
        self._stirred = asyncio.Event()

    async def run(self) -> None:
        """For ever. Raises when the database or NATS is away; whoever runs it begins again."""
        async with self._db.leases.hold("queue.history") as lease:
            off = self._wire.connection.on_connect(self._break)
            try:
                while True:
                    await self._read(lease)
            finally:
                off()

    def _break(self) -> None:
        self._broken = True
        self._stirred.set()

    async def _read(self, lease: Lease) -> None:
        """From what was acknowledged last, until the order is broken."""
        connection = self._wire.connection
        await connection.ready()
        await connection.api(f"CONSUMER.RESET.{subjects.STREAM}.{subjects.HISTORY}")
        self._came, self._nth, self._broken = [], 0, False
        pull = Pull(connection, subjects.STREAM, subjects.HISTORY, self._take, ROOM)
        pull.start()
        try:
            while not self._broken:
                lease.check()
                if batch := await self._next():
                    await self._write(batch)
                    await acks.confirm(connection, [batch[-1].reply])
                    pull.done(len(batch))
        finally:
            await pull.stop()

    def _take(self, deliveries: list[Delivery]) -> None:
        """An acknowledgement is for all before it: so what comes behind a hole is not taken."""
        if not self._broken and deliveries[-1].nth == self._nth + len(deliveries):
            self._came += deliveries
            self._nth = deliveries[-1].nth
            self._stirred.set()
        else:
            self._break()

    async def _next(self) -> list[Delivery]:
        if not self._came:
            self._stirred.clear()
            await within(self._stirred, 1.0)
        batch, self._came = self._came[:BATCH_MAX], self._came[BATCH_MAX:]
        return batch

    async def _write(self, batch: Sequence[Delivery]) -> None:
        new, moved = NewJobs(), list[tuple[UUID, int]]()
        counted: Counter[tuple[str, str]] = Counter()
        for came, envelope, job_id in _envelopes(batch):
            if not _is_first(came, envelope):
                moved.append((job_id, came.sequence))
                continue
            counted[envelope.queue, envelope.type] += 1
            if not envelope.recorded:
                self._add(new, envelope, came, job_id)
        if new.job_ids or moved:  # What was recorded already is only counted.
            async with self._db.fast() as tx:
                await store.add(tx, new, floor_id(self._clock.now() - LATE))
                if moved:
                    await store.moved(tx, moved)
        now_s = self._clock.now().timestamp()
        for (queue, kind), jobs in counted.items():
            self._tally.enqueued(queue, kind, now_s, jobs)

    def _add(self, new: NewJobs, envelope: Envelope, came: Delivery, job_id: UUID) -> None:
        """As the queue itself would have written it, but for what only an enqueuing rpc can decide."""
        changed = _cleaned(envelope)
        queue = self._known.find(envelope.queue)
        expires = envelope.HasField("expire_time")
        if queue and not expires and queue.settings.HasField("queue_timeout"):
            limit = timedelta(seconds=seconds(queue.settings.queue_timeout))
            due = envelope.due_time if envelope.HasField("due_time") else envelope.create_time
            if limit:
                envelope.expire_time.FromDatetime(moment(due) + limit)
                changed = expires = True
        times = (
            moment(envelope.due_time) if envelope.HasField("due_time") else None,
            moment(envelope.expire_time) if expires else None,
        )
        raw = envelope.SerializeToString() if changed else came.payload
        new.add(_kind(envelope), job_id, envelope.key, times, came.sequence, raw)


def _kind(envelope: Envelope) -> JobKind:
    labels = envelope.labels
    return JobKind(
        envelope.queue,
        envelope.type,
        envelope.priority or Priority.PRIORITY_MEDIUM,
        uuid_or_none(envelope.group_id),
        SEPARATOR.join(f"{name}={value}" for name, value in sorted(labels.items())) if labels else "",
        "",
    )


def _cleaned(envelope: Envelope) -> bool:
    """Takes out what no text of the record has. Returns whether there was any."""
    changed = False
    for name in ("type", "key"):
        if not _is_clean(text := getattr(envelope, name)):
            setattr(envelope, name, _clean(text))
            changed = True
    if envelope.labels and not _are_clean(labels := dict(envelope.labels)):
        envelope.labels.clear()
        some = sorted(labels.items())[:LABELS_MAX]
        envelope.labels.update({_clean(name)[:NAME_CHARS_MAX]: _clean(value) for name, value in some})
        changed = True
    return changed


def _are_clean(labels: Mapping[str, str]) -> bool:
    if len(labels) > LABELS_MAX or any(len(name) > NAME_CHARS_MAX for name in labels):
        return False
    return all(_is_clean(name) and _is_clean(value) for name, value in labels.items())


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
