"""What happens to jobs now, for those who watch: states, progress and lines, sent in groups to `jobs-live`.

Best effort: while NATS is away nothing waits here. An attempt that is over before its group was sent is told
of by its end alone, which spares short jobs half of their messages.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable

from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import JetStreamError
from services.chassis.jetstream.protocol import publication, subject
from services.chassis.jobs import subjects
from services.worker.delivery import Delivery, Run
from services.worker.ending import CANCELLED, EXPIRED, FAILED, RETRYING, SUCCEEDED
from services.worker.reporting import Ended, next_time, stamp
from weft.jobs.v1.attempt_pb2 import Failure, LogLine
from weft.jobs.v1.job_pb2 import JobState
from weft.jobs.v1.live_pb2 import Progress, StateChange, Update

EVERY_S = 0.05  # Between two groups.
PROGRESS_EVERY_S = 0.5  # Of one job: people read no faster.
REPEAT_S = 30.0  # Who began to watch later hears that it runs.
LINES_MAX = 10_000  # That wait for the next group; a job that logs more is heard in part.
STATES = {
    SUCCEEDED: JobState.JOB_STATE_SUCCEEDED,
    RETRYING: JobState.JOB_STATE_RETRYING,
    FAILED: JobState.JOB_STATE_FAILED,
    CANCELLED: JobState.JOB_STATE_CANCELLED,
    EXPIRED: JobState.JOB_STATE_EXPIRED,
}

log = logging.getLogger("weft.worker")


class Live:
    """One worker's part of the stream. `progress` and `line` may be called from any thread."""

    def __init__(self, connection: Connection, worker: str) -> None:
        self._connection, self._worker = connection, worker
        self._running: dict[str, Run] = {}
        self._told_at: dict[str, float] = {}  # When RUNNING was told of, or progress.
        self._moved: set[str] = set()  # Jobs with progress that was not told of.
        self._lines: deque[tuple[Run, LogLine]] = deque(maxlen=LINES_MAX)
        self._ended: list[Ended] = []

    def begun(self, run: Run) -> None:
        self._running[run.delivery.envelope.job_id] = run

    def progress(self, run: Run) -> None:
        self._moved.add(run.delivery.envelope.job_id)

    def line(self, run: Run, line: LogLine) -> None:
        self._lines.append((run, line))

    def over(self, delivery: Delivery) -> None:
        """It runs no more; how it ended is told when it is written down."""
        job_id = delivery.envelope.job_id
        self._running.pop(job_id, None)
        self._told_at.pop(job_id, None)
        self._moved.discard(job_id)

    def ended(self, ended: Ended) -> None:
        """It is written down."""
        if ended.verdict.outcome in STATES:
            self._ended.append(ended)

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            self.flush()

    def flush(self) -> None:
        """Sends what there is to tell."""
        updates = [*self._lines_told(), *self._running_told(time.monotonic()), *map(self._end, self._ended)]
        self._ended = []
        if not updates:
            return
        try:
            self._connection.write(b"".join(map(_published, updates)))
        except JetStreamError:
            log.debug("nobody heard of %d updates", len(updates))

    def _lines_told(self) -> Iterable[Update]:
        while self._lines:
            run, line = self._lines.popleft()
            yield self._update(run.delivery, line=line)

    def _running_told(self, now: float) -> Iterable[Update]:
        for job_id, run in list(self._running.items()):
            last = self._told_at.get(job_id)
            if last is None or now - last > REPEAT_S:
                self._told_at[job_id] = now
                change = StateChange(state=JobState.JOB_STATE_RUNNING, progress=_progress(run))
                yield self._update(run.delivery, state=change)
            elif job_id in self._moved and now - last > PROGRESS_EVERY_S:
                self._told_at[job_id] = now
                self._moved.discard(job_id)
                yield self._update(run.delivery, progress=_progress(run))

    def _end(self, ended: Ended) -> Update:
        change = StateChange(state=STATES[ended.verdict.outcome], reason=ended.verdict.reason)
        if failure := ended.ending.failure:
            told = Failure(
                kind=failure.kind, message=failure.message, exit_code=failure.exit_code, code=failure.code
            )
            change.failure.CopyFrom(told)
        if ended.verdict.outcome == RETRYING:
            change.next_time.CopyFrom(next_time(ended))
        return self._update(ended.delivery, state=change)

    def _update(
        self,
        delivery: Delivery,
        *,
        state: StateChange | None = None,
        progress: Progress | None = None,
        line: LogLine | None = None,
    ) -> Update:
        envelope = delivery.envelope
        update = Update(
            job_id=envelope.job_id,
            run=envelope.run,
            attempt=envelope.attempt,
            queue=envelope.queue,
            type=envelope.type,
            time=stamp(time.time()),
            worker=self._worker,
            state=state,
            progress=progress,
            log=line,
        )
        if envelope.labels:
            update.labels.update(envelope.labels)
        return update


def _progress(run: Run) -> Progress | None:
    return None if run.percent is None else Progress(percent=run.percent, message=run.message)


def _published(update: Update) -> bytes:
    to = subject(subjects.live(update.queue, update.job_id))
    return publication(to, b"", b"", update.SerializeToString())
