"""A scenario's file is read whole or refused by the field that is wrong; calls come when its rates say."""

import tomllib
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from scripts.chaos import timetable
from scripts.chaos.__main__ import SHIPPED, found, shipped
from scripts.chaos.faults import KINDS
from scripts.chaos.scenario import AFTER_S_MIN, SHAPES, BadScenario, Range, read

GOOD = """
what = "postgres dies"
seconds = 20
rate = 40
[[step]]
at = 2
fault = "pause"
target = "postgres"
for = 5
[slo]
availability = 0.9
p95_ms = 200
recovery_s = 5
"""


def test_ten_scenarios_and_more_ship_and_all_can_be_played() -> None:
    every = shipped()
    assert len(every) >= 10
    assert len({each.what for each in every}) == len(every)
    done = {step.fault for each in every for step in each.steps}
    assert done == set(SHAPES) == {*KINDS, "hostile"}


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ('what = "postgres dies"\n', "", "what: is missing"),
        ("seconds = 20", 'seconds = "20"', "seconds: must be a number"),
        ("seconds = 20", "seconds = true", "seconds: must be a number"),
        ("seconds = 20", "seconds = 12", "seconds: must be at least 13"),
        ("rate = 40", "rate = 0", "rate: must lie between 1 and 1000 a second"),
        ("rate = 40", "speed = 40", "speed: is not known here"),
        ("rate = 40", "rate = 40\nmix = {read = 0.5}", "mix: the shares must add up to 1, they are 0.5"),
        ("rate = 40", "rate = 40\nmix = {scream = 1}", "mix.scream: is not known here"),
        ("at = 2\n", "", "step 1: at: is missing"),
        ("at = 2\n", "at = nan\n", "step 1: at: must lie between"),
        ('"pause"', '"tickle"', "step 1: fault: must be one of kill, pause"),
        ('"pause"', "7", "step 1: fault: must be one of"),
        ('"pause"', '"kill"', "step 1: for: is not known here"),
        ('"pause"', '"delay"', "step 1: delay_ms: is missing"),
        ('"pause"', '"hostile"', "step 1: target: is not known here"),
        ('"postgres"\n', '"../postgres"\n', "step 1: target: must name a part of the mesh"),
        ("for = 5", "for = 0", "step 1: for: must lie between 0.1 and 120 s"),
        ("for = 5", 'for = 5\npeer = "nats"', "step 1: peer: is not known here"),
        ("[[step]]", "[step]", "step: there must be one to 50"),
        ("p95_ms = 200", "", "slo.p95_ms: is missing"),
        ("availability = 0.9", "availability = 99.9", "slo.availability: must lie between 0 and 1"),
        ("[slo]", "[slo", "is not TOML"),
    ],
)
def test_what_is_wrong_is_told_by_its_field(was: str, becomes: str, told: str) -> None:
    assert read("good", GOOD).seconds == 20
    assert was in GOOD
    with pytest.raises(BadScenario) as refused:
        read("bad", GOOD.replace(was, becomes, 1))
    assert told in str(refused.value)


def test_a_file_that_is_not_there_or_no_text_is_told() -> None:
    with pytest.raises(BadScenario, match="there is no scenario kill-everybody"):
        found("kill-everybody")
    with pytest.raises(BadScenario, match=r"away\.toml"):
        found(str(SHIPPED / "away.toml"))


def _number(allowed: Range) -> st.SearchStrategy[float]:
    return (
        st.floats(allowed.low, allowed.high)
        .map(lambda value: round(value, 3))
        .filter(lambda value: allowed.low <= value <= allowed.high)
    )


@st.composite
def steps(draw: Any) -> dict[str, Any]:
    fault = draw(st.sampled_from(sorted(SHAPES)))
    shape = SHAPES[fault]
    values: dict[str, Any] = {"at": draw(st.integers(0, 50)), "fault": fault}
    values |= {"target": draw(st.sampled_from(["identity", "services-1", "nats"]))} if shape.targeted else {}
    values |= {"for": draw(st.integers(1, 60))} if shape.lasts else {}
    values |= {"peer": "postgres"} if shape.peered and draw(st.booleans()) else {}
    return values | {name: draw(_number(allowed)) for name, allowed in shape.numbers.items()}


@settings(max_examples=40)
@given(st.lists(steps(), min_size=1, max_size=4), st.integers(0, 60))
def test_what_a_file_says_is_what_is_played(told: list[dict[str, Any]], recovery_s: int) -> None:
    ends = max(each["at"] + each.get("for", 0) for each in told)
    lines = ['what = "x"', "rate = 7", f"seconds = {ends + recovery_s + AFTER_S_MIN + 1}"]
    for each in told:
        lines.append("[[step]]")
        lines += [
            f"{name} = {f'{value!r}' if isinstance(value, str) else value}" for name, value in each.items()
        ]
    lines += ["[slo]", "availability = 0.5", "p95_ms = 10", f"recovery_s = {recovery_s}"]
    scenario = read("drawn", "\n".join(lines))
    assert tomllib.loads("\n".join(lines))["step"] == told
    assert (scenario.struck, scenario.spared) == (min(each["at"] for each in told), ends)
    played = [
        {"at": s.at, "fault": s.fault, "target": s.target, "for": s.lasts, "peer": s.peer} | dict(s.numbers)
        for s in scenario.steps
    ]
    asked = [{"target": "", "for": 0, "peer": "", **_absent(each), **each} for each in told]
    assert played == sorted(asked, key=lambda each: each["at"])


def _absent(told: dict[str, Any]) -> dict[str, float]:
    return {name: absent for name, (_, absent) in SHAPES[told["fault"]].optional.items()}


@settings(max_examples=40)
@given(
    st.floats(0.5, 20),
    st.floats(1, 60),
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10), st.floats(1, 90))),
)
def test_as_many_calls_are_due_as_the_rate_adds_up_to(
    seconds: float, rate: float, drawn: list[tuple[float, float, float]]
) -> None:
    bursts = [(begins, begins + lasts, asked) for begins, lasts, asked in drawn]
    moments = list(timetable.due(seconds, rate, bursts))
    edges = sorted({0.0, seconds, *(min(e, seconds) for begins, ends, _ in bursts for e in (begins, ends))})
    whole = sum((b - a) * timetable.rate_at(a, rate, bursts) for a, b in pairwise(edges))
    assert abs(len(moments) - whole) <= 1 + 1e-6
    assert moments[0] == 0
    assert all(a < b for a, b in pairwise(moments))
    assert moments[-1] < seconds


def test_calls_are_of_their_kinds_in_the_shares_of_the_mix_and_the_same_in_each_run() -> None:
    mix = {"read": 0.7, "write": 0.3, "sign_in": 0.0}
    drawn = list(islice(timetable.kinds(mix), 10_000))
    assert drawn == list(islice(timetable.kinds(mix), 10_000))
    assert 0.65 < drawn.count("read") / len(drawn) < 0.75
    assert "sign_in" not in drawn
