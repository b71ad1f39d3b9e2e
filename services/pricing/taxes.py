"""Which tax lines bear: asked of billing, remembered for a while within the day."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import partial

from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.clock import Clock
from services.chassis.errors import CallFailed, Relayed
from services.chassis.mesh import Mesh
from services.pricing.alone import alone
from services.pricing.domain.line import Line
from services.pricing.domain.taxing import Tax
from weft.billing.v1 import tax_pb2 as pb
from weft.billing.v1.tax_pb2_grpc import TaxServiceStub

REMEMBERED_MAX = 10_000  # Answers, under 1 kB each: 30 countries, 10 kinds, a month of days.
BATCH_MAX = 200  # Sales of one question, as billing's contract has it.
PREFIX = "TAX_CATEGORY_"


@dataclass(frozen=True, slots=True)
class Sale:
    """What billing has to know of a line."""

    country: str
    tax_category: str
    supply: pb.Supply.ValueType
    day: date
    vat_number: str


class Taxes:
    """Answers of billing. One that is old serves on while billing is away: rates change by the day."""

    def __init__(self, mesh: Mesh, clock: Clock, remembered_s: float) -> None:
        self._billing, self._clock, self._remembered_s = TaxServiceStub(mesh), clock, remembered_s
        self._known: OrderedDict[Sale, tuple[Tax, float]] = OrderedDict()

    async def of(self, lines: Sequence[Line], country: str, at: datetime, vat_number: str) -> dict[str, Tax]:
        """By line id. Raises CallFailed for what billing refuses, and while it is away."""
        day = at.astimezone(UTC).date()
        sales = {line.line_id: _sale(line, country, day, vat_number) for line in lines}
        known = self._remembered(set(sales.values()))
        if missing := [sale for sale in dict.fromkeys(sales.values()) if sale not in known]:
            known |= await self._ask(missing)
        return {line_id: known[sale] for line_id, sale in sales.items()}

    def forget(self) -> None:
        """All that is remembered: a rate has changed."""
        self._known.clear()

    def _remembered(self, sales: Iterable[Sale]) -> dict[Sale, Tax]:
        fresh = self._clock.monotonic() - self._remembered_s
        kept = {sale: self._known[sale] for sale in sales if sale in self._known}
        return {sale: tax for sale, (tax, at) in kept.items() if at >= fresh}

    async def _ask(self, sales: Sequence[Sale]) -> dict[Sale, Tax]:
        learned: dict[Sale, Tax] = {}
        for n in range(0, len(sales), BATCH_MAX):
            batch = sales[n : n + BATCH_MAX]
            try:
                answer = await alone(partial(self._billing.BatchDetermineTax, _request(batch)))
            except CallFailed as failed:
                if failed.code not in Relayed.CODES or not all(sale in self._known for sale in batch):
                    raise
                learned |= {sale: self._known[sale][0] for sale in batch}
            else:
                learned |= {sale: _tax(sale, tax) for sale, tax in zip(batch, answer.taxes, strict=True)}
                self._remember({sale: learned[sale] for sale in batch})
        return learned

    def _remember(self, taxes: Mapping[Sale, Tax]) -> None:
        """But for those of a VAT number: it may be a person's, and what is known of it changes."""
        now = self._clock.monotonic()
        self._known.update({sale: (tax, now) for sale, tax in taxes.items() if not sale.vat_number})
        while len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)


def _sale(line: Line, country: str, day: date, vat_number: str) -> Sale:
    goods = line.item.shippable or line.shipping  # Carriage goes with the goods.
    supply = pb.SUPPLY_GOODS if goods else pb.SUPPLY_SERVICES
    return Sale(country, line.item.tax_category, supply, day, vat_number)


def _request(sales: Sequence[Sale]) -> pb.BatchDetermineTaxRequest:
    made = pb.BatchDetermineTaxRequest()
    for sale in sales:
        noon = Timestamp()
        noon.FromDatetime(datetime.combine(sale.day, time(12), UTC))
        made.sales.add(
            buyer_country=sale.country,
            tax_category=pb.TaxCategory.Value(PREFIX + sale.tax_category.upper()),
            supply=sale.supply,
            at=noon,
            vat_number=sale.vat_number,
        )
    return made


def _tax(sale: Sale, answer: pb.TaxDetermination) -> Tax:
    return Tax(
        tax_category=sale.tax_category,
        rate=Decimal(answer.rate or "0"),
        code=answer.category_code,
        reverse_charge=answer.reverse_charge,
        note=answer.legal_note,
    )
