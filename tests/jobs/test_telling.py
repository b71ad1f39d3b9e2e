"""What is told of many jobs in one message is heard of each."""

from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from services.chassis.jetstream.protocol import Message, Parser
from services.chassis.jobs import telling
from services.chassis.jobs.telling import each_of, mentions, read, told
from weft.jobs.v1.attempt_pb2 import LogLine
from weft.jobs.v1.job_pb2 import JobState
from weft.jobs.v1.live_pb2 import Same, StateChange, Update

QUEUES = st.sampled_from(["a", "b"])
SUCCEEDED = StateChange(state=JobState.JOB_STATE_SUCCEEDED)


def published(commands: bytes) -> list[Message]:
    """As a server would hand them on."""
    came: list[Message] = []
    parser = Parser(lambda sid, messages: came.extend(messages), lambda name, rest: None)
    parser.feed(commands.replace(b"PUB jobs.live.a ", b"MSG jobs.live.a 1 ").replace(
        b"PUB jobs.live.b ", b"MSG jobs.live.b 1 "
    ))  # fmt: skip
    return came


@given(
    st.lists(st.tuples(QUEUES, st.uuids())),
    st.lists(st.tuples(QUEUES, st.lists(st.uuids(), min_size=1))),
)
def test_each_update_is_heard_once_and_those_of_a_queue_in_order(
    singles: list[tuple[str, UUID]], groups: list[tuple[str, list[UUID]]]
) -> None:
    updates = [Update(queue=queue, job_id=str(job_id), worker="w") for queue, job_id in singles]
    same = [
        Same(
            update=Update(queue=queue, state=SUCCEEDED), job_ids=b"".join(job_id.bytes for job_id in job_ids)
        )
        for queue, job_ids in groups
    ]
    heard = [each for message in published(told(updates, same)) for each in each_of(read(message.payload))]
    for queue in ("a", "b"):
        wanted = [str(job_id) for name, job_id in singles if name == queue]
        wanted += [str(job_id) for name, job_ids in groups for job_id in job_ids if name == queue]
        assert [each.job_id for each in heard if each.queue == queue] == wanted


def test_a_message_is_no_larger_than_nats_lets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    line = LogLine(message="x" * 4_000)
    updates = [Update(queue="a", job_id=str(UUID(int=n)), log=line) for n in range(1_000)]
    messages = published(told(updates))
    assert max(len(message.payload) for message in messages) < 1_000_000
    assert sum(len(read(message.payload).updates) for message in messages) == 1_000
    monkeypatch.setattr(telling, "TOGETHER_MAX", 10)
    assert len(published(told(updates[:25]))) == 3


@given(st.uuids(), st.uuids())
def test_a_glance_tells_whether_a_job_is_spoken_of(one: UUID, other: UUID) -> None:
    alone = told([Update(queue="a", job_id=str(one))])
    together = told([], [Same(update=Update(queue="a"), job_ids=one.bytes)])
    assert mentions(alone, one)
    assert mentions(together, one)
    assert mentions(alone, other) == mentions(together, other) == (one == other)


def test_what_cannot_be_read_says_nothing() -> None:
    assert list(each_of(read(b"\xff\xff\xff"))) == []
    odd = Same(update=Update(queue="a"), job_ids=UUID(int=1).bytes + b"left")
    assert [each.job_id for each in each_of(read(odd_message(odd)))] == [str(UUID(int=1))]


def odd_message(same: Same) -> bytes:
    (message,) = published(told([], [same]))
    return message.payload
