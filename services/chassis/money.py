"""Money: whole minor units of an ISO 4217 currency, one rounding, one way to share an amount out.

Amounts are integers and rates are exact decimals; a float is refused by type. Where an exact result becomes
an amount it is rounded half up, away from zero at the half (`round_half_up`), and nowhere else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from enum import Enum
from fractions import Fraction
from functools import cache
from typing import Self

from iso4217 import Currency

from services.chassis.errors import InvalidArgument
from weft.money.v1 import money_pb2

MINOR_MAX = 10**15  # A million documents of this size still sum within 64 bits.
DIGITS_MAX = 60  # Of an exact intermediate: two amounts and a rate multiplied, with room.
EXACT = Context(prec=DIGITS_MAX, rounding=ROUND_HALF_UP)


class UnknownCurrency(InvalidArgument):
    """{currency} is no ISO 4217 currency that is paid in minor units."""


class MixedCurrencies(InvalidArgument):
    """{first} and {second} meet in one sum; convert one of them first."""


class AmountOutOfRange(InvalidArgument):
    """An amount of {amount_minor} minor units is more than 10^15 either way."""


class TooManyDecimals(InvalidArgument):
    """{amount} has more decimals than the {exponent} of {currency}."""


class NotAnAmount(InvalidArgument):
    """{amount!r} is not a decimal number."""


class NegativeAmount(InvalidArgument):
    """{field} must not be negative."""


@cache
def exponent(currency: str) -> int:
    """Decimals of the minor unit: EUR 2, JPY 0, BHD 3. Raises UnknownCurrency."""
    try:
        decimals = Currency(currency).exponent
    except ValueError:
        raise UnknownCurrency(currency=currency) from None
    if decimals is None:
        raise UnknownCurrency(currency=currency)
    return int(decimals)


def round_half_up(exact: Decimal | Fraction | int) -> int:
    """The nearest whole number; a half goes away from zero, as invoices are rounded (EN 16931)."""
    value = Fraction(exact)
    whole, rest = divmod(abs(value.numerator), value.denominator)
    rounded = whole + (2 * rest >= value.denominator)
    return rounded if value >= 0 else -rounded


@dataclass(frozen=True, slots=True, order=False)
class Money:
    """An amount that can be paid. Sums and comparisons of two currencies raise MixedCurrencies."""

    minor: int
    currency: str

    def __post_init__(self) -> None:
        exponent(self.currency)
        if not -MINOR_MAX <= self.minor <= MINOR_MAX:
            raise AmountOutOfRange(amount_minor=self.minor)

    @classmethod
    def zero(cls, currency: str) -> Self:
        return cls(0, currency)

    @classmethod
    def of(cls, exact: Decimal | Fraction | int, currency: str) -> Self:
        """The exact amount of major units, rounded half up to minor ones."""
        return cls(round_half_up(Fraction(exact) * 10 ** exponent(currency)), currency)

    @classmethod
    def parse(cls, text: str, currency: str) -> Self:
        """From major units as people write them, `12.34`. Raises NotAnAmount, TooManyDecimals."""
        exact = decimal(text)
        minor = exact.scaleb(exponent(currency), EXACT)
        if minor != minor.to_integral_value():
            raise TooManyDecimals(amount=text, currency=currency, exponent=exponent(currency))
        return cls(int(minor), currency)

    @classmethod
    def sum(cls, amounts: Iterable["Money"], currency: str) -> "Money":
        """The sum, zero of `currency` for none."""
        total = Money.zero(currency)
        for amount in amounts:
            total = total + amount
        return total

    @property
    def major(self) -> Decimal:
        """Exact, with the currency's own number of decimals: Decimal('12.30')."""
        return Decimal(self.minor).scaleb(-exponent(self.currency), EXACT)

    def times(self, rate: Decimal | Fraction | int) -> Self:
        """Multiplied by an exact rate and rounded half up."""
        return type(self)(round_half_up(Fraction(self.minor) * Fraction(rate)), self.currency)

    def convert(self, rate: Decimal | Fraction, currency: str) -> "Money":
        """In another currency, at `rate` of its major units for one of ours; rounded half up."""
        return Money.of(Fraction(self.major) * Fraction(rate), currency)

    def allocate(self, weights: Sequence[int], rule: "Allocation | None" = None) -> list[Self]:
        """Shares that sum to the whole, in proportion to `weights`; see `allocate`."""
        shares = allocate(self.minor, weights, rule or Allocation.LARGEST_REMAINDER)
        return [type(self)(share, self.currency) for share in shares]

    def __add__(self, other: "Money") -> Self:
        return type(self)(self.minor + self._same(other), self.currency)

    def __sub__(self, other: "Money") -> Self:
        return type(self)(self.minor - self._same(other), self.currency)

    def __neg__(self) -> Self:
        return type(self)(-self.minor, self.currency)

    def __abs__(self) -> Self:
        return type(self)(abs(self.minor), self.currency)

    def __bool__(self) -> bool:
        return self.minor != 0

    def __lt__(self, other: "Money") -> bool:
        return self.minor < self._same(other)

    def __le__(self, other: "Money") -> bool:
        return self.minor <= self._same(other)

    def __gt__(self, other: "Money") -> bool:
        return self.minor > self._same(other)

    def __ge__(self, other: "Money") -> bool:
        return self.minor >= self._same(other)

    def __str__(self) -> str:
        return f"{self.major:f} {self.currency}"

    def _same(self, other: "Money") -> int:
        if other.currency != self.currency:
            raise MixedCurrencies(first=self.currency, second=other.currency)
        return other.minor


class Allocation(Enum):
    """Who gets what is left over when an amount does not divide evenly."""

    LARGEST_REMAINDER = "largest remainder"  # Whoever lost most by rounding down; ties by position.
    FLOOR_FIRST = "floor first"  # One each to the first shares, as Formance's Numscript does.


def allocate(
    amount: int, weights: Sequence[int], rule: Allocation = Allocation.LARGEST_REMAINDER
) -> list[int]:
    """Whole shares of `amount` in proportion to `weights`, which sum to `amount` exactly.

    Weights are not negative and not all zero, else ValueError; a weight of zero gets nothing. A negative
    amount is shared as its positive would be.
    """
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        raise ValueError("weights are not negative, and at least one is positive")
    shares = [divmod(abs(amount) * weight, total) for weight in weights]
    whole = [share for share, _ in shares]
    candidates = [index for index, weight in enumerate(weights) if weight]
    if rule is Allocation.LARGEST_REMAINDER:
        candidates.sort(key=lambda index: -shares[index][1])
    for index in candidates[: abs(amount) - sum(whole)]:
        whole[index] += 1
    return whole if amount >= 0 else [-share for share in whole]


def decimal(text: str) -> Decimal:
    """An exact number from text. Raises NotAnAmount for anything that is not finite and plain."""
    try:
        exact = EXACT.create_decimal(text)
    except InvalidOperation:
        raise NotAnAmount(amount=text) from None
    if not exact.is_finite() or len(text) > DIGITS_MAX or "e" in text.lower() or "_" in text:
        raise NotAnAmount(amount=text)
    return exact


def money_from_pb(pb: money_pb2.Money) -> Money:
    return Money(pb.amount_minor, pb.currency)


def money_to_pb(money: Money) -> money_pb2.Money:
    return money_pb2.Money(amount_minor=money.minor, currency=money.currency)


def not_negative(money: Money, field: str) -> Money:
    """`money`, refused by the field's name if it is below zero."""
    if money.minor < 0:
        raise NegativeAmount(field=field)
    return money


def line_amount(unit_price: Decimal, units: Decimal | int, currency: str) -> Money:
    """What `units` cost at a price for each: the one place where a unit price becomes an amount."""
    return Money.of(Fraction(unit_price) * Fraction(units), currency)
