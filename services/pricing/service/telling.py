"""A reckoned quote as a message, with the account of how it came about."""

from collections.abc import Iterator
from decimal import Decimal

from services.chassis.money import Money
from services.pricing.domain.discounting import Outcome
from services.pricing.domain.line import Line
from services.pricing.domain.taxing import Taxed, totals
from services.pricing.quoting import Reckoned
from services.pricing.reading import money
from weft.money.v1.money_pb2 import UnitPrice
from weft.pricing.v1 import quote_pb2 as pb

SKIPPED_MAX = 50  # Promotions that did not apply are told of as long as somebody may read it.


def quote(reckoned: Reckoned) -> pb.Quote:
    """Without id and times. Raises AmountOutOfRange."""
    who, currency = reckoned.who, reckoned.who.currency
    net, tax = sum(each.net for each in reckoned.taxed), sum(each.amount for each in reckoned.taxed)
    base = sum(line.base for line in reckoned.lines)
    made = pb.Quote(
        customer_id=str(who.customer_id or ""),
        currency=currency,
        country=who.country,
        lines=map(_line, reckoned.lines, reckoned.taxed, [currency] * len(reckoned.lines)),
        discounts=_discounts(reckoned.outcome, currency),
        subtotal=money(base, currency),
        discount_total=money(base - sum(line.left for line in reckoned.lines), currency),
        net_total=money(net, currency),
        tax_total=money(tax, currency),
        gross_total=money(net + tax, currency),
        taxes=_taxes(reckoned),
        explanation=_explanation(reckoned),
        refused_coupons=[pb.RefusedCoupon(code=code, why=why) for code, why in reckoned.refused.items()],
    )
    for line_id, why in reckoned.unpriced.items():
        made.refused_lines.add(line_id=line_id, why=why)
    made.at.FromDatetime(who.at)
    return made


def plain(number: Decimal) -> str:
    """A decimal without needless zeros: `20`, `5.5`, `0.0004`."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _line(line: Line, taxed: Taxed, currency: str) -> pb.QuotedLine:
    return pb.QuotedLine(
        line_id=line.line_id,
        sku=line.item.sku,
        units=line.units,
        kind=pb.LINE_KIND_SHIPPING if line.shipping else pb.LINE_KIND_ITEM,
        unit_price=UnitPrice(amount=plain(line.price.unit), currency=currency),
        components=[
            pb.PriceComponent(
                kind=part.kind,
                source=part.source,
                amount=UnitPrice(amount=plain(part.amount), currency=currency),
            )
            for part in line.price.components
        ],
        tax_included=line.price.tax_included,
        base=money(line.base, currency),
        discounts=[
            pb.Discount(
                promotion_id=str(taken.promotion_id),
                code=taken.code,
                title=taken.title,
                amount=money(taken.amount, currency),
            )
            for taken in line.discounts
        ],
        net=money(taxed.net, currency),
        tax_category=line.item.tax_category,
        tax_rate=plain(taxed.tax.rate),
        tax=money(taxed.amount, currency),
        gross=money(taxed.gross, currency),
        title=line.item.title,
        shippable=line.item.shippable,
    )


def _discounts(outcome: Outcome, currency: str) -> list[pb.Discount]:
    return [
        pb.Discount(
            promotion_id=str(each.promotion.promotion_id),
            code=each.code,
            title=each.promotion.name,
            amount=money(each.amount, currency),
        )
        for each in outcome.applied
    ]


def _taxes(reckoned: Reckoned) -> list[pb.TaxTotal]:
    currency = reckoned.who.currency
    return [
        pb.TaxTotal(
            tax_category=each.tax.tax_category,
            category_code=each.tax.code,
            tax_rate=plain(each.tax.rate),
            net=money(each.net, currency),
            tax=money(each.amount, currency),
            reverse_charge=each.tax.reverse_charge,
            legal_note=each.tax.note,
        )
        for each in totals(reckoned.taxed)
    ]


def _explanation(reckoned: Reckoned) -> Iterator[pb.Step]:
    currency = reckoned.who.currency
    for line in reckoned.lines:
        base = Money(line.base, currency)
        text = f"{line.units} x {plain(line.price.unit)} {currency} = {base}: {line.price.why}"
        yield pb.Step(kind="price", line_id=line.line_id, amount=money(line.base, currency), text=text)
    for taken in reckoned.outcome.applied:
        amount, name = Money(taken.amount, currency), taken.promotion.name
        yield pb.Step(
            kind="discount",
            promotion_id=str(taken.promotion.promotion_id),
            amount=money(taken.amount, currency),
            text=f"{name} takes off {amount}" + (f" for the coupon {taken.code}" if taken.code else ""),
        )
    for skipped in reckoned.outcome.skipped[:SKIPPED_MAX]:
        promotion_id, name = str(skipped.promotion.promotion_id), skipped.promotion.name
        yield pb.Step(kind="skipped", promotion_id=promotion_id, text=f"{name} does not apply: {skipped.why}")
    for code, why in reckoned.refused.items():
        yield pb.Step(kind="coupon_refused", text=f"the coupon {code} cannot be used: {why}")
    for total in totals(reckoned.taxed):
        net, tax = Money(total.net, currency), Money(total.amount, currency)
        text = f"{plain(total.tax.rate)} % ({total.tax.tax_category}) of {net} net is {tax}"
        yield pb.Step(kind="tax", amount=money(total.amount, currency), text=text)
