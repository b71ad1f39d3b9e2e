"""A job that is packed by its kind is the same job as one that is packed by itself."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, strategies as st

from services.chassis.clock import uuid7
from services.chassis.jobs import alike
from services.chassis.jobs.sending import envelope
from weft.jobs.v1.job_pb2 import Envelope, Payload, Priority, RetryPolicy
from weft.queue.v1.spec_pb2 import JobSpec

NOW_S = datetime.now(UTC).timestamp()
TEXT = st.text(max_size=8)
LABELS = st.dictionaries(st.sampled_from(["a", "b"]), TEXT, max_size=2)
PAYLOADS = st.none() | st.builds(
    Payload, data=st.binary(max_size=300), content_type=st.sampled_from(["", "x/y"]), metadata=LABELS
)
KEYS = st.just("") | st.text(max_size=60)
KINDS = st.fixed_dictionaries(
    {"type": st.sampled_from(["a", "b.c"])},
    optional={
        "queue": st.sampled_from(["", "default", "mails"]),
        "priority": st.sampled_from(Priority.values()),
        "labels": LABELS,
        "retry": st.builds(RetryPolicy, attempts_max=st.integers(0, 3)),
        "execution_timeout": st.just({"seconds": 5}),
        "group_id": st.just(str(uuid7())),
        "announce": st.booleans(),
    },
)
SPECS = st.builds(lambda kind, key, payload: {**kind, "key": key, "payload": payload}, KINDS, KEYS, PAYLOADS)


def made(fields: dict[str, Any]) -> JobSpec:
    return JobSpec(job_id=str(uuid7()), **fields)


@given(KINDS, st.lists(st.tuples(KEYS, PAYLOADS), min_size=2))
def test_by_its_kind_or_by_itself_it_is_the_same_envelope(
    kind: dict[str, Any], own: list[tuple[str, Payload | None]]
) -> None:
    kinds: dict[tuple[bytes, bytes], alike.Kind] = {}
    for key, payload in own:
        job = made({**kind, "key": key, "payload": payload})
        whole = envelope(job, NOW_S)
        parts = alike.parts(job)
        if parts is None:
            assert key
            continue
        if parts.kind not in kinds:
            found = alike.kind(job, whole)
            assert found
            kinds[parts.kind] = found
        said = alike.about(NOW_S, whole.trace, whole.enqueuer)
        assert Envelope.FromString(alike.envelope(job.job_id, kinds[parts.kind], parts, said)) == whole


@given(SPECS, SPECS)
def test_jobs_of_a_kind_differ_in_nothing_else(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = made(one), made(other)
    parts = alike.parts(first), alike.parts(second)
    if None in parts or parts[0].kind != parts[1].kind:  # type: ignore[union-attr]
        return
    for job in (first, second):
        job.ClearField("job_id")
        job.ClearField("key")
        job.payload.ClearField("data")
        if not job.payload.ByteSize():
            job.ClearField("payload")
    assert first == second


@pytest.mark.parametrize(
    "fields",
    [
        {"job_id": ""},
        {"job_id": "x"},
        {"key": "a\nb"},
        {"key": "\N{SNOWMAN}" * 51},
        {"payload": Payload(data=b"x" * 70_000)},
    ],
    ids=["no id", "odd id", "line break", "long key", "large"],
)
def test_what_has_to_be_looked_at_by_itself_is(fields: dict[str, Any]) -> None:
    assert alike.parts(JobSpec(**{"job_id": str(uuid7()), "type": "a", **fields})) is None


@pytest.mark.parametrize("name", ["due_time", "delay", "expire_time"])
def test_jobs_with_a_time_of_their_own_are_of_no_kind(name: str) -> None:
    job = made({"type": "a", name: {"seconds": 1}})
    assert alike.parts(job) is not None
    assert alike.kind(job, envelope(job, NOW_S)) is None


def test_what_a_later_contract_adds_is_no_obstacle() -> None:
    """Fields that are not known stand at the end, behind payload and key: then it is packed by itself."""
    job = JobSpec(job_id=str(uuid7()), type="a", key="k", payload=Payload(data=b"x"))
    assert alike.parts(JobSpec.FromString(job.SerializeToString() + b"\xc2>\x01x")) is None


@given(st.integers(0, 2**31 - 1))
def test_lengths_are_written_as_the_wire_format_has_them(number: int) -> None:
    raw = alike.varint(number)
    assert sum((byte & 127) << 7 * n for n, byte in enumerate(raw)) == number
    assert all(byte > 127 for byte in raw[:-1])
    assert raw[-1] < 128
