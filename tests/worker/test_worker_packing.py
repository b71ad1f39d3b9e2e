"""What a worker reports: in columns where it can, else one by one; and each attempt at its position."""

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from services.chassis.clock import uuid7
from services.worker.ending import RETURNED, SUCCEEDED, Ending, Verdict, because, judge
from services.worker.holding import Handle
from services.worker.packing import Ended, ids, packed
from tests.worker.running import delivery
from weft.jobs.v1.attempt_pb2 import LogLine
from weft.jobs.v1.job_pb2 import EndReason, RetryPolicy

WELL = Verdict(SUCCEEDED, RETURNED)


def ended(kind: str = "a", *, result: bytes = b"", lines: Sequence[LogLine] = (), **fields: Any) -> Ended:
    lane = fields.pop("lane", None)
    made = delivery(kind, **fields)
    message: Any = SimpleNamespace(sequence=1, reply=b"")
    giver: Any = None
    made.handle = Handle(giver, message, lane, 7 if lane is not None else 0)
    now = time.time()
    media = "application/json" if result else ""
    return Ended(made, Ending(RETURNED, None, result, media, start_s=now, end_s=now + 1, lines=lines), WELL)


def failed() -> Ended:
    made = ended()
    ending = because(EndReason.END_REASON_RAISED, "no")
    return Ended(made.delivery, ending, judge(ending, RetryPolicy(attempts_max=1), 1, 0))


def in_order(request: Any) -> list[str]:
    """Ids by position."""
    columns = (
        each.job_ids[n : n + 16] for each in request.successes for n in range(0, len(each.job_ids), 16)
    )
    return [report.job_id for report in request.attempts] + [str(UUID(bytes=each)) for each in columns]


def test_attempts_that_ended_well_are_told_in_columns_by_kind() -> None:
    group = [ended("a"), ended("b"), failed(), ended("a"), ended("a", lines=[LogLine(message="x")])]
    group += [ended("a", result=b"1"), ended("a", labels={"x": "y"}), ended("a", group_id=str(uuid7()))]
    group += [ended("a", lane=3), ended("a", unique=True), ended("a", attempt=2)]
    request, told = packed(group, "w")
    assert in_order(request) == [each.delivery.job_id for each in told]
    assert sorted(map(id, told)) == sorted(map(id, group))
    assert len(request.attempts) == 2
    assert [len(each.start_s) for each in request.successes] == [2, 1, 1, 1, 1, 1, 1, 1]
    (with_result,) = [each for each in request.successes if each.results]
    assert (list(with_result.results), with_result.result_type) == ([b"1"], "application/json")
    (of_lane,) = [each for each in request.successes if each.lane_epoch]
    assert (of_lane.lane, of_lane.lane_epoch) == (3, 7)


STRANGE = {
    "letter": "x",
    "nothing": "",
    "words": "not-a-job",
    "braces": "{00000000-0000-0000-0000-000000000000}",
    "plain": "0" * 32,
    "no hex": "g" * 36,
    "blank": " " * 36,
    "hyphens": "-" * 36,
    "shifted": "0000000-00000-0000-0000-000000000000",
    "not ascii": "00000000-0000-0000-0000-00000000000é",
}


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
def test_a_strange_id_is_told_by_itself_and_spoils_no_other(strange: str) -> None:
    group = [ended("a"), ended("a", job_id=strange), ended("b")]
    request, told = packed(group, "w")
    assert in_order(request) == [each.delivery.job_id for each in told]
    assert sum(len(each.start_s) for each in request.successes) == 1
    assert len(request.attempts) == 2


@given(st.lists(st.uuids()))
def test_ids_come_out_as_they_went_in(job_ids: list[UUID]) -> None:
    assert ids(list(map(str, job_ids))) == b"".join(each.bytes for each in job_ids)


@given(st.lists(st.text(alphabet="0123456789abcdef- ", min_size=36, max_size=36), min_size=1))
def test_no_other_text_passes_for_an_id(texts: list[str]) -> None:
    found = ids(texts)
    if found is not None:
        assert [str(UUID(bytes=found[16 * n : 16 * n + 16])) for n in range(len(texts))] == texts
