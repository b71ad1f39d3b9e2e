"""Mails about orders. None of them holds an order up: what cannot be sent is logged."""

import logging
from collections.abc import Mapping

from services.chassis.db import Database
from services.chassis.errors import CallFailed
from services.chassis.mesh import Mesh
from services.chassis.saga import AWAY
from services.order.domain.ids import derived
from services.order.domain.order import Order
from services.order.store import detail
from weft.identity.v1.user_pb2 import GetUserRequest
from weft.identity.v1.user_pb2_grpc import UserServiceStub
from weft.notification.v1.notification_pb2 import Channel, Recipient, SendMessageRequest
from weft.notification.v1.notification_pb2_grpc import NotificationServiceStub
from weft.order.v1.resource_pb2 import Contact

log = logging.getLogger("weft.order")

LINES_MAX = 40  # Of a mail; what a value holds is bounded, and nobody reads more.
TITLE_CHARS_MAX = 60  # Likewise: 40 lines fit the 4,096 bytes of a value.


class Mailer:
    """Writes to whoever an order is for."""

    def __init__(self, db: Database, mesh: Mesh, *, on: bool) -> None:
        self._db, self._on = db, on
        self._users, self._notification = UserServiceStub(mesh), NotificationServiceStub(mesh)

    async def confirmed(self, order: Order) -> None:
        units = {line.line_id: line.units for line in order.lines.values()}
        values = {"total": str(order.money(order.gross)), "lines": await self._lines(order, units)}
        await self._send(order, "order_confirmed", order.order_id, values)

    async def shipped(self, order: Order, shipment_id: str) -> None:
        shipment = order.shipment(shipment_id)
        values = {"lines": await self._lines(order, shipment.units)}
        values |= {"carrier": shipment.carrier, "tracking": shipment.tracking_number}
        await self._send(order, "order_shipped", shipment_id, values)

    async def cancelled(self, order: Order) -> None:
        refunded = str(order.money(order.paid_back)) if order.paid_back else ""
        await self._send(order, "order_cancelled", order.order_id, {"refunded": refunded})

    async def _lines(self, order: Order, units: Mapping[str, int]) -> str:
        found = await detail.find(self._db, order.key)
        titles = found.titles if found else {}
        shown = list(units.items())[:LINES_MAX]
        texts = [(titles.get(line_id) or order.lines[line_id].sku, count) for line_id, count in shown]
        return "\n".join(f"{_plain(title)}\t{count}" for title, count in texts)

    async def _send(self, order: Order, template: str, of: str, values: Mapping[str, str]) -> None:
        """Raises CallFailed while something is away."""
        if not self._on:
            return
        try:
            recipient = await self._recipient(order)
            if recipient is None:
                return
            request = SendMessageRequest(
                message_id=derived(of, template),
                template=template,
                channel=Channel.CHANNEL_EMAIL,
                recipient=recipient,
                values={"order": order.order_id, **values},
            )
            await self._notification.SendMessage(request)
        except CallFailed as failed:
            if failed.code in AWAY:
                raise
            log.warning("a mail is not sent: %s", failed.reason, extra={"facts": {"order": order.order_id}})

    async def _recipient(self, order: Order) -> Recipient | None:
        """Whom the order names, else whose it is; None: nobody is known."""
        found = await detail.find(self._db, order.key)
        contact = Contact.FromString(found.contact) if found and found.contact else Contact()
        if contact.email:
            return Recipient(user_id=order.customer_id, address=contact.email, locale=contact.locale)
        if not order.customer_id:
            return None
        user = (await self._users.GetUser(GetUserRequest(user_id=order.customer_id))).user
        if not user.email:
            return None
        profile = user.profile
        return Recipient(user_id=order.customer_id, address=user.email, locale=profile.locale)


def _plain(title: str) -> str:
    return " ".join(title.split())[:TITLE_CHARS_MAX]
