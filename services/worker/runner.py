"""Runs the jobs that a source hands over, in slots: coroutines, threads and processes.

Nothing here knows where jobs come from or where their ends are written down. A slot is a task that runs one
attempt after the other; it costs a job no task of its own. One timer looks at all running attempts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass

from opentelemetry.trace import Span, SpanKind, StatusCode

from services.chassis import telemetry
from services.chassis.jobs.handlers import Handler, Kind, Registry
from services.worker.bench import Bench
from services.worker.delivery import Delivery, Outside, Run
from services.worker.ending import Ending, because, judge, raised
from services.worker.performing import Performers
from services.worker.tokens import Gates
from weft.jobs.v1.job_pb2 import EndReason

TICK_S = 0.05  # How late a timeout may be noticed.
ASK_AGAIN_S = 5.0  # Between two cancellations of a handler that swallows them.
BREATH = 32  # Attempts that a slot runs without letting others have the loop: about a millisecond of no-ops.
PREFETCH_S = 0.1  # Jobs done in this time may wait here in advance, so that slots never wait for the network.
PREFETCH_MAX = 4_000  # More in advance than a worker does in a tick of its source helps nobody.
PREFETCH_MIN = 2  # So that a slot that ends finds the next job here.
FROZEN_S = 15.0  # Half of the time after which JetStream gives a message to others.
SUSPECT_DELIVERIES = 3  # Two holders vanished while they had it: from here on it cannot take a third along.

log = logging.getLogger("weft.worker")


@dataclass(frozen=True, slots=True)
class Room:
    """How many attempts run at once."""

    slots: int = 64  # Coroutines.
    threads: int = 8
    processes: int = 2


class Runner:
    """All that runs in one worker."""

    def __init__(
        self,
        registry: Registry,
        outside: Outside,
        tracing: telemetry.Tracing,
        performers: Performers,
        room: Room,
        limits: Mapping[str, int] | None = None,
    ) -> None:
        """`limits` are of types, at once; they go before what handlers say."""
        self._registry, self._outside, self._tracing, self._performers = (
            registry,
            outside,
            tracing,
            performers,
        )
        self._loop = asyncio.get_running_loop()
        self._held: dict[str, Delivery] = {}
        self.running: dict[str, Run] = {}
        self.draining = False
        self._stirred = asyncio.Event()  # Something ended.
        own = {name: each.concurrency for name, each in registry.handlers.items() if each.concurrency}
        self._benches = {kind: Bench(self._slot, {**own, **(limits or {})}) for kind in Kind}
        self._async = self._benches[Kind.ASYNC]
        self._ahead, self._done, self._ticked = 0.0, 0, self._loop.time()
        self.resize(room)
        self._timer = self._loop.call_later(TICK_S, self._tick)

    def resize(self, room: Room) -> None:
        """Slots that are too many end after what they run now."""
        self.size = room
        self._benches[Kind.ASYNC].resize(room.slots)
        self._benches[Kind.THREAD].resize(room.threads)
        self._benches[Kind.PROCESS].resize(room.processes)

    @property
    def slots(self) -> int:
        return sum(bench.size for bench in self._benches.values())

    @property
    def held(self) -> int:
        """Jobs that are here, running or not."""
        return len(self._held)

    @property
    def room(self) -> int:
        """How many more it takes now."""
        return max(0, self.capacity - len(self._held))

    @property
    def capacity(self) -> int:
        """How many it has room for in all: one for each slot, and some in advance."""
        if self.draining:
            return 0
        return self.slots + max(PREFETCH_MIN, min(PREFETCH_MAX, int(self._ahead)))

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Runs them in their turn. One that is here already only comes by a newer handle."""
        for delivery in deliveries:
            if known := self._held.get(delivery.job_id):
                self._meet(known, delivery)
                continue
            self._held[delivery.job_id] = delivery
            if self.draining:
                self._end(delivery, Ending(EndReason.END_REASON_WORKER_STOPPED))
            else:
                self._seat(delivery)
        for bench in self._benches.values():
            bench.call()

    def _meet(self, known: Delivery, delivery: Delivery) -> None:
        """A job that is here already: by a newer handle, or in a later run, which has to wait elsewhere."""
        if known.run == delivery.run:
            known.handle, known.deliveries = delivery.handle, delivery.deliveries
        else:
            ending = Ending(EndReason.END_REASON_WORKER_STOPPED)
            self._outside.ended(delivery, ending, judge(ending, delivery.policy, 1, 0))

    def _seat(self, delivery: Delivery) -> None:
        handler = self._registry.handlers.get(delivery.type)
        if handler is None:
            words = f"this worker has no handler for {delivery.type}"
            self._end(delivery, because(EndReason.END_REASON_TYPE_UNKNOWN, words))
        else:
            kind = Kind.PROCESS if _isolated(delivery) else handler.kind
            # Most are of this kind, and to look an Enum up takes longer than to seat a job.
            bench = self._async if kind is Kind.ASYNC else self._benches[kind]
            bench.seat(delivery, handler)

    def stop(self, job_id: str, run: int, reason: EndReason.ValueType) -> bool:
        """Ends what is held of a job, up to this run; False when nothing is. It is told as ever."""
        delivery = self._held.get(job_id)
        if delivery is None or delivery.run > run:
            return False
        self._stop(delivery, reason)
        return True

    def _stop(self, delivery: Delivery, reason: EndReason.ValueType) -> None:
        if delivery.stop is None:
            delivery.stop = reason
            if run := self.running.get(delivery.job_id):
                run.asked_at = self._loop.time()
                run.task.cancel()
            else:
                self.reopen()

    def limit(self, gates: Gates) -> None:
        """From now on jobs begin only as their queues' limits let them."""
        gates.opened = self.reopen
        for bench in self._benches.values():
            bench.admit, bench.release = gates.admit, gates.release

    def reopen(self) -> None:
        """Who was turned away by its queue's limits may try again."""
        for bench in self._benches.values():
            bench.reopen()

    async def drain(self, grace_s: float) -> None:
        """Gives back what has not begun, waits for the rest, and after `grace_s` gives that back, too."""
        self.draining = True
        for bench in self._benches.values():
            for delivery in bench.clear():
                self._end(delivery, Ending(EndReason.END_REASON_WORKER_STOPPED))
        ends = self._loop.time() + grace_s
        while self.running and self._loop.time() < ends:
            self._stirred.clear()
            try:
                async with asyncio.timeout(max(0.0, ends - self._loop.time())):
                    await self._stirred.wait()
            except TimeoutError:
                break
        for run in list(self.running.values()):
            self._stop(run.delivery, EndReason.END_REASON_WORKER_STOPPED)
        while self.running:
            self._stirred.clear()
            await self._stirred.wait()

    async def close(self) -> None:
        """Ends the slots. What runs is cut off and not told: it was to be drained before."""
        self._timer.cancel()
        for bench in self._benches.values():
            await bench.close()
        await self._performers.close()

    async def _slot(self, bench: Bench) -> None:
        """Runs one attempt after the other, until it is one too many."""
        me = asyncio.current_task()
        assert me is not None
        since_breath = 0
        while bench.keeps(me):
            found = bench.next()
            if found is None:
                since_breath = 0
                await bench.rest()
                continue
            bench.call()
            delivery, handler, may_run = found
            if may_run:
                if (rest := self._attempt(bench, delivery, handler, me)) is not None:
                    await rest
            else:
                self._end(delivery, Ending(delivery.stop or EndReason.END_REASON_QUEUED_TOO_LONG))
            since_breath += 1
            if since_breath >= BREATH:
                since_breath = 0
                await asyncio.sleep(0)

    def _attempt(
        self, bench: Bench, delivery: Delivery, handler: Handler[..., object], me: asyncio.Task[None]
    ) -> Awaitable[None] | None:
        """Begins an attempt; many end in that very moment. Returns the rest of one that does not."""
        trace = delivery.envelope.trace
        span, place = self._place(delivery, trace) if trace else (None, telemetry.NO_TRACE)
        timeout_s = _timeout_s(delivery, handler)
        isolated = _isolated(delivery)
        run = Run(delivery, handler, self._outside, me, place, time.time(), timeout_s, isolated)
        try:
            ending = self._performers.begin(run)
        except BaseException as error:
            ending = self._ending_of(delivery, error)
        if not isinstance(ending, Ending):
            return self._wait(bench, run, span, ending)
        self._close(bench, run, span, ending)
        return None

    async def _wait(self, bench: Bench, run: Run, span: Span | None, rest: Awaitable[Ending]) -> None:
        """Until it ends, or is ended."""
        job_id = run.delivery.job_id
        if run.timeout_s is not None:
            run.ends = self._loop.time() + run.timeout_s
        self.running[job_id] = run
        self._outside.begun(run)
        try:
            ending = await rest
        except BaseException as error:
            ending = self._ending_of(run.delivery, error)
        finally:
            while run.task.uncancel():
                pass
            del self.running[job_id]
        self._close(bench, run, span, ending)

    def _ending_of(self, delivery: Delivery, error: BaseException) -> Ending:
        """What an attempt could not tell itself. Raises again what ends the worker."""
        if isinstance(error, asyncio.CancelledError) and delivery.stop is not None:
            return _stopped(delivery)
        if not isinstance(error, Exception):
            raise error
        log.error(
            "an attempt could not be made", exc_info=error, extra={"facts": {"job_id": delivery.job_id}}
        )
        return raised(error)

    def _close(self, bench: Bench, run: Run, span: Span | None, ending: Ending) -> None:
        delivery = run.delivery
        bench.free(delivery, run.handler)
        if span is not None:
            _finish(span, delivery, ending)
        ending.start_s, ending.end_s = run.start_s, time.time()
        if run.lines:
            ending.lines = run.lines
        self._end(delivery, ending)

    def _place(self, delivery: Delivery, trace: str) -> tuple[Span | None, telemetry.Trace]:
        """Where the attempt stands in its enqueuer's trace; of its own it begins none."""
        parent = self._tracing.begin(trace)
        span = self._tracing.span(f"job {delivery.type}", parent, SpanKind.CONSUMER)
        return span, telemetry.place(span, parent)

    def _end(self, delivery: Delivery, ending: Ending) -> None:
        envelope = delivery.envelope
        del self._held[delivery.job_id]
        if ending.crashed:
            envelope.crashes += 1
        self._done += 1
        self._outside.ended(
            delivery, ending, judge(ending, delivery.policy, envelope.attempt, envelope.crashes)
        )
        self._stirred.set()

    def _tick(self) -> None:
        """Ends what is out of time, asks again what was asked to end, and measures the rate."""
        now = self._loop.time()
        self._timer = self._loop.call_later(TICK_S, self._tick)
        if now - self._ticked > FROZEN_S:
            self._drop()
        self._ticked = now
        for run in list(self.running.values()):
            if run.cancelled:
                if now - run.asked_at > ASK_AGAIN_S:
                    run.asked_at = now
                    run.task.cancel()
            elif run.ends is not None and run.ends <= now:
                self._stop(run.delivery, EndReason.END_REASON_TIMED_OUT)
        wanted = self._done * (PREFETCH_S / TICK_S)  # Up at once, for slots run dry; down little by little.
        self._ahead = max(wanted, self._ahead + (wanted - self._ahead) * TICK_S)
        self._done = 0

    def _drop(self) -> None:
        """What waited here while this process was frozen is somebody else's by now, or soon."""
        log.warning("this process stood still: what it has not begun is left to others")
        for bench in self._benches.values():
            for delivery in bench.clear():
                del self._held[delivery.job_id]
                self._outside.dropped(delivery)


def _isolated(delivery: Delivery) -> bool:
    """Whether it may take its process along, as its like has shown."""
    return delivery.envelope.crashes > 0 or delivery.deliveries >= SUSPECT_DELIVERIES


def _stopped(delivery: Delivery) -> Ending:
    assert delivery.stop is not None
    if delivery.stop == EndReason.END_REASON_TIMED_OUT:
        return because(delivery.stop, "the attempt took longer than it may")
    return Ending(delivery.stop)


def _finish(span: Span, delivery: Delivery, ending: Ending) -> None:
    """Closes the attempt's span, named by the OpenTelemetry messaging conventions."""
    envelope = delivery.envelope
    span.set_attributes(
        {
            "messaging.system": "nats",
            "messaging.destination.name": envelope.queue,
            "messaging.message.id": envelope.job_id,
            "weft.job.type": envelope.type,
            "weft.job.attempt": envelope.attempt,
            "weft.job.reason": EndReason.Name(ending.reason),
        }
    )
    span.set_status(StatusCode.ERROR if ending.failure is not None else StatusCode.UNSET)
    span.end()


def _timeout_s(delivery: Delivery, handler: Handler[..., object]) -> float | None:
    """The job's own, else the handler's, else the queue's."""
    if delivery.envelope.HasField("execution_timeout"):
        return delivery.envelope.execution_timeout.ToMilliseconds() / 1000
    return handler.timeout_s if handler.timeout_s is not None else delivery.timeout_s
