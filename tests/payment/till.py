"""What tests of payment have in common: a lab, payments to make, and an eye on what became of them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import pytest

from services.chassis.clock import Clock
from services.chassis.testing import Lab, laboratory, reason, until
from services.payment.app import build
from tests.servers import Shared
from weft.money.v1.money_pb2 import Money
from weft.payment.v1 import intent_pb2 as pb, movement_pb2, refund_pb2
from weft.payment.v1.intent_pb2_grpc import IntentServiceStub
from weft.payment.v1.refund_pb2_grpc import RefundServiceStub

VISA = "pm_card_visa"
SWIFT = {"ROUND_S": "0.1", "RETRY_FIRST_S": "0.05", "POLL_S": "0.2", "LEASE_S": "10", "CALL_S": "8"}


class Till:
    """A payment service, and who uses it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.intents, self.refunds = IntentServiceStub(lab.channel), RefundServiceStub(lab.channel)

    @property
    def me(self) -> tuple[tuple[str, str], ...]:
        return self.lab.bearer()

    async def ask(self, method: Any, request: Any, who: Any = None) -> Any:
        """As a caller does who asks again while there is no room: every request here has an id of its own."""
        while True:
            try:
                return await method(request, metadata=who or self.me)
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise

    async def create(self, **wanted: Any) -> pb.Intent:
        """By a card that works, unless said otherwise."""
        answer = await self.ask(self.intents.CreateIntent, request(**wanted))
        made: pb.Intent = answer.intent
        return made

    async def pay(self, **wanted: Any) -> pb.Intent:
        return await self.create(confirm=True, **wanted)

    async def hold(self, **wanted: Any) -> pb.Intent:
        return await self.pay(capture=pb.CAPTURE_MODE_MANUAL, **wanted)

    async def confirm(self, intent_id: str, **rest: Any) -> pb.Intent:
        wanted = pb.ConfirmIntentRequest(intent_id=intent_id, **rest)
        made: pb.Intent = (await self.ask(self.intents.ConfirmIntent, wanted)).intent
        return made

    async def capture(
        self, intent_id: str, minor: int = 0, capture_id: str = "", **rest: Any
    ) -> pb.CaptureIntentResponse:
        """Zero is all that is left."""
        wanted = pb.CaptureIntentRequest(
            intent_id=intent_id,
            capture_id=capture_id or str(uuid4()),
            amount=money(minor) if minor else None,
            **rest,
        )
        answer: pb.CaptureIntentResponse = await self.ask(self.intents.CaptureIntent, wanted)
        return answer

    async def cancel(self, intent_id: str, **rest: Any) -> pb.Intent:
        wanted = pb.CancelIntentRequest(intent_id=intent_id, **rest)
        made: pb.Intent = (await self.ask(self.intents.CancelIntent, wanted)).intent
        return made

    async def refund(
        self, intent_id: str, minor: int = 0, refund_id: str = "", **rest: Any
    ) -> movement_pb2.Refund:
        """Zero is all that is left."""
        wanted = refund_pb2.CreateRefundRequest(
            refund_id=refund_id or str(uuid4()),
            intent_id=intent_id,
            amount=money(minor) if minor else None,
            **rest,
        )
        made: movement_pb2.Refund = (await self.ask(self.refunds.CreateRefund, wanted)).refund
        return made

    async def get(self, intent_id: str) -> pb.Intent:
        answer = await self.ask(self.intents.GetIntent, pb.GetIntentRequest(intent_id=intent_id))
        found: pb.Intent = answer.intent
        return found

    async def settled(self, intent: pb.Intent) -> pb.Intent:
        """Once its gateway has answered: on a machine that is busy it may be asked again."""
        found = intent

        async def answered() -> bool:
            nonlocal found
            found = found if state_of(found) != "PROCESSING" else await self.get(intent.intent_id)
            return state_of(found) != "PROCESSING"

        await until(answered)
        return found

    async def becomes(self, intent_id: str, state: str, **amounts: int) -> pb.Intent:
        """Waits for the state, and for sums such as `refunded`."""

        async def there() -> pb.Intent | None:
            found = await self.get(intent_id)
            sums = {name: getattr(found, name).amount_minor for name in amounts}
            return found if (state_of(found), sums) == (state, amounts) else None

        try:
            found: pb.Intent = await until(there)
        except TimeoutError:
            raise AssertionError(f"not {state} {amounts}: {await self.get(intent_id)}") from None
        return found

    async def events(self, intent_id: str) -> list[str]:
        """Short names of what was announced of a payment, in order."""
        sql = "select type from event where key = $1 order by position"
        rows = await self.lab.db("payment").fetch(sql, intent_id)
        return [row["type"].rpartition(".")[2] for row in rows]


@asynccontextmanager
async def till(servers: Shared, clock: Clock | None = None, **settings: str) -> AsyncIterator[Till]:
    """`settings` as in PaymentSettings."""
    own = {f"WEFT_PAYMENT_{name.upper()}": value for name, value in {**SWIFT, **settings}.items()}
    builds = {"payment": partial(build, environ=own)}
    postgres, nats = servers.postgres(), servers.account()
    async with laboratory(builds, postgres_url=postgres, nats_url=nats, clock=clock) as lab:
        yield Till(lab)


def money(minor: int, currency: str = "EUR") -> Money:
    return Money(amount_minor=minor, currency=currency)


def request(minor: int = 1000, currency: str = "EUR", **wanted: Any) -> pb.CreateIntentRequest:
    made = {
        "intent_id": str(uuid4()),
        "reference": f"order:{uuid4()}",
        "customer_id": str(uuid4()),
        "amount": money(minor, currency),
        **wanted,
    }
    if not {"method_id", "card_token", "kind", "no_source"} & set(made):
        made["card_token"] = VISA
    made.pop("no_source", None)
    return pb.CreateIntentRequest(**made)


def state_of(intent: pb.Intent) -> str:
    return pb.IntentState.Name(intent.state).removeprefix("INTENT_STATE_")


def outcome_of(operation: movement_pb2.Capture | movement_pb2.Refund) -> str:
    return movement_pb2.OperationState.Name(operation.state).removeprefix("OPERATION_STATE_")


async def refused(calling: Awaitable[Any]) -> str:
    """The reason of a call's refusal."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await calling
    return reason(error.value)


Check = Callable[[], Awaitable[Any]]
