"""Documents to try things on: one that is plain, and any that add up."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from services.billing.domain.document import (
    Adjustment,
    Document,
    Item,
    Kind,
    Party,
    Payment,
    TaxPart,
    priced,
)
from services.billing.domain.tax import EXEMPTIONS, NOTES, Code
from services.chassis.money import round_half_up

IBAN, BIC = "DE02120300000000202051", "BYLADEM1001"
SELLER = Party(
    name="Weft Werke GmbH",
    country="DE",
    lines=("Weberstrasse 1",),
    postal_code="10115",
    city="Berlin",
    vat_number="DE136695976",
    tax_number="12/345/67890",
    registration="HRB 1234",
    email="billing@example.com",
    phone="+49 30 901820",
)
BUYER = Party(
    name="SA Sodimas",
    country="FR",
    lines=("1 rue de la Paix",),
    postal_code="75001",
    city="Paris",
    vat_number="FR40303265045",
    email="achats@example.com",
)
DAY = date(2026, 3, 1)


def paper(items: tuple[Item, ...] = (), adjustments: tuple[Adjustment, ...] = (), **more: Any) -> Document:
    """A document that adds up, of these items or of one."""
    items = items or (item(),)
    taxes = taxed(items, adjustments)
    net = sum(part.taxable for part in taxes)
    tax = sum(part.tax for part in taxes)
    told: Mapping[str, Any] = {
        "kind": Kind.INVOICE,
        "number": "INV-000042",
        "issued": DAY,
        "due": DAY + timedelta(days=14),
        "currency": "EUR",
        "seller": SELLER,
        "buyer": BUYER,
        "payment": Payment(iban=IBAN, bic=BIC, bank="Deutsche Kreditbank"),
    }
    return Document(
        **{**told, **more},
        items=items,
        adjustments=adjustments,
        taxes=taxes,
        net=net,
        tax=tax,
        gross=net + tax,
    )


def item(position: int = 1, net: int = 10_000, code: str = "S", rate: str = "19", **more: Any) -> Item:
    units, price = priced(net + more.get("allowance", 0), Decimal(1), None, "EUR")
    told = {"name": "Pro plan", "units": units, "price": price, **more}
    return Item(position=position, net=net, code=code, rate=Decimal(rate), **told)


def taxed(items: tuple[Item, ...], adjustments: tuple[Adjustment, ...]) -> tuple[TaxPart, ...]:
    taxable: dict[tuple[str, Decimal], int] = defaultdict(int)
    for each in items:
        taxable[each.code, each.rate] += each.net
    for adjustment in adjustments:
        sign = 1 if adjustment.charge else -1
        taxable[adjustment.code, adjustment.rate] += sign * adjustment.amount
    return tuple(
        TaxPart(
            code=code,
            rate=rate,
            taxable=amount,
            tax=round_half_up(Fraction(amount) * Fraction(rate) / 100),
            reason=NOTES.get(Code(code), ""),
            exemption=EXEMPTIONS.get(Code(code), ""),
        )
        for (code, rate), amount in sorted(taxable.items())
    )


RATES = {
    "S": ["19", "7", "5.5", "25.5", "4.8", "8.125"],
    "Z": ["0"],
    "E": ["0"],
    "AE": ["0"],
    "K": ["0"],
    "G": ["0"],
    "O": ["0"],
}
WORDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs", "S"]), min_size=1, max_size=40)
NAMES = WORDS.map(lambda text: " ".join(text.split()) or "x")


@st.composite
def items(draw: st.DrawFn, position: int, code: str) -> Item:
    """Priced as billing prices them: by the unit, or by tiers that have no single price."""
    units = draw(st.decimals("0.001", "9999", places=3))
    unit_price = draw(st.none() | st.decimals("0", "999", places=4))
    amount = round_half_up(Fraction(units) * Fraction(unit_price or 1) * 100)
    allowance = draw(st.just(0) | st.integers(0, amount))
    units, price = priced(amount, units, unit_price, "EUR")
    period = draw(st.booleans())
    return Item(
        position=position,
        name=draw(NAMES),
        units=units,
        price=price,
        net=amount - allowance,
        allowance=allowance,
        code=code,
        rate=Decimal(draw(st.sampled_from(RATES[code]))),
        sku=draw(st.sampled_from(["", "PRO-1"])),
        start=DAY if period else None,
        end=DAY + timedelta(days=draw(st.integers(0, 400))) if period else None,
    )


@st.composite
def papers(draw: st.DrawFn) -> Document:
    """Any document that billing could make, whose categories the standard lets stand together."""
    code = draw(st.sampled_from([*RATES]))
    mixed = code not in {"O"}
    codes = draw(
        st.lists(st.just(code) | st.sampled_from("SZE") if mixed else st.just(code), min_size=1, max_size=5)
    )
    lines = tuple(draw(items(n, each)) for n, each in enumerate(codes, 1))
    cheapest = min(line.net for line in lines)
    off = draw(st.integers(0, max(cheapest, 0)))
    charge = draw(st.booleans())
    adjusted = Adjustment(
        amount=off, charge=charge, reason=draw(NAMES), code=lines[0].code, rate=lines[0].rate
    )
    kind = draw(st.sampled_from(Kind))
    made = paper(
        lines,
        (adjusted,) if off and (charge or off <= lines[0].net) else (),
        kind=kind,
        buyer=replace(BUYER, name=draw(NAMES), city=draw(NAMES)),
        payment=Payment(iban=IBAN, bic=BIC)
        if draw(st.booleans())
        else Payment(automatic=draw(st.booleans())),
        due=draw(st.none() | st.just(DAY)) if kind is Kind.INVOICE else None,
        preceding=("INV-000041", DAY) if kind is Kind.CREDIT_NOTE else None,
        notes=tuple(draw(st.lists(NAMES, max_size=2))),
        locale=draw(st.sampled_from(["en", "de", "fr", "es_MX", "ar", "xx", "not a locale"])),
    )
    return replace(made, prepaid=draw(st.integers(0, made.gross)) if kind is Kind.INVOICE else 0)
