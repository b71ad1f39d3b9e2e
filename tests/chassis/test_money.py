"""Money: exact to the minor unit, rounded once, shared out without a penny lost or made."""

import csv
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, strategies as some

from services.chassis.money import (
    MINOR_MAX,
    Allocation,
    AmountOutOfRange,
    MixedCurrencies,
    Money,
    NegativeAmount,
    NotAnAmount,
    TooManyDecimals,
    UnknownCurrency,
    allocate,
    decimal,
    exponent,
    line_amount,
    money_from_pb,
    money_to_pb,
    not_negative,
    round_half_up,
)
from tests import data
from weft.money.v1 import money_pb2

CURRENCIES = ["EUR", "JPY", "BHD", "CLF"]
weights = some.lists(some.integers(0, 10**6), min_size=1, max_size=40).filter(any)


def test_every_currency_of_iso_4217_has_its_own_decimals() -> None:
    path = data.shared("08_money_tax_calendar/iso4217_codes-all.csv")
    rows = [
        row
        for row in csv.DictReader(path.read_text().splitlines())
        if row["AlphabeticCode"] and not row["WithdrawalDate"]
    ]
    told = {row["AlphabeticCode"]: row["MinorUnit"] for row in rows}
    paid = {code: int(units) for code, units in told.items() if units.isdigit()}
    assert {code: exponent(code) for code in paid} == paid
    assert set(paid.values()) == {0, 2, 3, 4}
    for code in told.keys() - paid.keys():
        with pytest.raises(UnknownCurrency):
            exponent(code)


@pytest.mark.parametrize("code", ["", "eur", "EURO", "ZZZ", "XAU"])
def test_what_is_no_currency_is_refused(code: str) -> None:
    with pytest.raises(UnknownCurrency):
        Money(1, code)


@pytest.mark.parametrize(
    ("exact", "rounded"),
    [("0.5", 1), ("1.5", 2), ("2.5", 3), ("-0.5", -1), ("-2.5", -3), ("2.4999999", 2), ("-2.4", -2)],
)
def test_a_half_goes_away_from_zero(exact: str, rounded: int) -> None:
    assert round_half_up(Decimal(exact)) == rounded


@given(some.fractions())
def test_rounding_moves_by_at_most_a_half(exact: Fraction) -> None:
    assert abs(round_half_up(exact) - exact) <= Fraction(1, 2)
    assert round_half_up(-exact) == -round_half_up(exact)


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("12.34", "EUR", 1234),
        ("1234", "JPY", 1234),
        ("1.234", "BHD", 1234),
        ("-0.01", "USD", -1),
        ("7.50", "EUR", 750),
    ],
)
def test_an_amount_is_read_as_people_write_it(text: str, currency: str, minor: int) -> None:
    assert Money.parse(text, currency).minor == minor


@pytest.mark.parametrize(("text", "currency"), [("0.001", "EUR"), ("1.5", "JPY"), ("0.00005", "CLF")])
def test_decimals_that_cannot_be_paid_are_refused(text: str, currency: str) -> None:
    with pytest.raises(TooManyDecimals):
        Money.parse(text, currency)


@pytest.mark.parametrize("text", ["", "1,5", "1e3", "NaN", "Infinity", "1_000", "0x1", "9" * 61, "1.2.3"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(NotAnAmount):
        decimal(text)


@given(some.integers(-MINOR_MAX, MINOR_MAX), some.sampled_from(CURRENCIES))
def test_writing_and_reading_an_amount_changes_nothing(minor: int, currency: str) -> None:
    money = Money(minor, currency)
    assert Money.parse(f"{money.major:f}", currency) == money
    assert money_from_pb(money_to_pb(money)) == money


def test_currencies_do_not_mix() -> None:
    euro, yen = Money(1, "EUR"), Money(1, "JPY")
    for mixed in (
        lambda: euro + yen,
        lambda: euro - yen,
        lambda: euro < yen,
        lambda: Money.sum([yen], "EUR"),
    ):
        with pytest.raises(MixedCurrencies):
            mixed()


def test_an_amount_beyond_the_bound_is_refused() -> None:
    most = Money(MINOR_MAX, "EUR")
    with pytest.raises(AmountOutOfRange):
        most + Money(1, "EUR")
    with pytest.raises(AmountOutOfRange):
        money_from_pb(money_pb2.Money(amount_minor=-MINOR_MAX - 1, currency="EUR"))


def test_what_may_not_be_negative_is_refused_by_name() -> None:
    with pytest.raises(NegativeAmount) as refused:
        not_negative(Money(-1, "EUR"), "refund.amount")
    assert refused.value.violations()[0].field == "refund.amount"


def test_dollars_become_rupees_at_the_rate() -> None:
    assert Money(10000, "USD").convert(Decimal("82.42135"), "INR") == Money(824214, "INR")


@pytest.mark.parametrize(
    ("price", "units", "minor"), [("0.0004", 1250, 50), ("0.001", 1, 0), ("0.005", 1, 1), ("2.55", -3, -765)]
)
def test_a_fine_price_is_rounded_once_for_all_units(price: str, units: int, minor: int) -> None:
    assert line_amount(Decimal(price), units, "EUR").minor == minor


@pytest.mark.parametrize(
    ("amount", "shares_of", "shares"),
    [
        (299, [4300, 1400, 2300], [161, 52, 86]),
        (299, [1000, 1000, 1000], [100, 100, 99]),
        (93, [10, 20, 10, 30, 50, 20, 10, 40], [5, 10, 5, 15, 24, 10, 5, 19]),
    ],
)
def test_the_largest_remainder_takes_what_is_left(
    amount: int, shares_of: list[int], shares: list[int]
) -> None:
    assert allocate(amount, shares_of) == shares
    assert allocate(-amount, shares_of) == [-share for share in shares]


def test_floor_first_gives_the_rest_to_the_first_shares() -> None:
    assert allocate(15, [20, 2, 3], Allocation.FLOOR_FIRST) == [13, 1, 1]


@given(some.integers(-MINOR_MAX, MINOR_MAX), weights, some.sampled_from(Allocation))
def test_shares_sum_to_the_whole_and_each_is_within_one_of_its_due(
    amount: int, shares_of: list[int], rule: Allocation
) -> None:
    shares = allocate(amount, shares_of, rule)
    assert sum(shares) == amount
    for share, weight in zip(shares, shares_of, strict=True):
        off = abs(share - Fraction(amount * weight, sum(shares_of)))
        assert off < 1 or (off == 1 and rule is Allocation.FLOOR_FIRST)
        assert weight or not share


@pytest.mark.parametrize("shares_of", [[], [0, 0], [1, -1, 2]])
def test_shares_of_nothing_cannot_be_made(shares_of: list[int]) -> None:
    with pytest.raises(ValueError, match="weights"):
        allocate(1, shares_of)
