"""Keeps the figures of reports: what each event adds to them, once."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp

from services.billing.domain.report import EntryKind
from services.billing.domain.report_revenue import ByMonth, days_of, earned, joined, taken_back, voided
from services.billing.domain.tax_territory import place
from services.billing.seller_settings import SellerSettings
from services.billing.service.stamps import moment
from services.billing.store import reports as store
from services.billing.store.reports import Source, Taxed
from services.chassis.db import Tx
from services.chassis.events import Envelope
from weft.billing.v1 import events_pb2 as billing
from weft.order.v1 import events_pb2 as order
from weft.order.v1.event_line_pb2 import EventLine

TAXED_AT_DESTINATION = {"AE", "K", "G", "O"}  # Whatever the seller's scheme, these name the buyer's country.


class Projecting:
    """Handlers of events; each may come again. `one_stop_shop`: consumers' own countries tax them."""

    def __init__(self, seller: SellerSettings, *, one_stop_shop: bool) -> None:
        self._zone, self._home = ZoneInfo(seller.seller_time_zone), place(seller.seller_country).taxing
        self._one_stop_shop = one_stop_shop

    async def invoice_finalised(self, event: billing.InvoiceFinalised, of: Envelope, tx: Tx) -> None:
        await self._invoice(tx, EntryKind.INVOICE, event.invoice_id, event, event.deferred.amount_minor)

    async def credit_note_issued(self, event: billing.CreditNoteIssued, of: Envelope, tx: Tx) -> None:
        await self._invoice(
            tx, EntryKind.CREDIT_NOTE, event.credit_note_id, event, event.deferred.amount_minor
        )

    async def invoice_voided(self, event: billing.InvoiceVoided, of: Envelope, tx: Tx) -> None:
        await self._invoice(tx, EntryKind.VOID, event.invoice_id, event, 0)

    async def _invoice(self, tx: Tx, kind: EntryKind, source_id: str, event: Any, deferred: int) -> None:
        """The figures of an invoice anew, of all that is known to have happened to it."""
        invoice_id, net = UUID(event.invoice_id), event.net
        at = moment(event.effective_time)
        fact = (kind, UUID(source_id), invoice_id, at, net.currency, net.amount_minor, deferred)
        facts = await store.facts(tx, *fact)
        if len(facts) > 1:
            await store.forget(tx, [row["source_id"] for row in facts])
        if any(row["kind"] == EntryKind.INVOICE for row in facts):
            await self._put_invoice(tx, invoice_id, facts)

    async def _put_invoice(self, tx: Tx, invoice_id: UUID, facts: Sequence[Any]) -> None:
        country = await store.country(tx, invoice_id)
        left: ByMonth = {}
        untaken: dict[tuple[str, Decimal, str], list[int]] = defaultdict(lambda: [0, 0])
        for row in sorted(facts, key=lambda row: row["kind"] != EntryKind.INVOICE):
            kind, day = EntryKind(row["kind"]), row["at"].astimezone(self._zone).date()
            source = Source(kind, row["source_id"], row["currency"], day)
            revenue = await _revenue(tx, row, source.month, left)
            taxes = [self._taxed(part, country) for part in await _parts(tx, row)]
            if kind is EntryKind.VOID:
                taxes = [Taxed(*of, -taxable, -tax) for of, (taxable, tax) in untaken.items()]
            for part in taxes:
                untaken[part[:3]][0] += part.taxable
                untaken[part[:3]][1] += part.tax
            left = joined([left, revenue])
            await store.put(tx, source, revenue, taxes)

    async def order_confirmed(self, event: order.OrderConfirmed, of: Envelope, tx: Tx) -> None:
        source = self._source(EntryKind.ORDER, UUID(event.order_id), event.currency, event.effective_time)
        taxes = _of_lines(event.lines, event.country, 1)
        await store.put(tx, source, _at_once(event.net_total.amount_minor, source.month), taxes)

    async def order_refunded(self, event: order.OrderRefunded, of: Envelope, tx: Tx) -> None:
        source = self._source(EntryKind.REFUND, UUID(event.refund_id), event.currency, event.effective_time)
        taxes = _of_lines(event.lines, event.country, -1)
        await store.put(tx, source, _at_once(-event.net.amount_minor, source.month), taxes)

    async def subscription_started(self, event: billing.SubscriptionStarted, of: Envelope, tx: Tx) -> None:
        await _change(event, of, tx, 0, event.monthly)

    async def subscription_changed(self, event: billing.SubscriptionChanged, of: Envelope, tx: Tx) -> None:
        await _change(event, of, tx, event.monthly_before.amount_minor, event.monthly)

    async def subscription_resumed(self, event: billing.SubscriptionResumed, of: Envelope, tx: Tx) -> None:
        await _change(event, of, tx, 0, event.monthly)

    async def subscription_paused(self, event: billing.SubscriptionPaused, of: Envelope, tx: Tx) -> None:
        await _lost(event, of, tx)

    async def subscription_cancelled(
        self, event: billing.SubscriptionCancelled, of: Envelope, tx: Tx
    ) -> None:
        await _lost(event, of, tx)

    def _source(self, kind: EntryKind, source_id: UUID, currency: str, at: Timestamp) -> Source:
        return Source(kind, source_id, currency, moment(at).astimezone(self._zone).date())

    def _taxed(self, row: Any, buyer: str) -> Taxed:
        """The country that taxes is the buyer's, unless consumers abroad pay the seller's."""
        abroad = self._one_stop_shop or row["code"] in TAXED_AT_DESTINATION
        country = place(buyer).taxing if abroad else self._home
        return Taxed(row["code"], row["rate"], country, row["taxable"], row["tax"])


async def _revenue(tx: Tx, row: Any, month: date, left: ByMonth) -> ByMonth:
    """What a fact adds, given what of its invoice is left to earn."""
    if row["kind"] == EntryKind.INVOICE:
        return joined(_earned(line, month) for line in await store.lines(tx, row["invoice_id"]))
    if row["kind"] == EntryKind.VOID:
        return voided(left, month)
    later = {each: amount for each, amount in left.items() if each > month}
    return taken_back(row["net"], later, row["deferred"], month)


async def _parts(tx: Tx, row: Any) -> Sequence[Any]:
    """Rows of tax, as they count; of what is voided, none."""
    if row["kind"] == EntryKind.INVOICE:
        return await store.taxes(tx, row["source_id"])
    if row["kind"] == EntryKind.VOID:
        return []
    rows = await store.note_taxes(tx, row["source_id"])
    return [{**part, "taxable": -part["taxable"], "tax": -part["tax"]} for part in rows]


def _earned(line: Any, billed: date) -> ByMonth:
    """By the days of the customer's own calendar; the last is the one before the period's end."""
    days = days_of(line["service_start"], line["service_end"], line["time_zone"])
    return earned(line["net"], *days, billed) if days else _at_once(line["net"], billed)


def _at_once(amount: int, month: date) -> ByMonth:
    return {month: amount} if amount else {}


def _of_lines(lines: Iterable[EventLine], country: str, sign: int) -> list[Taxed]:
    """An order tells rates and no categories."""
    sums: dict[Decimal, list[int]] = defaultdict(lambda: [0, 0])
    for line in lines:
        sums[Decimal(line.tax_rate or 0)][0] += sign * line.net_minor
        sums[Decimal(line.tax_rate or 0)][1] += sign * line.tax_minor
    taxing = place(country).taxing if country else ""
    return [Taxed("S" if rate else "Z", rate, taxing, *sums[rate]) for rate in sorted(sums)]


async def _change(event: Any, of: Envelope, tx: Tx, before: int, monthly: Any) -> None:
    """`event` is about a subscription; `monthly` is what it is worth now."""
    if delta := monthly.amount_minor - before:
        ids = (of.id, UUID(event.subscription_id), UUID(event.customer_id))
        await store.put_change(tx, *ids, monthly.currency, moment(event.effective_time), delta)


async def _lost(event: Any, of: Envelope, tx: Tx) -> None:
    if lost := event.monthly_before.amount_minor:
        ids = (of.id, UUID(event.subscription_id), UUID(event.customer_id))
        await store.put_change(tx, *ids, event.monthly_before.currency, moment(event.effective_time), -lost)
