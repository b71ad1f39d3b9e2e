"""What a run's calls amount to, and whether the objectives were kept."""

import asyncio
import io
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings, strategies as st
from rich.console import Console

from scripts.chaos import load
from scripts.chaos.measures import NEVER, OK, Call, judged, measured, percentile, phases, recovery_s, seconds
from scripts.chaos.playing import Played, Strike
from scripts.chaos.proof import Proof
from scripts.chaos.report import WIDTH, Report, bar, show
from scripts.chaos.scenario import Objectives, Scenario, Step

SLO = Objectives(availability=0.9, p95_ms=100, recovery_s=4)
STEPS = (Step(5, "kill", "identity"), Step(7, "pause", "nats", lasts=3))
SCENARIO = Scenario("two", "Two things happen", 20, 10, {"read": 1}, STEPS, SLO)

calls = st.lists(
    st.builds(
        Call,
        kind=st.just("read"),
        due=st.floats(0, 20, exclude_max=True),
        ms=st.floats(0, 5_000),
        code=st.sampled_from([OK, OK, OK, "UNAVAILABLE", "DEADLINE_EXCEEDED"]),
    )
)


def every(*failing: int) -> list[Call]:
    """Ten calls a second, of which those due in these seconds fail."""
    return [
        Call("read", n / 10, 10.0, "UNAVAILABLE" if n // 10 in failing else OK)
        for n in range(int(SCENARIO.seconds * 10))
    ]


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1e6)).map(sorted), st.floats(0.01, 1))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    if found is None:
        assert values == []
        return
    below = sum(value <= found for value in values)
    assert below >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


@settings(max_examples=40)
@given(calls)
def test_seconds_and_phases_hold_each_call_once(found: list[Call]) -> None:
    split = [seconds(found, SCENARIO.seconds), [each for name, each in _phases(found) if name != "all"]]
    for parts in split:
        assert sum(part.calls for part in parts) == len(found)
        assert sum(part.answered for part in parts) == sum(call.answered for call in found)
    assert all(part.calls == part.answered + sum(part.codes.values()) for part in split[0])


def _phases(found: list[Call]) -> list[tuple[str, object]]:
    return list(phases(found, SCENARIO).items())


@pytest.mark.parametrize(
    ("failing", "takes"),
    [
        ((), 0.0),
        ((1, 5, 9), 0.0),  # All before the last fault has ended, at 10.
        ((10,), 0.9),
        ((9, 10, 11), 1.9),
        ((10, 15), 5.9),
        ((12, 19), NEVER),  # The last second of the run is none to be well in.
    ],
)
def test_recovery_lasts_until_the_last_failure_of_the_last_second_that_is_not_well(
    failing: tuple[int, ...], takes: float
) -> None:
    assert recovery_s(every(*failing), SCENARIO) == pytest.approx(takes)


def test_a_single_failure_among_many_does_not_make_a_second_ill() -> None:
    one = [Call("read", 15.5, 1.0, "UNAVAILABLE")]
    assert recovery_s([*every(), *every(), *one], SCENARIO) == 0


@settings(max_examples=40)
@given(calls, st.floats(0, 10), st.integers(0, 2))
def test_an_objective_is_kept_exactly_when_what_was_found_is_as_good(
    found: list[Call], recovered: float, lost: int
) -> None:
    by_phase = phases(found, SCENARIO)
    availability, p95, recovery, nothing_lost = judged(SLO, by_phase, recovered, lost)
    good = [call for call in found if call.answered]
    assert availability.kept == (len(good) >= SLO.availability * len(found) or not found)
    after = sorted(call.ms for call in good if call.due >= 14)
    assert p95.kept == (bool(after) and sum(ms <= SLO.p95_ms for ms in after) >= 0.95 * len(after))
    assert recovery.kept == (recovered <= SLO.recovery_s)
    assert nothing_lost.kept == (lost == 0)


def played(found: list[Call], proof: Proof, well: float | None) -> Played:
    strikes = [Strike(5.01, 5.01, "kill identity", "pid 7"), Strike(7.0, 10.0, "pause nats for 3 s", "")]
    return Played(SCENARIO, datetime(2026, 11, 22, tzinfo=UTC), found, strikes, None, proof, well)


def test_a_run_is_shown_in_a_hundred_columns_and_told_to_programs() -> None:
    report = Report.of(played(every(5, 6, 19), Proof(12, lost=["an id"], trail=True), None))
    said = io.StringIO()
    show(report, Console(file=said, width=WIDTH))
    lines = said.getvalue().splitlines()
    assert max(len(line) for line in lines) <= WIDTH
    assert "faults    ·····▲·▲▲▲··········" in [line.rstrip() for line in lines]
    assert sum("✗ broken" in line for line in lines) == 4, said.getvalue()
    told = json.loads(report.json(), parse_constant=pytest.fail)
    assert (told["kept"], told["recovery_s"], told["proof"]["lost"]) == (False, None, ["an id"])
    assert [each["availability"] for each in told["seconds"][4:7]] == [1.0, 0.0, 0.0]
    assert told["phases"]["during"]["codes"] == {"UNAVAILABLE": 20}


def test_what_went_well_is_kept() -> None:
    report = Report.of(played(every(5), Proof(12, trail=True), 0.5))
    assert report.kept
    assert json.loads(report.json())["recovery_s"] == 0


@settings(max_examples=40)
@given(st.floats(0, 1))
def test_only_all_is_a_full_bar(share: float) -> None:
    assert (bar(share) == "█") == (share == 1)


def test_nobody_called_is_no_failure() -> None:
    assert measured([]).availability == 1


async def test_the_capacity_counts_every_answer_of_all_who_ask_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "CAPACITY_S", 0.1)
    asked = 0

    async def ask(kind: str) -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)

    found = await load.capacity(ask, {"read": 1.0})
    assert asked - load.CALLERS <= round(found * 0.1) <= asked
