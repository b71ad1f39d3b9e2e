"""Quiet hours, by the reader's clock: over midnight, and over both changes of daylight saving."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from services.chassis.config import BadSetting
from services.notification.quiet import parse

BERLIN = ZoneInfo("Europe/Berlin")


def local(text: str) -> str:
    """When a message of that moment (UTC) goes out in Berlin with quiet hours 22:00-08:00."""
    until = parse("22:00-08:00").until(datetime.fromisoformat(text).replace(tzinfo=UTC), BERLIN)
    return f"{until.astimezone(BERLIN):%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("now", "goes"),
    [
        ("2026-07-01T12:00", "07-01 14:00"),  # By day: at once.
        ("2026-07-01T19:59", "07-01 21:59"),
        ("2026-07-01T20:00", "07-02 08:00"),  # The start is quiet, the end is not.
        ("2026-07-01T22:30", "07-02 08:00"),  # Half past midnight: the same morning.
        ("2026-07-02T06:00", "07-02 08:00"),
        ("2026-12-31T23:30", "01-01 08:00"),
        ("2026-03-28T21:30", "03-29 08:00"),  # The night that loses an hour.
        ("2026-10-24T20:30", "10-25 08:00"),  # The night that has one more.
    ],
)
def test_message_waits_until_the_morning(now: str, goes: str) -> None:
    assert local(now) == goes


def test_end_that_the_clock_skips_comes_an_hour_later_and_one_that_comes_twice_is_the_first() -> None:
    quiet = parse("22:00-02:30")
    spring = quiet.until(datetime(2026, 3, 29, 0, 0, tzinfo=UTC), BERLIN)
    assert f"{spring.astimezone(BERLIN):%H:%M}" == "03:30"
    autumn = quiet.until(datetime(2026, 10, 24, 23, 0, tzinfo=UTC), BERLIN)
    assert autumn == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


@given(
    now=st.integers(1_600_000_000, 1_900_000_000).map(lambda at: datetime.fromtimestamp(at, UTC)),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Asia/Kathmandu"]),
    hours=st.sampled_from(["22:00-08:00", "00:00-06:30", "23:59-00:01", "12:00-13:00"]),
)
def test_message_never_goes_back_in_time_and_waits_a_day_at_most(
    now: datetime, zone: str, hours: str
) -> None:
    until = parse(hours).until(now, ZoneInfo(zone))
    assert now <= until <= now + timedelta(days=1)


def test_nothing_is_quiet_unless_it_is_said() -> None:
    now = datetime(2026, 1, 1, 3, tzinfo=UTC)
    assert parse("").until(now, UTC) == now
    for text in ("22-8", "22:00", "25:00-08:00", "22:00-08:60"):
        with pytest.raises(BadSetting):
            parse(text)
