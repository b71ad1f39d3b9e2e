"""The taxes of a batch of invoices: each different case is determined once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from services.billing.domain.tax import Kind, NoTaxRate, Supply, Tax
from services.billing.domain.totals import Line, Rate
from services.billing.tax.determining import Question, Taxes
from services.chassis.db import AnyTx


class Buyer(NamedTuple):
    """What of a customer decides its tax."""

    country: str
    postal_code: str
    vat_number: str
    exempt: bool


@dataclass(frozen=True, slots=True)
class Case:
    """Lines of one buyer that are taxed alike."""

    buyer: Buyer
    category: str
    supply: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Determined:
    """How a case is taxed. `provisional`: unless the buyer's number turns out to be valid."""

    rate: Rate
    provisional: bool


Known = Mapping[Case, Determined | NoTaxRate]


def case_of(buyer: Buyer, line: Line, at: datetime) -> Case:
    return Case(buyer, Kind.EXEMPT if buyer.exempt else line.tax_category, line.supply, at)


async def determined(taxes: Taxes, tx: AnyTx, cases: Iterable[Case]) -> Known:
    """A rate for each case, or why there is none."""
    wanted = list(dict.fromkeys(cases))
    try:
        found = await taxes.determine(tx, [_question(case) for case in wanted])
    except NoTaxRate as refused:
        if len(wanted) == 1:
            return {wanted[0]: refused}
        known: dict[Case, Determined | NoTaxRate] = {}
        for case in wanted:  # One of them has none: the others are none the worse.
            known |= await determined(taxes, tx, [case])
        return known
    return {case: _determined(tax) for case, tax in zip(wanted, found, strict=True)}


def _question(case: Case) -> Question:
    return Question(
        buyer_country=case.buyer.country,
        buyer_postcode=case.buyer.postal_code,
        vat_number=case.buyer.vat_number,
        kind=Kind(case.category),
        supply=Supply(case.supply),
        at=case.at,
    )


def _determined(tax: Tax) -> Determined:
    return Determined(Rate(str(tax.code), tax.percent, tax.note), tax.provisional)
