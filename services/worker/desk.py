"""Hears of all that becomes of jobs here, and sees to it that those who must know do."""

from collections.abc import Awaitable
from functools import cache
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram

from services.worker.delivery import Delivery, Run
from services.worker.ending import Ending, Verdict
from services.worker.living import Live
from services.worker.reporting import Reporter
from weft.jobs.v1.attempt_pb2 import AttemptOutcome
from weft.queue.v1.record_pb2 import SaveCheckpointRequest, SaveCheckpointResponse

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)

ATTEMPTS = Counter("weft_job_attempts", "Attempts of jobs that ended.", ["queue", "type", "outcome"])
WAITED = Histogram(
    "weft_job_wait_seconds", "From when a job was due to its attempt.", ["queue"], buckets=SECONDS
)
TOOK = Histogram(
    "weft_job_run_seconds", "From begin to end of an attempt.", ["queue", "type"], buckets=SECONDS
)
RUNNING = Gauge("weft_worker_running", "Attempts that this worker runs.")
HELD = Gauge("weft_worker_held", "Jobs that this worker holds, running or not.")


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
        """Raises CallFailed: the queue is away, or a later attempt has begun."""
        delivery = run.delivery
        delivery.step += 1
        await self._record.SaveCheckpoint(
            SaveCheckpointRequest(
                job_id=delivery.envelope.job_id,
                run=delivery.envelope.run,
                attempt=delivery.envelope.attempt,
                state=state,
                step=delivery.step,
            )
        )

    def ended(self, delivery: Delivery, ending: Ending, verdict: Verdict) -> None:
        envelope = delivery.envelope
        self.count += 1
        _attempts(envelope.queue, envelope.type, verdict.outcome).inc()
        if ending.start_s:
            _waited(envelope.queue).observe(max(0.0, ending.start_s - delivery.due_s))
            _took(envelope.queue, envelope.type).observe(ending.end_s - ending.start_s)
        self._live.over(delivery)
        self._reporter.put(delivery, ending, verdict)


@cache
def _attempts(queue: str, kind: str, outcome: AttemptOutcome.ValueType) -> Counter:
    """Kept: looking a metric up by its labels costs more than counting."""
    name = AttemptOutcome.Name(outcome).removeprefix("ATTEMPT_OUTCOME_").lower()
    return ATTEMPTS.labels(queue, kind, name)


@cache
def _waited(queue: str) -> Histogram:
    return WAITED.labels(queue)


@cache
def _took(queue: str, kind: str) -> Histogram:
    return TOOK.labels(queue, kind)
