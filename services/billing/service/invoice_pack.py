"""Invoices, to the wire."""

from uuid import UUID

from services.billing.domain.invoice import Invoice, InvoiceLine, InvoicePayment, InvoiceTax
from services.billing.domain.totals import GOODS
from services.billing.service.profiles import address_to_pb
from services.billing.service.stamps import plain, stamp
from services.billing.service.terms import tax_to_pb
from services.billing.store import invoice as store
from services.chassis.db import Tx
from weft.billing.v1 import invoice_messages_pb2 as pb
from weft.money.v1.money_pb2 import Money


async def whole(tx: Tx, invoice_id: UUID, customer_id: UUID | None = None) -> pb.Invoice:
    """With all that belongs to it. Raises UnknownInvoice."""
    row = await store.get(tx, invoice_id, customer_id)
    made = brief(row)
    made.lines.extend(line(each, row.currency) for each in await store.lines(tx, invoice_id))
    made.taxes.extend(tax(each, row.currency) for each in await store.taxes(tx, invoice_id))
    made.payments.extend(payment(each, row.currency) for each in await store.payments(tx, invoice_id))
    party = await store.party(tx, invoice_id)
    if party is not None:
        made.address.CopyFrom(address_to_pb(party))
        made.vat_number = party.vat_number
    return made


def brief(row: Invoice) -> pb.Invoice:
    """Without lines, taxes and payments."""

    def money(minor: int) -> Money:
        return Money(amount_minor=minor, currency=row.currency)

    return pb.Invoice(
        invoice_id=str(row.invoice_id),
        number=row.number_text or "",
        customer_id=str(row.customer_id),
        kind=pb.InvoiceKind.Value(f"INVOICE_KIND_{row.kind}"),
        state=pb.InvoiceState.Value(f"INVOICE_STATE_{row.state}"),
        country=row.country,
        net=money(row.net),
        discount=money(row.discount),
        tax=money(row.tax),
        gross=money(row.gross),
        credit_applied=money(row.credit_applied),
        amount_paid=money(row.amount_paid),
        credited=money(row.credited),
        amount_due=money(row.due),
        memo=row.memo,
        create_time=stamp(row.created_at),
        issue_time=stamp(row.issued_at),
        due_time=stamp(row.due_at),
        paid_time=stamp(row.paid_at),
        end_time=stamp(row.ended_at),
    )


def line(row: InvoiceLine, currency: str) -> pb.InvoiceLine:
    return pb.InvoiceLine(
        position=row.position,
        line_id=str(row.line_id or ""),
        subscription_id=str(row.subscription_id or ""),
        charge=row.charge,
        sku=row.sku,
        description=row.description,
        units=plain(row.units),
        unit_price="" if row.unit_price is None else plain(row.unit_price),
        amount=Money(amount_minor=row.amount, currency=currency),
        discount=Money(amount_minor=row.discount, currency=currency),
        net=Money(amount_minor=row.net, currency=currency),
        tax=tax_to_pb(row.tax_category),
        tax_code=row.tax_code,
        tax_rate=plain(row.tax_rate),
        service_start_time=stamp(row.service_start),
        service_end_time=stamp(row.service_end),
        goods=row.supply == GOODS,
    )


def tax(row: InvoiceTax, currency: str) -> pb.InvoiceTax:
    return pb.InvoiceTax(
        tax_code=row.tax_code,
        tax_rate=plain(row.tax_rate),
        taxable=Money(amount_minor=row.taxable, currency=currency),
        tax=Money(amount_minor=row.tax, currency=currency),
        note=row.note,
    )


def payment(row: InvoicePayment, currency: str) -> pb.InvoicePayment:
    return pb.InvoicePayment(
        payment_id=str(row.payment_id),
        amount=Money(amount_minor=row.amount, currency=currency),
        applied=Money(amount_minor=row.applied, currency=currency),
        gateway=row.gateway,
        pay_time=stamp(row.paid_at),
    )
