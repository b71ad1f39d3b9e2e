"""List prices in time: which holds when, and from what a product is to be had."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from heapq import heappop, heappush
from itertools import pairwise

EVER = datetime(1, 1, 1, tzinfo=UTC)  # Before every moment that a caller can name.
NEVER = datetime(9999, 12, 31, tzinfo=UTC)
PRICES_MAX = 100  # Of one variant: a price a week for two years; all of them are in its product's row.


@dataclass(frozen=True, slots=True)
class Price:
    """What one unit costs from `begin` until just before `end`."""

    amount: Decimal
    begin: datetime = EVER
    end: datetime = NEVER

    def holds(self, at: datetime) -> bool:
        return self.begin <= at < self.end


def price_at(prices: Iterable[Price], at: datetime) -> Price | None:
    """The one that holds: of those that cover `at`, the one that began last."""
    return max((price for price in prices if price.holds(at)), key=lambda price: price.begin, default=None)


def timeline(prices: Sequence[Price]) -> list[Price]:
    """The spans of one variant, in their order and without overlap."""
    edges = sorted({edge for price in prices for edge in (price.begin, price.end)})
    spans = []
    for begin, end in pairwise(edges):
        if holding := price_at(prices, begin):
            spans.append(Price(holding.amount, begin, end))
    return spans


def steps(variants: Sequence[Sequence[Price]]) -> list[Price]:
    """The lowest price of all variants, as spans that follow each other, with gaps where there is none.

    Spans that touch differ in amount, so equal histories give equal spans.
    """
    spans = sorted((span for prices in variants for span in timeline(prices)), key=lambda span: span.begin)
    edges = sorted({edge for span in spans for edge in (span.begin, span.end)})
    made: list[Price] = []
    open_spans: list[tuple[Decimal, datetime]] = []  # A heap by amount; those that ended leave it late.
    waiting = iter(spans)
    following = next(waiting, None)
    for begin, end in pairwise(edges):
        while following and following.begin == begin:
            heappush(open_spans, (following.amount, following.end))
            following = next(waiting, None)
        while open_spans and open_spans[0][1] <= begin:
            heappop(open_spans)
        if open_spans:
            _extend(made, Price(open_spans[0][0], begin, end))
    return made


def _extend(made: list[Price], span: Price) -> None:
    """Adds the span, or lengthens the last one that it goes on from."""
    if made and made[-1].end == span.begin and made[-1].amount == span.amount:
        span = replace(span, begin=made.pop().begin)
    made.append(span)
