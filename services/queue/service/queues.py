"""weft.queue.v1.QueueService."""

from __future__ import annotations

import json
import logging
from typing import Any

from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.masks import apply_mask, check_etag
from services.chassis.method import Call
from services.queue.domain.queue import DEFAULT, Openness, Queue, QueueNeeded, QueueNotEmpty
from services.queue.domain.routing import check
from services.queue.service import streams
from services.queue.service.pack import (
    in_force,
    queue_to_pb,
    routing_to_pb,
    rule_from_pb,
    rules_to_json,
    settings_from_json,
    settings_to_json,
)
from services.queue.service.shared import Shared
from services.queue.service.steering import Steering
from services.queue.store import queue as store, steering as jobs
from weft.queue.v1 import queue_pb2 as pb, settings_pb2
from weft.queue.v1.events_pb2 import (
    QueueCreated,
    QueueDeleted,
    QueueDrained,
    QueuePaused,
    QueuePurged,
    QueueResumed,
    QueueUpdated,
    RoutingReplaced,
)
from weft.queue.v1.queue_pb2_grpc import QueueServiceServicer

CHANGEABLE = [field.name for field in settings_pb2.QueueSettings.DESCRIPTOR.fields]

log = logging.getLogger("weft.queue")


class Queues(QueueServiceServicer):
    def __init__(self, shared: Shared, steering: Steering) -> None:
        self._shared, self._steering = shared, steering
        self._db, self._clock, self._bus = shared.db, shared.clock, shared.tools.bus

    async def CreateQueue(self, request: pb.CreateQueueRequest, call: Call) -> pb.CreateQueueResponse:
        queue = self._new(request)
        async with self._db.transaction() as tx:
            if await store.add(tx, queue):
                await emit(tx, QueueCreated(queue=request.queue))
            else:
                kind, settings = queue.kind, queue.settings
                queue = await store.get(tx, request.queue)
                queue.refuse_other(kind, settings)
        await self._apply(queue)
        return pb.CreateQueueResponse(queue=queue_to_pb(queue))

    async def ensure_default(self) -> None:
        """Makes the queue that always exists, and the consumers of all; may be done again at any time."""
        async with self._db.transaction() as tx:
            await store.add(tx, self._new(pb.CreateQueueRequest(queue=DEFAULT)))
        await self._shared.known.read()
        for queue in self._shared.known.queues:
            await streams.open_queue(self._bus, queue)

    async def GetQueue(self, request: pb.GetQueueRequest, call: Call) -> pb.GetQueueResponse:
        async with self._db.transaction() as tx:
            return pb.GetQueueResponse(queue=queue_to_pb(await store.get(tx, request.queue)))

    async def ListQueues(self, request: pb.ListQueuesRequest, call: Call) -> pb.ListQueuesResponse:
        page = store.LISTING.page(request, self._shared.page_key)
        async with self._db.transaction() as tx:
            rows, token = page.cut(await store.rows(tx, page))
        return pb.ListQueuesResponse(queues=map(queue_to_pb, rows), next_page_token=token)

    async def UpdateQueue(self, request: pb.UpdateQueueRequest, call: Call) -> pb.UpdateQueueResponse:
        async with self._db.transaction() as tx:
            queue = await store.get(tx, request.queue, lock=True)
            settings = settings_from_json(queue.settings)
            paths = apply_mask(settings, request.settings, request.update_mask, CHANGEABLE)
            wanted = in_force(queue.kind, settings)
            plain = settings_to_json(wanted)
            if plain != queue.settings:
                check_etag(request.etag, queue.revision)
                empty = not await jobs.open_of(tx, queue.queue, 1)
                queue.change(plain, wanted.lanes, self._clock.now(), empty=empty)
                await emit(tx, QueueUpdated(queue=request.queue, paths=paths))
        await self._apply(queue)
        return pb.UpdateQueueResponse(queue=queue_to_pb(queue))

    async def DeleteQueue(self, request: pb.DeleteQueueRequest, call: Call) -> pb.DeleteQueueResponse:
        async with self._db.transaction() as tx:
            queue = await store.get(tx, request.queue, lock=True)
            check_etag(request.etag, queue.revision)
            await self._refuse_needed(tx, queue.queue)
            if await jobs.open_of(tx, queue.queue, 1):
                raise QueueNotEmpty(queue=queue.queue)
            await store.delete(tx, queue)
            await emit(tx, QueueDeleted(queue=request.queue))
        await self._shared.known.changed()
        await streams.close_queue(self._bus, request.queue)
        return pb.DeleteQueueResponse()

    async def _refuse_needed(self, tx: Tx, queue: str) -> None:
        """Raises QueueNeeded."""
        rules = routing_to_pb(await store.routing(tx)).rules
        if queue == DEFAULT or any(rule.queue == queue for rule in rules):
            raise QueueNeeded(queue=queue)

    async def PauseQueue(self, request: pb.PauseQueueRequest, call: Call) -> pb.PauseQueueResponse:
        event = QueuePaused(queue=request.queue)
        return pb.PauseQueueResponse(queue=await self._turn(event, Openness.PAUSED, request.note))

    async def ResumeQueue(self, request: pb.ResumeQueueRequest, call: Call) -> pb.ResumeQueueResponse:
        event = QueueResumed(queue=request.queue)
        return pb.ResumeQueueResponse(queue=await self._turn(event, Openness.ACTIVE, ""))

    async def DrainQueue(self, request: pb.DrainQueueRequest, call: Call) -> pb.DrainQueueResponse:
        event = QueueDrained(queue=request.queue)
        return pb.DrainQueueResponse(queue=await self._turn(event, Openness.DRAINING, request.note))

    async def _turn(
        self, event: QueuePaused | QueueResumed | QueueDrained, state: Openness, note: str
    ) -> pb.Queue:
        async with self._db.transaction() as tx:
            queue = await store.get(tx, event.queue, lock=True)
            if queue.turn(state, note, self._clock.now()):
                await emit(tx, event)
        await self._apply(queue)
        return queue_to_pb(queue)

    async def PurgeQueue(self, request: pb.PurgeQueueRequest, call: Call) -> pb.PurgeQueueResponse:
        async with self._db.transaction() as tx:
            queue = queue_to_pb(await store.get(tx, request.queue))
        up_to = await streams.recorded(self._bus)
        async with self._db.fast() as tx:
            jobs, more = await self._steering.purge(tx, request.queue)
            if jobs:
                await store.purged(tx, request.queue, up_to)
                await emit(tx, QueuePurged(queue=request.queue, jobs=len(jobs)))
        if jobs:  # Some came while they were called off; to look up too many does no harm.
            last = await streams.last(self._bus)
            async with self._db.fast() as tx:
                await store.purged(tx, request.queue, last)
        await self._shared.known.changed()
        if not more:
            await streams.purge_due(self._bus, queue, up_to)
        return pb.PurgeQueueResponse(jobs=len(jobs), more=more)

    async def GetRouting(self, request: pb.GetRoutingRequest, call: Call) -> pb.GetRoutingResponse:
        async with self._db.transaction() as tx:
            return pb.GetRoutingResponse(routing=routing_to_pb(await store.routing(tx)))

    async def ReplaceRouting(
        self, request: pb.ReplaceRoutingRequest, call: Call
    ) -> pb.ReplaceRoutingResponse:
        async with self._db.transaction() as tx:
            row = await store.routing(tx, lock=True)
            check_etag(request.etag, row.revision)
            names = frozenset(queue.queue for queue in await store.every(tx))
            check([rule_from_pb(rule) for rule in request.rules], names)
            row = await store.replace_routing(tx, json.dumps(rules_to_json(request.rules)), self._clock.now())
            routing = routing_to_pb(row)
            await emit(tx, RoutingReplaced(etag=routing.etag))
        await self._shared.known.changed()
        return pb.ReplaceRoutingResponse(routing=routing)

    async def _apply(self, queue: Queue) -> None:
        """What was committed becomes true in JetStream, here and now, or at the next start of any process."""
        await self._shared.known.changed()
        try:
            await streams.open_queue(self._bus, queue_to_pb(queue))
        except streams.FAILURES as error:
            log.warning("a queue's consumers are made later: %s", type(error).__name__)
            self._shared.known.unsettled.add(queue.queue)

    def _new(self, request: pb.CreateQueueRequest) -> Queue:
        kind = request.kind or settings_pb2.QUEUE_KIND_REAL_TIME
        settings = in_force(kind, request.settings)
        now = self._clock.now()
        plain: dict[str, Any] = settings_to_json(settings)
        return Queue(
            queue=request.queue,
            kind=kind,
            settings=plain,
            state=Openness.ACTIVE,
            note="",
            keyed=bool(settings.lanes),
            lanes=settings.lanes,
            revision=1,
            purged_sequence=0,
            create_time=now,
            update_time=now,
        )
