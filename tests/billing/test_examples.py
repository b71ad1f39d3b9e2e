"""The arithmetic of billing against what vendors publish of theirs: 18 cases, each by its id."""

import csv
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import cache
from uuid import UUID

import pytest

from services.billing.domain import periods
from services.billing.domain.charge import Model, Tier, Usage
from services.billing.domain.coupon import Discount
from services.billing.domain.credit import Balance
from services.billing.domain.cycle import Proration, Span, Unit, day_end, share
from services.billing.domain.periods import Wanted
from services.billing.domain.plan import Alignment, Terms, UpgradeCredit, is_upgrade
from services.billing.domain.profile import zone
from services.billing.domain.totals import Line
from services.chassis.money import Money, round_half_up
from tests.billing.plans import (
    amounts,
    at,
    daily_prorated,
    flat,
    line,
    metered,
    monthly,
    passes,
    subscribed,
    taxed,
)
from tests.data import shared

UTC = zone("UTC")
CASES: dict[str, Callable[[], object]] = {}


def case(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def keep(check: Callable[[], None]) -> Callable[[], None]:
        CASES[name] = check
        return check

    return keep


def changed(old: Terms, new: Terms, start: str, when: str) -> list[Line]:
    """A subscription of `old` that becomes one of `new`."""
    sub = subscribed(start)
    passes(sub, old)
    return periods.change(sub, old, Wanted(new, 1), {}, at(when))


@case("lago-upg-1")
def upgrade_by_day() -> None:
    old = daily_prorated(flat("20"), upgrade_credit=UpgradeCredit.BILLED)
    lines = changed(old, daily_prorated(flat("40")), "2023-05-01", "2023-05-11T15:00")
    assert amounts(lines) == [-2000, 2710]
    assert sum(amounts(lines)) == 710


@case("lago-start-1")
def start_in_a_calendar_month() -> None:
    sub = subscribed("2023-08-10")
    assert amounts(passes(sub, daily_prorated(flat("50")))) == [3548]


@case("lago-trial-1")
def first_invoice_after_a_trial() -> None:
    terms = daily_prorated(flat("50"), trial_days=5)
    sub = subscribed("2023-04-01T09:30")
    assert passes(sub, terms) == []
    assert sub.next_bill_at == at("2023-04-06")
    assert amounts(passes(sub, terms)) == [4167]


@case("lago-start-2")
def start_that_is_published_approximately() -> None:
    (first,) = amounts(passes(subscribed("2022-04-15"), daily_prorated(flat("10"))))
    assert first == 533, "16 of 30 days"
    assert abs(first - 500) <= round_half_up(Decimal(1000) / 30), "a day more than published"


@case("lago-cmp-1")
def dearer_by_the_month() -> None:
    assert is_upgrade(monthly(flat("20")), 1, monthly(flat("40")), 1)


@case("lago-cmp-2")
def cheaper_by_the_month() -> None:
    assert not is_upgrade(monthly(flat("20")), 1, monthly(flat("15")), 1)


@case("lago-cmp-3")
def dearer_by_the_year() -> None:
    assert is_upgrade(monthly(flat("20")), 1, replace(monthly(flat("300")), unit=Unit.YEAR), 1)


@case("lago-cmp-4")
def cheaper_by_the_year() -> None:
    assert not is_upgrade(monthly(flat("20")), 1, replace(monthly(flat("180")), unit=Unit.YEAR), 1)


@case("lago-multi-1")
def three_plans_of_one_customer() -> None:
    plans = [monthly(flat("40")), monthly(flat("60")), monthly(flat("500"), unit=Unit.YEAR)]
    subs = [(subscribed("2022-01-15"), terms) for terms in plans]
    months = []
    for month in range(13):
        begin = at(f"{2022 + month // 12}-{month % 12 + 1:02}-15")
        due = [(sub, terms) for sub, terms in subs if sub.next_bill_at == begin]
        months.append(sum(sum(amounts(passes(sub, terms))) for sub, terms in due))
    assert months == [60_000, *[10_000] * 11, 60_000]


@case("lago-tax-round-1")
def tax_of_the_sum() -> None:
    made = taxed(line(17), line(446), percent="20")
    assert (made.net, made.tax, made.gross) == (463, 93, 556)


def lago_order(*balances: int, coupon: int = 0) -> tuple[int, int, int, int]:
    off = Discount(UUID(int=7), None, coupon, "EUR", (), None, None)
    made = taxed(
        line(5000),
        line(2000),
        percent="10",
        discounts=[off] * bool(coupon),
        balances=[Balance(UUID(int=n), amount) for n, amount in enumerate(balances)],
    )
    return made.net, made.tax, made.gross, made.due


@case("lago-order-1")
def coupons_then_tax_then_credit_notes_then_prepaid() -> None:
    assert lago_order(2000, 3000, coupon=1000) == (6000, 600, 6600, 1600)


@case("lago-order-0")
def the_older_order_in_which_a_coupon_is_credit() -> None:
    assert lago_order(1000, 3000) == (7000, 700, 7700, 3700)


@case("lago-vol-1")
def all_units_at_the_tier_reached() -> None:
    bounds = (("10000", "0.0010"), ("50000", "0.0008"), ("100000", "0.0006"), (None, "0.0004"))
    tiers = tuple(Tier(Decimal(to) if to else None, Decimal(price), Decimal(10)) for to, price in bounds)
    assert used(Usage(count=1, total=Decimal(65_000)), model=Model.VOLUME, tiers=tiers) == [4900]


@case("lago-pkg-1")
def packages_that_are_begun() -> None:
    terms = {"unit_price": Decimal(5), "package_units": Decimal(100), "free_units": Decimal(100)}
    assert used(Usage(count=1, total=Decimal(201)), model=Model.PACKAGE, **terms) == [1000]


@case("lago-pct-1")
def percentages_after_free_events() -> None:
    terms = {"rate": Decimal("1.2"), "fixed": Decimal("0.10"), "free_events": 3, "free_amount": Decimal(500)}
    values = [Decimal(value) for value in (200, 100, 100, 50)]
    charges = []
    for number in range(1, 5):
        events = values[:number]
        usage = Usage(number, sum(events, Decimal(0)), events=events)
        charges.append(sum(used(usage, model=Model.PERCENTAGE, **terms)))
    assert charges == [0, 0, 0, 70]


@case("lago-min-1")
def a_minimum_is_a_line_of_its_own() -> None:
    terms = {"unit_price": Decimal("0.010"), "minimum": Decimal(100)}
    assert used(Usage(count=1, total=Decimal(5000)), **terms) == [5000, 5000]


def used(usage: Usage, **charge: object) -> list[int]:
    """What a month of usage costs."""
    sub, terms = subscribed("2023-01-01"), monthly(metered(**charge))
    passes(sub, terms)
    return amounts(passes(sub, terms, {"calls": usage}))


@case("stripe-pro-1")
def upgrade_by_second() -> None:
    old, new = monthly(flat("10")), monthly(flat("20"))
    lines = changed(old, new, "2023-04-01", "2023-04-16")
    assert amounts(lines) == [-500, 1000]


@case("autumn-pro-1")
def another_upgrade_by_second() -> None:
    lines = changed(monthly(flat("20")), monthly(flat("50")), "2023-04-01", "2023-04-16")
    assert sum(amounts(lines)) == 1500


@cache
def published() -> list[str]:
    with (shared("09_billing") / "billing_examples.csv").open() as file:
        return [row["id"] for row in csv.DictReader(file)]


def test_every_published_case_is_here() -> None:
    assert sorted(published()) == sorted(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_published_case_comes_out_as_published(name: str) -> None:
    CASES[name]()


def test_seconds_give_back_what_stripe_does() -> None:
    start, when, end = (at("1970-01-01") + timedelta(seconds=s) for s in (1487030400, 1488568488, 1489449600))
    unused = share(Proration.SECOND, Span(start, end), Span(when, end), UTC)
    assert Money(1000, "EUR").times(unused).minor == 364


def test_days_count_the_last_one() -> None:
    quarter = Terms(
        currency="EUR",
        unit=Unit.QUARTER,
        alignment=Alignment.CALENDAR,
        proration=Proration.DAY,
        charges=(flat("910", in_advance=False),),
    )
    sub = subscribed("2023-05-20")
    assert passes(sub, quarter) == []
    assert day_end(at("2023-06-20T08:00"), UTC) == at("2023-06-21")
    assert amounts(periods.cancel(sub, quarter, {}, at("2023-06-20T08:00"), credit=False)) == [32_000]
