"""Next-run arithmetic: clock changes by declared policy, calendars, windows, jitter."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st

from services.scheduler.domain.calendar import Days
from services.scheduler.domain.timing import Kind, OnClosed, Timing, TimingRefused, jittered
from services.scheduler.domain.zoned import Gap, Overlap, UnknownTimeZone, zone

NEW_YORK = ZoneInfo("America/New_York")
START = datetime(2026, 1, 1, tzinfo=UTC)
ZONES = (
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
)


def cron(text: str, **rest: object) -> Timing:
    return Timing(kind=Kind.CRON, text=text, anchor=START, tz=NEW_YORK, **rest)  # type: ignore[arg-type]


def shown(timing: Timing, after: datetime, count: int) -> list[str]:
    found = timing.upcoming(after, count)
    return [at.astimezone(timing.tz).strftime("%m-%d %H:%M%z") for at in found]


def test_a_time_that_clocks_skip_is_shifted_or_skipped() -> None:
    after = datetime(2026, 3, 8, tzinfo=UTC)
    assert shown(cron("30 2 * * *"), after, 2) == ["03-08 03:30-0400", "03-09 02:30-0400"]
    assert shown(cron("30 2 * * *", gap=Gap.SKIP), after, 2) == ["03-09 02:30-0400", "03-10 02:30-0400"]


def test_shifted_times_that_meet_others_are_one_run() -> None:
    found = shown(cron("*/30 * * * *"), datetime(2026, 3, 8, 6, 30, tzinfo=UTC), 3)
    assert found == ["03-08 03:00-0400", "03-08 03:30-0400", "03-08 04:00-0400"]


@pytest.mark.parametrize(
    ("overlap", "wanted"),
    [
        (Overlap.FIRST, ["11-01 01:30-0400", "11-02 01:30-0500"]),
        (Overlap.SECOND, ["11-01 01:30-0500", "11-02 01:30-0500"]),
        (Overlap.BOTH, ["11-01 01:30-0400", "11-01 01:30-0500"]),
    ],
)
def test_a_time_that_clocks_show_twice_counts_as_declared(overlap: Overlap, wanted: list[str]) -> None:
    assert shown(cron("30 1 * * *", overlap=overlap), datetime(2026, 11, 1, tzinfo=UTC), 2) == wanted


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.sampled_from(list(Gap)),
    st.sampled_from(list(Overlap)),
    st.sampled_from(["*/20 * * * *", "30 2 * * *", "0 0 * * *", "15 1,3 * * *"]),
    st.integers(0, 18 * 365 * 24 * 60),
)
def test_times_rise_and_none_is_left_out_wherever_one_begins(
    name: str, gap: Gap, overlap: Overlap, text: str, minutes: int
) -> None:
    timing = Timing(kind=Kind.CRON, text=text, anchor=START, tz=zone(name), gap=gap, overlap=overlap)
    after = datetime(2009, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    found = list(timing.upcoming(after, 8))
    assert found == sorted(set(found))
    for before, at in zip([after, *found], found, strict=False):
        assert timing.next(at - timedelta(microseconds=1)) == at
        assert timing.next(before + (at - before) / 2) == at


def test_closed_days_are_skipped_or_moved_to_open_ones() -> None:
    days = Days(
        closed_weekdays=frozenset({6, 7}),
        country="US",
        subdivision="",
        closed={date(2026, 12, 24): "eve"},
        opened=frozenset(),
    )
    after = datetime(2026, 12, 24, 5, tzinfo=UTC)
    by_policy = {
        policy: shown(cron("0 9 24 * *", open=days.open, on_closed=policy), after, 2) for policy in OnClosed
    }
    assert by_policy == {
        OnClosed.SKIP: ["02-24 09:00-0500", "03-24 09:00-0400"],
        OnClosed.NEXT: ["12-28 09:00-0500", "01-25 09:00-0500"],
        OnClosed.PREVIOUS: ["01-22 09:00-0500", "02-24 09:00-0500"],
    }


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(list(OnClosed)),
    st.sets(st.integers(0, 40), max_size=25),
    st.sampled_from(["0 9 * * *", "0 9,17 */3 * *", "30 8 1,15 * *"]),
    st.integers(0, 40),
)
def test_no_run_is_ever_on_a_closed_day(policy: OnClosed, closed: set[int], text: str, day: int) -> None:
    shut = {date(2026, 3, 1) + timedelta(days=n) for n in closed}
    timing = cron(text, open=lambda each: each not in shut, on_closed=policy)
    after = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=day)
    found = list(timing.upcoming(after, 10))
    assert found == sorted(set(found))
    assert not {at.astimezone(NEW_YORK).date() for at in found} & shut
    assert all(timing.next(at - timedelta(hours=1)) == at for at in found if at - timedelta(hours=1) >= after)


def test_intervals_count_from_their_anchor_over_clock_changes_and_closed_days() -> None:
    timing = Timing(
        kind=Kind.INTERVAL,
        every=timedelta(hours=7),
        anchor=datetime(2026, 3, 6, 12, tzinfo=UTC),
        tz=NEW_YORK,
        open=lambda day: day.weekday() < 5,
    )
    found = shown(timing, datetime(2026, 3, 6, 12, tzinfo=UTC), 4)
    assert found == ["03-06 14:00-0500", "03-06 21:00-0500", "03-09 06:00-0400", "03-09 13:00-0400"]


def test_a_calendar_that_is_never_open_ends_the_search() -> None:
    for policy in OnClosed:
        assert cron("0 9 * * *", open=lambda _: False, on_closed=policy).next(START) is None


def test_the_window_bounds_both_ends() -> None:
    timing = cron(
        "0 12 * * *", starts_at=datetime(2026, 5, 1, tzinfo=UTC), ends_at=datetime(2026, 5, 2, 16, tzinfo=UTC)
    )
    assert [at.day for at in timing.upcoming(START, 9)] == [1]


def test_what_no_clock_can_keep_is_refused() -> None:
    with pytest.raises(TimingRefused):
        cron("0 12 * * *", starts_at=START, ends_at=START).check()
    with pytest.raises(UnknownTimeZone):
        zone("../etc/passwd")
    with pytest.raises(UnknownTimeZone):
        zone("Mars/Olympus")


def test_jitter_is_the_same_wherever_it_is_reckoned_and_spread_over_its_span() -> None:
    span, ids = timedelta(minutes=10), [UUID(int=n) for n in range(300)]
    delays = [(jittered(each, START, span) - START) / span for each in ids]
    assert delays == [(jittered(each, START, span) - START) / span for each in ids]
    assert min(delays) >= 0
    assert max(delays) < 1
    assert 0.4 < sum(delays) / len(delays) < 0.6
    assert jittered(ids[0], START, timedelta()) == START
