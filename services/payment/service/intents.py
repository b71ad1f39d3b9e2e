"""weft.payment.v1.IntentService."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.method import Call
from services.chassis.money import MixedCurrencies, Money, money_from_pb
from services.payment import announcing
from services.payment.domain import intent as rules
from services.payment.domain.intent import (
    BY_BANK,
    Asked,
    CaptureIdReused,
    CaptureModeRefused,
    CaptureMustBeFinal,
    Intent,
    IntentBusy,
    IntentIdReused,
    Kind,
    MethodRequired,
    MoreThanAuthorised,
    Operation,
    Outcome,
    State,
    UnknownIntent,
    positive,
)
from services.payment.domain.method import Method, no_card_number
from services.payment.domain.remote import GatewayAway, Source
from services.payment.domain.settling import Settlement, capturable
from services.payment.service import pack
from services.payment.service.shared import Shared, optional
from services.payment.store import intent as store, method as methods
from services.payment.store.once import written
from weft.payment.v1 import intent_pb2 as pb
from weft.payment.v1.intent_pb2_grpc import IntentServiceServicer

KINDS = {number: kind for kind, number in pack.KINDS.items()}
REQUESTED = "requested"


class Intents(IntentServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock, self._payer = shared, shared.db, shared.clock, shared.payer

    async def CreateIntent(self, request: pb.CreateIntentRequest, call: Call) -> pb.CreateIntentResponse:
        operations: Sequence[Operation] = ()
        async with self._db.transaction() as tx:
            row = await self._row(tx, request)
            fresh = await written(tx, row)
            stored = await store.get(tx, row.intent_id)
            if stored.body_mac != row.body_mac:
                raise IntentIdReused(intent_id=row.intent_id)
            if fresh:
                await emit(tx, announcing.created(stored))
                started = await self._start(tx, stored) if request.confirm else None
            else:
                operations = await store.operations(tx, row.intent_id)
        if fresh and started:
            return pb.CreateIntentResponse(intent=await self._performed(stored, started))
        return pb.CreateIntentResponse(intent=self._packed(stored, operations))

    async def ConfirmIntent(self, request: pb.ConfirmIntentRequest, call: Call) -> pb.ConfirmIntentResponse:
        started, intent_id = None, UUID(request.intent_id)
        async with self._db.transaction() as tx:
            row = await self._own(tx, intent_id, request.customer_id)
            if request.method_id and row.state in (State.REQUIRES_METHOD, State.REQUIRES_CONFIRMATION):
                await self._choose(tx, row, UUID(request.method_id))
            if row.state in (State.REQUIRES_METHOD, State.REQUIRES_CONFIRMATION, State.CANCELLED):
                started = await self._start(tx, row)
            looking = row.state == State.REQUIRES_ACTION and row.kind not in BY_BANK
        if started:
            return pb.ConfirmIntentResponse(intent=await self._performed(row, started))
        if looking:
            await self._look(intent_id)
        return pb.ConfirmIntentResponse(intent=await self._seen(intent_id))

    async def CaptureIntent(self, request: pb.CaptureIntentRequest, call: Call) -> pb.CaptureIntentResponse:
        intent_id = UUID(request.intent_id)
        async with self._db.transaction() as tx:
            row = await store.get(tx, intent_id, lock=True)
            capture, fresh = await self._capture(tx, row, request)
        intent = await self._performed(row, capture) if fresh else await self._seen(intent_id)
        listed = (each for each in intent.captures if each.capture_id == request.capture_id)
        return pb.CaptureIntentResponse(intent=intent, capture=next(listed, pack.capture(capture)))

    async def CancelIntent(self, request: pb.CancelIntentRequest, call: Call) -> pb.CancelIntentResponse:
        intent_id, void = UUID(request.intent_id), None
        async with self._db.transaction() as tx:
            row = await self._own(tx, intent_id, request.customer_id)
            operations = await store.operations(tx, intent_id)
            released = any(each.kind == Asked.VOID for each in operations)
            if row.state not in (State.CANCELLED, State.FAILED) and not released:
                settlement = Settlement(row, operations, self._clock.now())
                void = settlement.cancel(request.reason or REQUESTED)
                if void:
                    void.attempts, void.due_at = 1, self._payer.lease()
                await self._payer.conclude(tx, settlement)
        if void:
            return pb.CancelIntentResponse(intent=await self._performed(row, void))
        return pb.CancelIntentResponse(intent=await self._seen(intent_id))

    async def GetIntent(self, request: pb.GetIntentRequest, call: Call) -> pb.GetIntentResponse:
        return pb.GetIntentResponse(
            intent=await self._seen(UUID(request.intent_id), optional(request.customer_id))
        )

    async def ListIntents(self, request: pb.ListIntentsRequest, call: Call) -> pb.ListIntentsResponse:
        page = store.INTENTS.page(request, self._shared.page_key)
        async with self._db.transaction() as tx:
            rows, token = await store.page(tx, page, optional(request.customer_id))
        packed = [self._packed(row, ()) for row in rows]
        return pb.ListIntentsResponse(intents=packed, next_page_token=token)

    async def _row(self, tx: Tx, request: pb.CreateIntentRequest) -> Intent:
        """The payment that is asked for, not written yet."""
        now, amount = self._clock.now(), positive(money_from_pb(request.amount), "amount")
        no_card_number(request.reference, "reference")
        no_card_number(request.return_url, "return_url")
        row = self._bare(request, amount, now)
        source = request.WhichOneof("source")
        if source == "method_id":
            await self._choose(tx, row, UUID(request.method_id))
        elif source == "card_token":
            token = Source(no_card_number(request.card_token, "card_token"))
            self._pay_by(row, Kind.CARD)
            row.sealed_source = self._shared.sealer.source(token, row.intent_id)
        elif source == "kind":
            await self._choose_kind(tx, row, KINDS[request.kind])
        elif request.confirm:
            raise MethodRequired(intent_id=row.intent_id)
        wanted = request.expire_time.ToDatetime(UTC) if request.HasField("expire_time") else None
        row.expire_at = rules.expiry(wanted, Kind(row.kind), now)
        return row

    def _bare(self, request: pb.CreateIntentRequest, amount: Money, now: datetime) -> Intent:
        return Intent(
            intent_id=UUID(request.intent_id),
            body_mac=self._shared.sealer.mac(request.SerializeToString(deterministic=True)),
            reference=request.reference,
            customer_id=UUID(request.customer_id),
            currency=amount.currency,
            amount=amount.minor,
            kind=Kind.NONE,
            method_id=None,
            sealed_source=None,
            gateway="",
            gateway_ref="",
            capture=request.capture != pb.CAPTURE_MODE_MANUAL,
            top_up=request.top_up,
            return_url=request.return_url,
            redirect_url="",
            state=State.REQUIRES_METHOD,
            authorised=0,
            captured=0,
            refunded=0,
            disputed=0,
            decline_code="",
            decline_message="",
            cancel_reason="",
            created_at=now,
            updated_at=now,
            expire_at=None,
            look_at=None,
            looks=0,
        )

    async def _choose(self, tx: Tx, row: Intent, method_id: UUID) -> None:
        """It is paid by a method of the customer's. Raises UnknownMethod, MethodDetached."""
        method = (await methods.of_customer(tx, method_id, row.customer_id, lock=True)).usable()
        self._pay_by(row, Kind(method.kind))
        await self._use(tx, row, method)

    async def _choose_kind(self, tx: Tx, row: Intent, kind: Kind) -> None:
        self._pay_by(row, kind)
        if kind is Kind.INVOICE:
            await self._use(tx, row, await methods.invoice(tx, row.customer_id, row.currency))

    async def _use(self, tx: Tx, row: Intent, method: Method) -> None:
        row.method_id = method.method_id
        if method.kind == Kind.INVOICE:
            method.lend(await store.owed(tx, method.method_id), row.owed)
        if method.sealed_source is not None:
            source = self._shared.sealer.open_source(method.sealed_source, method.method_id)
            row.sealed_source = self._shared.sealer.source(source, row.intent_id)

    def _pay_by(self, row: Intent, kind: Kind) -> None:
        """Raises KindNotOffered, AmountNotChargeable, CaptureModeRefused."""
        gateway = self._shared.gateway(kind)
        gateway.check(row.owed)
        if kind is Kind.BANK_TRANSFER and not row.capture:
            raise CaptureModeRefused(rule="A bank transfer is captured when it comes.", field="capture")
        if row.top_up and kind in (Kind.WALLET, Kind.INVOICE):
            raise CaptureModeRefused(rule="A wallet is not topped up by wallet or invoice.", field="top_up")
        if kind is Kind.INVOICE:
            row.capture = False
        row.kind, row.gateway, row.state = kind, gateway.name, State.REQUIRES_CONFIRMATION

    async def _start(self, tx: Tx, row: Intent) -> Operation:
        """The gateway is about to be asked."""
        operation = row.start(self._clock.now())
        self._shared.at(row.kind, row.gateway)
        operation.attempts, operation.due_at = 1, self._payer.lease()
        row.gateway_ref = self._payer.ref(row)
        tx.add(operation)
        await tx.flush()
        await emit(tx, announcing.started(row))
        return operation

    async def _look(self, intent_id: UUID) -> None:
        try:
            await self._payer.look(intent_id)
        except GatewayAway:
            return  # The answer is what was known before.

    async def _capture(self, tx: Tx, row: Intent, request: pb.CaptureIntentRequest) -> tuple[Operation, bool]:
        """The capture, and whether it is new. Of what is paid by bank it is never written."""
        now, asked = self._clock.now(), _asked(row, request)
        operation = row.ask(Asked.CAPTURE, asked or 0, now, UUID(request.capture_id))
        operation.asked, operation.final = asked, request.final
        if request.HasField("effective_time"):
            operation.effective_at = request.effective_time.ToDatetime(UTC)
        found = await store.operation(tx, Asked.CAPTURE, operation.operation_id)
        if found is not None:
            if (found.intent_id, found.asked, found.final) != (row.intent_id, asked, request.final):
                raise CaptureIdReused(capture_id=request.capture_id)
            return found, False
        if row.kind == Kind.INVOICE or (row.kind in BY_BANK and row.state == State.SUCCEEDED):
            row.allow("capture", State.AUTHORISED, State.SUCCEEDED)
            operation.amount = asked or row.amount
            operation.state = Outcome.SUCCEEDED if row.state == State.SUCCEEDED else Outcome.PENDING
            return operation, False
        row.allow("capture", State.AUTHORISED)
        self._measure(row, operation, await store.operations(tx, row.intent_id))
        operation.attempts, operation.due_at = 1, self._payer.lease()
        tx.add(operation)
        return operation, True

    def _measure(self, row: Intent, operation: Operation, others: Sequence[Operation]) -> None:
        """Raises IntentBusy, MoreThanAuthorised, CaptureMustBeFinal, AmountNotChargeable."""
        if any(each.pending and each.kind in (Asked.CAPTURE, Asked.VOID) for each in others):
            raise IntentBusy(intent_id=row.intent_id, operation="capture")
        left = capturable(row, others)
        operation.amount = left if operation.asked is None else operation.asked
        if operation.amount > left:
            raise MoreThanAuthorised(
                intent_id=row.intent_id, left=row.money(left), wanted=row.money(operation.amount)
            )
        gateway = self._shared.at(row.kind, row.gateway)
        if not gateway.several_captures and not operation.final and operation.amount < left:
            raise CaptureMustBeFinal(gateway=row.gateway)
        gateway.check(operation.money)

    async def _performed(self, row: Intent, operation: Operation) -> pb.Intent:
        """The payment after its gateway was asked."""
        known = await self._payer.perform(row, operation)
        if known is None:
            return await self._seen(row.intent_id)
        return self._packed(known.intent, (*known.operations, *known.added))

    def _packed(self, row: Intent, operations: Sequence[Operation]) -> pb.Intent:
        return pack.intent(row, operations, self._shared.bank)

    async def _own(self, tx: Tx, intent_id: UUID, customer_id: str) -> Intent:
        """Locked. Somebody else's is as unknown as one that is none."""
        row = await store.get(tx, intent_id, lock=True)
        if optional(customer_id) not in (None, row.customer_id):
            raise UnknownIntent(intent_id=intent_id)
        return row

    async def _seen(self, intent_id: UUID, customer_id: UUID | None = None) -> pb.Intent:
        async with self._db.transaction() as tx:
            row = await store.get(tx, intent_id)
            if customer_id not in (None, row.customer_id):
                raise UnknownIntent(intent_id=intent_id)
            return self._packed(row, await store.operations(tx, intent_id))


def _asked(row: Intent, request: pb.CaptureIntentRequest) -> int | None:
    """Minor units; None: all. Raises MixedCurrencies, AmountNotPositive."""
    if not request.HasField("amount"):
        return None
    amount = positive(money_from_pb(request.amount), "amount")
    if amount.currency != row.currency:
        raise MixedCurrencies(first=amount.currency, second=row.currency)
    return amount.minor
