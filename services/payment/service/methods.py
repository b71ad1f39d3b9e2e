"""weft.payment.v1.MethodService."""

import json
from datetime import datetime
from uuid import UUID

from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.method import Call
from services.chassis.money import money_from_pb
from services.payment.domain import iban
from services.payment.domain.intent import Kind, positive
from services.payment.domain.method import (
    METHODS_MAX,
    CardRefused,
    GatewayUnreachable,
    Method,
    MethodIdReused,
    TooManyMethods,
    no_card_number,
)
from services.payment.domain.remote import GatewayAway, GatewayRefused
from services.payment.service import pack
from services.payment.service.shared import Shared, optional
from services.payment.store import method as store
from services.payment.store.once import written
from weft.payment.v1 import method_pb2 as pb
from weft.payment.v1.events_pb2 import DefaultMethodChanged, MethodAttached, MethodDetached
from weft.payment.v1.method_pb2_grpc import MethodServiceServicer


class Methods(MethodServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock = shared, shared.db, shared.clock

    async def AttachMethod(self, request: pb.AttachMethodRequest, call: Call) -> pb.AttachMethodResponse:
        method_id = UUID(request.method_id)
        mac = self._shared.sealer.mac(request.SerializeToString(deterministic=True))
        found, known = await self._before(method_id, UUID(request.customer_id))
        if found is None:
            row = _bare(method_id, UUID(request.customer_id), mac, self._clock.now())
            if request.WhichOneof("details") == "card_token":
                await self._card(row, request.card_token, known)
            else:
                self._account(row, request.bank_account)
            found = await self._attach(row)
        return pb.AttachMethodResponse(method=pack.method(_same(found, mac)))

    async def GrantInvoice(self, request: pb.GrantInvoiceRequest, call: Call) -> pb.GrantInvoiceResponse:
        limit = positive(money_from_pb(request.credit_limit), "credit_limit")
        mac = self._shared.sealer.mac(request.SerializeToString(deterministic=True))
        row = _bare(UUID(request.method_id), UUID(request.customer_id), mac, self._clock.now())
        row.kind, row.gateway = Kind.INVOICE, self._shared.gateway(Kind.INVOICE).name
        row.currency, row.credit_limit = limit.currency, limit.minor
        return pb.GrantInvoiceResponse(method=pack.method(_same(await self._attach(row), mac)))

    async def DetachMethod(self, request: pb.DetachMethodRequest, call: Call) -> pb.DetachMethodResponse:
        async with self._db.transaction() as tx:
            row = await self._own(tx, request)
            if row.detach(self._clock.now()):
                gone = MethodDetached(method_id=str(row.method_id), customer_id=str(row.customer_id))
                await emit(tx, gone)
        return pb.DetachMethodResponse(method=pack.method(row))

    async def SetDefaultMethod(
        self, request: pb.SetDefaultMethodRequest, call: Call
    ) -> pb.SetDefaultMethodResponse:
        async with self._db.transaction() as tx:
            row = (await self._own(tx, request)).usable()
            if not row.preferred:
                await store.attached(tx, row.customer_id)
                await store.prefer(tx, row)
                changed = DefaultMethodChanged(method_id=str(row.method_id), customer_id=str(row.customer_id))
                await emit(tx, changed)
        return pb.SetDefaultMethodResponse(method=pack.method(row))

    async def ListMethods(self, request: pb.ListMethodsRequest, call: Call) -> pb.ListMethodsResponse:
        page = store.METHODS.page(request, self._shared.page_key)
        customer_id = UUID(request.customer_id)
        async with self._db.transaction() as tx:
            rows, token = await store.page(tx, page, customer_id, detached=request.include_detached)
        return pb.ListMethodsResponse(methods=map(pack.method, rows), next_page_token=token)

    async def _before(self, method_id: UUID, customer_id: UUID) -> tuple[Method | None, str]:
        """The method if it is there, and the gateway's id of its customer if another one has it."""
        async with self._db.transaction() as tx:
            found = await tx.get(Method, method_id)
            others = await store.every(tx, customer_id)
        for each in others:
            if each.sealed_source is not None and each.gateway == self._shared.cards:
                return found, self._shared.sealer.open_source(each.sealed_source, each.method_id).customer
        return found, ""

    async def _card(self, row: Method, token: str, known: str) -> None:
        """Raises CardRefused, CardNumberRefused, KindNotOffered, GatewayUnreachable."""
        gateway = self._shared.gateway(Kind.CARD)
        no_card_number(token, "card_token")
        try:
            kept = await gateway.keep(row.customer_id, row.method_id, token, known)
        except GatewayRefused as refused:
            raise CardRefused(code=refused.decline.code) from None
        except GatewayAway:
            raise GatewayUnreachable(gateway=gateway.name) from None
        row.kind, row.gateway = Kind.CARD, gateway.name
        row.brand, row.last4, row.expiry = kept.brand, kept.last4, kept.expiry
        row.sealed_source = self._shared.sealer.source(kept.source, row.method_id)

    def _account(self, row: Method, account: pb.BankAccount) -> None:
        """Raises IbanRefused, KindNotOffered."""
        number = iban.checked(account.iban, "bank_account.iban")
        row.kind, row.gateway = Kind.BANK_TRANSFER, self._shared.gateway(Kind.BANK_TRANSFER).name
        row.country, row.last4 = number[:2], number[-4:]
        whole = json.dumps({"iban": number, "holder": account.holder})
        row.sealed_account = self._shared.sealer.text(whole, row.method_id)
        row.account_mac = self._shared.sealer.mac(number.encode())

    async def _attach(self, row: Method) -> Method:
        """What is stored under its id. Raises TooManyMethods."""
        async with self._db.transaction() as tx:
            count = await store.attached(tx, row.customer_id)
            if (found := await tx.get(Method, row.method_id)) is not None:
                return found
            if count >= METHODS_MAX:
                raise TooManyMethods(max=METHODS_MAX)
            row.preferred = count == 0 and row.kind != Kind.INVOICE
            await written(tx, row)
            attached = MethodAttached(
                method_id=str(row.method_id), customer_id=str(row.customer_id), kind=row.kind
            )
            await emit(tx, attached)
            return await store.get(tx, row.method_id)

    async def _own(self, tx: Tx, request: pb.DetachMethodRequest | pb.SetDefaultMethodRequest) -> Method:
        """Locked. Raises UnknownMethod."""
        owner = optional(request.customer_id)
        return await store.of_customer(tx, UUID(request.method_id), owner, lock=True)


def _same(row: Method, mac: bytes) -> Method:
    """Raises MethodIdReused."""
    if row.body_mac != mac:
        raise MethodIdReused(method_id=row.method_id)
    return row


def _bare(method_id: UUID, customer_id: UUID, mac: bytes, now: datetime) -> Method:
    return Method(
        method_id=method_id,
        customer_id=customer_id,
        body_mac=mac,
        kind="",
        preferred=False,
        gateway="",
        sealed_source=None,
        sealed_account=None,
        account_mac=None,
        brand="",
        last4="",
        expiry="",
        country="",
        currency="",
        credit_limit=0,
        created_at=now,
        detached_at=None,
    )
