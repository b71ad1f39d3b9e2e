"""Which levels change, heard once in a process for all who watch some of them."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from google.protobuf.message import DecodeError
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.chassis.bus import Bus, within
from weft.inventory.v1.events_pb2 import StockUpdated

SUBJECTS = "weft.inventory.v1.StockUpdated.*"


class Heard:
    """SKUs of one watch that changed and were not looked at yet: each once, so they cannot pile up."""

    def __init__(self) -> None:
        self._changed: dict[str, None] = {}
        self._stirred = asyncio.Event()

    def add(self, sku: str) -> None:
        self._changed[sku] = None
        self._stirred.set()

    async def next(self, wait_s: float) -> list[str]:
        """What changed; nothing after a while without."""
        if not self._changed:
            self._stirred.clear()
            await within(self._stirred, wait_s)
        taken, self._changed = list(self._changed), {}
        return taken


class Hearing:
    """One subscription, while anyone watches. What NATS loses, a watch finds at its next heartbeat."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._by_sku: dict[str, set[Heard]] = {}
        self._watches = 0
        self._subscription: Subscription | None = None
        self._one_at_a_time = asyncio.Lock()

    @asynccontextmanager
    async def listen(self, skus: Iterable[str]) -> AsyncIterator[Heard]:
        """Nothing that changes from here on is missed."""
        heard = Heard()
        for sku in skus:
            self._by_sku.setdefault(sku, set()).add(heard)
        self._watches += 1
        try:
            await self._open()
            yield heard
        finally:
            self._watches -= 1
            for sku in skus:
                self._by_sku[sku].discard(heard)
                if not self._by_sku[sku]:
                    del self._by_sku[sku]
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
        try:
            sku = StockUpdated.FromString(message.data).sku
        except DecodeError:
            return
        for heard in self._by_sku.get(sku, ()):
            heard.add(sku)
