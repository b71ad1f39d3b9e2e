"""A keyed queue without its service: leases, the record and a runner of a few lines, in any process."""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from services.chassis.jetstream import acks
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.protocol import Message as Raw
from services.chassis.jetstream.publisher import Publisher
from services.chassis.jetstream.pulling import Delivery as Message
from services.chassis.jetstream.servers import Options
from services.chassis.jobs.claims import Journal
from services.chassis.jobs.presence import Presence
from services.chassis.jobs.queues import Known
from services.chassis.jobs.reaping import Reaper
from services.chassis.jobs.sending import item
from services.worker.delivery import Delivery
from services.worker.holding import Handle
from services.worker.leasing import Leases
from weft.jobs.v1.job_pb2 import Envelope
from weft.queue.v1.record_pb2 import Lane, LeaseLanesRequest, LeaseLanesResponse
from weft.queue.v1.settings_pb2 import Concurrency, QueueKind, QueueSettings, QueueState

QUEUE = "ledger"
LANES = 4


def queue(
    kind: QueueKind.ValueType = QueueKind.QUEUE_KIND_FIFO, per_key: int = 0, lanes: int = LANES
) -> Known:
    settings = QueueSettings(lanes=lanes, concurrency=Concurrency(per_key=per_key))
    return Known(QUEUE, kind, QueueState.QUEUE_STATE_ACTIVE, lanes, settings)


def jobs(keys: int, each: int) -> list[Envelope]:
    """Of many keys, in turn; each says which of its key it is."""
    return [
        Envelope(job_id=f"{key}-{n}", run=1, attempt=1, queue=QUEUE, type="t", key=f"key{key}")
        for n in range(each)
        for key in range(keys)
    ]


async def enqueue(connection: Connection, envelopes: Sequence[Envelope], lanes: int = LANES) -> None:
    await Publisher(connection).publish_all([item(each, lanes) for each in envelopes])


class Record(Protocol):
    """What lanes and runner ask of the queue service."""

    async def LeaseLanes(self, request: LeaseLanesRequest) -> LeaseLanesResponse: ...
    async def report(self, job_id: str, lane: int, epoch: int) -> str: ...
    async def ended(self, job_ids: Sequence[str]) -> list[bool]: ...


@dataclass
class Ledger:
    """The record, in memory. Shares lanes out as the queue does: evenly, each owner with a new epoch."""

    lanes: int = LANES
    lease_s: float = 15.0
    away: bool = False
    finals: list[str] = field(default_factory=list)
    owners: dict[int, tuple[str, int, float]] = field(default_factory=dict)  # (worker, epoch, until)
    askers: set[str] = field(default_factory=set)
    epochs: Counter[int] = field(default_factory=Counter)

    async def LeaseLanes(self, request: LeaseLanesRequest) -> LeaseLanesResponse:
        if self.away:
            raise ConnectionError
        worker, now = request.worker, time.monotonic()
        self.askers.add(worker)
        if request.leaving:
            self.forget(worker)
            return LeaseLanesResponse()
        for lane in request.given_up:
            if self.owners.get(lane, ("",))[0] == worker:
                del self.owners[lane]
        self.owners = {lane: each for lane, each in self.owners.items() if each[2] > now}
        ranked = sorted(self.askers)
        fair = self.lanes // len(ranked) + (ranked.index(worker) < self.lanes % len(ranked))
        own = sorted(lane for lane, each in self.owners.items() if each[0] == worker)
        for lane in range(self.lanes):
            if lane not in self.owners and len(own) < fair:
                self.epochs[lane] += 1
                self.owners[lane] = worker, self.epochs[lane], 0.0
                own.append(lane)
        for lane in own:
            self.owners[lane] = worker, self.owners[lane][1], now + self.lease_s
        answer = LeaseLanesResponse(
            lanes=[Lane(lane=lane, epoch=self.owners[lane][1]) for lane in own], give_up=own[fair:]
        )
        answer.lease.FromNanoseconds(int(self.lease_s * 1e9))
        return answer

    def forget(self, worker: str) -> None:
        self.askers.discard(worker)
        self.owners = {lane: each for lane, each in self.owners.items() if each[0] != worker}

    async def report(self, job_id: str, lane: int, epoch: int) -> str:
        if self.epochs[lane] != epoch:
            return "superseded"
        if job_id in self.finals:
            return "known"
        self.finals.append(job_id)
        return "new"

    async def ended(self, job_ids: Sequence[str]) -> list[bool]:
        return [job_id in self.finals for job_id in job_ids]

    def serve(self, connection: Connection, freed: Any = None) -> None:
        """For workers in other processes."""

        async def answer(message: Raw) -> None:
            name, *args = json.loads(message.payload)
            if name == "lease":
                response = await self.LeaseLanes(LeaseLanesRequest.FromString(bytes.fromhex(args[0])))
                said: Any = response.SerializeToString().hex()
            elif name == "forget":
                said = self.forget(args[0])
                connection.publish("test.changed", b"")
            else:
                said = await getattr(self, name)(*args)
            connection.publish(message.reply.decode(), json.dumps(said).encode())

        tasks: set[asyncio.Task[None]] = set()

        def hear(messages: list[Raw]) -> None:
            for message in messages:
                tasks.add(task := asyncio.create_task(answer(message)))
                task.add_done_callback(tasks.discard)

        connection.subscribe("test.record", hear)


class Remote:
    """The record of another process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def _ask(self, *words: Any) -> Any:
        said = await self._connection.request("test.record", json.dumps(words).encode())
        return json.loads(said.payload)

    async def LeaseLanes(self, request: LeaseLanesRequest) -> LeaseLanesResponse:
        said = await self._ask("lease", request.SerializeToString().hex())
        return LeaseLanesResponse.FromString(bytes.fromhex(said))

    async def report(self, job_id: str, lane: int, epoch: int) -> str:
        return str(await self._ask("report", job_id, lane, epoch))

    async def ended(self, job_ids: Sequence[str]) -> list[bool]:
        return list(await self._ask("ended", list(job_ids)))

    async def forget(self, worker: str) -> None:
        await self._ask("forget", worker)


class Worker:
    """Leases, lanes and a runner; `log` has (key, number, "begin" or "end", attempt) in order."""

    def __init__(self, connection: Connection, record: Record, name: str, work_s: float = 0.001) -> None:
        self._connection, self.record, self._work_s = connection, record, work_s
        self.log: list[tuple[str, int, str, int]] = []
        self.seen: dict[str, int] = {}  # By job id: deliveries, as the lane counts them.
        self.retries: Counter[str] = Counter()  # By job id: how often it is still to fail.
        self.delay_s, self.stuck = 0.05, asyncio.Event()
        self.stuck.set()  # Cleared, no job ends.
        self._tasks: set[asyncio.Task[None]] = set()
        self.leases = Leases(connection, record, self, self, name)

    def unpack(self, message: Message, handle: Handle) -> Delivery | None:
        return Delivery(Envelope.FromString(message.payload), handle, message.deliveries)

    async def look_up(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        ended = await self.record.ended([each.envelope.job_id for each in deliveries])
        for delivery, over in zip(deliveries, ended, strict=True):
            if over:
                acks.send(self._connection, [delivery.handle.message.reply])
                delivery.handle.giver.done([delivery])
        return [each for each, over in zip(deliveries, ended, strict=True) if not over]

    def take(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._tasks.add(task := asyncio.create_task(self._run(delivery)))
            task.add_done_callback(self._tasks.discard)

    async def _run(self, delivery: Delivery) -> None:
        envelope, handle = delivery.envelope, delivery.handle
        number = int(envelope.job_id.rpartition("-")[2])
        self.seen[envelope.job_id] = delivery.deliveries
        self.tell(envelope.key, number, "begin", envelope.attempt)
        await asyncio.sleep(self._work_s * random.random())
        await self.stuck.wait()
        self.tell(envelope.key, number, "end", envelope.attempt)
        if self.retries[envelope.job_id]:
            self.retries[envelope.job_id] -= 1
            handle.giver.again(delivery, self.delay_s)
            return
        outcome = await self.record.report(envelope.job_id, handle.lane, handle.epoch)
        if outcome == "superseded":
            handle.giver.lost(delivery)
        else:
            await acks.confirm(self._connection, [handle.message.reply])
        handle.giver.done([delivery])

    def tell(self, key: str, number: int, what: str, attempt: int) -> None:
        self.log.append((key, number, what, attempt))

    def open(self, known: Known) -> None:
        self.leases.open([known])

    async def close(self) -> None:
        await self.leases.close()
        for task in list(self._tasks):
            task.cancel()

    def crash(self) -> None:
        """As kill -9 does, as far as that goes within a process: nothing is said to anybody."""
        for leases in self.leases._queues.values():
            for task in leases._tasks + [each for _, each in leases._lanes.values()]:
                task.cancel()
        for task in list(self._tasks):
            task.cancel()


class Writing(Worker):
    """Its log is a file's lines, with the time of each."""

    def tell(self, key: str, number: int, what: str, attempt: int) -> None:
        sys.stdout.write(f"{time.time():.6f} {key} {number} {what}\n")
        sys.stdout.flush()


async def main(url: str, name: str) -> None:
    """A worker as a program, to be killed."""
    options = Options.of(url)
    connection = Connection(options)
    await connection.open()
    remote = Remote(connection)
    worker = Writing(connection, remote, name, work_s=0.004)
    await Presence(connection, options, name).open()
    Journal(connection, name)
    worker.open(queue())
    connection.subscribe("test.changed", lambda messages: worker.leases.changed(QUEUE))
    await Reaper(connection, name, remote.forget).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
