"""weft.queue.v1.RecordService: for workers and enqueuers of the mesh."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from services.chassis.db import AnyTx
from services.chassis.method import Call
from services.queue.domain.job import REPORT_BYTES_MAX, RESULT_BYTES_MAX, AttemptSuperseded, Ended
from services.queue.domain.sharing import draw, refill, share
from services.queue.domain.states import ENDS, Outcome
from services.queue.service.pack import seconds, span, unix_s, uuid_or_none
from services.queue.service.shared import Shared
from services.queue.store import ending as store, worker as holding
from weft.jobs.v1.attempt_pb2 import AttemptReport
from weft.jobs.v1.job_pb2 import JobState
from weft.jobs.v1.live_pb2 import Control, LanesChanged
from weft.queue.v1 import queue_pb2, record_pb2 as pb
from weft.queue.v1.record_pb2_grpc import RecordServiceServicer

REPORTS_MAX = 2_000  # In one transaction: some 10 ms of PostgreSQL's time.
LOG_LINES_MAX = 50  # Of one attempt, the last.
TRACE_CHARS_MAX = 16_000  # Of a traceback, its end.
MESSAGE_CHARS_MAX = 4_000  # Of a failure's message, and of a log line.


class Records(RecordServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock = shared, shared.db, shared.clock
        self._lease = timedelta(seconds=shared.settings.lease_s)

    async def ReportAttempts(
        self, request: pb.ReportAttemptsRequest, call: Call
    ) -> pb.ReportAttemptsResponse:
        reports = request.attempts[:REPORTS_MAX]
        known = [n for n, each in enumerate(reports) if not _is_of_a_job(each)]
        async with self._db.fast() as tx:
            stale = await _superseded(tx, reports)
            left_out = stale | set(known)
            valid = [(n, each) for n, each in enumerate(reports) if n not in left_out]
            ends = [(n, each) for n, each in valid if _ends(each)]
            ended = [_ended(each, request.worker) for _, each in ends]
            new = await self._shared.endings.end(tx, ended)
            rows = [_attempt(each, request.worker) for _, each in valid if _is_kept(each)]
            await store.add_attempts(tx, rows)
        for (n, _), each in zip(ends, ended, strict=True):
            run = (each.job_id, each.run)
            if run not in new:
                known.append(n)
            new.discard(run)  # The same run again in one report has ended before.
        told = set(known)
        self._shared.tally.ended([each for n, each in valid if n not in told])
        return pb.ReportAttemptsResponse(known=sorted(known), superseded=sorted(stale))

    async def LookupJobs(self, request: pb.LookupJobsRequest, call: Call) -> pb.LookupJobsResponse:
        asked = request.jobs[:REPORTS_MAX]
        rows = await store.lookup(self._db, [each.job_id for each in asked], [each.run for each in asked])
        return pb.LookupJobsResponse(
            jobs=[
                pb.Lookup(
                    ended=cast("JobState.ValueType", row["state"] or 0),
                    cancel=(row["cancel_run"] or 0) >= each.run,
                )
                for row, each in zip(rows, asked, strict=True)
            ]
        )

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
        async with self._db.fast() as tx:
            queues = await holding.forget(tx, request.worker, self._clock.now())
        for queue in sorted(queues):
            self._shared.wire.order(Control(lanes_changed=LanesChanged(queue=queue)))
        return pb.ForgetWorkerResponse()

    async def WatchQueues(
        self, request: pb.WatchQueuesRequest, call: Call
    ) -> AsyncIterator[pb.WatchQueuesResponse]:
        known = self._shared.known
        while True:
            version = known.version
            yield pb.WatchQueuesResponse(queues=known.queues)
            await known.wait(version, self._shared.settings.heartbeat_s)


async def _superseded(tx: AnyTx, reports: Sequence[AttemptReport]) -> set[int]:
    """Positions of those made under a lease of a lane that somebody else has taken since."""
    leased = [(n, each) for n, each in enumerate(reports) if each.lane_epoch]
    if not leased:
        return set()
    epochs = await store.epochs(tx, sorted({(each.queue, each.lane) for _, each in leased}))
    return {n for n, each in leased if epochs.get((each.queue, each.lane)) != each.lane_epoch}


def _is_of_a_job(report: AttemptReport) -> bool:
    """Whatever else somebody put into the stream is acknowledged, and that is that."""
    try:
        UUID(report.job_id)
    except ValueError:
        return False
    return True


def _ends(report: AttemptReport) -> bool:
    return int(report.outcome) in ENDS


def _is_kept(report: AttemptReport) -> bool:
    """Whether it has a row of its own: an attempt that ended well is told by its run's."""
    return int(report.outcome) != Outcome.SUCCEEDED


def _ended(report: AttemptReport, worker: str) -> Ended:
    said_more = report.HasField("result") or report.HasField("failure") or report.log
    return Ended(
        job_id=UUID(report.job_id),
        run=report.run,
        state=ENDS[Outcome(report.outcome)],
        reason=report.reason,
        queue=report.queue.replace("\0", ""),
        type=report.type.replace("\0", ""),
        attempt=report.attempt,
        worker=worker,
        start_at=unix_s(report.start_time) if report.HasField("start_time") else None,
        end_at=unix_s(report.end_time),
        report=_cut(report).SerializeToString() if said_more else None,
        kind=report.failure.kind,
        group_id=uuid_or_none(report.group_id),
        unique=report.unique,
        announce=report.announce,
        priority=report.priority,
    )


def _attempt(report: AttemptReport, worker: str) -> tuple[Any, ...]:
    start = report.start_time if report.HasField("start_time") else report.end_time
    return (
        UUID(report.job_id),
        report.run,
        report.attempt,
        unix_s(start),
        report.outcome,
        worker,
        unix_s(report.next_time) if report.HasField("next_time") else None,
        _cut(report).SerializeToString(),
    )


def _cut(report: AttemptReport) -> AttemptReport:
    """Within its bounds, whatever the worker sent; NULs are no text for PostgreSQL elsewhere."""
    if report.HasField("failure"):
        failure = report.failure
        failure.message, failure.trace = failure.message[:MESSAGE_CHARS_MAX], failure.trace[-TRACE_CHARS_MAX:]
        failure.kind = failure.kind[:200].replace("\0", "")
    if len(report.result.data) > RESULT_BYTES_MAX:
        report.ClearField("result")
    if len(report.log) > LOG_LINES_MAX:
        del report.log[:-LOG_LINES_MAX]
    if report.ByteSize() > REPORT_BYTES_MAX:
        report.ClearField("log")
    return report
