"""Which tax a sale bears: who sells what to whom, where and when. Pure; the rates are handed in.

Directive 2006/112/EC: article 31 to 59 (place), 138 (intra-community supply), 146 (export), 196 (reverse
charge), 369a to 369l (one stop shop). Category codes are UNCL 5305 as EN 16931 restricts it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from itertools import groupby
from uuid import UUID

from services.billing.domain.tax_territory import Place
from services.chassis.errors import FailedPrecondition


class NoTaxRate(FailedPrecondition):
    """No {kind} tax rate of {country} is known for {day}."""


class Kind(StrEnum):
    """How a thing is taxed, whatever the country."""

    STANDARD = "STANDARD"
    REDUCED = "REDUCED"
    SECOND_REDUCED = "SECOND_REDUCED"
    SUPER_REDUCED = "SUPER_REDUCED"
    PARKING = "PARKING"
    ZERO = "ZERO"
    EXEMPT = "EXEMPT"


# What a country charges that has no rate of the kind: the next higher one, so that too little never is.
LADDER = {
    Kind.STANDARD: (Kind.STANDARD,),
    Kind.REDUCED: (Kind.REDUCED, Kind.STANDARD),
    Kind.SECOND_REDUCED: (Kind.SECOND_REDUCED, Kind.REDUCED, Kind.STANDARD),
    Kind.SUPER_REDUCED: (Kind.SUPER_REDUCED, Kind.SECOND_REDUCED, Kind.REDUCED, Kind.STANDARD),
    Kind.PARKING: (Kind.PARKING, Kind.STANDARD),
}


class Supply(StrEnum):
    """What is supplied; it decides where."""

    GOODS = "GOODS"
    SERVICES = "SERVICES"


# Since when a consumer's country taxes what comes from another member.
DESTINATION_SINCE = {Supply.GOODS: date(2021, 7, 1), Supply.SERVICES: date(2015, 1, 1)}


class NumberState(StrEnum):
    """What is known of the buyer's VAT number."""

    NONE = "NONE"
    VALID = "VALID"
    INVALID = "INVALID"
    UNCONFIRMED = "UNCONFIRMED"


class Code(StrEnum):
    """UNCL 5305."""

    STANDARD = "S"
    ZERO = "Z"
    EXEMPT = "E"
    REVERSE_CHARGE = "AE"
    INTRA_COMMUNITY = "K"
    EXPORT = "G"
    OUT_OF_SCOPE = "O"


NOTES = {
    Code.EXEMPT: "Exempt from VAT.",
    Code.REVERSE_CHARGE: "Reverse charge: the recipient owes the VAT (article 196, Directive 2006/112/EC).",
    Code.INTRA_COMMUNITY: "Intra-community supply, exempt from VAT (article 138, Directive 2006/112/EC).",
    Code.EXPORT: "Export, exempt from VAT (article 146, Directive 2006/112/EC).",
    Code.OUT_OF_SCOPE: "Not subject to VAT: supplied where the recipient is (articles 44 to 59, Directive "
    "2006/112/EC).",
}
EXEMPTIONS = {
    Code.REVERSE_CHARGE: "VATEX-EU-AE",
    Code.INTRA_COMMUNITY: "VATEX-EU-IC",
    Code.EXPORT: "VATEX-EU-G",
    Code.OUT_OF_SCOPE: "VATEX-EU-O",
}


@dataclass(frozen=True, slots=True)
class Rate:
    """What one country charges for one kind of thing, from a day on."""

    tax_rate_id: UUID
    country: str
    region: str
    kind: Kind
    percent: Decimal
    valid_from: date
    valid_to: date | None = None  # The first day on which it no longer holds.

    def holds(self, day: date) -> bool:
        return self.valid_from <= day and (self.valid_to is None or day < self.valid_to)


class Rates:
    """The rates that are known."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        def series(rate: Rate) -> tuple[str, str, str]:
            return rate.country, rate.region, rate.kind

        ordered = sorted(rates, key=lambda rate: (*series(rate), rate.valid_from))
        self._series = {key: list(group) for key, group in groupby(ordered, key=series)}

    def find(self, country: str, region: str, kind: Kind, day: date) -> Rate | None:
        """That of the kind, else of the next higher one; the region's own before the country's."""
        for rung in LADDER[kind]:
            for where in dict.fromkeys((region, "")):
                begun = [rate for rate in self._of(country, where, rung) if rate.valid_from <= day]
                if begun and begun[-1].holds(day):
                    return begun[-1]
        return None

    def _of(self, country: str, region: str, kind: Kind) -> Sequence[Rate]:
        return self._series.get((country, region, kind), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """What is known of a sale when its tax is asked for."""

    seller: Place
    buyer: Place
    kind: Kind
    at: datetime
    supply: Supply = Supply.GOODS
    number: NumberState = NumberState.NONE
    number_country: str = ""  # Of the buyer's VAT number, as ISO has it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Tax:
    """What a sale bears."""

    code: Code
    country: str
    percent: Decimal = Decimal(0)
    region: str = ""
    tax_rate_id: UUID | None = None
    number: NumberState = NumberState.NONE
    provisional: bool = False

    @property
    def note(self) -> str:
        return NOTES.get(self.code, "")

    @property
    def exemption(self) -> str:
        return EXEMPTIONS.get(self.code, "")


def determine(sale: Sale, rates: Rates, *, one_stop_shop: bool = True) -> Tax:
    """Raises NoTaxRate. Below the threshold of the one stop shop the seller's country taxes consumers."""
    return _Case(sale, rates, one_stop_shop).tax()


@dataclass(frozen=True)
class _Case:
    """One sale being decided upon."""

    sale: Sale
    rates: Rates
    one_stop_shop: bool

    def tax(self) -> Tax:
        if self._domestic:
            return self._taxed(self.sale.buyer)
        if not self._union(self.sale.buyer):
            return self._untaxed(Code.EXPORT if self._goods else Code.OUT_OF_SCOPE)
        if self._goods and not self._union(self.sale.seller):
            return self._untaxed(Code.EXPORT)
        if self.sale.kind is not Kind.EXEMPT and self._number_counts:
            return self._to_business()
        return self._taxed(self._taxes_consumers)

    def _to_business(self) -> Tax:
        """Of one member to another's business, if its number is confirmed."""
        if self.sale.number is NumberState.VALID:
            return self._untaxed(Code.INTRA_COMMUNITY if self._goods else Code.REVERSE_CHARGE)
        taxed = self._taxed(self._taxes_consumers)
        return replace(taxed, provisional=self.sale.number is NumberState.UNCONFIRMED)

    @cached_property
    def _goods(self) -> bool:
        return self.sale.supply is Supply.GOODS

    @cached_property
    def _domestic(self) -> bool:
        return self.sale.seller.taxing == self.sale.buyer.taxing and not self.sale.buyer.outside

    @cached_property
    def _number_counts(self) -> bool:
        """It is of another member than the seller's."""
        foreign = self.sale.number_country != self.sale.seller.country
        return foreign and self.sale.number is not NumberState.NONE

    @cached_property
    def _taxes_consumers(self) -> Place:
        sold = self.sale.buyer.day(self.sale.at)
        abroad = not self._union(self.sale.seller)
        at_destination = self.one_stop_shop and sold >= DESTINATION_SINCE[self.sale.supply]
        return self.sale.buyer if abroad or at_destination else self.sale.seller

    def _union(self, place: Place) -> bool:
        return place.in_union(place.day(self.sale.at), goods=self._goods)

    def _untaxed(self, code: Code) -> Tax:
        return Tax(code=code, country=self.sale.buyer.taxing, number=self.sale.number)

    def _taxed(self, where: Place) -> Tax:
        """Raises NoTaxRate."""
        fixed = {Kind.ZERO: Code.ZERO, Kind.EXEMPT: Code.EXEMPT}.get(self.sale.kind)
        if fixed:
            return Tax(code=fixed, country=where.taxing, region=where.region, number=self.sale.number)
        day = where.day(self.sale.at)
        rate = self.rates.find(where.taxing, where.region, self.sale.kind, day)
        if rate is None:
            raise NoTaxRate(kind=self.sale.kind.lower(), country=where.taxing, day=day)
        return Tax(
            code=Code.STANDARD if rate.percent else Code.ZERO,
            country=where.taxing,
            percent=rate.percent,
            region=where.region,
            tax_rate_id=rate.tax_rate_id,
            number=self.sale.number,
        )
