"""weft.queue.v1.RecordService: for workers and enqueuers of the mesh."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from services.chassis.db import AnyTx
from services.chassis.method import Call
from services.queue.domain.ends import Run, has_repeated
from services.queue.domain.job import AttemptSuperseded
from services.queue.domain.sharing import draw, refill, share
from services.queue.service import reaping, reports
from services.queue.service.pack import seconds, span
from services.queue.service.shared import Shared
from services.queue.store import ending as store, worker as holding
from weft.jobs.v1.attempt_pb2 import AttemptReport
from weft.jobs.v1.job_pb2 import JobState
from weft.jobs.v1.live_pb2 import Control, LanesChanged, Same, Update
from weft.queue.v1 import queue_pb2, record_pb2 as pb
from weft.queue.v1.record_pb2_grpc import RecordServiceServicer


class Records(RecordServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock = shared, shared.db, shared.clock
        self._lease = timedelta(seconds=shared.settings.lease_s)

    async def ReportAttempts(
        self, request: pb.ReportAttemptsRequest, call: Call
    ) -> pb.ReportAttemptsResponse:
        worker = request.worker
        told, known = reports.parts(request.attempts, request.successes, worker)
        async with self._db.fast() as tx:
            stale = await _superseded(tx, told)
            valid = [part for part in told if part.first not in stale] if stale else told
            valid, again = _once(valid)
            had_ended = await self._shared.endings.end(tx, [part.ends for part in valid if part.ends])
            attempts = [each.said for each in valid if isinstance(each.said, AttemptReport)]
            rows = [row for each in attempts if (row := reports.attempt(each, worker))]
            await store.add_attempts(tx, rows)
        known += again
        if had_ended:
            valid = [part for part in valid if not _had_ended(part, had_ended, known)]
        self._shared.tally.ended(part.said for part in valid)
        self._tell([said for part in valid if (said := reports.told(part, worker))])
        superseded = [n for part in told if part.first in stale for n in part.positions]
        return pb.ReportAttemptsResponse(known=sorted(known), superseded=superseded)

    def _tell(self, told: Sequence[Update | Same]) -> None:
        same = [each for each in told if isinstance(each, Same)]
        self._shared.wire.tell([each for each in told if isinstance(each, Update)], same)

    async def LookupJobs(self, request: pb.LookupJobsRequest, call: Call) -> pb.LookupJobsResponse:
        asked = request.jobs[: reports.REPORTS_MAX]
        lost = [row for each in asked if each.again and (row := self._lost(each, request.worker))]
        if lost:
            async with self._db.fast() as tx:
                await store.lose(tx, lost)
        rows = await store.lookup(self._db, [each.job_id for each in asked], [each.run for each in asked])
        return pb.LookupJobsResponse(
            jobs=[_lookup(row, each.run) for row, each in zip(rows, asked, strict=True)]
        )

    def _lost(self, asked: pb.JobRun, worker: str) -> tuple[Any, ...] | None:
        """The attempt that another worker had begun when it was last heard of, as a row; None: none."""
        last = self._shared.running.of(UUID(asked.job_id))
        if last is None or last.run != asked.run or last.worker in ("", worker):
            return None
        return reports.lost(last, self._clock.now())

    async def SaveCheckpoint(
        self, request: pb.SaveCheckpointRequest, call: Call
    ) -> pb.SaveCheckpointResponse:
        at, now = (request.run, request.attempt, request.step), self._clock.now()
        if not await holding.save(self._db, UUID(request.job_id), at, request.state, now):
            row = await holding.checkpoint(self._db, UUID(request.job_id))
            if row and (row["run"], row["attempt"]) > at[:2]:
                raise AttemptSuperseded(job_id=request.job_id)
        return pb.SaveCheckpointResponse()

    async def GetCheckpoint(self, request: pb.GetCheckpointRequest, call: Call) -> pb.GetCheckpointResponse:
        row = await holding.checkpoint(self._db, UUID(request.job_id))
        if row is None or row["run"] != request.run:
            return pb.GetCheckpointResponse()
        kept = pb.Checkpoint(attempt=row["attempt"], step=row["step"], state=row["state"])
        kept.time.FromDatetime(row["at"])
        return pb.GetCheckpointResponse(checkpoint=kept)

    async def LeaseLanes(self, request: pb.LeaseLanesRequest, call: Call) -> pb.LeaseLanesResponse:
        queue, worker, now = self._shared.known.get(request.queue), request.worker, self._clock.now()
        async with self._db.fast() as tx:
            await holding.lock_queue(tx, queue.queue)
            if request.leaving:
                await holding.leave(tx, queue.queue, worker, now)
                own, too_many = dict[int, int](), list[int]()
            else:
                await holding.give_up(tx, queue.queue, worker, request.given_up, now)
                own, too_many = await self._share(tx, queue, worker)
        if request.leaving or request.given_up:
            self._shared.wire.order(Control(lanes_changed=LanesChanged(queue=queue.queue)))
        lanes = [pb.Lane(lane=lane, epoch=epoch) for lane, epoch in sorted(own.items())]
        return pb.LeaseLanesResponse(lanes=lanes, give_up=too_many, lease=span(self._lease.total_seconds()))

    async def _share(
        self, tx: AnyTx, queue: queue_pb2.Queue, worker: str
    ) -> tuple[dict[int, int], list[int]]:
        """Epochs of the lanes that it has now, and those that are too many."""
        now, count = self._clock.now(), queue.settings.lanes if queue.keyed else 0
        askers = await holding.ask(tx, queue.queue, worker, now, now + self._lease)
        owners = await holding.owners(tx, queue.queue, now)
        shares = share(count, {lane: owner for lane, (owner, _) in owners.items()}, askers, worker)
        await holding.take(tx, queue.queue, worker, shares.take, now + self._lease)
        owners = await holding.owners(tx, queue.queue, now)
        own = {lane: epoch for lane, (owner, epoch) in owners.items() if owner == worker and lane < count}
        return own, shares.give_up

    async def LeaseTokens(self, request: pb.LeaseTokensRequest, call: Call) -> pb.LeaseTokensResponse:
        queue = self._shared.known.get(request.queue)
        async with self._db.fast() as tx:
            await holding.lock_queue(tx, f"{queue.queue}/tokens")
            starts, wait_s = await self._starts(tx, queue, request.starts)
            slots = await self._slots(tx, queue, request)
        answer = pb.LeaseTokensResponse(starts=starts, slots=slots, lease=span(self._lease.total_seconds()))
        if wait_s:
            answer.wait.CopyFrom(span(wait_s))
        return answer

    async def _starts(self, tx: AnyTx, queue: queue_pb2.Queue, wanted: int) -> tuple[int, float]:
        rate = queue.settings.rate
        if not wanted or not queue.settings.HasField("rate"):
            return wanted, 0.0
        now, per_s = self._clock.now(), rate.starts / seconds(rate.interval)
        left, at = await holding.bucket(tx, queue.queue) or (float(rate.burst), now)
        tokens = refill(left, (now - at).total_seconds(), per_s, rate.burst)
        given, wait_s = draw(tokens, wanted, per_s)
        await holding.fill(tx, queue.queue, tokens - given, max(now, at))
        return given, wait_s

    async def _slots(
        self, tx: AnyTx, queue: queue_pb2.Queue, request: pb.LeaseTokensRequest
    ) -> list[pb.Slots]:
        now, given = self._clock.now(), list[pb.Slots]()
        held = await holding.slots(tx, queue.queue, request.worker, now)
        limits = queue.settings.concurrency
        for each in request.slots:
            limit = limits.by_type.get(each.type, 0) if each.type else limits.queue
            others = held.get(each.type, (0, 0))[0]
            count = min(each.count, max(0, limit - others)) if limit else each.count
            if limit:
                await holding.hold(tx, queue.queue, each.type, request.worker, count, now + self._lease)
            given.append(pb.Slots(type=each.type, count=count))
        return given

    async def ForgetWorker(self, request: pb.ForgetWorkerRequest, call: Call) -> pb.ForgetWorkerResponse:
        await reaping.free(self._shared, request.worker)
        return pb.ForgetWorkerResponse()

    async def WatchQueues(
        self, request: pb.WatchQueuesRequest, call: Call
    ) -> AsyncIterator[pb.WatchQueuesResponse]:
        known = self._shared.known
        while True:
            version = known.version
            yield pb.WatchQueuesResponse(queues=known.queues)
            await known.wait(version, self._shared.settings.heartbeat_s)


async def _superseded(tx: AnyTx, told: Sequence[reports.Part]) -> set[int]:
    """First positions of parts made under a lease of a lane that somebody else has taken since."""
    leased = [(part.first, part.lease) for part in told if part.lease[2]]
    if not leased:
        return set()
    epochs = await store.epochs(tx, sorted({(queue, lane) for _, (queue, lane, _) in leased}))
    return {first for first, (queue, lane, epoch) in leased if epochs.get((queue, lane)) != epoch}


def _once(told: Sequence[reports.Part]) -> tuple[list[reports.Part], list[int]]:
    """Of attempts that end the same run the first, and positions of the others: they have ended before."""
    if not has_repeated([part.ends for part in told if part.ends]):
        return list(told), []
    seen, kept, again = set[Run](), list[reports.Part](), list[int]()
    for part in (single for each in told for single in reports.alone(each)):
        run = (part.ends.job_ids[0], part.ends.kind.run) if part.ends else None
        if run in seen:
            again.append(part.first)
            continue
        kept.append(part)
        if run:
            seen.add(run)
    return kept, again


def _had_ended(part: reports.Part, known: set[Run], positions: list[int]) -> bool:
    """Whether all of it had; notes the positions of what had."""
    if part.ends is None:
        return False
    run = part.ends.kind.run
    old = [n for n, job in zip(part.positions, part.ends.job_ids, strict=True) if (job, run) in known]
    positions += old
    return len(old) == part.size


def _lookup(row: Any, run: int) -> pb.Lookup:
    found = pb.Lookup(
        ended=cast("JobState.ValueType", row["state"] or 0),
        cancel=(row["cancel_run"] or 0) >= run,
        attempts=row["attempts"] or 0,
        retried=row["retried"] or 0,
        checkpoint=row["checkpoint"],
    )
    if row["next_at"] and row["retried"] == row["attempts"]:
        found.next_time.FromDatetime(row["next_at"])
    return found
