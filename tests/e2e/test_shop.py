"""A thing is priced, stocked, promoted, bought by a guest who becomes a customer, shipped and returned."""

import re

import pytest

from tests.e2e.conftest import Mesh

TOLD = (
    r"3 x 100\.00 less 30\.00 EUR is 270\.00 EUR, tax 51\.30 EUR: 321\.30 EUR",
    r"the guest's cart is the customer's: 3 units",
    r"live: OrderStatusUpdated, confirmed",
    r"live: OrderConfirmed",
    r"321\.30 EUR captured",
    r"live: OrderRefunded",
    r"107\.10 EUR refunded to the card",
    r"4 mails came",
    r"in the house: 8, none of them reserved",
    r"assets:receivables:EUR +income:sales:EUR +270\.00",
    r"assets:receivables:EUR +liabilities:vat:EUR +51\.30",
    r"assets:clearing:sandbox:EUR +assets:receivables:EUR +321\.30",
    r"income:returns:EUR +assets:receivables:EUR +90\.00",
    r"liabilities:vat:EUR +assets:receivables:EUR +17\.10",
    r"assets:receivables:EUR +assets:clearing:sandbox:EUR +107\.10",
    r"both sides of it are equal",
)


@pytest.mark.timeout(180)
def test_a_scarf_is_sold_and_one_of_three_comes_back(mesh: Mesh) -> None:
    done = mesh.weft("demo", "shop")
    assert done.returncode == 0, done.stdout + done.stderr
    for pattern in TOLD:
        assert re.search(pattern, done.stdout), (pattern, done.stdout)
