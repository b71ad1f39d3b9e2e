"""A quote: its prices, its taxes, what is kept of it, and whom it is refused."""

from tests.pricing.world import World, amounts


async def test_lines_cost_their_list_price_and_bear_their_tax(shop: World) -> None:
    shop.catalog.sell("Q-1", "519.60")
    quote = await shop.quote(("Q-1", 3), country="DE")
    assert amounts(quote) == (155880, 31176, 187056)
    line = quote.lines[0]
    assert (line.unit_price.amount, line.base.amount_minor, line.tax_rate) == ("519.6", 155880, "20")
    assert quote.quote_id
    assert await shop.redeem(quote)
