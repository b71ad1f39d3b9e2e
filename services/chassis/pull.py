"""A durable JetStream consumer, pulled with credit: requests overlap, so handlers never wait for one."""

import asyncio
import json
from collections import deque
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from nats.aio.msg import Msg
from nats.js import api

from services.chassis.bus import Bus, within

ACK_WAIT_S = 30.0  # Only for holders that froze: a new holder resets, a live one says it is at work.
ACK_PENDING_MAX = 1_000
EXPIRES_S = 5.0
LOST_S = EXPIRES_S + 2.0  # A request that has brought neither message nor status by then was lost.
TICK_S = 1.0  # `next` returns this often even when nothing comes.
NOTHING_NOW = {"404", "408", "409"}  # Of a request that ended; 503: nobody serves the consumer.


class ConsumerGone(Exception):
    """The durable or its stream was deleted."""


async def ensure_consumer(bus: Bus, stream: str, name: str, subjects: list[str]) -> None:
    """The durable, set back to what was acknowledged without a hole: the rest comes again, in order."""
    await bus.js.add_consumer(
        stream,
        api.ConsumerConfig(
            durable_name=name,
            filter_subjects=subjects,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            max_ack_pending=ACK_PENDING_MAX,
        ),
    )
    await bus.request(f"CONSUMER.RESET.{stream}.{name}")


class Pull:
    """Messages of one durable, at most about `room` of them undone."""

    def __init__(self, bus: Bus, stream: str, name: str, room: int) -> None:
        self._bus, self._room = bus, room
        self._ask_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
        self._came: deque[Msg] = deque()
        self._stirred = asyncio.Event()
        self._owed, self._asked_at, self._gone = 0, 0.0, False
        bus.on_reconnect(self._forget_requests)

    async def __aenter__(self) -> Self:
        self._inbox = f"{self._bus.nc.new_inbox()}.{uuid4().hex[:8]}"
        self._subscription = await self._bus.nc.subscribe(self._inbox, cb=self._arrive)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bus.off_reconnect(self._forget_requests)
        if not self._bus.nc.is_closed:
            await self._subscription.unsubscribe()

    async def _arrive(self, message: Msg) -> None:
        status = (message.headers or {}).get("Status", "") if not message.data else ""
        if not status:
            self._owed -= 1
            self._came.append(message)
        elif status in NOTHING_NOW:
            unserved = int((message.headers or {}).get("Nats-Pending-Messages", self._owed))
            self._owed = max(0, self._owed - unserved)
            self._gone = self._gone or "Deleted" in str(message.headers)
        elif status == "503":
            self._gone = True
        self._stirred.set()

    def _forget_requests(self) -> None:
        self._owed = 0
        self._stirred.set()

    async def next(self, held: int) -> Msg | None:
        """The next message; None after a while without one. `held` messages are being handled."""
        self._stirred.clear()
        await self._ask(held + len(self._came))
        if not self._came:
            await within(self._stirred, TICK_S)
        if self._gone:
            raise ConsumerGone(self._ask_subject)
        return self._came.popleft() if self._came else None

    def stir(self) -> None:
        """Something was done, so there may be room: `next` looks again, and does not wait out its tick."""
        self._stirred.set()

    async def _ask(self, undone: int) -> None:
        """Asks for more when less than half of the room is taken or promised."""
        now = asyncio.get_running_loop().time()
        if now - self._asked_at > LOST_S:
            self._owed = 0
        if undone + self._owed > self._room // 2 or not self._bus.nc.is_connected:
            return
        want = self._room - undone - self._owed
        self._owed, self._asked_at = self._owed + want, now
        request: dict[str, Any] = {"batch": want, "expires": int(EXPIRES_S * 1e9)}
        await self._bus.nc.publish(self._ask_subject, json.dumps(request).encode(), reply=self._inbox)
