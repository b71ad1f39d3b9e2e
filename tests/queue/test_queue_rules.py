"""Rules without a server: states, retries, drawing by weight and age, shares, buckets, histograms."""

import itertools
import math
import random
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from services.chassis.errors import FailedPrecondition
from services.chassis.jobs.drawing import ORDER, Weights, draw
from services.chassis.jobs.retrying import Backoff
from services.chassis.jobs.subjects import lane_of, message_id, places
from services.queue.domain import histogram, sharing, states
from services.queue.domain.job import enqueued_at, floor_id
from services.queue.domain.queue import Kind, Openness, lanes_of
from services.queue.domain.states import FINAL, MOVES, Outcome, Reason, State
from weft.jobs.v1 import attempt_pb2, job_pb2
from weft.queue.v1 import settings_pb2

UNIT = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (State, job_pb2.JobState, "JOB_STATE_"),
        (Reason, job_pb2.EndReason, "END_REASON_"),
        (Outcome, attempt_pb2.AttemptOutcome, "ATTEMPT_OUTCOME_"),
        (Kind, settings_pb2.QueueKind, "QUEUE_KIND_"),
        (Openness, settings_pb2.QueueState, "QUEUE_STATE_"),
    ],
)
def test_the_domains_words_are_the_contracts(ours: type[State], theirs: object, prefix: str) -> None:
    assert {f"{prefix}{each.name}": int(each) for each in ours}.items() <= dict(theirs.items()).items()  # type: ignore[attr-defined]


LEGAL = {
    ("BLOCKED", "SCHEDULED"), ("BLOCKED", "QUEUED"), ("BLOCKED", "CANCELLED"), ("BLOCKED", "EXPIRED"),
    ("SCHEDULED", "SCHEDULED"), ("SCHEDULED", "QUEUED"), ("SCHEDULED", "CANCELLED"), ("SCHEDULED", "EXPIRED"),
    ("QUEUED", "RUNNING"), ("QUEUED", "QUEUED"), ("QUEUED", "SCHEDULED"), ("QUEUED", "SUCCEEDED"),
    ("QUEUED", "FAILED"), ("QUEUED", "CANCELLED"), ("QUEUED", "EXPIRED"),
    ("RUNNING", "QUEUED"), ("RUNNING", "RETRYING"), ("RUNNING", "SUCCEEDED"), ("RUNNING", "FAILED"),
    ("RUNNING", "CANCELLED"), ("RUNNING", "EXPIRED"),
    ("RETRYING", "QUEUED"), ("RETRYING", "SCHEDULED"), ("RETRYING", "CANCELLED"), ("RETRYING", "EXPIRED"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), list(itertools.product(State, State)))
def test_a_run_moves_only_where_it_may(before: State, after: State) -> None:
    assert states.can_move(before, after) == ((before.name, after.name) in LEGAL)


@pytest.mark.parametrize("state", State)
def test_each_deed_is_refused_in_each_state_that_does_not_bear_it(state: State) -> None:
    allowed = {
        states.refuse_cancel: {*states.OPEN, State.CANCELLED},
        states.refuse_reschedule: {State.SCHEDULED, State.RETRYING},
        states.refuse_retry: {State.FAILED, State.CANCELLED, State.EXPIRED, State.RETRYING},
        states.refuse_escalate: {State.QUEUED},
    }
    for deed, bearing in allowed.items():
        if state in bearing:
            deed("id", state)
        else:
            with pytest.raises(FailedPrecondition):
                deed("id", state)


def test_final_states_lead_nowhere() -> None:
    assert all(not MOVES[state] for state in FINAL)
    assert set(states.ENDS.values()) == FINAL


@given(
    st.integers(1, 2_000),
    st.integers(1, 1_000),
    st.floats(0, 86_400),
    st.floats(1, 10),
    st.floats(0, 1),
    UNIT,
)
def test_a_retry_waits_within_its_bounds_and_ends_with_its_attempts(
    failed: int, attempts: int, backoff: float, multiplier: float, jitter: float, drawn: float
) -> None:
    policy = Backoff(attempts_max=attempts, backoff_s=backoff, multiplier=multiplier, jitter=jitter)
    wait = policy.wait_s(failed, lambda: drawn)
    assert (wait is None) == (failed >= attempts)
    if wait is not None:
        whole = min(600.0, backoff * multiplier ** min(failed - 1, 64))
        assert whole * (1 - jitter) * 0.999 <= wait <= whole


def test_waits_double_until_their_bound() -> None:
    policy = Backoff(attempts_max=20, backoff_s_max=10, jitter=0)
    waits = [policy.wait_s(n, random.random) for n in range(1, 7)]
    assert waits == [1, 2, 4, 8, 10, 10]


def test_each_priority_is_drawn_by_its_weight() -> None:
    chance = random.Random(7)
    drawn = Counter(draw({"h": 0, "m": 0, "l": 0}, Weights(), chance.random) for _ in range(21_000))
    assert drawn["h"] == pytest.approx(16_000, rel=0.05)
    assert drawn["m"] == pytest.approx(4_000, rel=0.1)
    assert drawn["l"] == pytest.approx(1_000, rel=0.2)


@pytest.mark.parametrize(
    ("waited", "seen"), [(0, "l"), (59, "l"), (60, "m"), (119, "m"), (120, "h"), (9_999, "h"), (-5, "l")]
)
def test_a_job_climbs_while_it_waits(waited: float, seen: str) -> None:
    assert Weights().seen_as("l", waited) == seen


@given(
    st.dictionaries(st.sampled_from(ORDER), st.floats(0, 1e6), min_size=1),
    st.lists(st.integers(1, 1_000), min_size=3, max_size=3),
    UNIT,
)
def test_whatever_is_drawn_has_jobs(heads: dict[str, float], weights: list[int], chance: float) -> None:
    high, medium, low = weights
    made = Weights(high=high, medium=medium, low=low)
    assert draw(heads, made, lambda: chance) in heads


@given(st.integers(1, 64), st.integers(1, 40))
def test_lanes_come_to_rest_evenly_shared(lanes: int, workers: int) -> None:
    names = [f"w{n:02}" for n in range(workers)]
    owners: dict[int, str] = dict.fromkeys(range(lanes), names[-1])
    for _ in range(2):
        for name in names:
            told = sharing.share(lanes, owners, names, name)
            for lane in told.give_up:
                del owners[lane]
        for name in names:
            told = sharing.share(lanes, owners, names, name)
            assert not set(told.take) & set(owners)
            owners |= dict.fromkeys(told.take, name)
    held = Counter(owners.values())
    assert sum(held.values()) == lanes
    assert max(held.values()) - min(held[name] for name in names) <= 1


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 50)), max_size=50))
def test_a_bucket_never_gives_more_than_its_rate_and_burst(asked: list[tuple[float, int]]) -> None:
    tokens, given_, elapsed = 20.0, 0, 0.0
    for passed, wanted in asked:
        tokens, elapsed = sharing.refill(tokens, passed, 10.0, 20), elapsed + passed
        assert tokens <= 20
        got, wait_s = sharing.draw(tokens, wanted, 10.0)
        tokens, given_ = tokens - got, given_ + got
        assert got <= wanted
        assert (wait_s > 0) == (got < wanted)
    assert given_ <= 20 + 10 * elapsed + 1e-6


def test_a_clock_that_went_back_fills_no_bucket() -> None:
    assert sharing.refill(3.0, -100.0, 10.0, 20) == 3.0


@given(st.lists(st.floats(0.0001, 600_000), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_too_large_by_a_bin_at_most(times: list[float], share: float) -> None:
    bins = [0] * histogram.BINS
    for each in times:
        bins[histogram.bin_of(each)] += 1
    true = sorted(times)[math.ceil(len(times) * share) - 1]
    told = histogram.percentile_s(bins, share, max(times))
    assert true * 0.999 <= told <= true * 2 ** (1 / histogram.STEPS_PER_DOUBLING) * 1.001


def test_ids_tell_when_they_were_made() -> None:
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert enqueued_at(floor_id(noon)) == noon


@given(st.text(max_size=50), st.integers(1, 256))
def test_a_key_has_one_lane(key: str, lanes: int) -> None:
    assert 0 <= lane_of(key, lanes) < lanes
    assert lane_of(key, lanes) == lane_of(key, lanes)


def test_names_in_jetstream_are_those_of_the_contract() -> None:
    assert places(0) == ["h", "m", "l"]
    assert places(3) == ["k0", "k1", "k2"]
    assert (message_id("a", 1, 2), message_id("a", 1, 2, 3)) == ("a:1:2", "a:1:2:3")


@pytest.mark.parametrize(
    ("kind", "per_key", "asked", "lanes"),
    [(Kind.REAL_TIME, 0, 8, 0), (Kind.FIFO, 0, 0, 16), (Kind.FIFO, 1, 8, 8), (Kind.BATCH, 2, 0, 16)],
)
def test_a_queue_has_lanes_when_its_keys_matter(kind: Kind, per_key: int, asked: int, lanes: int) -> None:
    assert lanes_of(kind, per_key, asked) == lanes
