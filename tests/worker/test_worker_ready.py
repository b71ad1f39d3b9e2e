"""Which waiting job goes next, and what follows an attempt."""

import random
from collections import Counter

import pytest

from services.chassis.jobs.drawing import Weights
from services.worker.ending import (
    CANCELLED,
    FAILED,
    RELEASED,
    RETRYING,
    SUCCEEDED,
    Ending,
    because,
    judge,
    merged,
)
from services.worker.ready import RANK, Rank, Ready
from weft.jobs.v1.job_pb2 import EndReason, RetryPolicy

BATCH = Rank(batch=True)


def filled(queues: dict[str, Rank], each: int) -> Ready[tuple[str, str]]:
    ready: Ready[tuple[str, str]] = Ready(random.Random(7).random)
    for queue, rank in queues.items():
        for _ in range(each):
            for priority in "lmh":
                ready.put(queue, priority, 0.0, (queue, priority), rank)
    return ready


def test_priorities_share_by_weight_and_none_starves() -> None:
    ready = filled({"one": RANK}, 2_000)
    first = Counter(ready.pop(0.0)[1] for _ in range(2_100))
    assert first["h"] / 2_100 == pytest.approx(16 / 21, abs=0.03)
    assert first["l"] / 2_100 == pytest.approx(1 / 21, abs=0.02)


def test_who_has_waited_long_counts_as_higher() -> None:
    ready = filled({"one": Rank(Weights(climb_after_s=60))}, 2_000)
    first = Counter(ready.pop(121.0)[1] for _ in range(2_000))
    assert first["l"] / 2_000 == pytest.approx(1 / 3, abs=0.05)


def test_queues_take_turns_and_batch_queues_come_last() -> None:
    ready = filled({"nightly": BATCH, "one": RANK, "two": RANK}, 10)
    order = [ready.pop(0.0)[0] for _ in range(90)]
    assert set(order[:60]) == {"one", "two"}
    assert max(Counter(order[:20]).values()) == 10
    assert set(order[60:]) == {"nightly"}
    assert not ready


def test_one_queue_keeps_the_order_within_a_priority() -> None:
    ready: Ready[int] = Ready()
    for number in range(5):
        ready.put("one", "m", 0.0, number, RANK)
    ready.put("one", "m", 0.0, -1, RANK, first=True)
    assert [ready.pop(0.0) for _ in range(6)] == [-1, 0, 1, 2, 3, 4]
    with pytest.raises(IndexError):
        ready.pop(0.0)


@pytest.mark.parametrize(
    ("ending", "attempt", "crashes", "outcome"),
    [
        (Ending(EndReason.END_REASON_RETURNED), 1, 0, SUCCEEDED),
        (Ending(EndReason.END_REASON_RETURNED), 9, 3, SUCCEEDED),
        (because(EndReason.END_REASON_RAISED, ""), 2, 0, RETRYING),
        (because(EndReason.END_REASON_RAISED, ""), 3, 0, FAILED),
        (because(EndReason.END_REASON_TIMED_OUT, ""), 1, 0, RETRYING),
        (because(EndReason.END_REASON_CPU_EXCEEDED, ""), 1, 0, FAILED),
        (because(EndReason.END_REASON_PROCESS_ENDED, ""), 1, 2, RETRYING),
        (because(EndReason.END_REASON_PROCESS_ENDED, ""), 1, 3, FAILED),
        (because(EndReason.END_REASON_PAYLOAD_REFUSED, ""), 1, 0, FAILED),
        (because(EndReason.END_REASON_RAISED, "", "shop.Broken"), 1, 0, FAILED),
        (Ending(EndReason.END_REASON_CANCELLED_BY_REQUEST), 1, 0, CANCELLED),
        (Ending(EndReason.END_REASON_WORKER_STOPPED), 3, 0, RELEASED),
    ],
)
def test_what_follows_an_attempt(ending: Ending, attempt: int, crashes: int, outcome: int) -> None:
    policy = RetryPolicy(
        attempts_max=3,
        not_retried=[EndReason.END_REASON_CPU_EXCEEDED],
        not_retried_errors=["shop.Broken"],
    )
    assert judge(ending, policy, attempt, crashes).outcome == outcome


def test_the_handler_may_say_when() -> None:
    ending = because(EndReason.END_REASON_RAISED, "")
    assert judge(ending, RetryPolicy(), 3, 0, lambda: 0.5).delay_s == pytest.approx(4 * 0.9)
    ending.after_s = 0.0
    assert judge(ending, RetryPolicy(), 3, 0).delay_s == 0


def test_a_jobs_policy_goes_before_its_queues() -> None:
    queue = RetryPolicy(attempts_max=9, not_retried_errors=["a"], multiplier=3)
    queue.backoff.FromSeconds(10)
    own = RetryPolicy(attempts_max=2, not_retried_errors=["b"])
    own.backoff.FromMilliseconds(500)
    whole = merged(own, queue)
    assert (whole.attempts_max, list(whole.not_retried_errors), whole.multiplier) == (2, ["b"], 3)
    assert whole.backoff.ToMilliseconds() == 500
