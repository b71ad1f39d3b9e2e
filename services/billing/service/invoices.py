"""weft.billing.v1.InvoiceService."""

import hashlib
from collections.abc import Sequence
from uuid import UUID

from google.protobuf.message import Message

from services.billing import settling
from services.billing.domain.charge import ONE
from services.billing.domain.dunning import Outcome
from services.billing.domain.invoice import (
    Invoice,
    InvoiceFinal,
    InvoiceIdReused,
    InvoiceKind,
    InvoiceNotPayable,
    InvoicePayment,
    InvoiceRefused,
    InvoiceState,
    UnknownInvoice,
    WrongCurrency,
)
from services.billing.domain.totals import GOODS, SERVICES, Line
from services.billing.issuing import Draft
from services.billing.service import invoice_pack as pack
from services.billing.service.shared import Shared
from services.billing.service.stamps import maybe_id, moment
from services.billing.service.terms import exact, tax_from_pb
from services.billing.store import draft as drafts, invoice as store, profile as profiles
from services.chassis.db import Connection
from services.chassis.events import emit
from services.chassis.method import Call
from services.chassis.money import decimal, exponent, line_amount
from weft.billing.v1 import (
    invoice_messages_pb2 as pb,
    invoice_pb2,  # noqa: F401 - its service, which the stub looks up
)
from weft.billing.v1.events_pb2 import InvoicePaymentRecorded
from weft.billing.v1.invoice_pb2_grpc import InvoiceServiceServicer
from weft.money.v1.money_pb2 import Money


class Invoices(InvoiceServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def _whole(self, invoice_id: str, customer_id: str = "") -> pb.Invoice:
        async with self._shared.db.transaction() as tx:
            return await pack.whole(tx, UUID(invoice_id), maybe_id(customer_id))

    async def CreateInvoice(self, request: pb.CreateInvoiceRequest, call: Call) -> pb.CreateInvoiceResponse:
        exponent(request.currency)
        lines, digest = lines_from_pb(request.lines, request.currency), _digest(request)
        draft = Draft(
            invoice_id=UUID(request.invoice_id),
            customer_id=UUID(request.customer_id),
            currency=request.currency,
            kind=InvoiceKind.ONE_OFF,
            at=self._shared.clock.now(),
            created_at=self._shared.clock.now(),
            lines=lines,
            memo=request.memo,
            digest=digest,
        )
        async with self._shared.db.fast() as tx:
            profile = await profiles.lock(tx, draft.customer_id)
            draft.net_days = request.net_days if request.HasField("net_days") else profile["net_days"]
            if not await drafts.write(tx, draft, profile):
                kept = await store.lock(tx, draft.invoice_id)
                if kept.digest != digest:
                    raise InvoiceIdReused(invoice_id=draft.invoice_id)
        return pb.CreateInvoiceResponse(invoice=await self._whole(request.invoice_id))

    async def UpdateInvoice(self, request: pb.UpdateInvoiceRequest, call: Call) -> pb.UpdateInvoiceResponse:
        async with self._shared.db.fast() as tx:
            row = await self._draft(tx, request.invoice_id)
            lines = lines_from_pb(request.lines, row.currency)
            await drafts.replace(tx, row.invoice_id, lines, request.memo)
        return pb.UpdateInvoiceResponse(invoice=await self._whole(request.invoice_id))

    async def _draft(self, tx: Connection, invoice_id: str) -> Invoice:
        """Locked. Raises UnknownInvoice, InvoiceFinal."""
        row = await store.lock(tx, UUID(invoice_id))
        if row.state != InvoiceState.DRAFT:
            raise InvoiceFinal(invoice_id=invoice_id, state=row.state)
        return row

    async def DeleteInvoice(self, request: pb.DeleteInvoiceRequest, call: Call) -> pb.DeleteInvoiceResponse:
        async with self._shared.db.fast() as tx:
            row = await self._draft(tx, request.invoice_id)
            await store.forget(tx, row.invoice_id)
        return pb.DeleteInvoiceResponse()

    async def FinaliseInvoice(
        self, request: pb.FinaliseInvoiceRequest, call: Call
    ) -> pb.FinaliseInvoiceResponse:
        now = self._shared.clock.now()
        async with self._shared.db.fast() as tx:
            row = await store.lock(tx, UUID(request.invoice_id))
            if row.state == InvoiceState.DRAFT:
                draft = await self._read(tx, row)
                await store.forget_lines(tx, row.invoice_id)
                issued = await self._shared.issuer.one(tx, draft, now)
                if not issued.number or (issued.totals and issued.totals.carried):
                    raise InvoiceRefused(problem="a tax category comes to less than nothing", field="lines")
        return pb.FinaliseInvoiceResponse(invoice=await self._whole(request.invoice_id))

    async def _read(self, tx: Connection, row: Invoice) -> Draft:
        return Draft(
            invoice_id=row.invoice_id,
            customer_id=row.customer_id,
            currency=row.currency,
            kind=InvoiceKind(row.kind),
            at=self._shared.clock.now(),
            created_at=row.created_at,
            lines=await drafts.lines(tx, row.invoice_id),
            memo=row.memo,
            net_days=row.net_days,
            digest=row.digest,
            stored=True,
        )

    async def VoidInvoice(self, request: pb.VoidInvoiceRequest, call: Call) -> pb.VoidInvoiceResponse:
        async with self._shared.db.fast() as tx:
            row = await store.lock(tx, UUID(request.invoice_id))
            if row.state != InvoiceState.VOID:
                await settling.void(tx, row, self._shared.clock.now())
        return pb.VoidInvoiceResponse(invoice=await self._whole(request.invoice_id))

    async def WriteOffInvoice(
        self, request: pb.WriteOffInvoiceRequest, call: Call
    ) -> pb.WriteOffInvoiceResponse:
        async with self._shared.db.fast() as tx:
            row = await store.lock(tx, UUID(request.invoice_id))
            if row.state != InvoiceState.UNCOLLECTIBLE:
                await settling.write_off(tx, row, Outcome.WRITTEN_OFF, self._shared.clock.now())
        return pb.WriteOffInvoiceResponse(invoice=await self._whole(request.invoice_id))

    async def RecordInvoicePayment(
        self, request: pb.RecordInvoicePaymentRequest, call: Call
    ) -> pb.RecordInvoicePaymentResponse:
        now, amount = self._shared.clock.now(), request.amount
        payment = InvoicePayment(
            payment_id=UUID(request.payment_id),
            invoice_id=UUID(request.invoice_id),
            intent_id=None,
            amount=amount.amount_minor,
            applied=0,
            gateway="",
            disputed=False,
            paid_at=moment(request.pay_time) if request.HasField("pay_time") else now,
        )
        async with self._shared.db.fast() as tx:
            row = await store.lock(tx, payment.invoice_id)
            known = await store.payment(tx, payment.payment_id)
            if known is None and not row.due:
                raise InvoiceNotPayable(invoice_id=row.invoice_id, state=row.state)
            if amount.currency != row.currency:
                raise WrongCurrency(currency=amount.currency, expected=row.currency, field="amount.currency")
            await settling.paid(tx, payment, amount.currency, now)
            if known is None:
                await emit(tx, _recorded(payment, row, amount))
        return pb.RecordInvoicePaymentResponse(invoice=await self._whole(request.invoice_id))

    async def CollectInvoice(
        self, request: pb.CollectInvoiceRequest, call: Call
    ) -> pb.CollectInvoiceResponse:
        async with self._shared.db.fast() as tx:
            row = await store.lock(tx, UUID(request.invoice_id))
            if request.customer_id and str(row.customer_id) != request.customer_id:
                raise UnknownInvoice(invoice_id=request.invoice_id)
            if not row.due:
                raise InvoiceNotPayable(invoice_id=row.invoice_id, state=row.state)
            await self._shared.chasing.attempt(tx, row.invoice_id, row.due, self._shared.clock.now())
        self._shared.chasing.poke()
        return pb.CollectInvoiceResponse(invoice=await self._whole(request.invoice_id))

    async def GetInvoice(self, request: pb.GetInvoiceRequest, call: Call) -> pb.GetInvoiceResponse:
        return pb.GetInvoiceResponse(invoice=await self._whole(request.invoice_id, request.customer_id))

    async def ListInvoices(self, request: pb.ListInvoicesRequest, call: Call) -> pb.ListInvoicesResponse:
        page = store.INVOICES.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page, maybe_id(request.customer_id))
        return pb.ListInvoicesResponse(invoices=map(pack.brief, rows), next_page_token=token)


def _recorded(payment: InvoicePayment, row: Invoice, amount: Money) -> InvoicePaymentRecorded:
    return InvoicePaymentRecorded(
        invoice_id=str(payment.invoice_id),
        payment_id=str(payment.payment_id),
        customer_id=str(row.customer_id),
        amount=amount,
        effective_time=settling.stamp(payment.paid_at),
    )


def _digest(request: Message) -> bytes:
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


def lines_from_pb(lines: Sequence[pb.NewInvoiceLine], currency: str) -> list[Line]:
    """Raises InvoiceRefused, AmountOutOfRange."""
    if len({line.line_id for line in lines}) != len(lines):
        raise InvoiceRefused(problem="two lines have the same id", field="lines")
    return [_line(line, number, currency) for number, line in enumerate(lines)]


def _line(line: pb.NewInvoiceLine, number: int, currency: str) -> Line:
    if line.unit_price.currency != currency:
        problem = f"its currency is {currency}"
        raise InvoiceRefused(problem=problem, field=f"lines[{number}].unit_price.currency")
    start = moment(line.service_start_time) if line.HasField("service_start_time") else None
    end = moment(line.service_end_time) if line.HasField("service_end_time") else None
    if (start is None) != (end is None) or (start and end and start >= end):
        problem = "a service has a start and a later end, or neither"
        raise InvoiceRefused(problem=problem, field=f"lines[{number}].service_end_time")
    units, price = exact(line.units, ONE), decimal(line.unit_price.amount)
    return Line(
        description=line.description,
        amount=line_amount(price, units, currency).minor,
        tax_category=tax_from_pb(line.tax),
        supply=GOODS if line.goods else SERVICES,
        sku=line.sku,
        units=units,
        unit_price=price,
        start=start,
        end=end,
        line_id=UUID(line.line_id),
    )
