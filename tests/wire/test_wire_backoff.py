"""Waits grow by the rules of gRPC's connection-backoff document; retries stop while too many calls fail."""

import pytest

from services.chassis.wire.client.backoff import Backoff, Pace
from services.chassis.wire.client.service_config import Throttling
from services.chassis.wire.client.throttle import Throttle


def test_waits_grow_by_the_factor_up_to_the_bound() -> None:
    backoff = Backoff(Pace(jitter=0.0))
    waits = [backoff.wait_s() for _ in range(13)]
    assert waits[:4] == pytest.approx([1.0, 1.6, 2.56, 4.096])
    assert waits[11:] == [120.0, 120.0]


def test_each_wait_is_jittered_by_a_fifth() -> None:
    waits = [Backoff(Pace()).wait_s() for _ in range(500)]
    assert min(waits) >= 0.8
    assert max(waits) <= 1.2
    assert max(waits) - min(waits) > 0.2


def test_a_success_starts_over() -> None:
    backoff = Backoff(Pace(jitter=0.0))
    backoff.wait_s()
    backoff.wait_s()
    backoff.reset()
    assert backoff.wait_s() == 1.0


def test_an_attempt_may_take_as_long_as_the_wait_after_it() -> None:
    backoff = Backoff(Pace(jitter=0.0))
    assert backoff.attempt_s_max() == 20.0
    for _ in range(20):
        backoff.wait_s()
    assert backoff.attempt_s_max() == 120.0


def test_failures_close_the_bucket_at_half_and_successes_open_it() -> None:
    throttle = Throttle(Throttling(10, 0.5))
    for _ in range(4):
        throttle.failed()
    assert throttle.allows()
    throttle.failed()
    assert (throttle.tokens, throttle.allows()) == (5, False)
    throttle.succeeded()
    assert throttle.allows()


def test_the_bucket_is_neither_overfull_nor_in_debt() -> None:
    throttle = Throttle(Throttling(2, 1))
    throttle.succeeded()
    assert throttle.tokens == 2
    for _ in range(5):
        throttle.failed()
    assert throttle.tokens == 0
