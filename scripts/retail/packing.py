"""Lines as the contracts of the services have them. Every id is derived, so that all can be sent again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID, uuid5

from google.protobuf.timestamp_pb2 import Timestamp

from scripts.retail.books import INTANGIBLE, Day, Survey
from scripts.retail.matching import Matched, Matching
from scripts.retail.rows import Row
from weft.catalog.v1.content_pb2 import ListPrice, ProductContent, VariantContent
from weft.catalog.v1.product_messages_pb2 import NewVariant, ProductState
from weft.catalog.v1.transfer_pb2 import ProductRow
from weft.money.v1.money_pb2 import UnitPrice
from weft.order.v1.import_pb2 import ImportedLine, ImportedOrder, ImportedRefund, ImportOrdersRequest
from weft.order.v1.resource_pb2 import LineUnits

CURRENCY = "GBP"
NAMESPACE = UUID("0d0e3d9c-7b6a-4a53-9a6e-6f2f1f5b2d11")


def made_id(*of: object) -> str:
    return str(uuid5(NAMESPACE, "/".join(map(str, of))))


def stamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made


def products(survey: Survey) -> Iterator[ProductRow]:
    """One for each sku, under the name and the price that it had most often."""
    for sku, titles in sorted(survey.titles.items()):
        [(title, _)] = titles.most_common(1)
        [(price, times)] = survey.prices[sku].most_common(1)
        prices = [ListPrice(price=UnitPrice(amount=str(price), currency=CURRENCY))] if times else []
        variant = VariantContent(sku=sku, shippable=sku not in INTANGIBLE)
        yield ProductRow(
            product_id=made_id("product", sku),
            content=ProductContent(title=title or sku),
            variants=[NewVariant(content=variant, prices=prices)],
            state=ProductState.PRODUCT_STATE_ACTIVE,
        )


def orders(day: Day, matching: Matching) -> list[tuple[ImportOrdersRequest, Sequence[Row]]]:
    """Of a day, sales before credits, and the lines that each of them comes from."""
    made: list[tuple[ImportOrdersRequest, Sequence[Row]]] = []
    for invoice, rows in day.sales.items():
        order = _order(invoice, rows)
        matching.sell(order.order_id, zip((line.line_id for line in order.lines), rows, strict=True))
        made.append((ImportOrdersRequest(order=order), rows))
    for invoice, rows in day.credits.items():
        for order_id, matched in matching.credit(rows).items():
            refund = _refund(invoice, order_id, matched)
            made.append((ImportOrdersRequest(refund=refund), matched.rows))
    return made


def customer_id(row: Row) -> str:
    return made_id("customer", row.customer) if row.customer else ""


def _order(invoice: str, rows: Sequence[Row]) -> ImportedOrder:
    return ImportedOrder(
        order_id=made_id("order", invoice),
        customer_id=customer_id(rows[0]),
        currency=CURRENCY,
        country=rows[0].country,
        reference=invoice,
        lines=_lines(rows),
        effective_time=stamp(rows[0].at),
    )


def _lines(rows: Sequence[Row]) -> list[ImportedLine]:
    return [
        ImportedLine(
            line_id=str(number),
            sku=row.sku,
            units=abs(row.units),
            unit_price=UnitPrice(amount=str(row.price), currency=CURRENCY),
            title=row.title,
        )
        for number, row in enumerate(rows, 1)
    ]


def _refund(invoice: str, order_id: str, matched: Matched) -> ImportedRefund:
    first = matched.rows[0]
    refund_id = made_id("refund", *filter(None, (invoice, order_id)))
    refund = ImportedRefund(refund_id=refund_id, effective_time=stamp(first.at))
    if order_id:
        refund.order_id = order_id
        refund.lines.extend(LineUnits(line_id=each, units=units) for each, units in matched.lines.items())
    else:
        refund.credited.extend(_lines(matched.rows))
        refund.customer_id, refund.currency, refund.country = customer_id(first), CURRENCY, first.country
    return refund
