"""Shares of what a line costs: of its units, and of a refund's net and tax. All in minor units."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from services.chassis.money import allocate, line_amount, round_half_up


def share(total: int, units: int, upto: int, taken: int) -> int:
    """What units up to number `upto` of `units` cost, less what was `taken` for those before.

    So the shares of all units sum to the total, however they are taken: 100 over 3 is 33, 34, 33.
    """
    return round_half_up(Fraction(total * upto, units)) - taken


def split(gross: int, net_left: int, tax_left: int) -> tuple[int, int]:
    """Net and tax of a part of what is left, in proportion; all that is left when all of it is asked for."""
    left = net_left + tax_left
    tax = round_half_up(Fraction(gross * tax_left, left)) if left else 0
    return gross - tax, tax


def taxes(lines: Sequence[tuple[int, Decimal]]) -> list[int]:
    """The tax of each line by its net and rate (percent).

    It is rounded once for all lines of a rate (EN 16931 BR-CO-17), and shared out among them.
    """
    shares = [0] * len(lines)
    for rate in dict.fromkeys(rate for _, rate in lines):
        of_rate = [n for n, (net, each) in enumerate(lines) if each == rate and net]
        whole = sum(lines[n][0] for n in of_rate)
        tax = round_half_up(Fraction(whole) * Fraction(rate) / 100)
        if whole and tax:
            for n, part in zip(of_rate, allocate(tax, [lines[n][0] for n in of_rate]), strict=True):
                shares[n] = part
    return shares


def net(unit_price: str, units: int, currency: str) -> int:
    """What `units` cost at a price for each."""
    return line_amount(Decimal(unit_price), units, currency).minor
