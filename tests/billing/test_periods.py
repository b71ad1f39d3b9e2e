"""Where periods begin and what parts of them cost: short months, leap years, changing clocks, any change."""

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st

from services.billing.domain import periods
from services.billing.domain.cycle import (
    Cycle,
    Proration,
    Span,
    Unit,
    anniversary,
    calendar,
    on_day,
    share,
)
from services.billing.domain.periods import Wanted
from services.billing.domain.plan import Alignment
from tests.billing.plans import at, flat, monthly, passes, seats, subscribed

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
CAIRO, LORD_HOWE = ZoneInfo("Africa/Cairo"), ZoneInfo("Australia/Lord_Howe")
ZONES = [UTC_ZONE := ZoneInfo("UTC"), BERLIN, NEW_YORK, CAIRO, LORD_HOWE, ZoneInfo("Pacific/Apia")]
moments = st.integers(1_420_000_000, 2_366_000_000).map(lambda s: datetime.fromtimestamp(s, UTC))
cycles = st.builds(
    anniversary,
    st.sampled_from(Unit),
    st.integers(1, 5),
    moments,
    st.sampled_from(ZONES),
    st.sampled_from(Proration),
)


def starts(cycle: Cycle, first: int, last: int) -> list[str]:
    """Boundaries as the customer's calendar has them."""
    return [f"{cycle.boundary(n).astimezone(cycle.tz):%Y-%m-%d %H:%M}" for n in range(first, last)]


def test_the_31st_comes_back_after_short_months_and_leap_years() -> None:
    cycle = anniversary(Unit.MONTH, 1, at("2027-12-31T09:00"), UTC_ZONE, Proration.DAY)
    days = [text[:10] for text in starts(cycle, 0, 6)]
    assert days == ["2027-12-31", "2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30", "2028-05-31"]


def test_a_leap_day_is_kept_on_the_28th_in_other_years() -> None:
    cycle = anniversary(Unit.YEAR, 1, at("2024-02-29"), UTC_ZONE, Proration.SECOND)
    days = [text[:10] for text in starts(cycle, 0, 5)]
    assert days == ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]


def test_the_customers_clock_shows_the_same_hour_all_year() -> None:
    cycle = anniversary(Unit.MONTH, 1, at("2026-01-15T11:30"), BERLIN, Proration.SECOND)
    assert {text[11:] for text in starts(cycle, 0, 12)} == {"12:30"}
    assert cycle.boundary(6) == at("2026-07-15T10:30")


@pytest.mark.parametrize(
    ("local", "tz", "meant"),
    [
        ("2026-03-29T02:30", BERLIN, "2026-03-29T01:30"),  # Left out: it is 03:30 then.
        ("2026-10-25T02:30", BERLIN, "2026-10-25T00:30"),  # Comes twice: the first time.
        ("2026-04-24T00:00", CAIRO, "2026-04-23T22:00"),  # A day that begins at one.
    ],
    ids=["gap", "twice", "no-midnight"],
)
def test_wall_times_that_are_not_or_are_twice(local: str, tz: ZoneInfo, meant: str) -> None:
    cycle = Cycle(Unit.DAY, 1, datetime.fromisoformat(local), 1, tz)
    assert cycle.boundary(0) == at(meant)


def test_a_day_on_which_the_clock_changes_is_a_day() -> None:
    cycle = calendar(Unit.MONTH, 1, at("2026-03-20"), BERLIN)
    march = cycle.around(at("2026-03-20"))
    assert march.end - march.start == timedelta(days=31, hours=-1)
    part = Span(at("2026-03-28T23:00"), march.end)  # From the 29th.
    assert share(Proration.DAY, march, part, BERLIN) == Fraction(3, 31)


@pytest.mark.parametrize(
    ("unit", "count", "begins"),
    [
        (Unit.DAY, 1, "2026-05-20"),
        (Unit.WEEK, 1, "2026-05-18"),
        (Unit.MONTH, 1, "2026-05-01"),
        (Unit.MONTH, 2, "2026-05-01"),
        (Unit.MONTH, 6, "2026-01-01"),
        (Unit.QUARTER, 1, "2026-04-01"),
        (Unit.YEAR, 1, "2026-01-01"),
    ],
    ids=["day", "week", "month", "two-months", "half", "quarter", "year"],
)
def test_periods_of_the_calendar_begin_with_it(unit: Unit, count: int, begins: str) -> None:
    span = calendar(unit, count, at("2026-05-20T08:00"), UTC_ZONE).around(at("2026-05-20T08:00"))
    assert span.start == at(begins)


@pytest.mark.parametrize(
    ("day", "start", "first"),
    [
        (31, "2026-02-28", "2026-03-31"),
        (31, "2026-02-10", "2026-02-28"),
        (15, "2026-02-10", "2026-02-15"),
        (10, "2026-02-10", "2026-03-10"),
    ],
    ids=["begun-on-the-last", "last", "later", "today"],
)
def test_the_day_that_was_chosen_ends_the_first_part(day: int, start: str, first: str) -> None:
    cycle = on_day(day, Unit.MONTH, 1, at(start), UTC_ZONE)
    assert cycle.around(at(start)).end == at(first)


@given(cycles, moments)
def test_every_moment_is_in_exactly_one_period(cycle: Cycle, moment: datetime) -> None:
    span = cycle.around(moment)
    assert span.start <= moment < span.end
    assert cycle.around(span.start) == span
    assert cycle.around(span.end).start == span.end
    assert cycle.around(span.start - timedelta(microseconds=1)).end == span.start


@given(cycles, moments, st.sampled_from(Proration), st.lists(st.floats(0, 1), max_size=5))
def test_parts_of_a_period_are_the_whole(
    cycle: Cycle, moment: datetime, by: Proration, cuts: list[float]
) -> None:
    whole = cycle.around(moment)
    edges = sorted({whole.start, whole.end, *(whole.start + (whole.end - whole.start) * cut for cut in cuts)})
    parts = [Span(start, end) for start, end in pairwise(edges)]
    assert sum(share(by, whole, part, cycle.tz) for part in parts) == 1


changes = st.lists(
    st.tuples(st.floats(0.01, 0.99), st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=6
)


@settings(max_examples=50)
@given(changes, st.sampled_from(Proration), st.booleans())
def test_whatever_is_changed_within_a_period_nobody_pays_more_than_the_dearest_nor_gets_more_back(
    made: list[tuple[float, int, int]], by: Proration, in_advance: bool
) -> None:
    plans = [
        monthly(flat(price, in_advance=in_advance), seats(seat, in_advance=in_advance), proration=by)
        for price, seat in [("10", "1"), ("25", "2"), ("40", "0"), ("3.33", "5")]
    ]
    sub, terms = subscribed("2026-04-01", quantity=1), plans[0]
    total = sum(line.amount for line in passes(sub, terms))
    whole = sub.period
    costs: list[Fraction] = []
    for cut, plan, quantity in sorted(made):
        moment = whole.start + (whole.end - whole.start) * cut
        total += sum(
            line.amount for line in periods.change(sub, terms, Wanted(plans[plan], quantity), {}, moment)
        )
        terms = plans[plan]
        costs.append(terms.a_year(quantity) / 12)
    assert sub.period == whole, "periods of the same kind go on"
    total += sum(line.amount for line in periods.cancel(sub, terms, {}, whole.end, credit=False))
    low, high = min([Fraction(11), *costs]), max([Fraction(11), *costs])
    slack = 4 * len(made) + 4  # Each line is rounded by itself.
    assert low * 100 - slack <= total <= high * 100 + slack


def test_a_plan_of_another_interval_begins_a_period_of_its_own() -> None:
    sub, old = subscribed("2026-04-01"), monthly(flat("30"))
    new = monthly(flat("300"), unit=Unit.YEAR)
    passes(sub, old)
    lines = periods.change(sub, old, Wanted(new, 1), {}, at("2026-04-16"))
    assert [line.amount for line in lines] == [-1500, 30_000]
    assert sub.period == Span(at("2026-04-16"), at("2027-04-16"))


def test_a_calendar_plan_bills_the_first_part_and_then_whole_months() -> None:
    terms = monthly(flat("30"), alignment=Alignment.CALENDAR, proration=Proration.DAY)
    sub = subscribed("2026-04-21T22:30", zone="Europe/Berlin")
    first, second = passes(sub, terms), passes(sub, terms)
    assert [line.amount for line in (*first, *second)] == [900, 3000], "the 22nd in Berlin, of 30 days"
    assert second[0].start
    assert second[0].start.astimezone(BERLIN).date() == date(2026, 5, 1)
