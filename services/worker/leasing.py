"""The lanes of keyed queues that this worker has: leased from the queue, renewed, and given up in order.

A lease that could not be renewed in time is over here before it is over there: nothing more is begun then.
What still runs is told under its epoch, and the queue does not take it down if the lane has a new owner.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Sequence
from typing import Protocol

from services.chassis.bus import within
from services.chassis.errors import CallFailed, Refusal
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import JetStreamError
from services.chassis.jobs.queues import Known
from services.chassis.jobs.sending import seconds
from services.worker.lanes import ROOM_MAX, Lane, Runner, Source
from weft.queue.v1.record_pb2 import LeaseLanesRequest, LeaseLanesResponse

RENEWALS = 3  # In a lease's time.
LEASE_S = 15.0  # Until the queue has said how long.
AGAIN_S = 0.5  # Between two tries to renew, and between two looks whether a lane can be given up.
BEAT_S = 10.0  # As feeding.py: JetStream waits at least three times as long.
MARGIN_S = 0.5  # A lease is over here this much earlier than there.

log = logging.getLogger("weft.worker")


class Record(Protocol):
    """weft.queue.v1.RecordService, as far as lanes go."""

    def LeaseLanes(self, request: LeaseLanesRequest, /) -> Awaitable[LeaseLanesResponse]: ...


class Leases:
    """Of one worker, for all its keyed queues; what feeding.py calls Lanes."""

    def __init__(
        self, connection: Connection, record: Record, source: Source, runner: Runner, worker: str
    ) -> None:
        self._connection, self._record, self._source = connection, record, source
        self._runner, self._worker = runner, worker
        self._queues: dict[str, QueueLeases] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._room = ROOM_MAX

    def open(self, queues: Sequence[Known]) -> None:
        """These, as they are now; no others."""
        wanted, ending = {queue.name: queue for queue in queues}, dict[str, asyncio.Task[None]]()
        for name, leases in list(self._queues.items()):
            if (queue := wanted.get(name)) is None or terms(queue) != leases.terms:
                ending[name] = self._end(self._queues.pop(name))
        for name, queue in wanted.items():
            if name not in self._queues:
                self._queues[name] = QueueLeases(self, queue, ending.get(name))

    def resize(self, room: int) -> None:
        """No lane takes more than so many; 0: nothing, for now."""
        if room != self._room:
            self._room = room
            for lane in self.lanes():
                lane.resize(room)

    def changed(self, queue: str) -> None:
        """Lanes of it may be had, or were taken away."""
        if leases := self._queues.get(queue):
            leases.stirred.set()

    def lanes(self) -> Iterable[Lane]:
        return [lane for leases in self._queues.values() for lane in leases.lanes()]

    def stop(self) -> None:
        """Begins nothing any more."""
        for lane in self.lanes():
            lane.halt()

    async def close(self) -> None:
        """Gives all up; what it held comes to others."""
        for name in list(self._queues):
            self._end(self._queues.pop(name))
        await asyncio.gather(*self._ending)

    def _end(self, leases: QueueLeases) -> asyncio.Task[None]:
        task = asyncio.create_task(leases.close(), name="giving lanes up")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    def lane(self, queue: Known, number: int, epoch: int) -> Lane:
        """One that this worker has from now on."""
        lane = Lane(self._connection, self._source, self._runner, queue, number, epoch)
        lane.resize(self._room)
        return lane

    async def lease(
        self, queue: str, given_up: Sequence[int], *, leaving: bool = False
    ) -> LeaseLanesResponse:
        """Raises CallFailed and others while the queue is away."""
        return await self._record.LeaseLanes(
            LeaseLanesRequest(worker=self._worker, queue=queue, given_up=given_up, leaving=leaving)
        )


def terms(queue: Known) -> tuple[int, int, int]:
    """What its lanes depend on."""
    return queue.lanes, queue.kind, queue.settings.concurrency.per_key


class QueueLeases:
    """The lanes of one queue."""

    def __init__(self, leases: Leases, queue: Known, after: asyncio.Task[None] | None) -> None:
        """Asks for none before `after` has given them up."""
        self._leases, self._queue, self._after = leases, queue, after
        self.terms = terms(queue)
        self._lanes: dict[int, tuple[Lane, asyncio.Task[None]]] = {}
        self._lease_s, self._until = LEASE_S, 0.0
        self.stirred = asyncio.Event()
        self._tasks = [asyncio.create_task(each, name="leases") for each in (self._renew(), self._beat())]

    def lanes(self) -> list[Lane]:
        return [lane for lane, _ in self._lanes.values()]

    async def _renew(self) -> None:
        if self._after:
            await asyncio.wait([self._after])
        while True:
            loop = asyncio.get_running_loop()
            self.stirred.clear()
            asked_at = loop.time()
            given_up = [lane.number for lane in self.lanes() if lane.halted and lane.idle]
            await self._drop(given_up)
            try:
                answer = await self._leases.lease(self._queue.name, given_up)
            except (CallFailed, Refusal, OSError, TimeoutError) as error:
                log.info("lanes of %s are not renewed: %s", self._queue.name, error)
                wait_s = AGAIN_S
            else:
                self._lease_s = seconds(answer.lease) or LEASE_S
                self._until = asked_at + self._lease_s - MARGIN_S
                await self._follow(answer)
                wait_s = AGAIN_S if answer.give_up else self._lease_s / RENEWALS
            if loop.time() >= self._until:
                self._expire()
            await within(self.stirred, min(wait_s, max(AGAIN_S / 10, self._until - loop.time())))

    async def _follow(self, answer: LeaseLanesResponse) -> None:
        """Has what the queue says it has."""
        told = {lane.lane: lane.epoch for lane in answer.lanes}
        await self._drop([lane.number for lane in self.lanes() if told.get(lane.number) != lane.epoch])
        for number, epoch in told.items():
            if number in self._lanes:
                continue
            lane = self._leases.lane(self._queue, number, epoch)
            self._lanes[number] = lane, asyncio.create_task(lane.run(), name=f"lane {number}")
        for number in answer.give_up:
            if number in self._lanes:
                self._lanes[number][0].halt()
        if any(lane.halted and lane.idle for lane in self.lanes()):
            self.stirred.set()

    def _expire(self) -> None:
        """Others may have them now."""
        if held := self.lanes():
            log.warning("the lease of %d lanes of %s is over", len(held), self._queue.name)
        for lane in held:
            lane.halt()

    async def _drop(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            lane, task = self._lanes.pop(number)
            lane.halt()
            task.cancel()
            await asyncio.wait([task])

    async def _beat(self) -> None:
        """What is held here is worked on, and comes to nobody else."""
        while True:
            await asyncio.sleep(BEAT_S)
            for lane in self.lanes():
                try:
                    lane.beat()
                except JetStreamError as error:
                    log.info("no sign of life: %s", error)

    async def close(self) -> None:
        """Gives all its lanes up. What still runs is told as ever."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._drop(list(self._lanes))
        try:
            await self._leases.lease(self._queue.name, [], leaving=True)
        except (CallFailed, Refusal, OSError, TimeoutError) as error:
            log.info("lanes of %s end with their lease: %s", self._queue.name, error)
