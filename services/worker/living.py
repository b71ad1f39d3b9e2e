"""What happens to jobs now, for those who watch: that they run, progress and lines, sent in groups.

Best effort: while NATS is away nothing waits here. How an attempt ended is told by the queue, when that is
written down; one that is over before its group was sent is told of by its end alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence

from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import JetStreamError
from services.chassis.jobs.telling import told
from services.worker.delivery import Delivery, Run
from services.worker.packing import stamp
from weft.jobs.v1.attempt_pb2 import LogLine
from weft.jobs.v1.job_pb2 import JobState
from weft.jobs.v1.live_pb2 import Progress, StateChange, Update

EVERY_S = 0.05  # Between two groups.
PROGRESS_EVERY_S = 0.5  # Of one job: people read no faster.
REPEAT_S = 30.0  # Who began to watch later hears that it runs.
LINES_MAX = 10_000  # That wait for the next group; a job that logs more is heard in part.

log = logging.getLogger("weft.worker")


class Live:
    """One worker's part of the stream. `progress` and `line` may be called from any thread."""

    def __init__(self, connection: Connection, worker: str) -> None:
        self._connection, self._worker = connection, worker
        self._running: dict[str, Run] = {}
        self._told_at: dict[str, float] = {}  # When RUNNING was told of, or progress.
        self._moved: set[str] = set()  # Jobs with progress that was not told of.
        self._lines: deque[tuple[Run, LogLine]] = deque(maxlen=LINES_MAX)

    def begun(self, run: Run) -> None:
        self._running[run.delivery.job_id] = run

    def progress(self, run: Run) -> None:
        self._moved.add(run.delivery.job_id)

    def line(self, run: Run, line: LogLine) -> None:
        self._lines.append((run, line))

    def over(self, delivery: Delivery) -> None:
        """It runs no more; how it ended is told when it is written down."""
        job_id = delivery.job_id
        self._running.pop(job_id, None)
        if self._told_at:
            self._told_at.pop(job_id, None)
        if self._moved:
            self._moved.discard(job_id)

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            self.flush()

    def flush(self) -> None:
        """Sends what there is to tell."""
        self._send([*self._lines_told(), *self._running_told(time.monotonic())])

    def flush_lines(self) -> None:
        """Sends what jobs have logged: their end is told next."""
        if self._lines:
            self._send([*self._lines_told()])

    def _send(self, updates: Sequence[Update]) -> None:
        if not updates:
            return
        try:
            self._connection.write(told(updates))
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
                change = StateChange(
                    state=JobState.JOB_STATE_RUNNING, progress=_progress(run), start_time=stamp(run.start_s)
                )
                yield self._update(run.delivery, state=change)
            elif job_id in self._moved and now - last > PROGRESS_EVERY_S:
                self._told_at[job_id] = now
                self._moved.discard(job_id)
                yield self._update(run.delivery, progress=_progress(run))

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
