"""The trail itself: every event once, sealed as the contract says, found by who may find it."""

import asyncio
import hashlib
import random
import struct

import grpc
import pytest

from services.chassis.clock import uuid7
from services.chassis.events import announcement
from services.chassis.relay import HEADER, MSG_ID, header, subject
from services.chassis.testing import Lab, reason, until
from tests.audit import trail
from weft.audit.v1 import audit_pb2 as pb
from weft.audit.v1.audit_pb2_grpc import AuditServiceStub
from weft.jobs.v1.job_pb2 import Payload
from weft.notification.v1.events_pb2 import MessageFailed, MessageSent
from weft.queue.v1.events_pb2 import JobRequested
from weft.queue.v1.spec_pb2 import JobSpec


async def entries(lab: Lab, **asked: object) -> list[pb.Entry]:
    """Oldest first."""
    request = pb.ListEntriesRequest(page_size=200, order_by="sequence", **asked)
    answer = await AuditServiceStub(lab.channel).ListEntries(request, metadata=lab.bearer())
    return list(answer.entries)


def sealed(entry: pb.Entry) -> bytes:
    """The hash, made from nothing but the words of audit.proto."""
    texts = (
        entry.event_id,
        entry.service,
        entry.type,
        entry.key,
        entry.subject_id,
        entry.actor,
        entry.acting,
        entry.trace,
        entry.causation,
    )
    raw = b"weft.audit.v1.Entry" + struct.pack(">q", entry.sequence) + entry.previous_hash
    for text in texts:
        raw += struct.pack(">I", len(text.encode())) + text.encode()
    raw += struct.pack(">q", entry.event_time.seconds * 10**6 + entry.event_time.nanos // 1000)
    raw += struct.pack(">qI", entry.version, entry.schema_version)
    return hashlib.sha256(raw + hashlib.sha256(entry.payload).digest()).digest()


async def test_anybody_can_compute_the_chain_from_what_the_contract_says(blank: Lab) -> None:
    await trail.fill(blank, 5, user_id=str(uuid7()))
    previous = bytes(32)
    for entry in await entries(blank):
        assert entry.previous_hash == previous
        assert entry.hash == sealed(entry)
        previous = entry.hash


async def test_what_a_request_carries_is_not_kept(blank: Lab) -> None:
    job_id = str(uuid7())
    payload = Payload(data=b"a person's address", content_type="text/plain")
    asked = JobRequested(job_id=job_id, job=JobSpec(job_id=job_id, type="mail.send", payload=payload))
    event_id = await blank.announce(asked)
    await until(lambda: trail.has(blank, 1))
    (entry,) = await entries(blank)
    assert (entry.event_id, entry.key, entry.payload) == (str(event_id), job_id, b"")
    assert entry.hash == sealed(entry)


async def test_entry_tells_what_happened(blank: Lab) -> None:
    user_id, message_id = str(uuid7()), str(uuid7())
    event_id = await blank.announce(MessageSent(message_id=message_id, user_id=user_id, attempts=3))
    [entry] = await until(lambda: entries(blank))
    assert (entry.sequence, entry.event_id, entry.service) == (1, str(event_id), "notification")
    assert (entry.type, entry.key) == ("weft.notification.v1.MessageSent", message_id)
    assert entry.subject_id == user_id
    assert dict(entry.fields) == {"message_id": message_id, "user_id": user_id, "attempts": 3}


async def test_ten_redeliveries_in_any_order_give_the_same_trail(blank: Lab) -> None:
    seed, now = random.randrange(2**32), blank.clock.now()
    events = [announcement(MessageSent(message_id=str(uuid7())), uuid7(), now) for _ in range(20)]
    deliveries = events * 10
    random.Random(seed).shuffle(deliveries)
    for n, event in enumerate(deliveries):
        # A message id of its own each time: past JetStream's dedup, which forgets after minutes.
        headers = {HEADER: header(event), MSG_ID: f"{event.id}/{n}"}
        await blank.bus.js.publish(subject(event), event.payload, headers=headers)
    await until(lambda: _drained(blank))
    rows = await entries(blank)
    assert sorted(row.event_id for row in rows) == sorted(str(event.id) for event in events), f"{seed=}"
    assert [row.sequence for row in rows] == list(range(1, 21))
    assert (await trail.verify(blank)).intact


async def _drained(lab: Lab) -> bool:
    """Whether every message of the stream was acknowledged."""
    consumers = await lab.bus.js.consumers_info("notification")
    return bool(consumers) and all(not each.num_pending and not each.num_ack_pending for each in consumers)


async def test_parallel_events_of_many_keys_make_one_chain_without_gaps(blank: Lab) -> None:
    await asyncio.gather(*(blank.announce(MessageSent(message_id=str(uuid7()))) for _ in range(100)))
    rows = await until(lambda: _when(blank, 100))
    assert [row.sequence for row in rows] == list(range(1, 101))
    assert (await trail.verify(blank)).intact


async def _when(lab: Lab, length: int) -> list[pb.Entry]:
    rows = await entries(lab)
    return rows if len(rows) == length else []


async def test_entries_are_found_by_person_type_actor_and_time(blank: Lab) -> None:
    user_id = str(uuid7())
    await trail.fill(blank, 3, user_id=user_id)
    await trail.fill(blank, 3)
    await blank.announce(MessageFailed(message_id=str(uuid7()), user_id=user_id))
    await until(lambda: _when(blank, 7))
    assert len(await entries(blank, subject_id=user_id)) == 4
    failed = 'type = "weft.notification.v1.MessageFailed"'
    assert len(await entries(blank, subject_id=user_id, filter=failed)) == 1
    assert (
        len(await entries(blank, filter='service = "notification" AND event_time > "2020-01-01T00:00:00Z"'))
        == 7
    )
    assert not await entries(blank, filter='event_time > "2999-01-01T00:00:00Z"')
    assert not await entries(blank, filter='actor = "user:nobody"')


async def test_pages_hold_each_entry_once(blank: Lab) -> None:
    await trail.fill(blank, 7)
    stub, request, seen = AuditServiceStub(blank.channel), pb.ListEntriesRequest(page_size=3), []
    while True:
        answer = await stub.ListEntries(request, metadata=blank.bearer())
        seen += [entry.sequence for entry in answer.entries]
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert seen == [7, 6, 5, 4, 3, 2, 1]


async def test_person_reads_the_entries_about_itself_and_no_others(blank: Lab) -> None:
    mine, yours = str(uuid7()), str(uuid7())
    await trail.fill(blank, 1, user_id=mine)
    await trail.fill(blank, 1, user_id=yours)
    stub, me = AuditServiceStub(blank.channel), blank.bearer(mine, scope="")
    own = await stub.ListEntries(pb.ListEntriesRequest(subject_id=mine), metadata=me)
    assert [entry.subject_id for entry in own.entries] == [mine]
    assert (
        await stub.GetEntry(pb.GetEntryRequest(sequence=1, subject_id=mine), metadata=me)
    ).entry.sequence == 1
    for request in (pb.ListEntriesRequest(subject_id=yours), pb.ListEntriesRequest()):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ListEntries(request, metadata=me)
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await stub.GetEntry(pb.GetEntryRequest(sequence=2, subject_id=mine), metadata=me)
    assert reason(unknown.value) == "UNKNOWN_ENTRY"


async def test_watching_shows_what_was_and_then_what_comes(blank: Lab) -> None:
    user_id = str(uuid7())
    await trail.fill(blank, 2, user_id=user_id)
    stub = AuditServiceStub(blank.channel)
    request = pb.WatchEntriesRequest(subject_id=user_id, after_sequence=1)
    watch = stub.WatchEntries(request, metadata=blank.bearer(user_id, scope=""))
    async with asyncio.timeout(10):
        assert (await watch.read()).entry.sequence == 2
        await trail.fill(blank, 1)
        await trail.fill(blank, 1, user_id=user_id)
        assert (await watch.read()).entry.sequence == 4
    watch.cancel()


async def test_export_holds_the_range_and_is_itself_an_entry(blank: Lab) -> None:
    await trail.fill(blank, 3)
    stub = AuditServiceStub(blank.channel)
    request = pb.ExportEntriesRequest(after_sequence=1)
    exported = [
        each.entry.sequence async for each in stub.ExportEntries(request, metadata=blank.bearer("me"))
    ]
    assert exported == [2, 3]
    rows = await until(lambda: _when(blank, 4))
    assert rows[-1].type == "weft.audit.v1.EntriesExported"
    assert rows[-1].actor == "user:me"


async def test_anchors_are_signed_listed_and_copied_outside_without_becoming_entries(lab: Lab) -> None:
    await trail.fill(lab, 3)
    assert await trail.anchor(lab) == 3
    await trail.fill(lab, 1)
    assert await trail.length(lab) == 4
    answer = await AuditServiceStub(lab.channel).ListAnchors(pb.ListAnchorsRequest(), metadata=lab.bearer())
    assert [anchor.sequence for anchor in answer.anchors] == [3]
    [row] = [row for row in await entries(lab) if row.sequence == 3]
    assert answer.anchors[0].hash == row.hash
