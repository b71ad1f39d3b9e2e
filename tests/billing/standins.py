"""Payment and notification as tests of billing play them."""

from uuid import uuid4

from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.errors import AlreadyExists, NotFound, Unavailable
from services.chassis.events import emit
from services.chassis.host import Parts, Tools
from services.chassis.method import Call
from weft.money.v1.money_pb2 import Money
from weft.notification.v1 import notification_pb2 as mails
from weft.notification.v1.notification_pb2_grpc import (
    NotificationServiceServicer,
    add_NotificationServiceServicer_to_server,
)
from weft.payment.v1 import events_pb2 as events, intent_pb2 as intents, method_pb2, wallet_pb2
from weft.payment.v1.intent_pb2_grpc import IntentServiceServicer, add_IntentServiceServicer_to_server
from weft.payment.v1.method_pb2_grpc import MethodServiceServicer, add_MethodServiceServicer_to_server
from weft.payment.v1.wallet_pb2_grpc import WalletServiceServicer, add_WalletServiceServicer_to_server


class IntentIdReused(AlreadyExists):
    """Intent {intent_id} is another one."""


class UnknownIntent(NotFound):
    """There is no intent {intent_id}."""


class TillAway(Unavailable):
    """The till is away."""


class Payment(IntentServiceServicer, MethodServiceServicer, WalletServiceServicer):
    """A till: takes intents in, and ends them as a test says."""

    def __init__(self) -> None:
        self.intents: dict[str, intents.CreateIntentRequest] = {}
        self.calls = 0
        self.methods: dict[str, str] = {}  # Default method by customer.
        self.wallets: dict[str, int] = {}
        self.decline = ""  # The next intents fail so.
        self.away = 0  # So many calls find nobody.
        self.loses = 0  # So many calls are taken, and their answers lost.
        self.pays = True  # Whether intents succeed at once.

    def build(self, tools: Tools) -> Parts:
        self._tools = tools
        return Parts(
            servicers={
                add_IntentServiceServicer_to_server: self,
                add_MethodServiceServicer_to_server: self,
                add_WalletServiceServicer_to_server: self,
            }
        )

    async def CreateIntent(
        self, request: intents.CreateIntentRequest, call: Call
    ) -> intents.CreateIntentResponse:
        self.calls += 1
        if self.away:
            self.away -= 1
            raise TillAway
        known = self.intents.get(request.intent_id)
        if known is not None and known != request:
            raise IntentIdReused(intent_id=request.intent_id)
        if known is None:
            self.intents[request.intent_id] = request
            if self.decline:
                await self.fail(request.intent_id, self.decline)
            elif self.pays:
                await self.capture(request.intent_id)
        if self.loses:
            self.loses -= 1
            raise TillAway
        return intents.CreateIntentResponse(intent=self._intent(request.intent_id))

    def _intent(self, intent_id: str) -> intents.Intent:
        made = intents.Intent(intent_id=intent_id, state=intents.INTENT_STATE_PROCESSING)
        if self.decline:
            made.state = intents.INTENT_STATE_FAILED
            made.decline.code = self.decline
        return made

    async def GetIntent(self, request: intents.GetIntentRequest, call: Call) -> intents.GetIntentResponse:
        if request.intent_id not in self.intents:
            raise UnknownIntent(intent_id=request.intent_id)
        return intents.GetIntentResponse(intent=self._intent(request.intent_id))

    async def ListMethods(
        self, request: method_pb2.ListMethodsRequest, call: Call
    ) -> method_pb2.ListMethodsResponse:
        method_id = self.methods.get(request.customer_id)
        found = [method_pb2.Method(method_id=method_id, default=True)] if method_id else []
        return method_pb2.ListMethodsResponse(methods=found)

    async def GetWallets(
        self, request: wallet_pb2.GetWalletsRequest, call: Call
    ) -> wallet_pb2.GetWalletsResponse:
        free = Money(amount_minor=self.wallets.get(request.customer_id, 0), currency="EUR")
        return wallet_pb2.GetWalletsResponse(wallets=[wallet_pb2.Wallet(available=free)])

    async def capture(
        self, intent_id: str, minor: int | None = None, capture_id: str = "", times: int = 1
    ) -> str:
        """The money came; announced so often. Returns the capture's id."""
        request, capture_id = self.intents[intent_id], capture_id or str(uuid4())
        amount = Money(
            amount_minor=request.amount.amount_minor if minor is None else minor,
            currency=request.amount.currency,
        )
        captured = events.PaymentCaptured(
            intent_id=intent_id,
            capture_id=capture_id,
            reference=request.reference,
            customer_id=request.customer_id,
            amount=amount,
            gateway="sandbox",
            effective_time=self._now(),
        )
        for _ in range(times):
            await self._tell(captured)
        return capture_id

    async def fail(self, intent_id: str, reason: str) -> None:
        reference = self.intents[intent_id].reference
        await self._tell(events.PaymentFailed(intent_id=intent_id, reference=reference, reason=reason))

    async def cancel(self, intent_id: str) -> None:
        reference = self.intents[intent_id].reference
        await self._tell(events.PaymentCancelled(intent_id=intent_id, reference=reference, reason="expired"))

    async def refund(self, intent_id: str, minor: int, reason: str = "requested_by_customer") -> None:
        request = self.intents[intent_id]
        refunded = events.PaymentRefunded(
            refund_id=str(uuid4()),
            intent_id=intent_id,
            reference=request.reference,
            customer_id=request.customer_id,
            amount=Money(amount_minor=minor, currency="EUR"),
            reason=reason,
            effective_time=self._now(),
        )
        await self._tell(refunded)

    async def lose(self, intent_id: str, minor: int, dispute_id: str = "", times: int = 1) -> str:
        """A dispute was lost; announced so often. Returns its id."""
        request, dispute_id = self.intents[intent_id], dispute_id or str(uuid4())
        lost = events.DisputeLost(
            dispute_id=dispute_id,
            intent_id=intent_id,
            reference=request.reference,
            customer_id=request.customer_id,
            amount=Money(amount_minor=minor, currency=request.amount.currency),
            gateway="sandbox",
        )
        for _ in range(times):
            await self._tell(lost)
        return dispute_id

    async def _tell(self, event: object) -> None:
        async with self._tools.db.transaction() as tx:
            await emit(tx, event)  # type: ignore[arg-type]

    def _now(self) -> Timestamp:
        stamp = Timestamp()
        stamp.FromDatetime(self._tools.clock.now())
        return stamp


class Mail(NotificationServiceServicer):
    """A post office: keeps what it was given, by id."""

    def __init__(self) -> None:
        self.sent: dict[str, mails.SendMessageRequest] = {}
        self.away = 0

    def build(self, tools: Tools) -> Parts:
        return Parts(servicers={add_NotificationServiceServicer_to_server: self})

    async def SendMessage(self, request: mails.SendMessageRequest, call: Call) -> mails.SendMessageResponse:
        if self.away:
            self.away -= 1
            raise TillAway
        self.sent[request.message_id] = request
        return mails.SendMessageResponse()
