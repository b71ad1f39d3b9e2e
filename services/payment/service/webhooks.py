"""weft.payment.v1.WebhookService."""

from services.chassis.events import proven
from services.chassis.method import Call
from services.payment.domain.remote import Notice
from services.payment.domain.webhook import SeenNotice, UnknownGateway
from services.payment.metrics import NOTICES
from services.payment.service.shared import Shared
from services.payment.store import intent as store
from services.payment.store.once import written
from weft.payment.v1 import webhook_pb2 as pb
from weft.payment.v1.webhook_pb2_grpc import WebhookServiceServicer


class Webhooks(WebhookServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock = shared, shared.db, shared.clock

    async def ReceiveWebhook(
        self, request: pb.ReceiveWebhookRequest, call: Call
    ) -> pb.ReceiveWebhookResponse:
        gateway = self._shared.means.gateways.get(request.gateway)
        if gateway is None:
            raise UnknownGateway(gateway=request.gateway)
        notice = gateway.notice(call.header, request.body.data, self._clock.now())
        proven(f"gateway:{gateway.name}")
        outcome = await self._take(gateway.name, notice) if notice else "ignored"
        NOTICES.labels(gateway.name, outcome).inc()
        return pb.ReceiveWebhookResponse()

    async def _take(self, gateway: str, notice: Notice) -> str:
        """Lets the gateway be asked about the payment, once for each notice."""
        now = self._clock.now()
        seen = SeenNotice(
            gateway=gateway, notice_id=notice.notice_id, kind=notice.kind, ref=notice.ref, received_at=now
        )
        async with self._db.transaction() as tx:
            if not await written(tx, seen):
                return "repeated"
            intent = await store.of_gateway(tx, gateway, notice.ref, lock=True)
            if intent is None:
                return "foreign"
            intent.look_at = now
            if notice.dispute:
                await self._shared.payer.dispute(tx, intent, notice.dispute)
        return "taken"
