"""weft.queue.v1.DeadLetterService."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx
from services.chassis.events import emit
from services.chassis.method import Call
from services.queue.domain.job import SCAN_MAX, UnknownDeadLetter
from services.queue.service.listing import Marks, page_size
from services.queue.service.pack import moment
from services.queue.service.shared import Shared
from services.queue.service.steering import Steering
from services.queue.store import dead_letter as store, reading
from services.queue.store.days import LEAST
from weft.jobs.v1.attempt_pb2 import AttemptReport
from weft.jobs.v1.job_pb2 import Envelope
from weft.queue.v1 import dead_letter_pb2 as pb
from weft.queue.v1.dead_letter_pb2_grpc import DeadLetterServiceServicer
from weft.queue.v1.events_pb2 import DeadLetterRedriven, DeadLettersPurged

TOGETHER_MAX = 1_000  # Dead letters of one call: a second of work, each with an event.


class DeadLetters(DeadLetterServiceServicer):
    def __init__(self, shared: Shared, steering: Steering) -> None:
        self._shared, self._steering = shared, steering
        self._db, self._marks = shared.db, Marks(shared.page_key)

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, call: Call
    ) -> pb.ListDeadLettersResponse:
        which, before = _which(request.filter), self._marks.open(request)
        size, found, scanned = page_size(request), list[UUID](), 0
        more = True
        while more and len(found) <= size and scanned < SCAN_MAX:
            rows = await store.rows(self._db, which.queue, before, size + 1)
            found += [row["job_id"] for row in rows if which.fits(row)]
            scanned, more = scanned + len(rows), len(rows) > size
            before = rows[-1]["job_id"] if rows else LEAST
        if len(found) > size:
            found, more, before = found[:size], True, found[size - 1]
        letters = [to_pb(row) for row in await store.reports(self._db, found)]
        token = self._marks.close(request, before) if more else ""
        return pb.ListDeadLettersResponse(dead_letters=letters, next_page_token=token)

    async def GetDeadLetter(self, request: pb.GetDeadLetterRequest, call: Call) -> pb.GetDeadLetterResponse:
        row = await store.get(self._db, UUID(request.job_id))
        if row is None:
            raise UnknownDeadLetter(job_id=request.job_id)
        letter = to_pb(row)
        if row["envelope"]:
            letter.envelope.CopyFrom(Envelope.FromString(row["envelope"]))
        return pb.GetDeadLetterResponse(dead_letter=letter)

    async def RedriveDeadLetter(
        self, request: pb.RedriveDeadLetterRequest, call: Call
    ) -> pb.RedriveDeadLetterResponse:
        job_id = UUID(request.job_id)
        async with self._db.fast() as tx:
            if not await store.delete(tx, [job_id]):
                raise UnknownDeadLetter(job_id=job_id)
            runs = await self._redrive(tx, [job_id], call.caller.actor, request.note)
        return pb.RedriveDeadLetterResponse(run=runs.get(job_id, 0))

    async def RedriveDeadLetters(
        self, request: pb.RedriveDeadLettersRequest, call: Call
    ) -> pb.RedriveDeadLettersResponse:
        async with self._db.fast() as tx:
            jobs = await store.matching(tx, _which(request.filter), TOGETHER_MAX + 1)
            runs = await self._redrive(tx, jobs[:TOGETHER_MAX], call.caller.actor, request.note)
        return pb.RedriveDeadLettersResponse(jobs=len(runs), more=len(jobs) > TOGETHER_MAX)

    async def _redrive(self, tx: AnyTx, jobs: list[UUID], actor: str, note: str) -> dict[UUID, int]:
        """Begins their next runs; those whose job is no longer kept are forgotten. Raises QueueDraining."""
        rows = [row for row in await reading.rows(tx, jobs) if row["state"] is not None]
        runs = await self._steering.again(tx, rows, actor, note) if rows else {}
        await store.delete(tx, jobs)
        await emit(tx, *(DeadLetterRedriven(job_id=str(job_id), run=run) for job_id, run in runs.items()))
        return runs

    async def PurgeDeadLetters(
        self, request: pb.PurgeDeadLettersRequest, call: Call
    ) -> pb.PurgeDeadLettersResponse:
        async with self._db.fast() as tx:
            jobs = await store.matching(tx, _which(request.filter), TOGETHER_MAX + 1)
            gone = await store.delete(tx, jobs[:TOGETHER_MAX])
            if gone:
                await emit(tx, DeadLettersPurged(queue=request.filter.queue, dead_letters=len(gone)))
        return pb.PurgeDeadLettersResponse(dead_letters=len(gone), more=len(jobs) > TOGETHER_MAX)


def _which(wanted: pb.DeadLetterFilter) -> store.Which:
    until = moment(wanted.until_time) if wanted.HasField("until_time") else None
    return store.Which(
        queue=wanted.queue, type=wanted.type, reason=wanted.reason, kind=wanted.kind, until=until
    )


def to_pb(row: Any) -> pb.DeadLetter:
    letter = pb.DeadLetter(
        job_id=str(row["job_id"]),
        run=row["run"],
        queue=row["queue"],
        type=row["type"],
        reason=row["reason"],
        attempts=row["attempts"],
    )
    letter.fail_time.FromDatetime(row["fail_time"])
    if row["report"]:
        letter.failure.CopyFrom(AttemptReport.FromString(row["report"]).failure)
    return letter
