"""Writes credit notes, in transactions of others: each one locks its invoice."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from services.billing import settling
from services.billing.domain.credit import Credit, Source
from services.billing.domain.credit_note import (
    SERIES,
    Billed,
    Category,
    Creditable,
    CreditNote,
    CreditNoteIdReused,
    CreditNoteRefused,
    InvoiceNotCreditable,
    taken_back,
)
from services.billing.domain.invoice import PAYABLE, Invoice, InvoiceState, number_text
from services.billing.domain.subscription import Running
from services.billing.domain.totals import Line
from services.billing.issuing import deferred
from services.billing.store import (
    credit as credits,
    credit_note as store,
    invoice as invoices,
    profile,
    series,
)
from services.chassis.clock import uuid7
from services.chassis.db import AnyTx
from services.chassis.events import emit
from services.chassis.money import Money
from weft.billing.v1.events_pb2 import CreditNoteIssued
from weft.money.v1.money_pb2 import Money as WireMoney

CREDITABLE = (*PAYABLE, InvoiceState.PAID)
UNUSED = "Not used"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A credit note to be. Net amounts by position; None: all that is left."""

    credit_note_id: UUID
    invoice_id: UUID
    nets: Mapping[int, int] | None
    reason: str
    digest: bytes


class Crediting:
    """Writes credit notes."""

    async def write(self, tx: AnyTx, wanted: Wanted, now: datetime) -> None:
        """Raises UnknownInvoice, InvoiceNotCreditable, CreditExceedsInvoice, CreditNoteIdReused."""
        invoice = await invoices.lock(tx, wanted.invoice_id)
        known = await store.digest(tx, wanted.credit_note_id)
        if known is not None:
            if known != wanted.digest:
                raise CreditNoteIdReused(credit_note_id=wanted.credit_note_id)
            return
        if invoice.state not in CREDITABLE:
            raise InvoiceNotCreditable(invoice_id=invoice.invoice_id, state=invoice.state)
        rows = await store.creditable(tx, invoice.invoice_id)
        nets = _all_that_is_left(rows) if wanted.nets is None else wanted.nets
        if not nets:
            raise CreditNoteRefused(problem="nothing is left of the invoice", field="lines")
        await self._write(tx, invoice, rows, wanted, nets, now)

    async def _write(
        self,
        tx: AnyTx,
        invoice: Invoice,
        rows: Sequence[Any],
        wanted: Wanted,
        nets: Mapping[int, int],
        now: datetime,
    ) -> None:
        lines, billed = _left(rows)
        back = taken_back(nets, lines, billed)
        net, tax = sum(n for n, _ in back.values()), sum(t for _, t in back.values())
        off_due = min(net + tax, invoice.due)
        why = await store.notes_of_taxes(tx, invoice.invoice_id)
        zone = (await profile.lock(tx, invoice.customer_id))["time_zone"]
        number, at = await series.take(tx, SERIES, 1, now)
        note = _note(invoice, wanted, (net, tax, off_due), number, at)
        of_line = {line.position: line.category for line in lines}
        note_id = note.credit_note_id
        await store.write(
            tx,
            note,
            [(note_id, position, amount, *of_line[position]) for position, amount in nets.items()],
            [(note_id, *category, n, t, why.get(category, "")) for category, (n, t) in back.items()],
        )
        if invoice.state == InvoiceState.UNCOLLECTIBLE:
            await settling.recovered(tx, invoice, off_due, at)
        invoice.credited += note.gross
        invoice.credited_due += off_due
        await settling.settle(tx, invoice, now, at)
        await emit(tx, _issued(note, _undone(rows, nets, at, zone)))
        if note.to_credit:
            amount = Money(note.to_credit, note.currency)
            await settling.grant(tx, invoice, amount, Source.CREDIT_NOTE, note_id, now)

    async def give_back(self, tx: AnyTx, sub: Running, lines: Sequence[Line], now: datetime) -> None:
        """What a subscription gives back at its end: by notes on the invoices that billed it.

        Where there is no such invoice nothing was charged, so it is a gift; of a void one nothing was owed.
        """
        by_invoice: dict[UUID, dict[int, int]] = defaultdict(dict)
        for line in lines:
            if line.origin:
                billed_by, position = line.origin.rsplit(":", 1)
                nets = by_invoice[UUID(billed_by)]
                nets[int(position)] = nets.get(int(position), 0) - line.amount
            else:
                await self._credit(tx, sub, line, now)
        for invoice_id, nets in sorted(by_invoice.items()):
            invoice = await invoices.lock(tx, invoice_id)
            if invoice.state not in CREDITABLE:
                continue
            left = _all_that_is_left(await store.creditable(tx, invoice_id))
            capped = {at: min(net, left[at]) for at, net in nets.items() if left.get(at)}
            if capped:
                note_id = uuid7(now)
                wanted = Wanted(
                    credit_note_id=note_id,
                    invoice_id=invoice_id,
                    nets=capped,
                    reason=UNUSED,
                    digest=note_id.bytes,
                )
                await self.write(tx, wanted, now)

    async def _credit(self, tx: AnyTx, sub: Running, line: Line, now: datetime) -> None:
        subject = f"{line.subscription_id}:{line.charge}:{line.start}:{line.end}"
        row = Credit(
            credit_id=uuid5(settling.SURPLUS, subject),
            customer_id=sub.customer_id,
            currency=sub.currency,
            amount=-line.amount,
            source=Source.GRANT,
            reason=line.description,
            expires_at=None,
            created_at=now,
        )
        if await credits.grant(tx, row):
            await emit(tx, settling.granted(row))


def _note(
    invoice: Invoice, wanted: Wanted, amounts: tuple[int, int, int], number: int, at: datetime
) -> CreditNote:
    """`amounts`: net, tax, and what of both lessens the amount due."""
    net, tax, off_due = amounts
    return CreditNote(
        credit_note_id=wanted.credit_note_id,
        invoice_id=invoice.invoice_id,
        customer_id=invoice.customer_id,
        number=number,
        number_text=number_text(SERIES, number),
        currency=invoice.currency,
        reason=wanted.reason,
        net=net,
        tax=tax,
        gross=net + tax,
        to_credit=net + tax - off_due,
        digest=wanted.digest,
        issued_at=at,
    )


def _all_that_is_left(rows: Sequence[Any]) -> dict[int, int]:
    """By position. Lines that give back take their share of what their category charged."""
    lines, billed = _left(rows)
    room = {category: each.taxable - each.before for category, each in billed.items()}
    found: dict[int, int] = {}
    for line in lines:
        amount = min(line.left, room[line.category])
        if amount > 0:
            found[line.position] = amount
            room[line.category] -= amount
    return found


def _left(rows: Sequence[Any]) -> tuple[list[Creditable], dict[Category, Billed]]:
    lines, billed = [], defaultdict[Category, Billed](lambda: Billed(0, 0))
    for row in rows:
        category = (row["tax_code"], row["tax_rate"])
        billed[category].taxable += row["net"]
        billed[category].before += row["credited"]
        lines.append(Creditable(row["position"], category, max(row["net"] - row["credited"], 0)))
    return lines, billed


def _undone(rows: Sequence[Any], nets: Mapping[int, int], at: datetime, zone: str) -> int:
    """Of the net amount, what was for time to come."""
    made = [
        Line(description="", amount=nets[row["position"]], tax_category="", start=row["service_start"],
             end=row["service_end"])
        for row in rows if row["position"] in nets
    ]  # fmt: skip
    return deferred(made, at, zone)


def _issued(note: CreditNote, undone: int) -> CreditNoteIssued:
    def money(minor: int) -> Any:
        return WireMoney(amount_minor=minor, currency=note.currency)

    return CreditNoteIssued(
        invoice_id=str(note.invoice_id),
        credit_note_id=str(note.credit_note_id),
        number=note.number_text,
        customer_id=str(note.customer_id),
        net=money(note.net),
        tax=money(note.tax),
        gross=money(note.gross),
        effective_time=settling.stamp(note.issued_at),
        deferred=money(undone),
    )
