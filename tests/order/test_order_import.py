"""History is taken over row by row: what is good is here once, what is not is named."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from services.chassis.testing import reason
from tests.order.shop import Shop, standing
from tests.order.test_order_lists import listed
from weft.money.v1.money_pb2 import Money, UnitPrice
from weft.order.v1 import import_pb2 as pb
from weft.order.v1.events_pb2 import OrderConfirmed, OrderRefunded
from weft.order.v1.resource_pb2 import LineUnits

THEN = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)


def line(line_id: str = "1", units: int = 6, price: str = "2.55", **rest: Any) -> pb.ImportedLine:
    unit_price = UnitPrice(amount=price, currency=rest.pop("currency", "GBP"))
    return pb.ImportedLine(line_id=line_id, sku="85123A", units=units, unit_price=unit_price, **rest)


def order(*lines: pb.ImportedLine, **rest: Any) -> pb.ImportOrdersRequest:
    rest.setdefault("order_id", str(uuid4()))
    made = pb.ImportedOrder(currency="GBP", country="GB", lines=lines or [line()], **rest)
    made.effective_time.FromDatetime(THEN)
    return pb.ImportOrdersRequest(order=made)


def refund(of: pb.ImportOrdersRequest | None = None, **rest: Any) -> pb.ImportOrdersRequest:
    rest.setdefault("refund_id", str(uuid4()))
    made = pb.ImportedRefund(order_id=of.order.order_id if of else "", **rest)
    made.effective_time.FromDatetime(THEN)
    return pb.ImportOrdersRequest(refund=made)


async def taken(store: Shop, rows: Iterable[pb.ImportOrdersRequest]) -> pb.ImportOrdersResponse:
    async def stream() -> Any:
        for row in rows:
            yield row

    made: pb.ImportOrdersResponse = await store.imports.ImportOrders(stream(), metadata=store.staff)
    return made


async def told(store: Shop, kind: type[Any], order_id: str) -> list[Any]:
    sql = "select payload from event where key = $1 and type = $2 order by position"
    rows = await store.lab.db("order").fetch(sql, order_id, kind.DESCRIPTOR.full_name)
    return [kind.FromString(row["payload"]) for row in rows]


async def test_an_imported_order_is_complete_paid_and_at_its_time(store: Shop) -> None:
    row = order(line("1", 6, "2.55"), line("2", 3, "0.001", title="White lantern"), reference="536365")
    answer = await taken(store, [row])
    assert (answer.imported, answer.unchanged, answer.refused) == (1, 0, 0)
    found = await store.get(row.order.order_id)
    assert (standing(found), found.imported, found.totals.gross.amount_minor) == ("COMPLETED", True, 1_530)
    assert found.create_time.ToDatetime(tzinfo=UTC) == THEN
    [event] = await told(store, OrderConfirmed, row.order.order_id)
    assert event.imported
    assert event.effective_time.ToDatetime(tzinfo=UTC) == THEN
    assert [each.net_minor for each in event.lines] == [1_530, 0]
    assert [each.order_id for each in await listed(store, filter='reference = "536365"')] == [
        row.order.order_id
    ]
    assert (store.world.calls, store.world.mails) == ([], [])


async def test_an_import_that_broke_off_is_begun_again(store: Shop) -> None:
    rows = [order() for _ in range(150)]
    rows.append(refund(rows[0], lines=[LineUnits(line_id="1", units=2)]))
    rows.append(refund(credited=[line()], currency="GBP"))
    assert (await taken(store, rows[:120])).imported == 120
    again = await taken(store, rows)
    assert (again.imported, again.unchanged, again.refused) == (32, 120, 0)
    once_more = await taken(store, rows)
    assert (once_more.imported, once_more.unchanged) == (0, 152)
    rows[0].order.reference = "another"
    rows[-1].refund.reason = "OTHER"
    changed = await taken(store, [rows[0], rows[-1]])
    assert [row.reason for row in changed.rows] == ["ORDER_ID_REUSED", "REFUND_ID_REUSED"]


async def test_refunds_of_history_are_of_lines_amounts_or_nothing_that_is_known(store: Shop) -> None:
    row = order(line("1", 6, "2.55", tax_rate="20"), line("2", 1, "10", tax_rate="20"))
    by_line = refund(row, lines=[LineUnits(line_id="1", units=2)])
    by_amount = refund(row, amount=Money(amount_minor=100, currency="GBP"))
    of_nothing = refund(credited=[line("1", 3, "1.65")], currency="GBP", country="GB")
    assert (await taken(store, [row, by_line, by_amount, of_nothing])).imported == 4
    found = await store.get(row.order.order_id)
    assert [each.gross.amount_minor for each in found.refunds] == [612, 100]
    assert found.paid.refunded.amount_minor == 712
    [event] = await told(store, OrderRefunded, of_nothing.refund.refund_id)
    assert (event.gross.amount_minor, event.imported, event.order_id) == (495, True, event.refund_id)
    [summary] = [each for each in await listed(store) if each.order_id == row.order.order_id]
    assert summary.refunded.amount_minor == 712


async def test_tax_is_rounded_once_for_a_rate(store: Shop) -> None:
    row = order(*(line(str(n), 1, "0.33", tax_rate="20") for n in range(3)))
    await taken(store, [row])
    found = await store.get(row.order.order_id)
    assert [each.tax.amount_minor for each in found.lines] == [7, 7, 6]


BROKEN = {
    "MALFORMED no row": pb.ImportOrdersRequest(),
    "MALFORMED order_id": order(order_id="536365"),
    "MALFORMED lines": pb.ImportOrdersRequest(order=pb.ImportedOrder(order_id=str(uuid4()), currency="GBP")),
    "MALFORMED lines[0].units": order(line(units=0)),
    "MALFORMED lines[0].unit_price.amount": order(line(price="1.0000001")),
    "LINE_TWICE": order(line(), line()),
    "NEGATIVE_PRICE": order(line(price="-11062.06")),
    "MIXED_CURRENCIES": order(line(currency="EUR")),
    "BAD_TAX_RATE": order(line(tax_rate="120")),
    "BAD_TAX_RATE text": order(line(tax_rate="twenty")),
    "AMOUNT_OUT_OF_RANGE": order(*(line(str(n), 1_000_000, "999999999.999999") for n in range(11))),
    "UNKNOWN_ORDER": refund(order()),
    "NOTHING_CREDITED": refund(),
    "NOTHING_CREDITED currency": refund(credited=[line()]),
}


async def test_rows_that_are_refused_are_named_and_hold_nothing_up(store: Shop) -> None:
    good = [order() for _ in BROKEN]
    rows = [row for pair in zip(BROKEN.values(), good, strict=True) for row in pair]
    answer = await taken(store, rows)
    assert (answer.imported, answer.refused) == (len(good), len(BROKEN))
    assert [row.row for row in answer.rows] == list(range(1, 2 * len(BROKEN), 2))
    assert [row.reason for row in answer.rows] == [case.split()[0] for case in BROKEN]
    for case, row in zip(BROKEN, answer.rows, strict=True):
        assert "[" not in case or row.field == case.split()[1]
    assert answer.refused_by_reason["MALFORMED"] == 5
    assert all(row.message for row in answer.rows)


async def test_refunds_of_history_keep_the_bounds_of_refunds(store: Shop) -> None:
    row = order(line("1", 2, "5"))
    cases = {
        "TOO_MANY_UNITS": refund(row, lines=[LineUnits(line_id="1", units=3)]),
        "UNKNOWN_LINE": refund(row, lines=[LineUnits(line_id="9", units=1)]),
        "REFUND_EXCEEDS_CAPTURED": refund(row, amount=Money(amount_minor=1_001, currency="GBP")),
        "MIXED_CURRENCIES": refund(row, amount=Money(amount_minor=1, currency="EUR")),
    }
    answer = await taken(store, [row, *cases.values(), refund(row), refund(row)])
    reasons = [each.reason for each in answer.rows]
    assert reasons == [*cases, "REFUND_EXCEEDS_CAPTURED"]
    assert (await store.get(row.order.order_id)).paid.refunded.amount_minor == 1_000


async def test_an_invoice_of_a_thousand_lines_is_one_order(store: Shop) -> None:
    row = order(*(line(str(n), n % 7 + 1, "1.25") for n in range(1_100)))
    assert (await taken(store, [row])).imported == 1
    assert len((await store.get(row.order.order_id)).lines) == 1_100
    long = order(*(line("x" * 59 + f"{n:05}", 1) for n in range(1_100)))
    assert [each.reason for each in (await taken(store, [long])).rows] == ["ORDER_TOO_LARGE"]


async def test_only_who_may_import_imports(store: Shop) -> None:
    async def nothing() -> Any:
        return
        yield

    with pytest.raises(Exception) as refused:  # noqa: PT011
        await store.imports.ImportOrders(nothing(), metadata=store.lab.bearer(scope="order.orders.write"))
    assert reason(refused.value) == "NOT_PERMITTED"  # type: ignore[arg-type]
