"""Whatever is refunded in whatever order: never more than was paid, and in the end exactly that."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, strategies as st

from services.chassis.clock import uuid7
from services.chassis.errors import Refusal
from services.chassis.events import announcement
from services.chassis.money import round_half_up
from services.order import telling
from services.order.domain import amounts
from services.order.domain.order import Line, Order
from services.order.domain.words import query, words
from services.order.folding import fold

RATES = ["0", "5.5", "7.7", "19", "20"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LINES = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 10_000), st.integers(0, 3_000)), min_size=1, max_size=4
)
# Units of each line, or an amount, and whether the payment refuses it.
ASKED = st.lists(
    st.tuples(
        st.one_of(st.lists(st.integers(0, 4), min_size=4, max_size=4), st.integers(1, 20_000), st.none()),
        st.booleans(),
    ),
    max_size=12,
)


def order_of(lines: list[tuple[int, int, int]]) -> Order:
    order = Order("o", currency="EUR")
    for n, (units, net, tax) in enumerate(lines):
        money = {"base": net, "discount": 0, "net": net, "tax": tax, "tax_rate": "20"}
        about = {"sku": "s", "unit_price": "1", "tax_category": "standard", "shippable": True}
        order.lines[str(n)] = Line(line_id=str(n), units=units, **money, **about)  # type: ignore[arg-type]
    order.captured = order.gross
    return order


def apply(order: Order, message: object) -> None:
    fold(order, message, announcement(message, uuid7(NOW), NOW))  # type: ignore[arg-type]


@given(LINES, ASKED)
def test_refunds_never_exceed_what_was_paid_and_units_give_exactly_it(
    lines: list[tuple[int, int, int]], asked: list[tuple[object, bool]]
) -> None:
    order, by_amount = order_of(lines), False
    for number, (what, fails) in enumerate(asked):
        chosen = what if isinstance(what, list) else []
        units = {str(n): count for n, count in enumerate(chosen) if count and n < len(lines)}
        amount = what if isinstance(what, int) else None
        try:
            parts, net, tax = order.to_refund(units, amount)
        except Refusal:
            continue
        wanted = telling.refund_wanted(order, str(number), parts, net, tax)
        wanted.paid_back.CopyFrom(telling.money(order, net + tax))
        apply(order, wanted)
        if fails:
            apply(order, telling.refund_failed(order, str(number), "X"))
        else:
            by_amount |= not units
        assert 0 <= order.refunded <= order.gross
        assert net >= 0 <= tax
        assert order.paid_back + order.refundable == order.captured
        assert sum(each.tax for each in order.taken_back) <= order.tax
    left = {each.line_id: each.units - each.refunded for each in order.lines.values()}
    if not by_amount and order.refundable and any(left.values()):
        _, net, tax = order.to_refund({line_id: units for line_id, units in left.items() if units}, None)
        assert net + sum(each.net for each in order.taken_back) == order.net
        assert tax + sum(each.tax for each in order.taken_back) == order.tax


@given(st.integers(0, 10**9), st.integers(1, 500), st.data())
def test_shares_of_units_sum_to_the_whole_however_they_are_taken(
    total: int, units: int, data: st.DataObject
) -> None:
    upto = taken = 0
    while upto < units:
        upto += data.draw(st.integers(1, units - upto))
        part = amounts.share(total, units, upto, taken)
        assert part >= 0
        taken += part
    assert taken == total


@given(st.lists(st.tuples(st.integers(0, 10**7), st.sampled_from(RATES)), max_size=20))
def test_tax_is_rounded_once_for_all_lines_of_a_rate(lines: list[tuple[int, str]]) -> None:
    taxes = amounts.taxes([(net, Decimal(rate)) for net, rate in lines])
    for rate in {rate for _, rate in lines}:
        whole = sum(net for net, each in lines if each == rate)
        shared = sum(tax for tax, (_, each) in zip(taxes, lines, strict=True) if each == rate)
        assert shared == round_half_up(Fraction(whole) * Fraction(rate) / 100)


def test_three_times_33_cents_at_20_percent_are_20_cents_of_tax() -> None:
    assert sum(amounts.taxes([(33, Decimal(20))] * 3)) == 20


def test_a_unit_price_of_six_decimals_becomes_an_amount_once() -> None:
    assert amounts.net("0.001234", 1_000, "EUR") == 123
    assert amounts.net("0.004500", 1, "EUR") == 0
    assert amounts.net("0.005", 1, "EUR") == 1


def test_words_are_found_as_people_write_them() -> None:
    assert words(["Café-Crème, WOOL/4", "ann@example.com", "STRASSE Straße"]) == [
        "cafe",
        "creme",
        "cafe-creme",
        "wool",
        "4",
        "wool/4",
        "ann",
        "example",
        "com",
        "ann@example.com",
        "strasse",
    ]
    assert query(" Crème  wo*") == "'creme' & 'wo':*"
    assert query("o'neill & !x") == "'o' & 'neill' & 'x'"
