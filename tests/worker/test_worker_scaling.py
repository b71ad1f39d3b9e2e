"""How many workers a pool wants: up at once, down slowly, never beyond its bounds, and no swinging."""

import pytest
from hypothesis import given, strategies as st

from services.worker.scaling import Bounds, Seen, wanted

BOUNDS = Bounds(workers_min=1, workers_max=8, depth_per_worker=100, oldest_age_s=30, cooldown_s=60)
LONG = 1_000.0


@pytest.mark.parametrize(
    ("workers", "depth", "age_s", "since_s", "expected"),
    [
        (1, 0, 0, LONG, 1),
        (1, 100, 1, LONG, 1),
        (1, 101, 1, 0, 2),  # Up at once, however lately it changed.
        (1, 750, 1, 0, 8),
        (1, 9_999, 1, 0, 8),
        (1, 5, 31, LONG, 2),  # Few, but old: one more.
        (2, 5, 31, 5, 2),  # The new one is given time to help.
        (2, 5, 31, 10, 3),
        (8, 5, 31, LONG, 8),
        (4, 0, 0, 59, 4),  # Within the cooldown.
        (4, 0, 0, 60, 3),  # One by one.
        (4, 150, 0, LONG, 3),
        (4, 151, 0, LONG, 4),  # Three would have more than half of what they may.
        (4, 10, 16, LONG, 4),  # Not while what waits is getting old.
        (12, 0, 0, 0, 8),  # Bounds hold at once.
        (0, 0, 0, 0, 1),
    ],
)
def test_each_step(workers: int, depth: int, age_s: float, since_s: float, expected: int) -> None:
    assert wanted(workers, Seen(depth=depth, oldest_age_s=age_s), BOUNDS, since_s) == expected


def test_a_pool_may_sleep_and_wakes_for_a_single_job() -> None:
    bounds = Bounds(workers_min=0, workers_max=2, depth_per_worker=100)
    assert wanted(0, Seen(depth=0), bounds, LONG) == 0
    assert wanted(0, Seen(depth=1), bounds, 0) == 1
    assert wanted(1, Seen(depth=1), bounds, LONG) == 1
    assert wanted(1, Seen(depth=0), bounds, LONG) == 0


numbers = st.integers(0, 20)


@given(numbers, st.integers(0, 10_000), st.floats(0, 1e5), st.floats(0, 1e5), numbers, numbers)
def test_bounds_hold_and_down_is_one_step(
    workers: int, depth: int, age_s: float, since_s: float, low: int, more: int
) -> None:
    bounds = Bounds(workers_min=low, workers_max=max(1, low + more), depth_per_worker=100)
    target = wanted(workers, Seen(depth=depth, oldest_age_s=age_s), bounds, since_s)
    assert bounds.workers_min <= target <= bounds.workers_max
    if bounds.workers_min <= workers <= bounds.workers_max:
        assert target >= workers - 1
        assert target >= workers or since_s >= bounds.cooldown_s


@given(st.integers(1, 8), st.integers(0, 2_000))
def test_a_load_that_stays_is_answered_once(workers: int, depth: int) -> None:
    """From wherever it begins it comes to a number, and stays there."""
    for _ in range(20):
        workers = wanted(workers, Seen(depth=depth), BOUNDS, LONG)
    assert wanted(workers, Seen(depth=depth), BOUNDS, LONG) == workers
    assert workers >= min(8, depth / 100)
