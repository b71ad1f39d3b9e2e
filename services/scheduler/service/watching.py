"""Streams of what happens to runs of workflows: each change once, in the order in which it was written.

A change is told when the relay has published its event: until then one with a lower position may still come.
What NATS brings says that there is something, and how far all is published; the events are read from the
table, so that a watch may begin at any place.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import cast
from uuid import UUID

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.chassis.bus import Bus, within
from services.chassis.event_store import decode
from services.chassis.events import Envelope, envelope
from services.chassis.method import Call
from services.chassis.relay import HEADER
from services.scheduler.domain.progress import ResumeTokenRefused, TooManyWatches
from services.scheduler.service import pack
from services.scheduler.service.shared import Shared
from services.scheduler.store import happening as store, workflow as workflows
from weft.scheduler.v1 import workflow_run_pb2 as pb
from weft.scheduler.v1.events_pb2 import WorkflowRunChanged, WorkflowTaskChanged

TYPES = [each.DESCRIPTOR.full_name for each in (WorkflowRunChanged, WorkflowTaskChanged)]
HEARTBEAT_S = 15.0  # What NATS lost is found within this.
SOON_S = 0.1  # Between looks for what was written, and perhaps announced, before we listened.
WATCHES_MAX = 500  # Of one process: each may read at every change.


class _Watch:
    """One watcher: what it wants, and whether there may be some of it."""

    def __init__(self, request: pb.WatchWorkflowRunsRequest) -> None:
        self.run_id, self.workflow_id = request.run_id, request.workflow_id
        self.stirred = asyncio.Event()

    def fits(self, update: pb.WorkflowRunUpdate) -> bool:
        return self.workflow_id in ("", update.workflow_id)


class Watchers:
    """Those of this process; one subscription to each type of event while there are any."""

    def __init__(self, shared: Shared, bus: Bus) -> None:
        self._shared, self._db, self._bus = shared, shared.db, bus
        self._watches: set[_Watch] = set()
        self._heard = 0  # All up to this position are published.
        self._subscriptions: list[Subscription] = []
        self._one_at_a_time = asyncio.Lock()

    async def watch(
        self, request: pb.WatchWorkflowRunsRequest, call: Call
    ) -> AsyncIterator[pb.WatchWorkflowRunsResponse]:
        """Until the caller ends it. Raises TooManyWatches, ResumeTokenRefused, UnknownWorkflowRun."""
        if len(self._watches) >= WATCHES_MAX:
            raise TooManyWatches(max=WATCHES_MAX)
        watch = _Watch(request)
        self._watches.add(watch)
        try:
            await self._open()
            cursor, first = await self._published(), None
            if token := request.resume_token:
                cursor = int(token)
                if cursor > await store.last(self._db):
                    raise ResumeTokenRefused(field="resume_token")
            elif request.run_id:
                run = await self._run(request.run_id)
                first = pb.WatchWorkflowRunsResponse(run=run, resume_token=str(cursor))
            await call.send_initial_metadata(())  # Nothing from here on is missed.
            if first:
                yield first
            async for answer in self._answers(watch, cursor):
                yield answer
        finally:
            self._watches.discard(watch)
            await self._close()

    async def _answers(self, watch: _Watch, cursor: int) -> AsyncIterator[pb.WatchWorkflowRunsResponse]:
        newest = await store.last(self._db)
        while True:
            watch.stirred.clear()
            upto = await self._published()
            while cursor < upto:
                rows, cursor = await store.since(self._db, (cursor, upto), TYPES, watch.run_id)
                for row in rows:
                    if watch.fits(update := _update(envelope(row))):
                        yield pb.WatchWorkflowRunsResponse(update=update, resume_token=str(row["position"]))
            caught_up = cursor >= newest
            await within(watch.stirred, HEARTBEAT_S if caught_up else SOON_S)
            if caught_up and not watch.stirred.is_set():
                now = pack.stamp(self._shared.clock.now())
                yield pb.WatchWorkflowRunsResponse(heartbeat=now, resume_token=str(cursor))

    async def _run(self, run_id: str) -> pb.WorkflowRun:
        """Raises UnknownWorkflowRun."""
        async with self._db.transaction() as tx:
            run = await workflows.run(tx, UUID(run_id))
            tasks = await workflows.tasks(tx, run.run_id)
        return pack.workflow_run(run, tasks.values())

    async def _published(self) -> int:
        self._heard = max(self._heard, await store.published(self._db))
        return self._heard

    async def _open(self) -> None:
        async with self._one_at_a_time:
            if not self._subscriptions:
                nc = self._bus.nc
                self._subscriptions = [await nc.subscribe(f"{each}.>", cb=self._hear) for each in TYPES]
                await self._bus.check()  # NATS has the subscriptions now.

    async def _close(self) -> None:
        async with self._one_at_a_time:
            if not self._watches:
                subscriptions, self._subscriptions = self._subscriptions, []
                for each in subscriptions:
                    if not self._bus.nc.is_closed:
                        await each.unsubscribe()

    async def _hear(self, message: Msg) -> None:
        header = json.loads((message.headers or {}).get(HEADER, "{}"))
        self._heard = max(self._heard, header.get("position", 0))
        for watch in self._watches:
            if watch.run_id in ("", header.get("key", "")):
                watch.stirred.set()


def _update(of: Envelope) -> pb.WorkflowRunUpdate:
    event = cast("WorkflowRunChanged | WorkflowTaskChanged", decode(of))
    update = pb.WorkflowRunUpdate(run_id=event.run_id, workflow_id=event.workflow_id, time=pack.stamp(of.at))
    if isinstance(event, WorkflowTaskChanged):
        update.task, update.task_state = event.task, event.state
    else:
        update.state = event.state
    return update
