"""An invoice or credit note as EN 16931 sees it: who owes whom what, for what, and how it is taxed.

Amounts are minor units of the document's currency. Names of rules and terms (BT-131, BR-CO-10) are the
standard's own.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from services.chassis.errors import FailedPrecondition, ResourceExhausted
from services.chassis.money import exponent, line_amount, round_half_up

PERCENT = 100
DECIMALS_MAX = 2  # BR-DEC-*: an amount has two at most, so no dinar of 1000 fils has an e-invoice.
TAX_SLACK = 1  # Minor units: what BR-CO-17's own test tolerates, and the last of several credit notes needs.


class DocumentRefused(FailedPrecondition):
    """Document {number} breaks {rule}: {problem}."""


class DraftHasNoDocument(FailedPrecondition):
    """Invoice {invoice_id} is a draft: only what was finalised has a document."""


class NoElectronicInvoice(FailedPrecondition):
    """Document {number} cannot be an e-invoice by EN 16931: {rules}."""


class DocumentsBusy(ResourceExhausted):
    """Too many documents are being made at once."""


class Kind(StrEnum):
    """BT-3, by UNTDID 1001."""

    INVOICE = "380"
    CREDIT_NOTE = "381"


@dataclass(frozen=True, kw_only=True)
class Party:
    """Seller or buyer (BG-4, BG-7)."""

    name: str
    country: str
    lines: tuple[str, ...] = ()  # Street and number.
    postal_code: str = ""
    city: str = ""
    region: str = ""
    vat_number: str = ""
    tax_number: str = ""  # Of the local tax office.
    registration: str = ""  # Of the register of companies.
    email: str = ""
    phone: str = ""


@dataclass(frozen=True, kw_only=True)
class Item:
    """A line (BG-25)."""

    position: int
    name: str
    net: int  # BT-131: after the allowance.
    code: str  # UNCL 5305.
    rate: Decimal  # Percent.
    units: Decimal = Decimal(1)
    price: Decimal = Decimal(0)  # BT-146, of one unit, in major units; never negative (BR-27).
    allowance: int = 0  # BT-136.
    sku: str = ""
    note: str = ""
    start: date | None = None
    end: date | None = None  # The last day.


@dataclass(frozen=True, kw_only=True)
class Adjustment:
    """An allowance or charge on the whole document (BG-20, BG-21)."""

    amount: int  # Positive, either way.
    charge: bool
    reason: str
    code: str
    rate: Decimal


@dataclass(frozen=True, kw_only=True)
class TaxPart:
    """What is taxed alike (BG-23)."""

    code: str
    rate: Decimal
    taxable: int
    tax: int
    reason: str = ""
    exemption: str = ""  # VATEX


@dataclass(frozen=True, kw_only=True)
class Payment:
    """How it is to be paid (BG-16)."""

    iban: str = ""
    bic: str = ""
    bank: str = ""
    automatic: bool = False  # The customer's own method is charged.


@dataclass(frozen=True, kw_only=True)
class Document:
    """Made of a finalised invoice or an issued credit note, and of nothing else."""

    kind: Kind
    number: str
    issued: date
    currency: str
    seller: Party
    buyer: Party
    items: tuple[Item, ...]
    taxes: tuple[TaxPart, ...]
    net: int  # BT-109
    tax: int  # BT-110
    gross: int  # BT-112
    due: date | None = None
    adjustments: tuple[Adjustment, ...] = ()
    prepaid: int = 0  # BT-113: credits that paid for it at once.
    notes: tuple[str, ...] = ()
    payment: Payment = Payment()
    preceding: tuple[str, date] | None = None  # Number and date of the invoice that a credit note is about.
    locale: str = "en"

    @property
    def items_net(self) -> int:
        """BT-106, by BR-CO-10."""
        return sum(item.net for item in self.items)

    @property
    def allowances(self) -> int:
        """BT-107, by BR-CO-11."""
        return sum(each.amount for each in self.adjustments if not each.charge)

    @property
    def charges(self) -> int:
        """BT-108, by BR-CO-12."""
        return sum(each.amount for each in self.adjustments if each.charge)

    @property
    def payable(self) -> int:
        """BT-115, by BR-CO-16."""
        return self.gross - self.prepaid

    @property
    def electronic(self) -> bool:
        """The standard can say its amounts."""
        return exponent(self.currency) <= DECIMALS_MAX

    def check(self) -> None:
        """Raises DocumentRefused with the first rule that the numbers break."""
        for rule, problem in _problems(self):
            raise DocumentRefused(number=self.number, rule=rule, problem=problem)


def _problems(of: Document) -> Iterator[tuple[str, str]]:
    """What does not add up, by BR-CO-13 to BR-CO-17 and the eighth rule of each category."""
    if of.items_net - of.allowances + of.charges != of.net:
        yield "BR-CO-13", f"lines, allowances and charges come to {of.items_net}, not to {of.net}"
    if sum(part.tax for part in of.taxes) != of.tax:
        yield "BR-CO-14", f"the taxes come to {sum(part.tax for part in of.taxes)}, not to {of.tax}"
    if of.net + of.tax != of.gross:
        yield "BR-CO-15", f"{of.net} and {of.tax} are not {of.gross}"
    if not 0 <= of.prepaid <= of.gross:
        yield "BR-CO-16", f"{of.prepaid} was paid of {of.gross}"
    for part in of.taxes:
        exact = round_half_up(Fraction(part.taxable) * Fraction(part.rate) / PERCENT)
        if abs(exact - part.tax) > TAX_SLACK:
            yield "BR-CO-17", f"{part.rate} % of {part.taxable} is {exact}, not {part.tax}"
    yield from _untaxed(of)


def _untaxed(of: Document) -> Iterator[tuple[str, str]]:
    """Every category that is billed has its breakdown, of all that is billed in it."""
    billed: dict[tuple[str, Decimal], int] = defaultdict(int)
    for item in of.items:
        billed[item.code, item.rate] += item.net
    for each in of.adjustments:
        billed[each.code, each.rate] += each.amount if each.charge else -each.amount
    told = {(part.code, part.rate): part.taxable for part in of.taxes}
    for code, rate in sorted(billed.keys() | told.keys()):
        if billed.get((code, rate)) != told.get((code, rate)):
            yield f"BR-{code}-08", f"{billed.get((code, rate))} is billed at {code} {rate} %"


def priced(amount: int, units: Decimal, unit_price: Decimal | None, currency: str) -> tuple[Decimal, Decimal]:
    """Units and the price of one that give `amount`, the price not negative (BR-27).

    Where the price is no single one (tiers, packages) or does not give the amount, the line is one unit of
    the whole.
    """
    if unit_price is not None and units and line_amount(unit_price, units, currency).minor == amount:
        return (-units, -unit_price) if unit_price < 0 else (units, unit_price)
    whole = Decimal(abs(amount)).scaleb(-exponent(currency))
    return (Decimal(1) if amount >= 0 else Decimal(-1)), whole
