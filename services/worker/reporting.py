"""Tells the queue how attempts ended, in groups, and acknowledges after that.

Who is idle reports at once; what ends meanwhile is the next group. A retry is published before its attempt is
reported, and the message acknowledged last, so a worker killed in between leaves nothing undone: the message
comes again, is looked up, and what was missing is made up for. While the queue is away, ends wait here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from google.rpc import code_pb2

from services.chassis.errors import CallFailed, Refusal
from services.chassis.jetstream import acks
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import JetStreamError
from services.chassis.jetstream.publisher import Item, Publisher
from services.chassis.jobs.sending import item
from services.worker.delivery import Delivery
from services.worker.ending import RELEASED, RETRYING, SUCCEEDED, Ending, Verdict
from services.worker.holding import release
from services.worker.packing import Ended, next_time, packed
from weft.jobs.v1.job_pb2 import Envelope
from weft.queue.v1.record_pb2 import ReportAttemptsRequest, ReportAttemptsResponse

GROUP_MAX = 1_000  # Attempts in one report; JetStream's batches have as many.
WAITING_MAX, WAITING_MIN = 10_000, 250  # Ends that may be here, by the queue's pace.
BEHIND_S = 0.25  # No more may be than the queue writes down in this time: an end is to be heard of soon.
SAMPLE_MIN = 50  # Attempts of a report whose time tells of the queue's pace; that of fewer is mostly the way.
GROUP_BYTES_MAX = 2 * 1024 * 1024  # Of results, tracebacks and logs: half of what a call may carry.
TOGETHER_MAX = 3  # Groups under way at once: one is written down while another is acknowledged.
RETRY_S, RETRY_S_MAX = 0.1, 5.0  # Between two calls of a queue that is away.
REFUSED_AGAIN_S = 60.0  # Until a job comes again whose report the queue cannot take.
PASSING = {code_pb2.UNAVAILABLE, code_pb2.DEADLINE_EXCEEDED, code_pb2.ABORTED, code_pb2.CANCELLED}
PASSING |= {code_pb2.UNKNOWN, code_pb2.UNAUTHENTICATED}  # A proxy that is away, keys that are on their way.

log = logging.getLogger("weft.worker")


class Record(Protocol):
    """weft.queue.v1.RecordService, as far as reports go."""

    def ReportAttempts(self, request: ReportAttemptsRequest, /) -> Awaitable[ReportAttemptsResponse]: ...


class Reporter:
    """One for all that runs in a worker."""

    def __init__(
        self,
        record: Record,
        connection: Connection,
        worker: str,
        telling: Callable[[], None] = lambda: None,
    ) -> None:
        """`telling` sends what attempts told of themselves: before their end, which the queue tells."""
        self._record, self._connection, self._worker, self._telling = record, connection, worker, telling
        self._publisher = Publisher(connection)
        self._waiting: deque[Ended] = deque()
        self._groups: set[asyncio.Task[None]] = set()
        self._waiting_max, self._under_way = WAITING_MIN, 0  # Ends; of those the queue is being told now.
        self.away = False  # The queue does not answer.
        self.eased: Callable[[], None] = lambda: None  # Hears that there may be room again.

    def put(self, delivery: Delivery, ending: Ending, verdict: Verdict) -> None:
        """Returns at once."""
        self._waiting.append(Ended(delivery, ending, verdict))
        if not self._groups:
            self._begin()

    @property
    def room(self) -> int:
        """How many more may end now; 0: the queue does not answer, or not as fast as jobs end."""
        return 0 if self.away else max(0, self._waiting_max - self._under_way - len(self._waiting))

    async def close(self, patience_s: float) -> None:
        """Waits until all was told; what could not be in time comes again, and is run again."""
        ends = asyncio.get_running_loop().time() + patience_s
        while self._groups and (left := ends - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._groups, timeout=left)
        if self._groups:
            log.warning("the queue is away: how some jobs ended was not told")
            self._waiting.clear()
            for group in list(self._groups):
                group.cancel()
            await asyncio.wait(self._groups)
        await self._publisher.close()

    def _begin(self) -> None:
        task = asyncio.create_task(self._settle(), name="report")
        self._groups.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._groups.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a group was not reported; its messages come again", exc_info=error)
        if self._waiting and not self._groups:
            self._begin()

    async def _settle(self) -> None:
        """One group, from its end here to its acknowledgement there."""
        await asyncio.sleep(0)  # What ends in the same turn of the loop goes along.
        group = self._group()
        retries = [each for each in group if _is_retried(each)]
        if retries:
            await self._publisher.publish_all([_retry(each) for each in retries])
        told = [each for each in group if each.verdict.outcome != RELEASED or each.ending.start_s]
        self._under_way += len(told)
        try:
            lost = await self._report(told)
        finally:
            self._under_way -= len(told)
        self.eased()
        if self._waiting and len(self._groups) < TOGETHER_MAX:
            self._begin()
        if lost:
            out = set(map(id, lost))
            group = [each for each in group if id(each) not in out]
        await self._acknowledge(group)
        release(each.delivery for each in lost)

    def _group(self) -> list[Ended]:
        group, size = list[Ended](), 0
        waiting = self._waiting
        while waiting and len(group) < GROUP_MAX:
            size += waiting[0].bytes
            if group and size > GROUP_BYTES_MAX:
                break
            group.append(waiting.popleft())
        return group

    async def _report(self, group: Sequence[Ended]) -> list[Ended]:
        """Until it is written down. Returns those that are not to be acknowledged."""
        if not group:
            return []
        delay, loop = RETRY_S, asyncio.get_running_loop()
        request, group = packed(group, self._worker)
        self._telling()
        while True:
            began = loop.time()
            try:
                answer = await self._record.ReportAttempts(request)
            except (CallFailed, Refusal, OSError, TimeoutError) as error:
                code = getattr(error, "code", code_pb2.UNAVAILABLE)
                if code not in PASSING:
                    return await self._apart(group, error)
                self.away = True
                log.warning("the queue takes no reports: %s", error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_S_MAX)
            else:
                break
        self.away = False
        self._pace(len(group), loop.time() - began)
        lost = [group[place] for place in answer.superseded]
        for each in lost:
            each.handle.giver.lost(each.delivery)
        return lost

    def _pace(self, count: int, took_s: float) -> None:
        """So long it took to write so many down. One slow report says less than one that was fast."""
        if count >= SAMPLE_MIN or took_s > BEHIND_S:
            fair = int(count * BEHIND_S / max(took_s, 1e-3))
            self._waiting_max = min(max(fair, self._waiting_max * 3 // 4, WAITING_MIN), WAITING_MAX)

    async def _apart(self, group: Sequence[Ended], error: Exception) -> list[Ended]:
        """A refused group is halved until what is wrong stands alone; that comes again later."""
        if len(group) > 1:
            middle = len(group) // 2
            return [*await self._report(group[:middle]), *await self._report(group[middle:])]
        [one] = group
        facts = {"job_id": one.delivery.envelope.job_id}
        log.error("the queue refuses a report", exc_info=error, extra={"facts": facts})
        self._send([one.handle.message.reply], acks.nak_after(REFUSED_AGAIN_S))
        return [one]

    async def _acknowledge(self, group: Sequence[Ended]) -> None:
        back, kept, gone = list[Ended](), list[Ended](), list[Ended]()
        for each in group:
            outcome = each.verdict.outcome
            if outcome == SUCCEEDED:
                gone.append(each)
            elif outcome == RELEASED:
                back.append(each)
            else:
                (kept if outcome == RETRYING and each.handle.lane is not None else gone).append(each)
        self._send([each.handle.message.reply for each in back], acks.NAK)
        for each in kept:
            each.handle.giver.again(each.delivery, each.verdict.delay_s)
        try:
            await acks.confirm(self._connection, [each.handle.message.reply for each in gone])
        except TimeoutError:
            log.warning("%d messages were not acknowledged; they come again and are looked up", len(gone))
        release(each.delivery for each in (*back, *gone))

    def _send(self, replies: Sequence[bytes], word: bytes) -> None:
        """Says it once; who does not hear it lets the message come again by itself."""
        try:
            if replies:
                acks.send(self._connection, replies, word)
        except JetStreamError as error:
            log.info("not said: %s", error)


def _is_retried(ended: Ended) -> bool:
    """Whether its next attempt is a message of its own; in a lane it is not."""
    return ended.verdict.outcome == RETRYING and ended.handle.lane is None


def _retry(ended: Ended) -> Item:
    """The next attempt, due when its backoff is over."""
    envelope = Envelope()
    envelope.CopyFrom(ended.delivery.envelope)
    envelope.attempt += 1
    envelope.due_time.CopyFrom(next_time(ended))
    return item(envelope, 0)
