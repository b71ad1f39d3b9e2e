"""Hours of faults in seconds: never an emergency without a cause, always back, nothing told twice."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from services.health.domain.component import Component, Condition, Observation, Thresholds, Verdict, observe
from services.health.domain.controller import ConditionChanged, ModeChanged, counted, step
from services.health.domain.impact import Calls, passed
from services.health.domain.plan import WORSE, Mode
from services.health.domain.state import Pin, State, dump, load, resumed
from tests.health.worlds import BACK_S, COMPONENTS, LIMITS, PLAN, Fault, Run, cause, normal

HOUR_S = 3_600.0
TICK_S = 1.0


def fault(within_s: float) -> st.SearchStrategy[Fault]:
    return st.builds(
        Fault,
        component=st.sampled_from(COMPONENTS),
        at=st.floats(0, within_s),
        lasts_s=st.floats(1, 400),
        verdict=st.sampled_from([Verdict.BAD, Verdict.BAD, Verdict.SLOW]),
    )


faults, many = st.lists(fault(HOUR_S / 4), max_size=12), st.lists(fault(3 * HOUR_S), max_size=60)
quick = settings(max_examples=8, deadline=None)


def ended(happened: list[Fault]) -> float:
    return max((each.at + each.lasts_s for each in happened), default=0.0)


def ran(happened: list[Fault], pins: dict[str, Pin] | None = None) -> Run:
    run = Run()
    run.go(happened, pins or {}, ended(happened) + BACK_S)
    return run


def sound(run: Run) -> None:
    """No emergency is without a cause, all are over in time, and no mode gets better before it was held."""
    began = {
        (each.capability, each.at)
        for each in run.decisions
        if isinstance(each, ModeChanged) and each.after is Mode.EMERGENCY
    }
    states = {now: state for now, state, _ in run.steps}
    assert all(cause(states[at], capability) for capability, at in began)
    assert normal(run.state), "it is back within BACK_S of the last fault"
    for capability in PLAN.capabilities:
        for before, after in itertools.pairwise(run.modes(capability)):
            assert before.after is after.before
            assert WORSE[after.after] > WORSE[after.before] or after.at - before.at >= LIMITS.hold_s


@quick
@given(faults)
def test_modes_have_causes_are_held_and_end(happened: list[Fault]) -> None:
    sound(ran(happened))


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=30, deadline=None)
@given(many)
def test_modes_have_causes_are_held_and_end_for_hours(happened: list[Fault]) -> None:
    run = Run(tick_s=TICK_S)
    run.go(happened, {}, max(ended(happened), HOUR_S) + BACK_S)
    sound(run)


@quick
@given(faults, st.data())
def test_the_same_observations_lead_to_the_same_decisions_once(
    happened: list[Fault], data: st.DataObject
) -> None:
    run, again = ran(happened), Run()
    stop = data.draw(st.integers(0, len(run.steps) - 1))
    for place, ((now, _, pins), seen) in enumerate(zip(run.steps, run.seen, strict=True)):
        again.take([*seen, *seen], pins, now)
        if place == stop:  # Killed here, and gone on from what a row holds; what was seen is seen again.
            again.state = load(dump(again.state))
            again.take(seen, pins, now)
    assert again.decisions == run.decisions
    assert again.state == run.state


@quick
@given(faults, st.sampled_from(list(Mode)), st.floats(10, 1_000))
def test_a_pin_holds_until_its_time_and_no_longer(happened: list[Fault], mode: Mode, lasts_s: float) -> None:
    until = Run().start + lasts_s
    run = ran(happened, {"checkout": Pin(mode=mode, until=until)})
    free = ran(happened)
    for (now, state, _), (_, other, _) in zip(run.steps, free.steps, strict=True):
        shown = state.capabilities["checkout"]
        assert shown.mode is (mode if now < until else other.capabilities["checkout"].mode)
        assert shown.decided is other.capabilities["checkout"].decided, (
            "a pin hides what is observed from nobody"
        )
        assert state.capabilities["mail"] == other.capabilities["mail"]


@quick
@given(faults, st.floats(-HOUR_S, -2.0))
def test_a_clock_that_is_set_back_holds_nothing_up(happened: list[Fault], jump_s: float) -> None:
    run = ran(happened)
    later = Run(start=run.state.at + jump_s, state=run.state)
    later.go([Fault("nats", 10, 60)], {}, 70 + BACK_S)
    assert [each.after for each in later.modes("mail")] == [Mode.EMERGENCY, Mode.NORMAL]


def test_an_incident_begins_goes_on_and_ends_under_one_name() -> None:
    run = ran([Fault("nats", 10, 100), Fault("postgres", 30, 100)])
    changes = run.modes("checkout")
    assert [each.after for each in changes] == [Mode.DEGRADED, Mode.EMERGENCY, Mode.NORMAL]
    assert len({each.incident for each in changes}) == 1
    assert changes[0].causes == ("nats",)
    assert changes[1].causes == ("postgres",)
    assert run.modes("mail")[0].incident != changes[0].incident


def test_what_flaps_is_away_longer_each_time() -> None:
    flapping = [Fault("service.cart", 60.0 * n, 20.0) for n in range(8)]
    run = ran(flapping)
    shown = [each for each in run.decisions if isinstance(each, ConditionChanged)]
    back = [each.at for each in shown if each.after is Condition.UP]
    assert len(back) < len(flapping) / 2, "most of the time it was on probation"
    assert len(run.modes("checkout")) <= 2 * len(back)


def test_attempts_come_after_pauses_that_double_up_to_a_bound() -> None:
    run = Run(tick_s=TICK_S)
    run.go([Fault("postgres", 0, 1_000)], {}, 900)
    tried = [each.at for seen in run.seen for each in seen if each.component == "postgres"]
    pauses = [after - before for before, after in itertools.pairwise(tried[2:])]
    assert pauses[:6] == [1, 2, 4, 8, 16, 32]
    assert set(pauses[6:]) == {60}


def test_slow_answers_degrade_and_never_bring_an_emergency() -> None:
    run = ran([Fault("postgres", 10, 300, Verdict.SLOW)])
    assert [each.after for each in run.modes("checkout")] == [Mode.DEGRADED, Mode.NORMAL]


def test_one_failure_among_good_answers_is_nothing() -> None:
    run = ran([Fault(name, at, 1.0) for name in COMPONENTS for at in range(20, 400, 25)])
    assert run.decisions == []


def test_what_nobody_watches_any_more_is_forgotten() -> None:
    run = Run()
    run.go([Fault("nats", 0, 1_000)], {}, 60)
    state, decisions = step(PLAN, run.state, [], {}, run.state.at + 1_000)
    assert "nats" not in state.components
    assert {each.capability for each in decisions if isinstance(each, ModeChanged)} == {"checkout", "mail"}
    kept, decisions = step(PLAN, resumed(run.state, run.state.at + 1_000), [], {}, run.state.at + 1_001)
    assert "nats" in kept.components, "while no process ran, nobody could watch"
    assert not decisions


def test_calls_are_counted_for_the_incidents_that_go_on() -> None:
    run = Run()
    run.go([Fault("postgres", 0, 1_000)], {}, 60)
    calls = {"cart": Calls(calls=10, failed=4), "identity": Calls(calls=9, failed=9)}
    state = counted(PLAN, counted(PLAN, run.state, calls), calls)
    assert state.capabilities["checkout"].impact == {"cart": Calls(calls=20, failed=8)}
    assert state.capabilities["mail"].impact == {}
    calm = State(capabilities={"checkout": replace(state.capabilities["checkout"], incident="", impact={})})
    assert counted(PLAN, calm, calls) == calm


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_counter_that_fell_began_anew(before: int, now: int) -> None:
    rose = passed({"cart": Calls(calls=before)}, {"cart": Calls(calls=now), "new": Calls(calls=7)})
    assert rose == {"cart": Calls(calls=now - before if now >= before else now)}


@given(st.lists(st.sampled_from(list(Verdict)), max_size=60))
def test_a_component_never_keeps_more_than_it_needs(verdicts: list[Verdict]) -> None:
    known = Component()
    for at, verdict in enumerate(verdicts, 1):
        known = observe(known, Observation(component="x", at=float(at), verdict=verdict), Thresholds())
    assert len(known.recent) <= 5
    assert len(known.falls) <= 5
