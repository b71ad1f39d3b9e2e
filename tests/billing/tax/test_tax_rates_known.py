"""The rates that are there from the start agree with two collections of rates of other people.

Where they do not, it is named here with the law that decides.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.billing.domain.tax import LADDER, Kind, Rates
from services.billing.domain.tax_territory import ALIASES, JOINED
from services.billing.store import tax_rate as store
from services.chassis.testing import Lab
from tests.data import shared

SINCE = date(2009, 12, 1)  # What may still have to be billed or replayed; older rates are there in part.
# Where the collection of standard rates is wrong: country, first day, percent.
STALE = {
    ("IE", date(2012, 1, 1), Decimal("23")): "21 % from September 2020 to February 2021",
}
# Where the collection of all rates is: country, first day, percent.
WRONG = {
    ("GR", "2016-01-01", Decimal("13.5")): "13 % since 2011 (law 3899/2010)",
    ("GR", "0000-01-01", Decimal("6.5")): "the past begins with 2011 there",
    ("LU", "2015-01-01", Decimal("12")): "14 % since 2015 (law of 19 December 2014)",
    ("LU", "2016-01-01", Decimal("13")): "14 % since 2015 (law of 19 December 2014)",
}


@pytest.fixture(scope="module")
async def rates(lab: Lab) -> Rates:
    return await store.rates(lab.db("billing"), list(JOINED))


def periods(path: Path) -> Iterator[tuple[str, date, date, Decimal]]:
    """Country, first day, last day, percent: of whole members, as far as they reach into our time."""
    for row in csv.DictReader(path.read_text().splitlines()):
        for code in {ALIASES.get(each, each) for each in row["territory_codes"].splitlines()}:
            first = date.fromisoformat(row["start_date"])
            stop = date.fromisoformat(row["stop_date"]) if row["stop_date"] else date(2025, 9, 1)
            if code in JOINED and stop > SINCE and code != "CP":
                yield code, max(first, SINCE), stop - timedelta(days=1), Decimal(row["rate"]) * 100


async def test_standard_rates_are_those_of_the_worlds_history_on_first_and_last_days(rates: Rates) -> None:
    wrong, seen = [], 0
    for country, first, last, percent in periods(shared("08_money_tax_calendar/vat_rates_history.csv")):
        for day in (first, last):
            rate, seen = rates.find(country, "", Kind.STANDARD, day), seen + 1
            if rate is None or rate.percent != percent:
                wrong.append((country, day, percent, rate and rate.percent))
    assert seen > 100
    assert wrong == []
    for country, first, percent in STALE:
        rate = rates.find(country, "", Kind.STANDARD, date(2020, 12, 1))
        assert rate
        assert (rate.percent, percent, first.year) == (21, 23, 2012)


def first_day(step: dict[str, Any], steps: Sequence[dict[str, Any]]) -> date:
    """Of the oldest step, which has none, the last day before the next."""
    if not step["effective_from"].startswith("0000"):
        return date.fromisoformat(step["effective_from"])
    following = [each["effective_from"] for each in steps if each is not step]
    return date.fromisoformat(min(following)) - timedelta(days=1) if following else date(2025, 9, 1)


def test_all_rates_are_those_of_the_unions_history_on_each_first_day(rates: Rates) -> None:
    wrong, seen = [], 0
    items = json.loads(shared("08_money_tax_calendar/eu_vat_rates_history.json").read_text())["items"]
    for country, steps in items.items():
        for step in steps:
            day = first_day(step, steps)
            ours = {rate.percent for kind in LADDER if (rate := rates.find(country, "", kind, day))}
            for percent in {Decimal(str(each)) for each in step["rates"].values()}:
                seen += 1
                if percent not in ours and (country, step["effective_from"], percent) not in WRONG:
                    wrong.append((country, step["effective_from"], percent, sorted(ours)))
    assert seen > 100
    assert wrong == []
