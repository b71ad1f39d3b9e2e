"""Recorded jobs on their way into the stream, however often that takes."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from services.chassis.bus import within
from services.chassis.db import Database
from services.chassis.errors import Refusal
from services.chassis.host import Tools
from services.chassis.jetstream.errors import Disconnected, JetStreamError, NotStored, Overrun
from services.chassis.jetstream.publisher import Item, Stored
from services.chassis.jobs.sending import item
from services.queue.domain.job import NewJob
from services.queue.service.known import Known
from services.queue.service.pack import moment, source_envelope, stamp
from services.queue.service.streams import lanes
from services.queue.service.wire import Wire
from services.queue.settings import QueueServiceSettings
from services.queue.store import intake as store
from weft.jobs.v1.job_pb2 import Envelope, JobState
from weft.jobs.v1.live_pb2 import Same, StateChange, Update

BATCH_MAX = 500  # Jobs read and published at once by the loop.
NOTES_MAX = 5_000  # Sequences noted by one statement.
VERIFY_AFTER_S = 60.0  # Well within JetStream's window of duplicates: from then on a copy may be about.

log = logging.getLogger("weft.queue")


def placed(jobs: Iterable[tuple[UUID, Envelope]], now: datetime) -> tuple[Sequence[Update], Sequence[Same]]:
    """Where these jobs stand since they were published. Plain ones of a kind are told of together."""
    at, queued = stamp(now), StateChange(state=JobState.JOB_STATE_QUEUED)
    updates: list[Update] = []
    same: dict[tuple[str, str, int, int], list[bytes]] = {}
    for job_id, envelope in jobs:
        waits = envelope.HasField("due_time")
        if not waits and not envelope.labels:
            kind = (envelope.queue, envelope.type, envelope.run, envelope.attempt)
            same.setdefault(kind, []).append(job_id.bytes)
            continue
        made = Update(
            job_id=envelope.job_id,
            run=envelope.run,
            attempt=envelope.attempt,
            queue=envelope.queue,
            type=envelope.type,
            state=_placed(envelope, now) if waits else queued,
            time=at,
        )
        made.labels.update(envelope.labels)
        updates.append(made)
    return updates, [
        Same(
            update=Update(queue=queue, type=kind, run=run, attempt=attempt, time=at, state=queued),
            job_ids=b"".join(ids),
        )
        for (queue, kind, run, attempt), ids in same.items()
    ]


class Publication:
    """Publishes what was recorded: at once, soon, or when it has waited too long."""

    def __init__(self, tools: Tools, settings: QueueServiceSettings, wire: Wire, known: Known) -> None:
        self._db: Database = tools.db
        self._clock, self._settings, self._wire, self._known = tools.clock, settings, wire, known
        self._soon: dict[UUID, None] = {}
        self._notes: list[tuple[UUID, int]] = []
        self._stirred = asyncio.Event()

    async def now(self, jobs: Sequence[tuple[NewJob, Envelope]]) -> None:
        """Returns when they are in the stream, or after a while; the rest is published later."""
        now = self._clock.now()
        known = {name: lanes(self._known.get(name)) for name in {new.queue for new, _ in jobs}}
        items = [item(envelope, known[new.queue], payload=new.envelope) for new, envelope in jobs]
        try:
            async with asyncio.timeout(self._settings.publish_s):
                stored = await self._wire.publisher.publish_all(items)
        except (JetStreamError, TimeoutError) as error:
            log.warning("recorded jobs are published later: %s", type(error).__name__)
            return
        self._note([new.job_id for new, _ in jobs], stored)
        self._wire.tell(*placed(((new.job_id, envelope) for new, envelope in jobs), now))

    def soon(self, jobs: Iterable[UUID]) -> None:
        """They are recorded as to be published; call it after the commit."""
        self._soon |= dict.fromkeys(jobs)
        self._stirred.set()

    async def run(self) -> None:
        """What was asked for soon, and the notes of what was done; for ever."""
        while True:
            await within(self._stirred, 1.0)
            self._stirred.clear()
            while self._soon:
                batch = list(self._soon)[:BATCH_MAX]
                self._soon = {job: None for job in self._soon if job not in set(batch)}
                await self._publish(batch, verify=False)
            await self._write_notes()

    async def reconcile(self) -> None:
        """What was to be published for some time; one process at a time, for ever."""
        async with self._db.leases.hold("queue.reconcile") as lease:
            while True:
                lease.check()
                await self.reconcile_once()
                await asyncio.sleep(self._settings.reconcile_s / 3)

    async def reconcile_once(self, older_s: float | None = None) -> int:
        """Returns how many were published."""
        older = self._settings.reconcile_s if older_s is None else older_s
        done = 0
        while batch := await store.unpublished(self._db, older, BATCH_MAX):
            old = set(await store.unpublished(self._db, VERIFY_AFTER_S, BATCH_MAX))
            fresh = [job for job in batch if job not in old]
            await self._publish([job for job in batch if job in old], verify=True)
            await self._publish(fresh, verify=False)
            await self._write_notes()
            done += len(batch)
        return done

    async def _publish(self, jobs: Sequence[UUID], *, verify: bool) -> None:
        rows = await store.sources(self._db, jobs) if jobs else []
        now = self._clock.now()
        items: list[Item] = []
        envelopes: list[Envelope] = []
        for row in rows:
            envelope = source_envelope(row, now)
            envelope.verify = verify or envelope.verify or bool(row["moves"])
            if queue := self._known.find(envelope.queue):
                envelopes.append(envelope)
                items.append(item(envelope, lanes(queue), row["moves"]))
        stored = await self._store(items)
        ids = [UUID(envelope.job_id) for envelope in envelopes]
        # What has ended or is blocked needs no message: it counts as published.
        self._notes += [(job, 0) for job in set(jobs) - set(ids)]
        self._notes += [(job, said.sequence) for job, said in zip(ids, stored, strict=True) if said]
        self._stirred.set()
        self._wire.tell(*placed(zip(ids, envelopes, strict=True), now))

    async def _store(self, items: Sequence[Item]) -> Sequence[Stored | None]:
        """None for what JetStream refuses for good; one such job holds up no other."""
        try:
            return await self._wire.publisher.publish_all(items)
        except (Disconnected, NotStored, Overrun):
            raise
        except JetStreamError:
            return [await self._store_one(each) for each in items]

    async def _store_one(self, one: Item) -> Stored | None:
        try:
            return (await self._wire.publisher.publish_all([one]))[0]
        except (Disconnected, NotStored, Overrun):
            raise
        except JetStreamError as error:
            facts = {"subject": one.subject, "id": one.message_id}
            log.error("JetStream refuses a job: %s", error, extra={"facts": facts})  # noqa: TRY400
            return None

    def _note(self, jobs: Sequence[UUID], stored: Sequence[Stored]) -> None:
        self._notes += [(job, said.sequence) for job, said in zip(jobs, stored, strict=True)]
        self._stirred.set()

    async def _write_notes(self) -> None:
        while self._notes:
            notes = self._notes[:NOTES_MAX]
            try:
                await store.place(self._db, [job for job, _ in notes], [sequence for _, sequence in notes])
            except Refusal:  # The database is away: they are published once more, as duplicates.
                self._notes = self._notes[-NOTES_MAX:]
                return
            del self._notes[: len(notes)]


def _placed(envelope: Envelope, now: datetime) -> StateChange:
    if envelope.HasField("due_time") and moment(envelope.due_time) > now:
        return StateChange(state=JobState.JOB_STATE_SCHEDULED, next_time=envelope.due_time)
    return StateChange(state=JobState.JOB_STATE_QUEUED)
