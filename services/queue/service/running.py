"""Which jobs run, by what workers tell: kept here, so that no read has to ask for it.

Every process of the queue hears all that is told. What was told before it came, or while NATS was away, it
reads from the stream; what it still misses is repeated by the workers every 30 s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from services.chassis.clock import Clock
from services.chassis.jetstream.errors import JetStreamError
from services.chassis.jetstream.protocol import Message
from services.chassis.jetstream.stream import Stream
from services.chassis.jobs import subjects, telling
from services.queue.service.pack import moment
from services.queue.service.wire import Wire
from weft.jobs.v1.job_pb2 import JobState
from weft.jobs.v1.live_pb2 import Update

SILENT = timedelta(seconds=90)  # A running job is heard of every 30 s; of one that is not, nobody knows.
RUNNING_MAX = 500_000  # Some 200 MB; of more, the later ones count as queued.
TIDY_EVERY_S = 5.0
RUNS = JobState.JOB_STATE_RUNNING
PLACED = {JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_SCHEDULED}

log = logging.getLogger("weft.queue")


class Running:
    """By job, the last that was told of an attempt which has not ended, as far as anybody said."""

    def __init__(self, wire: Wire, clock: Clock) -> None:
        self._wire, self._clock = wire, clock
        self._known: dict[bytes, Update] = {}
        self._missed = asyncio.Event()

    def of(self, job_id: UUID) -> Update | None:
        return self._known.get(job_id.bytes)

    def among(self, rows: Iterable[Any]) -> Mapping[UUID, Update]:
        """Of rows of the store's view, by job: those that are not known to have ended."""
        open_rows = (row["job_id"] for row in rows if row["state"] is None)
        return {job_id: last for job_id in open_rows if (last := self.of(job_id))}

    async def run(self) -> None:
        """For ever."""
        connection = self._wire.connection
        heard = connection.subscribe(subjects.live("*"), self._hear)
        off = connection.on_connect(self._missed.set)
        self._missed.set()
        try:
            while True:
                if self._missed.is_set():
                    self._missed.clear()
                    await self._catch_up()
                self._tidy()
                try:
                    async with asyncio.timeout(TIDY_EVERY_S):
                        await self._missed.wait()
                except TimeoutError:
                    continue
        finally:
            heard.end()
            off()

    async def _catch_up(self) -> None:
        """What was told lately. It may have been heard already: then it is the same again, or older."""
        known: dict[bytes, Update] = {}
        try:
            stream = Stream(self._wire.connection, subjects.LIVE)
            async for record in stream.since(self._clock.now() - SILENT):
                self._note(record.payload, known)
        except (JetStreamError, TimeoutError) as error:
            log.info("what runs is not known yet: %s", type(error).__name__)
            return
        for job_id, update in known.items():
            self._known.setdefault(job_id, update)

    def _hear(self, messages: list[Message]) -> None:
        for message in messages:
            self._note(message.payload, self._known)

    def _note(self, payload: bytes, known: dict[bytes, Update]) -> None:
        told = telling.read(payload)
        for update in told.updates:
            try:
                job_id = UUID(update.job_id).bytes
            except ValueError:
                continue
            what = update.WhichOneof("what")
            if what == "state":
                self._turn(known, job_id, update)
            elif job_id in known:
                _add(known[job_id], update)
        for same in told.same if known else ():
            for job_id in telling.ids(same):
                if (last := known.get(job_id)) and not _is_before(same.update, last):
                    del known[job_id]

    def _turn(self, known: dict[bytes, Update], job_id: bytes, update: Update) -> None:
        """Its state is another one."""
        last = known.get(job_id)
        if update.state.state != RUNS:
            if last and _ends(update, last):
                del known[job_id]
        elif last is not None or len(known) < RUNNING_MAX:
            known[job_id] = update

    def _tidy(self) -> None:
        oldest = self._clock.now() - SILENT
        for job_id in [each for each, last in self._known.items() if moment(last.time) < oldest]:
            del self._known[job_id]


def _ends(update: Update, last: Update) -> bool:
    """Whether the attempt, of which `last` was told, runs no more."""
    reached = update.run, update.attempt or last.attempt
    return (last.run, last.attempt) <= reached and not _is_before(update, last)


def _is_before(update: Update, last: Update) -> bool:
    """Whether it tells that the attempt was published, which may be heard after its worker's first word."""
    placed = update.state.state in PLACED and not update.worker
    return placed and (update.run, update.attempt) <= (last.run, last.attempt)


def _add(last: Update, update: Update) -> None:
    """Progress and lines are signs of life of the attempt that they are of."""
    if (last.run, last.attempt, last.worker) != (update.run, update.attempt, update.worker):
        return
    last.time.CopyFrom(update.time)
    if update.HasField("progress"):
        last.state.progress.CopyFrom(update.progress)
