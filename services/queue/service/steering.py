"""What operators do to a job: call it off, give it another time, another run, another place."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from services.chassis.db import AnyTx, after_commit
from services.queue.domain import states as rules
from services.queue.domain.job import UnknownJob, check_due
from services.queue.domain.queue import QueueDraining
from services.queue.domain.states import Reason, State
from services.queue.service.shared import Shared
from services.queue.service.viewing import due_of, state_of
from services.queue.store import blocking, dead_letter, intake, reading, steering as store
from weft.jobs.v1.job_pb2 import EndReason
from weft.jobs.v1.live_pb2 import Cancel, Control
from weft.queue.v1.settings_pb2 import QUEUE_STATE_DRAINING

PURGE_MAX = 10_000  # Jobs that one call ends: a second or two of work.

log = logging.getLogger("weft.queue")


class Steering:
    """Each deed is one transaction that holds the job; JetStream follows after the commit."""

    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock = shared, shared.db, shared.clock

    async def cancel(self, job_id: UUID) -> bool:
        """Returns whether its worker was asked, and it has not ended yet. Raises UnknownJob, JobEnded."""
        async with self._db.fast() as tx:
            row, state = await self._job(tx, job_id)
            rules.refuse_cancel(job_id, state)
            if state == State.CANCELLED:
                return False
            reason = int(Reason.CANCELLED_BY_REQUEST)
            if state == State.RUNNING:
                await store.ask_to_cancel(tx, job_id, row["run"], reason)
            else:
                await self._call_off(tx, [row], Reason.CANCELLED_BY_REQUEST)
        self._order_cancel(row, Reason.CANCELLED_BY_REQUEST)
        if state != State.RUNNING:
            await self._shared.wire.remove_message(row)
        return state == State.RUNNING

    async def reschedule(self, job_id: UUID, due: datetime) -> None:
        """Raises UnknownJob, JobNotWaiting, TimeRefused."""
        check_due(due, self._clock.now(), "due_time")
        async with self._db.fast() as tx:
            row, state = await self._job(tx, job_id)
            rules.refuse_reschedule(job_id, state)
            await self._set_due(tx, row, max(due, self._clock.now()))
        await self._shared.wire.remove_message(row)

    async def retry(self, job_id: UUID, actor: str, note: str = "") -> None:
        """Raises UnknownJob, JobNotRetryable, QueueDraining."""
        async with self._db.fast() as tx:
            row, state = await self._job(tx, job_id)
            rules.refuse_retry(job_id, state)
            if state == State.RETRYING:
                await self._set_due(tx, row, self._clock.now())
            else:
                await self.again(tx, [row], actor, note)
        if state == State.RETRYING:
            await self._shared.wire.remove_message(row)

    async def again(self, tx: AnyTx, rows: Sequence[Any], actor: str, note: str) -> dict[UUID, int]:
        """Begins the next run of jobs that have ended. Raises QueueDraining."""
        for queue in {row["queue"] for row in rows}:
            if self._shared.known.get(queue).state == QUEUE_STATE_DRAINING:
                raise QueueDraining(queue=queue)
        jobs = [row["job_id"] for row in rows]
        runs = await store.again(tx, jobs, self._clock.now(), actor, note)
        await dead_letter.delete(tx, jobs)
        await intake.await_publication(tx, jobs)
        after_commit(tx, lambda: self._shared.publication.soon(jobs))
        return runs

    async def escalate(self, job_id: UUID, priority: int) -> None:
        """Raises UnknownJob, JobNotQueued, QueueIsKeyed."""
        async with self._db.fast() as tx:
            row, state = await self._job(tx, job_id)
            rules.refuse_escalate(job_id, state)
            if self._shared.known.get(row["queue"]).keyed:
                raise rules.QueueIsKeyed(queue=row["queue"])
            if (row["steered"] or row["priority"]) == priority:
                return
            await store.set_priority(tx, job_id, priority)
            await intake.await_publication(tx, [job_id])
            after_commit(tx, lambda: self._shared.publication.soon([job_id]))
        await self._shared.wire.remove_message(row)

    async def purge(self, tx: AnyTx, queue: str) -> tuple[list[Any], bool]:
        """Calls off open jobs that nobody runs; returns their rows, and whether there are more."""
        jobs = await store.open_of(tx, queue, PURGE_MAX + 1)
        rows = [row for row in await reading.rows(tx, jobs[:PURGE_MAX]) if row["state"] is None]
        live = self._shared.running.among(rows)
        now = self._clock.now()
        idle = [row for row in rows if state_of(row, live.get(row["job_id"]), now) != State.RUNNING]
        await blocking.free(tx, [row["job_id"] for row in idle])
        # Messages that are due go together (streams.purge_due); those that await their time one by one.
        waiting = [row for row in idle if (due := due_of(row)) and due > now]
        await self._shared.endings.call_off(tx, idle, State.CANCELLED, Reason.PURGED, now, remove=waiting)
        return idle, len(jobs) > PURGE_MAX

    async def expire(self, rows: Sequence[Any]) -> int:
        """Ends jobs that nobody began in time; of those that run, nothing. Returns how many ended."""
        live = self._shared.running.among(rows)
        now = self._clock.now()
        late = [
            row
            for row in rows
            if state_of(row, live.get(row["job_id"]), now) not in {*rules.FINAL, State.RUNNING}
            and not row["last_attempt"]
        ]
        if late:
            async with self._db.fast() as tx:
                await self._call_off(tx, late, Reason.QUEUED_TOO_LONG, State.EXPIRED)
        for row in late:
            self._order_cancel(row, Reason.QUEUED_TOO_LONG)
        return len(late)

    def _order_cancel(self, row: Any, reason: Reason) -> None:
        why = cast("EndReason.ValueType", int(reason))
        order = Cancel(job_id=str(row["job_id"]), run=row["run"], reason=why)
        self._shared.wire.order(Control(cancel=order))

    async def _job(self, tx: AnyTx, job_id: UUID) -> tuple[Any, State]:
        """The job and where it stands; nobody else steers it until `tx` ends. Raises UnknownJob."""
        row = await reading.locked(tx, job_id)
        if row is None:
            raise UnknownJob(job_id=job_id)
        return row, state_of(row, self._shared.running.of(job_id), self._clock.now())

    async def _set_due(self, tx: AnyTx, row: Any, due: datetime) -> None:
        """It is published anew for that time; what awaited the old one is removed after the commit."""
        job_id = row["job_id"]
        await store.set_due(tx, job_id, due)
        await intake.await_publication(tx, [job_id])
        after_commit(tx, lambda: self._shared.publication.soon([job_id]))

    async def _call_off(
        self, tx: AnyTx, rows: Sequence[Any], reason: Reason, state: State = State.CANCELLED
    ) -> None:
        jobs = [row["job_id"] for row in rows]
        await blocking.free(tx, jobs)
        await self._shared.endings.call_off(tx, rows, state, reason, self._clock.now())
