"""Mails to whoever orders goods: what runs low. One tells of all that fell low since the last."""

import asyncio
from typing import Any
from uuid import UUID

from google.rpc import code_pb2

from services.chassis.bus import within
from services.chassis.clock import Clock, uuid7
from services.chassis.db import Database
from services.chassis.errors import CallFailed
from services.chassis.mesh import Mesh
from services.chassis.modes import Modes
from services.inventory.settings import InventorySettings
from services.inventory.store import low_stock
from weft.notification.v1.notification_pb2 import Channel, Recipient, SendMessageRequest
from weft.notification.v1.notification_pb2_grpc import NotificationServiceStub

MAILS = "notification.send"  # The write that waits in rows of ours while mails cannot be taken.
NAMED_MAX = 20  # Levels that one mail names, at most 4 kB of them; it counts the rest.
LOOK_EVERY_S = 60.0  # What another replica noted, and what notification could not take, is found then.


class Alerting:
    """On one replica at a time."""

    def __init__(
        self, db: Database, mesh: Mesh, clock: Clock, settings: InventorySettings, modes: Modes
    ) -> None:
        self._db, self._clock, self._settings, self._modes = db, clock, settings, modes
        self._notification = NotificationServiceStub(mesh)
        self._stirred = asyncio.Event()

    def poke(self) -> None:
        """Something fell low here."""
        self._stirred.set()

    async def run(self) -> None:
        """For ever; raises while notification is away, and is begun again."""
        async with self._db.leases.hold("inventory.alerts") as lease:
            while True:
                lease.check()
                self._stirred.clear()
                if await self.round():
                    await self._clock.sleep(self._settings.alert_every_s)
                else:
                    await within(self._stirred, LOOK_EVERY_S)

    async def round(self) -> bool:
        """Whether there was anything to tell; it has been told then, unless it is to wait."""
        if self._modes.queued(MAILS):
            return False
        rows = await low_stock.claim(self._db, uuid7(self._clock.now()), NAMED_MAX)
        if not rows:
            return False
        named = [f"{_place(row)}\t{row['available']} / {row['alert_at']}" for row in rows]
        more = rows[0]["levels"] - len(rows)
        await self._send(rows[0]["mail_id"], {"levels": "\n".join(named), "more": str(more) if more else ""})
        await low_stock.told(self._db)
        return True

    async def _send(self, mail_id: UUID, values: dict[str, str]) -> None:
        """Once for each id, though what a level has left may be otherwise at the second attempt."""
        to = Recipient(address=self._settings.alert_address, locale=self._settings.alert_locale)
        try:
            await self._notification.SendMessage(
                SendMessageRequest(
                    message_id=str(mail_id),
                    template="low_stock",
                    channel=Channel.CHANNEL_EMAIL,
                    recipient=to,
                    values=values,
                )
            )
        except CallFailed as failed:
            if failed.code != code_pb2.ALREADY_EXISTS:
                raise


def _place(row: Any) -> str:
    """On one line, whatever the location is called."""
    return f"{row['sku']} ({' '.join(row['name'].split())})"
