"""weft.queue.v1.StatsService, and the same for Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from nats.js import api
from prometheus_client import Gauge

from services.chassis.jobs import subjects
from services.chassis.method import Call
from services.queue.domain.histogram import BINS, percentile_s
from services.queue.service import streams
from services.queue.service.pack import seconds, span
from services.queue.service.shared import Shared
from services.queue.store import dead_letter, stat as store
from weft.queue.v1 import queue_pb2, stats_pb2 as pb
from weft.queue.v1.stats_pb2_grpc import StatsServiceServicer

WINDOW_S, MINUTE_S = 300.0, 60.0
TYPES_MAX = 200  # Of one queue in an answer: the busiest.
GAUGES_EVERY_S = 10.0

WAITING = Gauge("weft_jobs_waiting", "Due jobs that no worker holds.", ["queue", "priority"])
HELD = Gauge("weft_jobs_held", "Jobs that workers hold.", ["queue"])
SCHEDULED = Gauge("weft_jobs_scheduled", "Jobs that await their time.", ["queue"])
OLDEST = Gauge("weft_jobs_oldest_seconds", "Age of the oldest due job that waits.", ["queue"])
LETTERS = Gauge("weft_jobs_dead_letters", "Dead letters.", ["queue"])
NAMES = {"h": "high", "l": "low"}


class Stats(StatsServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock = shared, shared.db, shared.clock

    async def GetStats(self, request: pb.GetStatsRequest, call: Call) -> pb.GetStatsResponse:
        return await self._read(request.queue, max(MINUTE_S, seconds(request.window) or WINDOW_S))

    async def watch(self) -> None:
        """Keeps the gauges of Prometheus; for ever, in every process: they say the same."""
        while True:
            for each in (await self._read("", WINDOW_S)).queues:
                for priority in ("high", "medium", "low"):
                    WAITING.labels(each.queue, priority).set(getattr(each.waiting, priority))
                HELD.labels(each.queue).set(each.held)
                SCHEDULED.labels(each.queue).set(each.scheduled)
                OLDEST.labels(each.queue).set(seconds(each.oldest_age))
                LETTERS.labels(each.queue).set(each.dead_letters)
            await asyncio.sleep(GAUGES_EVERY_S)

    async def _read(self, name: str, window_s: float) -> pb.GetStatsResponse:
        """Of one queue, or of all when `name` is empty. Raises UnknownQueue."""
        queues = [self._shared.known.get(name)] if name else self._shared.known.queues
        await self._shared.tally.flush()
        now = self._clock.now()
        since = datetime.fromtimestamp((now.timestamp() - window_s) // MINUTE_S * MINUTE_S, UTC)
        rows = await store.since(self._db, since, name)
        letters = await dead_letter.counts(self._db)
        answer = pb.GetStatsResponse()
        answer.time.FromDatetime(now)
        for queue in queues:
            stats = answer.queues.add(queue=queue.queue, dead_letters=letters.get(queue.queue, 0))
            await self._depth(stats, queue, now)
            own = [row for row in rows if row["queue"] == queue.queue]
            _rates(stats, own, max(1.0, (now - since).total_seconds()))
        return answer

    async def _depth(self, stats: pb.QueueStats, queue: queue_pb2.Queue, now: datetime) -> None:
        """What JetStream knows of a queue: its counters, not its messages."""
        bus = self._shared.tools.bus
        oldest = now
        for place, info in (await streams.info(bus, queue)).items():
            name = NAMES.get(place, "medium")
            stats.held += info.num_ack_pending or 0
            if since := await self._since(queue, place, info):
                setattr(stats.waiting, name, getattr(stats.waiting, name) + info.num_pending)
                oldest = min(oldest, since)
        stats.scheduled = await streams.count_later(bus, queue.queue)
        if stats.waiting.ByteSize():
            stats.oldest_age.CopyFrom(span(max(0.0, (now - oldest).total_seconds())))

    async def _since(self, queue: queue_pb2.Queue, place: str, info: api.ConsumerInfo) -> datetime | None:
        """When the first job came that waits there: the next message after what was delivered.

        None: nothing waits. The server may go on counting a message that was deleted meanwhile.
        """
        if not info.num_pending:
            return None
        after = info.delivered.stream_seq if info.delivered else 0
        return await self._shared.wire.next_at(subjects.due(queue.queue, place), after + 1)


def _rates(stats: pb.QueueStats, rows: Sequence[Any], span_s: float) -> None:
    stats.enqueue_rate = sum(row["enqueued"] for row in rows) / span_s
    _fill(stats, rows, span_s)
    by_type: dict[str, list[Any]] = {}
    for row in rows:
        by_type.setdefault(row["type"], []).append(row)
    busiest = sorted(by_type, key=lambda kind: -_done(by_type[kind]))[:TYPES_MAX]
    for kind in sorted(busiest):
        _fill(stats.types.add(type=kind), by_type[kind], span_s)


def _done(rows: Sequence[Any]) -> int:
    return sum(row["succeeded"] + row["failed"] + row["retried"] for row in rows)


def _fill(stats: pb.QueueStats | pb.TypeStats, rows: Sequence[Any], span_s: float) -> None:
    stats.success_rate = sum(row["succeeded"] for row in rows) / span_s
    stats.failure_rate = sum(row["failed"] for row in rows) / span_s
    stats.retry_rate = sum(row["retried"] for row in rows) / span_s
    stats.wait.CopyFrom(_times(rows, "wait"))
    stats.run.CopyFrom(_times(rows, "run"))


def _times(rows: Sequence[Any], name: str) -> pb.Times:
    bins = [sum(row[f"{name}_bins"][n] for row in rows) for n in range(BINS)] if rows else []
    largest = max((row[f"{name}_s_max"] for row in rows), default=0.0)
    return pb.Times(
        count=sum(bins),
        p50=span(percentile_s(bins, 0.5, largest)),
        p95=span(percentile_s(bins, 0.95, largest)),
        p99=span(percentile_s(bins, 0.99, largest)),
        max=span(largest),
    )
