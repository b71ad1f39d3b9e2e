"""What a document must add up to, before anything is made of it."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from services.billing.domain.document import Document, DocumentRefused, priced
from services.chassis.money import line_amount
from tests.billing.documents.papers import item, paper, papers


@given(papers())
def test_what_adds_up_is_let_through(document: Document) -> None:
    document.check()
    assert document.payable == document.gross - document.prepaid
    assert document.net == document.items_net - document.allowances + document.charges


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"net": 10_001}, "BR-CO-13"),
        ({"tax": 1_901}, "BR-CO-14"),
        ({"gross": 11_901}, "BR-CO-15"),
        ({"prepaid": 11_901}, "BR-CO-16"),
        ({"prepaid": -1}, "BR-CO-16"),
    ],
)
def test_a_total_that_is_wrong_is_refused_by_its_rule(change: dict[str, int], rule: str) -> None:
    with pytest.raises(DocumentRefused, match=rule):
        replace(paper(), **change).check()


def test_a_tax_that_its_rate_does_not_give_is_refused_beyond_one_minor_unit() -> None:
    made = paper()
    for tax, refused in [(1_899, False), (1_900, False), (1_901, False), (1_898, True), (1_902, True)]:
        parts = (replace(made.taxes[0], tax=tax),)
        changed = replace(made, taxes=parts, tax=tax, gross=10_000 + tax)
        if refused:
            with pytest.raises(DocumentRefused, match="BR-CO-17"):
                changed.check()
        else:
            changed.check()


def test_every_category_that_is_billed_has_its_breakdown_of_all_of_it() -> None:
    made = paper((item(1, 6_000), item(2, 4_000, rate="7")))
    swapped = tuple(replace(part, taxable=5_000, tax=round(50 * part.rate)) for part in made.taxes)
    tax = sum(part.tax for part in swapped)
    with pytest.raises(DocumentRefused, match="BR-S-08"):
        replace(made, taxes=swapped, tax=tax, gross=10_000 + tax).check()
    with pytest.raises(DocumentRefused, match="BR-S-08"):
        replace(made, taxes=made.taxes[:1], tax=made.taxes[0].tax, gross=10_000 + made.taxes[0].tax).check()


@given(
    st.integers(-(10**12), 10**12),
    st.decimals("-99999", "99999", places=4),
    st.none() | st.decimals("-9999", "9999", places=6),
)
def test_units_and_price_give_the_amount_and_no_price_is_negative(
    amount: int, units: Decimal, unit_price: Decimal | None
) -> None:
    for wanted in (amount, line_amount(unit_price or Decimal(1), units, "EUR").minor):
        counted, price = priced(wanted, units, unit_price, "EUR")
        assert price >= 0
        assert line_amount(price, counted, "EUR").minor == wanted


@pytest.mark.parametrize(
    ("currency", "electronic"), [("EUR", True), ("JPY", True), ("BHD", False), ("KWD", False)]
)
def test_currencies_of_three_decimals_have_no_electronic_invoice(currency: str, *, electronic: bool) -> None:
    assert paper(currency=currency).electronic is electronic
