"""A worker's signs of life: who it is and what it runs, every few seconds, by core NATS.

Nobody writes them down. Who missed them for a while takes the worker for gone; that it is, is decided by its
connection, its leases and its messages' acknowledgement wait.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import JetStreamError
from services.worker.delivery import Run
from services.worker.desk import HELD, RUNNING, Desk
from services.worker.runner import Runner
from weft.jobs.v1.live_pb2 import Progress
from weft.worker.v1.worker_pb2 import RunningJob, Worker

SUBJECT = "jobs.workers"  # And the worker's id.
JOBS_MAX, TYPES_MAX = 100, 1_000  # As Worker says: a beat is to fit a message whatever runs.


def new_id() -> str:
    """Unique, and a token of a subject: no dots."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
    return f"{host}-{os.getpid()}-{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True)
class Card:
    """What does not change in a worker's life, except for its room."""

    worker: str
    pool: str
    queues: Sequence[str]
    types: Sequence[str]


class Beating:
    """Tells of one worker."""

    def __init__(self, card: Card, connection: Connection, runner: Runner, desk: Desk) -> None:
        self._card, self._connection, self._runner, self._desk = card, connection, runner, desk
        self._process, self._began = psutil.Process(), time.time()
        self._last = (time.monotonic(), 0)

    async def run(self, every_s: float) -> None:
        """For ever."""
        while True:
            self.tell()
            await asyncio.sleep(every_s)

    def tell(self) -> None:
        RUNNING.set(len(self._runner.running))
        HELD.set(self._runner.held)
        try:
            self._connection.publish(f"{SUBJECT}.{self._card.worker}", self.beat().SerializeToString())
        except JetStreamError:
            return  # Who has no connection gives no sign of life.

    def beat(self) -> Worker:
        card, room, runner = self._card, self._runner.size, self._runner
        cpu_s, memory = self._usage()
        beat = Worker(
            worker=card.worker,
            pool=card.pool,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=card.queues,
            types=card.types[:TYPES_MAX],
            slots=room.slots,
            threads=room.threads,
            processes=room.processes,
            draining=runner.draining,
            held=runner.held,
            running=len(runner.running),
            jobs=_jobs(list(runner.running.values())),
            ended=self._desk.count,
            ended_per_second=self._rate(),
            cpu_seconds=cpu_s,
            memory_bytes=memory,
        )
        beat.start_time.FromNanoseconds(int(self._began * 1e9))
        beat.beat_time.GetCurrentTime()
        return beat

    def _rate(self) -> float:
        now, (then, before) = time.monotonic(), self._last
        self._last = (now, self._desk.count)
        return (self._desk.count - before) / (now - then) if now > then else 0.0

    def _usage(self) -> tuple[float, int]:
        """CPU seconds and resident bytes, of this process and all below it."""
        cpu_s, memory = 0.0, 0
        for each in (self._process, *self._process.children(recursive=True)):
            try:
                with each.oneshot():
                    times = each.cpu_times()
                    cpu_s += times.user + times.system
                    memory += each.memory_info().rss
            except psutil.Error:
                continue
        return cpu_s, memory


def _jobs(runs: Sequence[Run]) -> list[RunningJob]:
    """Those that run longest."""
    return [_job(run) for run in sorted(runs, key=lambda run: run.start_s)[:JOBS_MAX]]


def _job(run: Run) -> RunningJob:
    envelope = run.delivery.envelope
    job = RunningJob(
        job_id=envelope.job_id,
        run=envelope.run,
        attempt=envelope.attempt,
        queue=envelope.queue,
        type=envelope.type,
    )
    job.start_time.FromNanoseconds(int(run.start_s * 1e9))
    if run.percent is not None:
        job.progress.CopyFrom(Progress(percent=run.percent, message=run.message))
    return job
