"""Asks the record what became of jobs that came before.

All who ask while a question is under way share the next one: a worker that takes over sixty lanes asks twice,
not sixty times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Protocol

from services.chassis.errors import CallFailed, Refusal
from services.worker.delivery import Delivery
from weft.jobs.v1.job_pb2 import EndReason
from weft.queue.v1.record_pb2 import (
    GetCheckpointRequest,
    GetCheckpointResponse,
    JobRun,
    Lookup,
    LookupJobsRequest,
    LookupJobsResponse,
)

LOOKUP_MAX = 2_000  # Jobs in one lookup, as the queue takes them.
CHECKPOINTS_TOGETHER_MAX = 16  # After a crash hundreds come again at once.


class Record(Protocol):
    """weft.queue.v1.RecordService, as far as lookups go."""

    def LookupJobs(self, request: LookupJobsRequest, /) -> Awaitable[LookupJobsResponse]: ...
    def GetCheckpoint(self, request: GetCheckpointRequest, /) -> Awaitable[GetCheckpointResponse]: ...


Asked = tuple[Sequence[Delivery], asyncio.Future[list[Lookup]]]


class Lookups:
    """Those of one worker."""

    def __init__(self, record: Record, worker: str) -> None:
        self._record, self._worker = record, worker
        self._waiting: list[Asked] = []
        self._asking: asyncio.Task[None] | None = None

    async def part(self, deliveries: Sequence[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
        """Those that are to run, with their checkpoints, and those of which nothing is left to do.

        At most LOOKUP_MAX. Raises CallFailed, Refusal, OSError or TimeoutError.
        """
        left, over, resumed = list[Delivery](), list[Delivery](), list[Delivery]()
        for delivery, found in zip(deliveries, await self._find(deliveries), strict=True):
            if found.cancel:
                delivery.stop = EndReason.END_REASON_CANCELLED_BY_REQUEST
            if _is_over(delivery, found):
                over.append(delivery)
                continue
            left.append(delivery)
            if found.checkpoint:
                resumed.append(delivery)
        await self._restore(resumed)
        return left, over

    async def _find(self, deliveries: Sequence[Delivery]) -> list[Lookup]:
        future: asyncio.Future[list[Lookup]] = asyncio.get_running_loop().create_future()
        self._waiting.append((deliveries, future))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name="looking jobs up")
        return await future

    async def _ask(self) -> None:
        """Until nobody waits."""
        try:
            while self._waiting:
                await self._answer(self._next())
        finally:
            self._asking = None

    def _next(self) -> list[Asked]:
        """As many as fit into one question."""
        count, size = 0, 0
        for deliveries, _ in self._waiting:
            size += len(deliveries)
            if count and size > LOOKUP_MAX:
                break
            count += 1
        part, self._waiting = self._waiting[:count], self._waiting[count:]
        return part

    async def _answer(self, part: Sequence[Asked]) -> None:
        runs = [
            JobRun(job_id=each.job_id, run=each.run, again=each.again)
            for deliveries, _ in part
            for each in deliveries
        ]
        waiting = [future for _, future in part]
        try:
            answer = await self._record.LookupJobs(LookupJobsRequest(jobs=runs, worker=self._worker))
            jobs = iter(answer.jobs)
            for deliveries, future in part:
                found = [next(jobs) for _ in deliveries]
                if not future.done():  # Else who asked was cancelled.
                    future.set_result(found)
        except (CallFailed, Refusal, OSError, TimeoutError) as error:
            for future in waiting:
                if not future.done():
                    future.set_exception(error)
        finally:
            for future in waiting:
                future.cancel()  # Changes nothing of one that has its answer.

    async def _restore(self, deliveries: Sequence[Delivery]) -> None:
        few = asyncio.Semaphore(CHECKPOINTS_TOGETHER_MAX)

        async def restore(delivery: Delivery) -> None:
            envelope = delivery.envelope
            request = GetCheckpointRequest(job_id=envelope.job_id, run=envelope.run)
            async with few:
                answer = await self._record.GetCheckpoint(request)
            if answer.HasField("checkpoint"):
                delivery.state = answer.checkpoint.state
                if answer.checkpoint.attempt == envelope.attempt:
                    delivery.step = answer.checkpoint.step

        await asyncio.gather(*map(restore, deliveries))


def _is_over(delivery: Delivery, found: Lookup) -> bool:
    """Whether nothing of it is left to do. Else it has the number of the attempt that comes next."""
    envelope = delivery.envelope
    if found.ended:
        return True
    if delivery.handle.lane is None and found.retried >= envelope.attempt:
        return True  # What follows is a message of its own.
    if found.attempts >= envelope.attempt:
        envelope.attempt = found.attempts + 1
        if found.HasField("next_time"):
            delivery.waits_s = found.next_time.ToNanoseconds() / 1e9
    return False
