"""weft.billing.v1.CreditNoteService."""

import hashlib
from collections.abc import Sequence
from uuid import UUID

from services.billing.crediting import Wanted
from services.billing.domain.credit_note import CreditNote, CreditNoteLine, CreditNoteRefused, CreditNoteTax
from services.billing.domain.invoice import WrongCurrency
from services.billing.service.shared import Shared
from services.billing.service.stamps import maybe_id, plain, stamp
from services.billing.store import credit_note as store, invoice as invoices
from services.chassis.db import Connection
from services.chassis.method import Call
from weft.billing.v1 import credit_note_pb2 as pb
from weft.billing.v1.credit_note_pb2_grpc import CreditNoteServiceServicer
from weft.billing.v1.invoice_messages_pb2 import InvoiceTax
from weft.money.v1.money_pb2 import Money


class CreditNotes(CreditNoteServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def IssueCreditNote(
        self, request: pb.IssueCreditNoteRequest, call: Call
    ) -> pb.IssueCreditNoteResponse:
        async with self._shared.db.fast() as tx:
            wanted = Wanted(
                credit_note_id=UUID(request.credit_note_id),
                invoice_id=UUID(request.invoice_id),
                nets=await self._nets(tx, request),
                reason=request.reason,
                digest=hashlib.sha256(request.SerializeToString(deterministic=True)).digest(),
            )
            await self._shared.crediting.write(tx, wanted, self._shared.clock.now())
        return pb.IssueCreditNoteResponse(credit_note=await self._whole(request.credit_note_id, ""))

    async def _nets(self, tx: Connection, request: pb.IssueCreditNoteRequest) -> dict[int, int] | None:
        """By position. Raises UnknownInvoice, WrongCurrency, CreditNoteRefused."""
        invoice = await invoices.lock(tx, UUID(request.invoice_id))
        nets: dict[int, int] = {}
        for number, line in enumerate(request.lines):
            if line.net.currency != invoice.currency:
                field = f"lines[{number}].net.currency"
                raise WrongCurrency(currency=line.net.currency, expected=invoice.currency, field=field)
            if line.position in nets:
                raise CreditNoteRefused(
                    problem="a line stands there twice", field=f"lines[{number}].position"
                )
            nets[line.position] = line.net.amount_minor
        return nets or None

    async def _whole(self, credit_note_id: str, customer_id: str) -> pb.CreditNote:
        note_id = UUID(credit_note_id)
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, note_id, maybe_id(customer_id))
            return to_pb(row, await store.lines(tx, note_id), await store.taxes(tx, note_id))

    async def GetCreditNote(self, request: pb.GetCreditNoteRequest, call: Call) -> pb.GetCreditNoteResponse:
        note = await self._whole(request.credit_note_id, request.customer_id)
        return pb.GetCreditNoteResponse(credit_note=note)

    async def ListCreditNotes(
        self, request: pb.ListCreditNotesRequest, call: Call
    ) -> pb.ListCreditNotesResponse:
        page = store.CREDIT_NOTES.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page, maybe_id(request.customer_id))
        return pb.ListCreditNotesResponse(credit_notes=map(to_pb, rows), next_page_token=token)


def to_pb(
    row: CreditNote, lines: Sequence[CreditNoteLine] = (), taxes: Sequence[CreditNoteTax] = ()
) -> pb.CreditNote:
    def money(minor: int) -> Money:
        return Money(amount_minor=minor, currency=row.currency)

    return pb.CreditNote(
        credit_note_id=str(row.credit_note_id),
        number=row.number_text,
        invoice_id=str(row.invoice_id),
        customer_id=str(row.customer_id),
        reason=row.reason,
        net=money(row.net),
        tax=money(row.tax),
        gross=money(row.gross),
        to_credit=money(row.to_credit),
        issue_time=stamp(row.issued_at),
        lines=[pb.CreditNoteLine(position=each.position, net=money(each.net)) for each in lines],
        taxes=[
            InvoiceTax(
                tax_code=each.tax_code,
                tax_rate=plain(each.tax_rate),
                taxable=money(each.taxable),
                tax=money(each.tax),
                note=each.note,
            )
            for each in taxes
        ],
    )
