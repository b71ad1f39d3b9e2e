"""Streams of what happens to orders: each event once, in the order of the event table, from any place on.

An event is told when the relay has published it: until then one with a lower position may still come. What
NATS brings says that there is something, and how far all is published; the events are read from the table.
"""

import asyncio
import json
from collections.abc import AsyncIterator

from google.protobuf.message import Message
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.chassis.bus import Bus, within
from services.chassis.db import Database
from services.chassis.event_store import decode
from services.chassis.events import Envelope, envelope
from services.chassis.method import Call
from services.chassis.relay import HEADER
from services.order.store import history
from services.order.telling import stamp
from weft.order.v1 import events_pb2 as events
from weft.order.v1.order_lists_pb2 import WatchOrdersRequest, WatchOrdersResponse
from weft.order.v1.resource_pb2 import (
    ORDER_STATE_CANCELLED,
    ORDER_STATE_COMPLETED,
    ORDER_STATE_PENDING,
    ORDER_STATE_UNSPECIFIED,
)

SUBJECTS = "weft.order.v1.>"
HEARTBEAT_S = 15.0  # What NATS lost is found within this.
SOON_S = 0.1  # Between looks for what was written, and perhaps announced, before we listened.
STATES: dict[type[Message], int] = {
    events.OrderCreated: ORDER_STATE_PENDING,
    events.OrderCancelled: ORDER_STATE_CANCELLED,
    events.OrderCompleted: ORDER_STATE_COMPLETED,
}


class _Watch:
    """One watcher: what it wants, and whether there may be some of it."""

    def __init__(self, order_id: str, customer_id: str) -> None:
        self.order_id, self.customer_id = order_id, customer_id
        self.stirred = asyncio.Event()

    def wants(self, key: str, subject: str) -> bool:
        return self.order_id in ("", key) and self.customer_id in ("", subject)


class Watchers:
    """Those of this process; one subscription while there are any."""

    def __init__(self, db: Database, bus: Bus) -> None:
        self._db, self._bus = db, bus
        self._watches: set[_Watch] = set()
        self._heard = 0  # All up to this position are published.
        self._subscription: Subscription | None = None
        self._one_at_a_time = asyncio.Lock()

    async def watch(self, request: WatchOrdersRequest, call: Call) -> AsyncIterator[WatchOrdersResponse]:
        watch = _Watch(request.order_id, request.customer_id)
        self._watches.add(watch)
        try:
            await self._open()
            cursor = int(request.cursor) if request.cursor else await history.published(self._db)
            newest = await history.last(self._db)
            await call.send_initial_metadata(())  # Nothing from here on is missed.
            while True:
                watch.stirred.clear()
                upto = max(self._heard, await history.published(self._db))
                wanted = (request.order_id, request.customer_id)
                rows = await history.since(self._db, cursor, upto, *wanted)
                for row in rows:
                    yield _told(envelope(row))
                if len(rows) == history.WATCHED_MAX:
                    cursor = rows[-1]["position"]
                    continue
                cursor = max(cursor, upto)
                caught_up = cursor >= newest
                await within(watch.stirred, HEARTBEAT_S if caught_up else SOON_S)
                if caught_up and not watch.stirred.is_set():
                    yield WatchOrdersResponse(cursor=str(cursor))
        finally:
            self._watches.discard(watch)
            await self._close()

    async def _open(self) -> None:
        async with self._one_at_a_time:
            if self._subscription is None:
                self._subscription = await self._bus.nc.subscribe(SUBJECTS, cb=self._hear)
                await self._bus.check()  # NATS has the subscription now.

    async def _close(self) -> None:
        async with self._one_at_a_time:
            if not self._watches and self._subscription is not None:
                subscription, self._subscription = self._subscription, None
                if not self._bus.nc.is_closed:
                    await subscription.unsubscribe()

    async def _hear(self, message: Msg) -> None:
        header = json.loads((message.headers or {}).get(HEADER, "{}"))
        self._heard = max(self._heard, header.get("position", 0))
        for watch in self._watches:
            if watch.wants(header.get("key", ""), header.get("subject", "")):
                watch.stirred.set()


def _told(of: Envelope) -> WatchOrdersResponse:
    event = decode(of)
    state = STATES.get(type(event), ORDER_STATE_UNSPECIFIED)
    if isinstance(event, events.OrderStatusUpdated):
        state = event.to
    return WatchOrdersResponse(
        cursor=str(of.position),
        order_id=of.key,
        event=of.type.rpartition(".")[2],
        state=state,  # type: ignore[arg-type]
        time=stamp(of.at),
    )
