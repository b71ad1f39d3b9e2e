"""The queues as the queue service tells of them: known here, so that nobody asks for each job.

What was told last goes on to count while the queue service is away.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.chassis.errors import CallFailed, NotFound, Refusal, Unavailable
from services.chassis.mesh import Mesh
from weft.queue.v1.queue_pb2 import Queue
from weft.queue.v1.record_pb2 import WatchQueuesRequest
from weft.queue.v1.record_pb2_grpc import RecordServiceStub
from weft.queue.v1.settings_pb2 import QueueKind, QueueSettings, QueueState

HEARD_S_MAX = 45.0  # Three times as long as the queue service is ever silent: then we ask anew.
FIRST_S_MAX = 5.0  # How long callers wait for what we have never heard of.
RETRY_S, RETRY_S_MAX = 0.1, 5.0

log = logging.getLogger("weft.jobs")


class NoSuchQueue(NotFound):
    """There is no queue {queue}."""


class QueuesUnknown(Unavailable):
    """The queue service has not told yet which queues there are."""


@dataclass(frozen=True, slots=True)
class Known:
    """A queue, as far as enqueuers and workers care."""

    name: str
    kind: QueueKind.ValueType
    state: QueueState.ValueType
    lanes: int  # 0: it is not keyed.
    settings: QueueSettings
    purged_sequence: int = 0  # Up to there messages may be of jobs that were purged.

    @classmethod
    def of(cls, queue: Queue) -> "Known":
        lanes = queue.settings.lanes if queue.keyed else 0
        return cls(queue.queue, queue.kind, queue.state, lanes, queue.settings, queue.purged_sequence)


class Queues:
    """Kept current by `run`."""

    def __init__(self, mesh: Mesh) -> None:
        self._record = RecordServiceStub(mesh)
        self._known: dict[str, Known] = {}
        self._heard = asyncio.Event()
        self._callbacks: list[Callable[[Mapping[str, Known]], None]] = []

    def on_change(self, callback: Callable[[Mapping[str, Known]], None]) -> None:
        """Calls `callback` with all queues, now if they are known, and whenever one has changed."""
        self._callbacks.append(callback)
        if self._heard.is_set():
            callback(self._known)

    def find(self, name: str) -> Known | None:
        """None: it is not known, or not yet."""
        return self._known.get(name)

    async def get(self, name: str) -> Known:
        """Raises NoSuchQueue; QueuesUnknown when nothing was ever heard."""
        if not self._heard.is_set():
            try:
                async with asyncio.timeout(FIRST_S_MAX):
                    await self._heard.wait()
            except TimeoutError:
                raise QueuesUnknown from None
        if (known := self._known.get(name)) is None:
            raise NoSuchQueue(queue=name)
        return known

    async def run(self) -> None:
        """For ever."""
        delay = RETRY_S
        while True:
            try:
                await self._follow()
            except (CallFailed, Refusal, OSError, TimeoutError) as error:
                log.info("queues are not told: %s", type(error).__name__)
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_S_MAX)
            else:
                delay = RETRY_S

    async def _follow(self) -> None:
        """One call of the queue service, until it ends or falls silent."""
        answers = aiter(self._record.WatchQueues(WatchQueuesRequest()))
        while True:
            async with asyncio.timeout(HEARD_S_MAX):
                told = await anext(answers, None)
            if told is None:
                return
            self._take({queue.queue: Known.of(queue) for queue in told.queues})

    def _take(self, queues: dict[str, Known]) -> None:
        changed = queues != self._known or not self._heard.is_set()
        self._known = queues
        self._heard.set()
        if changed:
            for callback in self._callbacks:
                callback(queues)
