"""An order is confirmed with all that belongs to it, or is no more and nothing of it is left."""

from tests.order.shop import Shop, standing


async def test_an_order_is_confirmed_and_paid_and_its_goods_are_taken(store: Shop) -> None:
    order = await store.order(("wool", 3), ("needle", 1))
    assert standing(order) == "CONFIRMED"
    assert order.totals.gross.amount_minor == 39_000
    assert store.world.stock["wool"] == 999_997
