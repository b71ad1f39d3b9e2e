"""Which tax a sale bears, by the rules alone: every pair of parties, every state of a number, every day."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import given, strategies as st

from services.billing.domain.tax import (
    Code,
    Kind,
    NoTaxRate,
    NumberState,
    Rate,
    Rates,
    Sale,
    Supply,
    Tax,
    determine,
)
from services.billing.domain.tax_territory import JOINED, place

GOODS, SERVICES = Supply.GOODS, Supply.SERVICES
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
YEARS_AGO = date(1990, 1, 1)


def rate(
    country: str, percent: str, kind: Kind = Kind.STANDARD, region: str = "", since: date = YEARS_AGO
) -> Rate:
    made = uuid5(NAMESPACE_URL, f"{country}{region}{kind}{since}")
    return Rate(made, country, region, kind, Decimal(percent), since)


RATES = Rates(
    [
        rate("DE", "19"),
        rate("DE", "7", Kind.REDUCED),
        rate("FR", "20"),
        rate("FR", "10", Kind.REDUCED),
        rate("FR", "5.5", Kind.SECOND_REDUCED),
        rate("FR", "2.1", Kind.SUPER_REDUCED),
        rate("FR", "8.5", region="FR-974"),
        rate("PT", "23"),
        rate("PT", "22", region="PT-30"),
        rate("AT", "20"),
        rate("AT", "13", Kind.REDUCED),
        rate("AT", "19", region="AT-MITTELBERG"),
        rate("GB", "20"),
        rate("GR", "24"),
        rate("CH", "8.1"),
        rate("CH", "7.7", since=date(2018, 1, 1)),
    ]
)


def sold(seller: str, buyer: str, postcode: str = "", *, one_stop_shop: bool = True, **more: Any) -> Tax:
    """Of goods at the standard rate, to a consumer, unless more is said."""
    where = place(buyer, postcode)
    told = {"kind": Kind.STANDARD, "at": NOW, "number_country": where.country} | more
    return determine(Sale(seller=place(seller), buyer=where, **told), RATES, one_stop_shop=one_stop_shop)


def short(tax: Tax) -> str:
    return f"{tax.code} {tax.percent.normalize():f} {tax.country}{'?' if tax.provisional else ''}"


VALID, INVALID, OPEN = NumberState.VALID, NumberState.INVALID, NumberState.UNCONFIRMED


@pytest.mark.parametrize(
    ("seller", "buyer", "supply", "number", "said"),
    [
        ("DE", "DE", GOODS, NumberState.NONE, "S 19 DE"),
        ("DE", "DE", GOODS, VALID, "S 19 DE"),
        ("DE", "FR", GOODS, NumberState.NONE, "S 20 FR"),
        ("DE", "FR", GOODS, VALID, "K 0 FR"),
        ("DE", "FR", SERVICES, VALID, "AE 0 FR"),
        ("DE", "FR", GOODS, INVALID, "S 20 FR"),
        ("DE", "FR", SERVICES, OPEN, "S 20 FR?"),
        ("DE", "EL", SERVICES, VALID, "AE 0 GR"),
        ("DE", "CH", GOODS, NumberState.NONE, "G 0 CH"),
        ("DE", "CH", SERVICES, NumberState.NONE, "O 0 CH"),
        ("DE", "US", GOODS, NumberState.NONE, "G 0 US"),
        ("DE", "GB", GOODS, VALID, "G 0 GB"),
        ("DE", "XI", GOODS, VALID, "K 0 GB"),
        ("DE", "XI", GOODS, NumberState.NONE, "S 20 GB"),
        ("DE", "XI", SERVICES, VALID, "O 0 GB"),
        ("GB", "XI", GOODS, NumberState.NONE, "S 20 GB"),
        ("GB", "UK", GOODS, NumberState.NONE, "S 20 GB"),
        ("DE", "MC", GOODS, NumberState.NONE, "S 20 FR"),
        ("CH", "CH", GOODS, NumberState.NONE, "S 7.7 CH"),
        ("US", "FR", SERVICES, NumberState.NONE, "S 20 FR"),
        ("US", "FR", SERVICES, VALID, "AE 0 FR"),
        ("US", "FR", GOODS, NumberState.NONE, "G 0 FR"),
        ("US", "CH", SERVICES, NumberState.NONE, "O 0 CH"),
    ],
)
def test_the_parties_what_is_sold_and_the_number_decide(
    seller: str, buyer: str, supply: Supply, number: NumberState, said: str
) -> None:
    assert short(sold(seller, buyer, supply=supply, number=number)) == said


@pytest.mark.parametrize(
    ("country", "postcode", "seller", "said"),
    [
        ("ES", "35001", "DE", "G 0 ES"),
        ("ES", "38 001", "ES", "G 0 ES"),
        ("DE", "27498", "DE", "G 0 DE"),
        ("DE", "78266", "FR", "G 0 DE"),
        ("PT", "9000-039", "PT", "S 22 PT"),
        ("PT", "9000-039", "DE", "S 22 PT"),
        ("PT", "1000-001", "DE", "S 23 PT"),
        ("FR", "97400", "FR", "S 8.5 FR"),
        ("FR", "97400", "DE", "G 0 FR"),
        ("RE", "", "FR", "S 8.5 FR"),
        ("AT", "6991", "AT", "S 19 AT"),
        ("AX", "", "DE", "G 0 FI"),
        ("FI", "22100", "DE", "G 0 FI"),
    ],
)
def test_territories_have_rules_of_their_own(country: str, postcode: str, seller: str, said: str) -> None:
    assert short(sold(seller, country, postcode=postcode)) == said


def test_a_region_charges_its_countrys_rate_for_kinds_that_it_has_none_of() -> None:
    assert short(sold("AT", "AT", postcode="6991", kind=Kind.REDUCED)) == "S 13 AT"


@pytest.mark.parametrize(
    ("kind", "germany", "france"),
    [
        (Kind.REDUCED, "S 7 DE", "S 10 FR"),
        (Kind.SECOND_REDUCED, "S 7 DE", "S 5.5 FR"),
        (Kind.SUPER_REDUCED, "S 7 DE", "S 2.1 FR"),
        (Kind.PARKING, "S 19 DE", "S 20 FR"),
        (Kind.ZERO, "Z 0 DE", "Z 0 FR"),
        (Kind.EXEMPT, "E 0 DE", "E 0 FR"),
    ],
)
def test_a_country_without_a_rate_of_the_kind_charges_its_next_higher_one(
    kind: Kind, germany: str, france: str
) -> None:
    assert [short(sold("DE", "DE", kind=kind)), short(sold("FR", "FR", kind=kind))] == [germany, france]


def test_a_number_of_the_sellers_own_country_makes_no_sale_abroad_untaxed() -> None:
    assert short(sold("DE", "FR", number=VALID, number_country="DE")) == "S 20 FR"


@pytest.mark.parametrize(
    ("supply", "day", "said"),
    [
        (GOODS, datetime(2021, 6, 30, 12, tzinfo=UTC), "S 19 DE"),
        (GOODS, datetime(2021, 7, 1, 12, tzinfo=UTC), "S 20 FR"),
        (SERVICES, datetime(2014, 12, 31, 12, tzinfo=UTC), "S 19 DE"),
        (SERVICES, datetime(2015, 1, 1, 12, tzinfo=UTC), "S 20 FR"),
    ],
)
def test_consumers_abroad_were_taxed_at_the_origin_once(supply: Supply, day: datetime, said: str) -> None:
    assert short(sold("DE", "FR", supply=supply, at=day)) == said
    assert short(sold("DE", "FR", supply=supply, at=day, one_stop_shop=False)) == "S 19 DE"


def test_a_seller_from_outside_the_union_owes_consumers_countries_whatever_its_scheme() -> None:
    assert short(sold("US", "FR", supply=SERVICES, one_stop_shop=False)) == "S 20 FR"


def test_the_united_kingdom_was_a_member_until_the_end_of_2020_by_its_own_clock() -> None:
    before, after = datetime(2020, 12, 31, 23, 59, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    assert short(sold("DE", "GB", number=VALID, at=before)) == "K 0 GB"
    assert short(sold("DE", "GB", number=VALID, at=after)) == "G 0 GB"


def test_a_rate_begins_at_midnight_of_the_country_that_taxes() -> None:
    rates = Rates([rate("DE", "16"), rate("DE", "19", since=date(2021, 1, 1))])
    for minute, percent in [(59, 16), (60, 19)]:
        at = datetime(2020, 12, 31, 22 + minute // 60, minute % 60, tzinfo=UTC)
        sale = Sale(seller=place("DE"), buyer=place("DE"), kind=Kind.STANDARD, at=at)
        assert determine(sale, rates).percent == percent


def test_a_kind_that_ended_falls_to_the_next_higher_one() -> None:
    merged = date(2024, 1, 1)
    ended = replace(rate("CZ", "10", Kind.SECOND_REDUCED), valid_to=merged)
    rates = Rates([ended, rate("CZ", "15", Kind.REDUCED), rate("CZ", "12", Kind.REDUCED, since=merged)])
    days = [date(2023, 12, 31), merged]
    found = [rates.find("CZ", "", Kind.SECOND_REDUCED, day) for day in days]
    assert [each.percent for each in found if each] == [10, 12]


def test_a_country_without_any_rate_is_refused_by_name() -> None:
    with pytest.raises(NoTaxRate, match=r"No standard tax rate of JP is known for 2026-03-01"):
        sold("JP", "JP")


COUNTRIES = st.sampled_from([*sorted(JOINED), "XI", "CH", "NO", "US", "JP", "MC", "AX", "GP", "EL"])
EVERY = Rates(rate(country, "17") for country in [*JOINED, "CH", "NO", "US", "JP"])


SALES = st.builds(
    Sale,
    seller=COUNTRIES.map(place),
    buyer=COUNTRIES.map(place),
    kind=st.sampled_from(Kind),
    at=st.integers(733_408, 741_100).map(lambda day: datetime.fromordinal(day).replace(tzinfo=UTC)),
    supply=st.sampled_from(Supply),
    number=st.sampled_from(NumberState),
    number_country=COUNTRIES,
)


@given(SALES, st.booleans())
def test_what_is_said_is_always_one_of_the_standards_cases(sale: Sale, shop: bool) -> None:
    tax = determine(sale, EVERY, one_stop_shop=shop)
    assert (tax.percent > 0) == (tax.code is Code.STANDARD)
    assert bool(tax.note) == (tax.code not in {Code.STANDARD, Code.ZERO})
    if tax.code in {Code.REVERSE_CHARGE, Code.INTRA_COMMUNITY}:
        assert sale.number is NumberState.VALID
        assert not tax.provisional
    if sale.number is not NumberState.UNCONFIRMED:
        assert not tax.provisional
