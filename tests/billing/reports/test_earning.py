"""When revenue is earned, by hand and for any amount."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, strategies as st

from services.billing.domain.report import Movement, opened, percent_of
from services.billing.domain.report_revenue import (
    days_of,
    earned,
    joined,
    month_of,
    months_between,
    next_month,
    served,
    taken_back,
    voided,
)
from services.billing.domain.totals import Line
from services.billing.issuing import deferred

JAN, FEB, MAR, APR = (date(2026, month, 1) for month in (1, 2, 3, 4))
DAYS = st.dates(date(2020, 1, 1), date(2032, 12, 31))


def test_a_year_is_earned_by_the_days_of_its_months() -> None:
    months = earned(36_500, date(2026, 1, 1), date(2026, 12, 31), JAN)
    assert list(months.values()) == [3100, 2800, 3100, 3000, 3100, 3000, 3100, 3100, 3000, 3100, 3000, 3100]


def test_a_leap_year_has_a_day_more() -> None:
    assert earned(36_600, date(2028, 1, 1), date(2028, 12, 31), date(2028, 1, 1))[date(2028, 2, 1)] == 2900


def test_a_month_over_a_months_end_is_shared_by_days() -> None:
    assert earned(3_100, date(2026, 1, 15), date(2026, 2, 14), JAN) == {JAN: 1700, FEB: 1400}


def test_what_was_served_before_it_was_billed_counts_when_billed() -> None:
    assert earned(5_900, JAN, date(2026, 2, 28), FEB) == {FEB: 5900}
    assert earned(9_000, JAN, date(2026, 3, 31), FEB) == {FEB: 5900, MAR: 3100}


def test_no_cent_is_lost_in_the_shares() -> None:
    assert earned(100, JAN, date(2026, 3, 31), JAN) == {JAN: 34, FEB: 32, MAR: 34}
    assert earned(-100, JAN, date(2026, 3, 31), JAN) == {JAN: -34, FEB: -32, MAR: -34}


def test_a_credit_note_takes_what_is_yet_to_be_earned_first_as_far_as_it_was_deferred() -> None:
    left = {JAN: 3100, FEB: 2800, MAR: 3100}
    assert taken_back(9_000, {FEB: 2800, MAR: 3100}, 5_900, JAN) == {JAN: -3100, FEB: -2800, MAR: -3100}
    assert taken_back(1_000, {FEB: 2800, MAR: 3100}, 0, JAN) == {JAN: -1000}
    assert taken_back(2_000, {MAR: 3100}, 1_500, FEB) == {FEB: -500, MAR: -1500}
    assert joined([left, taken_back(9_000, {FEB: 2800, MAR: 3100}, 5_900, JAN)]) == {}


def test_a_void_undoes_months_that_are_over_in_its_own() -> None:
    assert voided({JAN: 3100, FEB: 2800, MAR: 3100}, FEB) == {FEB: -5900, MAR: -3100}


@given(st.integers(-(10**15), 10**15), DAYS, DAYS, DAYS)
def test_shares_sum_to_the_amount_and_lie_in_months_of_the_service(
    amount: int, first: date, last: date, billed: date
) -> None:
    month = month_of(billed)
    shares = earned(amount, first, last, month)
    assert sum(shares.values()) == amount
    assert all(each >= month and each.day == 1 for each in shares)
    assert all(share * amount > 0 for share in shares.values())


@given(
    st.integers(-(10**12), 10**12),
    st.integers(0, 400_000_000).map(lambda seconds: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(0, seconds)),
    st.timedeltas(timedelta(hours=1), timedelta(days=800)),
    st.timedeltas(timedelta(days=-90), timedelta(days=900)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia"]),
)
def test_what_an_invoice_defers_is_what_the_report_has_yet_to_earn(
    net: int, start: datetime, length: timedelta, later: timedelta, zone: str
) -> None:
    end, at = start + length, start + later
    line = Line(description="", amount=net, tax_category="", start=start, end=end)
    days = days_of(start, end, zone)
    assert days
    day = at.astimezone(ZoneInfo(zone)).date()
    billed = month_of(day)
    ahead = sum(share for month, share in earned(net, *days, billed).items() if month > billed)
    over = datetime.combine(next_month(billed), time(), ZoneInfo(zone)) - timedelta(microseconds=1)
    assert deferred([line], over, zone) == ahead
    before, now = deferred([line], at - timedelta(days=1), zone), deferred([line], at, zone)
    assert abs(before) >= abs(now) >= abs(ahead)
    assert net - now == served(net, *days, day)


@given(st.integers(1, 10**12), st.integers(0, 10**12), DAYS, st.integers(0, 700), st.integers(0, 24))
def test_what_is_taken_back_sums_to_the_note_and_leaves_no_month_below_nothing(
    net: int, deferred: int, first: date, length: int, later: int
) -> None:
    billed = month_of(first)
    left = earned(net, first, date.fromordinal(first.toordinal() + length), billed)
    month = months_between(billed, date(2040, 1, 1))[later]
    ahead = {each: amount for each, amount in left.items() if each > month}
    note = min(net, deferred + 1)
    undone = taken_back(note, ahead, deferred, month)
    assert sum(undone.values()) == -note
    assert all(amount + undone.get(each, 0) >= 0 for each, amount in ahead.items())
    assert min(undone) >= month


@given(st.integers(1, 10**12), DAYS, st.integers(0, 700), st.integers(0, 24))
def test_a_void_leaves_nothing_in_sum_and_nothing_to_be_earned(
    net: int, first: date, length: int, later: int
) -> None:
    billed = month_of(first)
    entries = earned(net, first, date.fromordinal(first.toordinal() + length), billed)
    month = months_between(billed, date(2040, 1, 1))[later]
    both = joined([entries, voided(entries, month)])
    assert sum(both.values()) == 0
    assert all(each <= month for each in both)


def test_months_follow_each_other() -> None:
    assert next_month(date(2026, 12, 1)) == date(2027, 1, 1)
    assert months_between(date(2026, 11, 1), date(2027, 2, 1)) == [
        date(2026, 11, 1),
        date(2026, 12, 1),
        date(2027, 1, 1),
        date(2027, 2, 1),
    ]
    assert months_between(FEB, JAN) == []


def test_each_month_opens_with_what_the_one_before_closed_with() -> None:
    moved = [
        Movement(JAN, new=1_000, new_customers=2),
        Movement(MAR, churn=400, expansion=100, churned_customers=1),
    ]
    rows = opened(moved, [FEB, MAR, APR])
    assert [(row.month, row.opening, row.closing, row.closing_customers) for row in rows] == [
        (FEB, 1000, 1000, 2),
        (MAR, 1000, 700, 1),
        (APR, 700, 700, 1),
    ]


def test_percentages_have_two_decimals_and_none_without_a_whole() -> None:
    assert [percent_of(1, 3), percent_of(2, 3), percent_of(1, 800), percent_of(1, 0)] == [
        "33.33",
        "66.67",
        "0.13",
        "",
    ]
