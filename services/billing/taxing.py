"""The taxes of a batch of invoices: each different case is determined once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from services.billing.domain.tax import Kind, NoTaxRate, Supply
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


Known = Mapping[Case, Rate | NoTaxRate]


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
        known: dict[Case, Rate | NoTaxRate] = {}
        for case in wanted:  # One of them has none: the others are none the worse.
            known |= await determined(taxes, tx, [case])
        return known
    return {case: _rate(tax) for case, tax in zip(wanted, found, strict=True)}


def _question(case: Case) -> Question:
    return Question(
        buyer_country=case.buyer.country,
        buyer_postcode=case.buyer.postal_code,
        vat_number=case.buyer.vat_number,
        kind=Kind(case.category),
        supply=Supply(case.supply),
        at=case.at,
    )


def _rate(tax: Any) -> Rate:
    return Rate(str(tax.code), tax.percent, tax.note)
