"""Queues and routing rules as this process knows them: read anew whenever somebody changed them."""

import asyncio
from collections.abc import Sequence

from nats.aio.msg import Msg

from services.chassis.bus import within
from services.chassis.host import Tools
from services.queue.domain.queue import UnknownQueue
from services.queue.domain.routing import Rule
from services.queue.service.pack import queue_to_pb, routing_to_pb, rule_from_pb
from services.queue.store import queue as store
from services.queue.store.days import Days
from weft.queue.v1 import queue_pb2 as pb

CHANGED = "jobs.queues"  # Core NATS: somebody changed a queue; whoever missed it reads again anyway.
REFRESH_S = 5.0


class Known:
    """A copy of all queues, at most REFRESH_S old, and most often some milliseconds."""

    def __init__(self, tools: Tools, days: Days) -> None:
        self._days = days
        self._db, self._bus = tools.db, tools.bus
        self._queues: dict[str, pb.Queue] = {}
        self.rules: Sequence[Rule] = ()
        self._hint, self._fresh = asyncio.Event(), asyncio.Event()
        self.unsettled: set[str] = set()  # Queues whose consumers JetStream has not got yet.
        self.version = 0  # Rises when something is other than it was.

    @property
    def queues(self) -> list[pb.Queue]:
        return [self._queues[name] for name in sorted(self._queues)]

    def get(self, name: str) -> pb.Queue:
        """Raises UnknownQueue."""
        found = self._queues.get(name)
        if found is None:
            raise UnknownQueue(queue=name)
        return found

    def find(self, name: str) -> pb.Queue | None:
        return self._queues.get(name)

    async def read(self) -> None:
        """All anew."""
        async with self._db.transaction() as tx:
            rows, routing = await store.every(tx), await store.routing(tx)
        queues = {row.queue: queue_to_pb(row) for row in rows}
        if queues != self._queues:
            self.version += 1
            self._fresh.set()
            self._fresh = asyncio.Event()
        self._queues = queues
        self.rules = [rule_from_pb(rule) for rule in routing_to_pb(routing).rules]

    async def changed(self) -> None:
        """Reads what this process has just changed, and tells the others."""
        await self.read()
        if self._bus.nc.is_connected:
            await self._bus.nc.publish(CHANGED, b"")

    async def wait(self, version: int, seconds: float) -> None:
        """Until something is other than it was at `version`, but no longer than that."""
        if version == self.version:
            await within(self._fresh, seconds)

    async def run(self) -> None:
        """For ever."""
        subscription = await self._bus.nc.subscribe(CHANGED, cb=self._heard)
        try:
            while True:
                self._hint.clear()
                await self.read()
                await self._days.read()
                await within(self._hint, REFRESH_S)
        finally:
            if not self._bus.nc.is_closed:
                await subscription.unsubscribe()

    async def _heard(self, message: Msg) -> None:
        self._hint.set()
