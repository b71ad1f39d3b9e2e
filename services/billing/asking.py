"""What dunning asks of others: payment, to charge; notification, to remind.

Each call carries an id that the other side knows, so it may be made twice. An answer that leaves open whether
anything was done is none: the action stays as it is, and is asked for again.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from google.rpc import code_pb2

from services.billing.domain.dunning import ActionState, StepKind
from services.billing.domain.invoice import PAYABLE
from services.chassis.clock import Clock
from services.chassis.errors import CallFailed
from services.chassis.mesh import Mesh
from services.chassis.money import Money, money_to_pb
from weft.notification.v1.notification_pb2 import Recipient, SendMessageRequest
from weft.notification.v1.notification_pb2_grpc import NotificationServiceStub
from weft.payment.v1.intent_pb2 import (
    CreateIntentRequest,
    GetIntentRequest,
    Intent,
    IntentState,
    MethodKind,
)
from weft.payment.v1.intent_pb2_grpc import IntentServiceStub
from weft.payment.v1.method_pb2 import ListMethodsRequest
from weft.payment.v1.method_pb2_grpc import MethodServiceStub
from weft.payment.v1.wallet_pb2 import GetWalletsRequest
from weft.payment.v1.wallet_pb2_grpc import WalletServiceStub

TEMPLATE = "invoice_reminder"
# Answers after which the same call may succeed.
OPEN = {
    code_pb2.UNAVAILABLE,
    code_pb2.DEADLINE_EXCEEDED,
    code_pb2.RESOURCE_EXHAUSTED,
    code_pb2.ABORTED,
    code_pb2.INTERNAL,
    code_pb2.UNKNOWN,
    code_pb2.CANCELLED,
}
STATES = {
    IntentState.INTENT_STATE_SUCCEEDED: ActionState.CALLED,
    IntentState.INTENT_STATE_PROCESSING: ActionState.CALLED,
    IntentState.INTENT_STATE_AUTHORISED: ActionState.CALLED,
    IntentState.INTENT_STATE_REQUIRES_ACTION: ActionState.CALLED,
    IntentState.INTENT_STATE_FAILED: ActionState.FAILED,
    IntentState.INTENT_STATE_CANCELLED: ActionState.FAILED,
}


@dataclass(frozen=True, slots=True)
class Done:
    """How an action ended, or that it is in the hands of others."""

    state: ActionState
    detail: str = ""


class Asking:
    """Calls others."""

    def __init__(self, mesh: Mesh, clock: Clock) -> None:
        self._intents, self._methods = IntentServiceStub(mesh), MethodServiceStub(mesh)
        self._wallets, self._notification = WalletServiceStub(mesh), NotificationServiceStub(mesh)
        self._clock = clock

    async def do(self, action: Any, chased: Any) -> Done | None:
        """None: it is not known, or could not be done yet."""
        try:
            if action["kind"] == StepKind.REMIND:
                return await self._remind(action, chased)
            return await self._charge(action, chased)
        except CallFailed as failed:
            return None if failed.code in OPEN else Done(ActionState.FAILED, failed.reason)

    async def _charge(self, action: Any, chased: Any) -> Done | None:
        owed = chased["due"] if chased["state"] in PAYABLE else 0
        if owed < action["amount"]:  # Settled meanwhile: nothing is begun, and what was is heard of.
            known = await self._known(action) if action["tries"] > 1 else None
            return _state(known) if known else Done(ActionState.SKIPPED, "settled")
        amount = Money(action["amount"], chased["currency"])
        request = CreateIntentRequest(
            intent_id=str(action["action_id"]),
            reference=f"invoice:{action['invoice_id']}",
            customer_id=str(chased["customer_id"]),
            amount=money_to_pb(amount),
            confirm=True,
        )
        if not await self._source(request, chased, amount):
            return Done(ActionState.FAILED, "NO_METHOD")
        try:
            return _state((await self._intents.CreateIntent(request)).intent)
        except CallFailed as failed:
            if failed.code != code_pb2.ALREADY_EXISTS:
                raise
        known = await self._known(action)  # The first try named another method.
        return _state(known) if known else None

    async def _known(self, action: Any) -> Intent | None:
        try:
            answer = await self._intents.GetIntent(GetIntentRequest(intent_id=str(action["action_id"])))
        except CallFailed as failed:
            if failed.code == code_pb2.NOT_FOUND:
                return None
            raise
        found: Intent = answer.intent
        return found

    async def _source(self, request: CreateIntentRequest, chased: Any, amount: Money) -> bool:
        """The wallet, if it holds enough; else the method of the profile, else the default one."""
        asked = GetWalletsRequest(customer_id=request.customer_id)
        for wallet in (await self._wallets.GetWallets(asked)).wallets:
            free = wallet.available
            if free.currency == amount.currency and free.amount_minor >= amount.minor:
                request.kind = MethodKind.METHOD_KIND_WALLET
                return True
        if chased["method_id"]:
            request.method_id = str(chased["method_id"])
            return True
        methods = await self._methods.ListMethods(ListMethodsRequest(customer_id=request.customer_id))
        for method in methods.methods:
            if method.default:
                request.method_id = method.method_id
                return True
        return False

    async def _remind(self, action: Any, chased: Any) -> Done:
        if chased["state"] not in PAYABLE or chased["due"] <= 0:
            return Done(ActionState.SKIPPED, "settled")
        if not chased["email"]:
            return Done(ActionState.SKIPPED, "no address")
        late = "1" if chased["due_at"] <= self._clock.now() else ""
        request = SendMessageRequest(
            message_id=str(action["action_id"]),
            template=TEMPLATE,
            recipient=Recipient(
                user_id=str(chased["customer_id"]),
                address=chased["email"],
                locale=chased["locale"],
                time_zone=chased["time_zone"],
            ),
            values={
                "display_name": chased["name"],
                "number": chased["number_text"],
                "amount": shown(Money(chased["due"], chased["currency"]).major, chased),
                "due_at": chased["due_at"].isoformat(),
                "late": late,
            },
        )
        await self._notification.SendMessage(request)
        return Done(ActionState.DONE)


def shown(amount: Decimal, chased: Any) -> str:
    """As people of the customer's language write it."""
    from babel.numbers import format_currency  # Its tables are read by who needs them.

    locale = chased["locale"].replace("-", "_") or "en"
    try:
        return str(format_currency(amount, chased["currency"], locale=locale))
    except ValueError:
        return str(format_currency(amount, chased["currency"], locale="en"))


def _state(intent: Intent) -> Done | None:
    state = STATES.get(intent.state)
    if state is None:
        return Done(ActionState.FAILED, "NO_METHOD")
    return Done(state, intent.decline.code or intent.cancel_reason)
