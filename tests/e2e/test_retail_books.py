"""A wholesaler's lines are each in one place of the books, and no sale is taken back twice."""

import csv
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings, strategies as st

from scripts.retail.books import Survey, days, goods
from scripts.retail.matching import Matching
from scripts.retail.rows import Row
from tests.data import shared

OUTSIDE = "01_retail_uci"
THEN = datetime(2011, 4, 15, 9, 27, tzinfo=UTC)


def row(customer: str, sku: str, units: int) -> Row:
    return Row(2, "T1", sku, "Lantern", units, THEN, Decimal("1.25"), customer, "GB")


rows = st.builds(row, st.sampled_from(["1", "2", ""]), st.sampled_from("AB"), st.integers(1, 9))


@settings(max_examples=50)
@given(st.lists(rows, max_size=12), st.lists(st.lists(rows, min_size=1, max_size=4), max_size=6))
def test_what_is_taken_back_was_sold_to_that_customer_or_to_nobody_known(
    sold: list[Row], credits_: list[list[Row]]
) -> None:
    left = Counter({(f"order-{n}", "1"): each.units for n, each in enumerate(sold)})
    owner = {f"order-{n}": goods(each) for n, each in enumerate(sold)}
    matching = Matching({goods(each) for credit in credits_ for each in credit})
    for n, each in enumerate(sold):
        matching.sell(f"order-{n}", [("1", each)])
    for credit in credits_:
        found = matching.credit([row(each.customer, each.sku, -each.units) for each in credit])
        assert sum(-part.units for each in found.values() for part in each.rows) == sum(
            each.units for each in credit
        )
        for order_id, each in found.items():
            if order_id:
                assert {goods(part) for part in each.rows} == {owner[order_id]}
                assert owner[order_id][0], "nobody known takes nothing back"
            for line_id, units in each.lines.items():
                left[order_id, line_id] -= units
    assert min(left.values(), default=0) >= 0


@pytest.mark.parametrize(
    "months", [("2011-04",), pytest.param((), marks=pytest.mark.slow)], ids=["april", "all"]
)
def test_a_real_wholesalers_lines_sum_to_what_is_published(months: tuple[str, ...]) -> None:
    folder = shared(OUTSIDE)
    with (folder / "expected_totals_by_month.csv").open() as file:
        published = {line["month"]: line for line in csv.DictReader(file)}
    chosen = sorted(months or published)
    survey = Survey()
    for day in days([folder / f"{month}.csv.gz" for month in chosen]):
        survey.add(day)
    assert dict(survey.net) == {month: Decimal(published[month]["net_gbp"]) for month in chosen}
    assert survey.rows == sum(int(published[month]["rows"]) for month in chosen)
    assert [each.reason for each in survey.refused] == ["NOTHING_MOVED"] * (0 if months else 4)
    assert min(survey.closing(survey.opening()).values()) > 0
