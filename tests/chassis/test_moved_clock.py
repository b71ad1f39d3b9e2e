"""A clock that a file moves, for a while, in development only."""

from datetime import timedelta
from pathlib import Path

import pytest

from services.chassis.clock import OFFSET_READ_EVERY_S, OFFSET_S_MAX, Clock, MovedClock
from services.chassis.config import BadSetting, Settings


class Stopped(MovedClock):
    """What it measures by is told; the time of day is real."""

    moment = 100.0

    def monotonic(self) -> float:
        return self.moment


@pytest.fixture
def clock(tmp_path: Path) -> Stopped:
    return Stopped(tmp_path / "clock")


def test_the_file_moves_the_time_of_day_until_its_end(clock: Stopped, tmp_path: Path) -> None:
    (tmp_path / "clock").write_text("-1800 101\n")
    assert abs(clock.now() + timedelta(minutes=30) - Clock().now()) < timedelta(minutes=1)
    assert abs(clock.epoch() + 1_800 - Clock().epoch()) < 60
    clock.moment = 101.0
    assert clock.offset_s() == 0


def test_a_file_that_comes_and_goes_is_seen(clock: Stopped, tmp_path: Path) -> None:
    assert clock.offset_s() == 0
    (tmp_path / "clock").write_text("60 1000")
    clock.moment += OFFSET_READ_EVERY_S
    assert clock.offset_s() == 60
    (tmp_path / "clock").unlink()
    clock.moment += OFFSET_READ_EVERY_S
    assert clock.offset_s() == 0


@pytest.mark.parametrize(
    ("text", "offset_s"), [("", 0), ("soon 1000", 0), ("1e9 1000", OFFSET_S_MAX), ("5", 0)]
)
def test_nonsense_moves_nothing_and_nobody_is_moved_far(
    clock: Stopped, tmp_path: Path, text: str, offset_s: float
) -> None:
    (tmp_path / "clock").write_text(text)
    assert clock.offset_s() == offset_s


def test_production_has_the_right_time() -> None:
    with pytest.raises(BadSetting, match="WEFT_CLOCK_FILE"):
        Settings(mesh_key="x" * 32, clock_file="/tmp/clock")
