"""Hears of all that becomes of jobs here, and sees to it that those who must know do."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Protocol

from prometheus_client import Gauge

from services.chassis.errors import CallFailed
from services.worker.delivery import Delivery, Run
from services.worker.ending import Ending, Verdict
from services.worker.living import Live
from services.worker.reporting import PASSING, RETRY_S, RETRY_S_MAX, Reporter
from services.worker.tally import TALLIES
from weft.queue.v1.record_pb2 import SaveCheckpointRequest, SaveCheckpointResponse

RUNNING = Gauge("weft_worker_running", "Attempts that this worker runs.")
HELD = Gauge("weft_worker_held", "Jobs that this worker holds, running or not.")


SUPERSEDED = "ATTEMPT_SUPERSEDED"  # A later attempt has begun; this one is of no use any more.

log = logging.getLogger("weft.worker")


class Record(Protocol):
    """weft.queue.v1.RecordService, as far as checkpoints go."""

    def SaveCheckpoint(self, request: SaveCheckpointRequest, /) -> Awaitable[SaveCheckpointResponse]: ...


class Desk:
    """The runner's outside."""

    def __init__(self, record: Record, live: Live, reporter: Reporter) -> None:
        self._record, self._live, self._reporter = record, live, reporter
        self.begun, self.progress, self.line = live.begun, live.progress, live.line
        self.count = 0  # Attempts that ended.

    async def checkpoint(self, run: Run, state: bytes) -> None:
        """Waits while the queue is away, as long as the attempt may. Raises CallFailed when it refuses."""
        delivery = run.delivery
        delivery.step += 1
        request = SaveCheckpointRequest(
            job_id=delivery.job_id,
            run=delivery.run,
            attempt=delivery.envelope.attempt,
            state=state,
            step=delivery.step,
        )
        delay = RETRY_S
        while True:
            try:
                await self._record.SaveCheckpoint(request)
            except CallFailed as error:
                if error.code not in PASSING or error.reason == SUPERSEDED:
                    raise
                log.warning("a checkpoint waits: %s", error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_S_MAX)
            else:
                return

    def dropped(self, delivery: Delivery) -> None:
        delivery.handle.giver.ran(delivery)
        delivery.handle.giver.done([delivery])

    def ended(self, delivery: Delivery, ending: Ending, verdict: Verdict) -> None:
        self.count += 1
        TALLIES.of(delivery.queue, delivery.type).add(
            verdict.outcome, delivery.due_s, ending.start_s, ending.end_s
        )
        delivery.handle.giver.ran(delivery)
        self._live.over(delivery)
        self._reporter.put(delivery, ending, verdict)
