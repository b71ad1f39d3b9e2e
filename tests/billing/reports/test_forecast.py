"""Forecasts: exact where the past is regular, and honest about their error where it is not."""

import csv
from decimal import Decimal

import pytest
from hypothesis import given, settings, strategies as st

from services.billing.domain.report_forecast import (
    HISTORY_MIN,
    Forecast,
    drift,
    forecast,
    holt_damped,
    seasonal,
)
from tests.data import shared

SEASON = [120, 80, 100, 130, 90, 110, 70, 60, 140, 150, 200, 260]


def of(*past: int, ahead: int = 3) -> Forecast:
    return forecast([Decimal(value) for value in past], ahead)


def test_what_never_changed_goes_on_by_the_simplest_method_and_without_error() -> None:
    said = of(*[500] * 8)
    assert (said.method, said.expected, said.low, said.high) == ("MEAN", [500] * 3, [500] * 3, [500] * 3)
    assert (said.percentage_error, said.scaled_error) == (0, None)


def test_what_rose_by_the_same_each_month_goes_on_rising() -> None:
    said = of(*range(100, 200, 10))
    assert (said.method, said.expected) == ("DRIFT", [200, 210, 220])
    assert (said.percentage_error, said.scaled_error) == (0, 0)


def test_a_year_that_repeats_is_seen_once_two_have_passed() -> None:
    said = of(*SEASON, *SEASON, ahead=12)
    assert (said.method, said.expected) == ("SEASONAL", SEASON)
    assert said.percentage_error == 0


def test_a_year_that_grows_grows_on() -> None:
    grown = [value * 2 for value in SEASON]
    assert seasonal([Decimal(value) for value in SEASON + grown], 2) == [480, 320]


def test_the_error_is_that_of_forecasts_that_could_have_been_made() -> None:
    """By hand: of 10 20 10 20 the third and fourth months are forecast from those before, once."""
    said = of(10, 20, 10, 20, ahead=1)
    assert said.trials == 1
    assert said.method == "MEAN" or said.scaled_error is not None
    best = min(abs(20 - Decimal(40) / 3), abs(20 - drift([Decimal(10), Decimal(20), Decimal(10)], 1)[0]))
    worst_of_mean = abs(20 - Decimal(40) / 3)
    assert said.scaled_error is not None
    assert said.scaled_error * 10 <= min(best, worst_of_mean)


def test_a_damped_trend_by_hand() -> None:
    """Level 10 and no trend; then 20: level 15, trend 2.5; ahead 0.9 * 2.5, and 0.81 * 2.5 more."""
    made = holt_damped([Decimal(10), Decimal(10), Decimal(20)], 2, Decimal("0.5"), Decimal("0.5"))
    assert made == [Decimal("17.25"), Decimal("19.275")]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(-(10**12), 10**12), min_size=HISTORY_MIN, max_size=20), st.integers(1, 24))
def test_any_history_has_a_forecast_whose_interval_holds_it_and_never_narrows(
    past: list[int], ahead: int
) -> None:
    said = of(*past, ahead=ahead)
    assert len(said.expected) == len(said.low) == len(said.high) == ahead
    widths = [round(high - low, 6) for low, high in zip(said.low, said.high, strict=True)]
    assert all(
        low <= value <= high for low, value, high in zip(said.low, said.expected, said.high, strict=True)
    )
    assert widths == sorted(widths)


def test_on_real_months_the_forecast_is_no_worse_than_taking_the_month_before() -> None:
    with shared("01_retail_uci/expected_totals_by_month.csv").open() as file:
        past = [Decimal(row["net_gbp"]) for row in csv.DictReader(file) if row["month"] < "2011-12"]
    said = forecast(past, 3)
    assert said.scaled_error is not None
    assert said.scaled_error < Decimal("1.6")
    assert said.percentage_error is not None
    assert said.percentage_error < 30


@pytest.mark.parametrize("months", [4, 5, 13, 14, 18, 60, 80])
def test_every_length_of_history_has_trials(months: int) -> None:
    assert of(*range(1, months + 1)).trials > 0
