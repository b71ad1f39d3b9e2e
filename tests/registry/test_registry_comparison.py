"""The statistics of rollouts: how often a good version is rolled back, and how soon a bad one."""

from __future__ import annotations

import math
import random
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from services.registry.domain.comparison import Sample, divergence, enough, evidence, worse
from services.registry.domain.figures import NONE, Counts, Figures, Reading, read, written
from services.registry.domain.rollout import Action, Decision, Plan, Reason, Seen, Step, decide, rising

FEW = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SEED = 6
MANY = pytest.param(2_000, marks=pytest.mark.slow)
FEW_RUNS = 200
SERVED_MAX = 6_000  # Calls of a canary after which a run ends, however uncertain it is.
PLAN = Plan(
    steps=(Step(500, 0, 500), Step(2_500, 0, 2_000), Step(5_000, 0, 2_000)),
    error_margin=0.005,
    slow_margin=0.02,
    chance=0.01,
    deadline_s=0,
)
TICK_CALLS = 1_000  # Of both versions in one look of the steward.
samples = st.integers(1, 2_000).flatmap(
    lambda calls: st.builds(Sample, st.just(calls), st.integers(0, calls))
)
margins = st.sampled_from([0.0, 0.001, 0.01, 0.3])


def drawn(chance: random.Random, calls: int, rate: float) -> int:
    """How many of `calls` are bad: jumps from one bad call to the next."""
    if not rate:
        return 0
    bad, at, thin = 0, 0, math.log1p(-rate)
    while True:
        at += int(math.log(1.0 - chance.random()) / thin) + 1
        if at > calls:
            return bad
        bad += 1


def rolled_out(chance: random.Random, stable: float, canary: float) -> tuple[Decision, int]:
    """How a rollout of versions with these rates of errors ends, and after how many calls of the canary.

    As many calls are slow as fail.
    """
    step = looks = served = 0
    counts = {"stable": NONE, "canary": NONE}
    for _ in count():
        calls = TICK_CALLS * PLAN.steps[step].share // 10_000
        served += calls
        for name, rate, number in (("stable", stable, TICK_CALLS - calls), ("canary", canary, calls)):
            come = Counts(number, drawn(chance, number, rate), number, drawn(chance, number, rate))
            counts[name] = counts[name].plus(come)
        decision = decide(PLAN, Seen(step, 0, looks, True, counts["stable"], counts["canary"]))
        looks = decision.looks
        if decision.action is Action.STEP:
            step, looks, counts = step + 1, 0, {"stable": NONE, "canary": NONE}
        elif decision.action is not Action.STAY or served >= SERVED_MAX:
            return decision, served
    raise AssertionError


@pytest.mark.parametrize("runs", [FEW_RUNS, MANY])
@pytest.mark.parametrize(
    ("stable", "canary"),
    [(0.002, 0.002), (0.02, 0.025), (0.0, 0.005), (0.1, 0.1)],
    ids=["alike", "worse by the margin", "never and by the margin", "both often"],
)
def test_a_version_that_is_no_worse_is_rolled_back_no_more_often_than_is_said(
    stable: float, canary: float, runs: int
) -> None:
    chance = random.Random(SEED)
    back = sum(rolled_out(chance, stable, canary)[0].action is Action.ROLL_BACK for _ in range(runs))
    assert back / runs <= PLAN.chance


@pytest.mark.parametrize("runs", [FEW_RUNS, MANY])
@pytest.mark.parametrize(
    ("canary", "calls"), [(0.5, 50), (0.1, 200), (0.05, 600)], ids=["half fail", "a tenth", "a twentieth"]
)
def test_a_version_that_is_worse_is_rolled_back_soon(canary: float, calls: int, runs: int) -> None:
    chance = random.Random(SEED)
    ended = [rolled_out(chance, 0.002, canary) for _ in range(runs)]
    assert {decision.action for decision, _ in ended} == {Action.ROLL_BACK}
    soon = sorted(served for _, served in ended)[int(runs * 0.9)]
    assert soon <= calls


@FEW
@given(samples, samples, margins)
def test_evidence_is_the_least_of_all_pairs_that_the_hypothesis_allows(
    stable: Sample, canary: Sample, margin: float
) -> None:
    found = evidence(stable, canary, margin)
    assert found >= 0
    for n in range(1, 20):
        rate = n / 20 * (1 - margin)
        if stable.rate <= rate and rate + margin <= canary.rate:
            below = stable.calls * divergence(stable.rate, rate)
            assert found <= below + canary.calls * divergence(canary.rate, rate + margin) + 1e-6


@FEW
@given(samples, samples, margins)
def test_what_does_not_look_worse_is_no_evidence(stable: Sample, canary: Sample, margin: float) -> None:
    assert (evidence(stable, canary, margin) > 0) == (canary.rate > stable.rate + margin)


@pytest.mark.parametrize("chance", [0.5, 0.01, 1e-6])
def test_enough_is_the_evidence_that_chance_alone_gives_so_seldom(chance: float) -> None:
    assert (1 + enough(chance)) * math.exp(-enough(chance)) == pytest.approx(chance)


def test_one_failure_of_three_is_nothing_and_all_of_ten_are_something() -> None:
    stable = Sample(1_000, 1)
    assert not worse(stable, Sample(3, 1), 0.01, 0.001)
    assert worse(stable, Sample(10, 10), 0.01, 0.001)


def test_all_looks_of_a_rollout_spend_no_more_than_its_chance() -> None:
    spent = sum(PLAN.spent(look) for look in range(1, 10_000)) * 2 * len(PLAN.steps)
    assert 0.99 * PLAN.chance < spent <= PLAN.chance


GOOD = Seen(0, 0, 9, True, Counts(20_000, 40, 20_000, 40), Counts(1_000, 1, 1_000, 1))


@pytest.mark.parametrize(
    ("seen", "action", "reason"),
    [
        (GOOD, Action.STEP, Reason.NONE),
        (Seen(2, 0, 9, True, GOOD.stable, Counts(3_000, 1)), Action.PROMOTE, Reason.NONE),
        (Seen(0, 0, 9, False, GOOD.stable, GOOD.canary), Action.STAY, Reason.NO_FIGURES),
        (Seen(0, 3_600, 9, False, GOOD.stable, GOOD.canary), Action.PAUSE, Reason.NO_FIGURES),
        (Seen(0, 9, 9, True, GOOD.stable, Counts(499, 0)), Action.STAY, Reason.TOO_FEW_CALLS),
        (Seen(0, 9, 9, True, Counts(499, 0), GOOD.canary), Action.STAY, Reason.TOO_FEW_CALLS),
        (Seen(0, 9, 9, True, GOOD.stable, Counts(500, 5)), Action.STAY, Reason.UNCERTAIN),
        (Seen(0, 4_000, 9, True, GOOD.stable, Counts(500, 5)), Action.PAUSE, Reason.UNCERTAIN),
        (Seen(0, 9, 3, True, GOOD.stable, Counts(500, 100)), Action.ROLL_BACK, Reason.ERRORS),
        (Seen(0, 9, 3, True, GOOD.stable, Counts(500, 1, 500, 100)), Action.ROLL_BACK, Reason.LATENCY),
        (Seen(0, 9, 9, True, GOOD.stable, GOOD.canary, paused=True), Action.STAY, Reason.NONE),
        (Seen(0, 9, 3, True, GOOD.stable, Counts(500, 100), paused=True), Action.ROLL_BACK, Reason.ERRORS),
    ],
    ids=[
        "good",
        "good at last",
        "nobody counts",
        "nobody counted in time",
        "few calls",
        "few of the old one",
        "perhaps worse",
        "perhaps worse for long",
        "failing",
        "slow",
        "pausing",
        "failing while it pauses",
    ],
)
def test_a_rollout_does_what_was_seen_asks_for(seen: Seen, action: Action, reason: Reason) -> None:
    decision = decide(PLAN, seen)
    assert (decision.action, decision.reason) == (action, reason)


def test_a_step_waits_for_its_time_and_looks_again_only_after_half_as_many_calls_more() -> None:
    plan = Plan((Step(500, 60, 10),), 0.005, None, 0.01, 0)
    seen = Seen(0, 59, 0, True, Counts(1_000, 1), Counts(14, 0))
    assert decide(plan, seen) == Decision(Action.STAY, Reason.TOO_EARLY, 1)
    again = Seen(0, 59, 1, True, Counts(1_000, 1), Counts(14, 0))
    assert decide(plan, again).looks == 1
    assert decide(plan, Seen(0, 60, 1, True, Counts(1_000, 1), Counts(15, 0))).action is Action.PROMOTE


def test_shares_must_rise() -> None:
    assert rising([1, 5, 9]) is None
    assert rising([1, 5, 5]) == 2


numbers = st.integers(0, 50)
readings = st.lists(st.tuples(st.sampled_from(["a", "b"]), numbers, numbers))


@FEW
@given(readings)
def test_figures_are_what_came_since_each_source_was_first_read_however_it_is_split(
    come: list[tuple[str, int, int]],
) -> None:
    kept, totals, expected = Figures(), dict[str, Counts](), NONE
    for source, calls, errors in come:
        new, begun = Counts(calls, errors), source in totals
        totals[source] = totals.get(source, NONE).plus(new)
        expected = expected.plus(new) if begun else expected
        kept = read(written(kept.after([Reading(source, {"2": totals[source]})])))
    assert kept.of("2") == expected
    assert kept.anew().of("2") == NONE


def test_a_source_that_began_anew_has_counted_all_it_says() -> None:
    kept = Figures().after([Reading("a", {"2": Counts(90, 9)})]).after([Reading("a", {"2": Counts(100, 9)})])
    assert kept.of("2") == Counts(10, 0)
    assert kept.after([Reading("a", {"2": Counts(7, 1)})]).of("2") == Counts(17, 1)
