"""What came to be at the services that order asks, and what is to go wrong there."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from services.chassis.db import Database
from services.chassis.errors import Unavailable
from services.chassis.events import emit
from weft.catalog.v1 import product_messages_pb2 as catalog
from weft.inventory.v1 import reservation_pb2 as inventory
from weft.notification.v1 import notification_pb2 as mail
from weft.payment.v1 import intent_pb2 as payment


class Out(Unavailable):
    """It is away."""


@dataclass
class Thing:
    """What can be bought."""

    price: int = 10_000  # Net, minor units.
    title: str = "A thing"
    shippable: bool = True
    state: int = catalog.PRODUCT_STATE_ACTIVE


@dataclass
class World:
    """What came to be elsewhere, and what is to go wrong."""

    things: dict[str, Thing] = field(default_factory=dict)
    coupons: dict[str, int] = field(default_factory=dict)  # Percent off by code.
    stock: Counter[str] = field(default_factory=Counter)
    held: dict[str, inventory.Reservation] = field(default_factory=dict)
    redeemed: dict[str, bool] = field(default_factory=dict)
    redeemable: int = 1_000
    intents: dict[str, payment.Intent] = field(default_factory=dict)
    gateway: dict[str, int] = field(default_factory=dict)  # State that a token leads to.
    captures_fail: str = ""
    refunds_fail: str = ""
    charged: int = 0  # Money that left customers, less what went back.
    received: list[tuple[str, str, int]] = field(default_factory=list)  # Location, SKU, units: came back.
    mails: list[mail.SendMessageRequest] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)  # Methods in the order they were called.
    before: Callable[[str], Awaitable[None]] | None = None  # May raise: it did not come to pass.
    after: Callable[[str], Awaitable[None]] | None = None  # May raise: it did, and nobody hears of it.
    db: Database | None = None

    async def announce(self, *events: Message) -> None:
        assert self.db
        async with self.db.fast() as tx:
            await emit(tx, *events)


class Part:
    def __init__(self, world: World) -> None:
        self.world = world

    async def _around(self, name: str, effect: Callable[[], Any]) -> Any:
        """What a call does, with whatever goes wrong on its way there or back."""
        self.world.calls.append(name)
        await asyncio.sleep(0)
        if self.world.before:
            await self.world.before(name)
        made = effect()
        if self.world.after:
            await self.world.after(name)
        return made
