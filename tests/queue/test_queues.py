"""Queues as resources, and the rules by which jobs find them."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from services.chassis.testing import broken_fields, reason
from tests.queue.plant import Plant, envelope_of
from tests.queue.test_queue_enqueue import refused
from weft.jobs.v1.job_pb2 import JobState, Payload, Priority
from weft.queue.v1 import queue_pb2 as pb, settings_pb2
from weft.queue.v1.settings_pb2 import Concurrency, QueueSettings, RoutingRule


def get(plant: Plant, queue: str) -> Any:
    return plant.queues.GetQueue(pb.GetQueueRequest(queue=queue), metadata=plant.who)


def update(plant: Plant, queue: str, settings: QueueSettings, **fields: Any) -> Any:
    request = pb.UpdateQueueRequest(queue=queue, settings=settings, **fields)
    return plant.queues.UpdateQueue(request, metadata=plant.who)


def delete(plant: Plant, queue: str, **fields: Any) -> Any:
    return plant.queues.DeleteQueue(pb.DeleteQueueRequest(queue=queue, **fields), metadata=plant.who)


async def route(plant: Plant, *rules: RoutingRule) -> pb.ReplaceRoutingResponse:
    return await plant.queues.ReplaceRouting(pb.ReplaceRoutingRequest(rules=rules), metadata=plant.who)


async def test_a_queue_shows_the_settings_that_are_in_force(plant: Plant) -> None:
    made = await plant.create("fresh", settings=QueueSettings(execution_timeout=Duration(seconds=7)))
    assert (made.kind, made.state, made.keyed) == (1, 1, False)
    assert made.settings.execution_timeout.seconds == 7
    assert (made.settings.retry.attempts_max, made.settings.priorities.high_weight) == (5, 16)
    assert (await get(plant, "fresh")).queue == made
    assert await plant.create("fresh", settings=QueueSettings(execution_timeout=Duration(seconds=7))) == made
    assert await refused(plant.create("fresh", kind=settings_pb2.QUEUE_KIND_BATCH)) == "QUEUE_EXISTS"


async def test_the_default_queue_is_there_and_stays(plant: Plant) -> None:
    assert (await get(plant, "default")).queue.state == 1
    assert await refused(delete(plant, "default")) == "QUEUE_NEEDED"
    assert await refused(get(plant, "nowhere")) == "UNKNOWN_QUEUE"


async def test_settings_change_where_the_mask_says_and_the_etag_fits(plant: Plant) -> None:
    made = await plant.create("change")
    settings = QueueSettings(execution_timeout=Duration(seconds=9), concurrency=Concurrency(queue=3))
    mask = FieldMask(paths=["concurrency"])
    said = (await update(plant, "change", settings, update_mask=mask, etag=made.etag)).queue
    assert (said.settings.concurrency.queue, said.settings.execution_timeout.seconds) == (3, 900)
    assert said.etag != made.etag
    late = QueueSettings(concurrency=Concurrency(queue=4))
    assert await refused(update(plant, "change", late, etag=made.etag)) == "ETAG_MISMATCH"
    again = (await update(plant, "change", settings, update_mask=mask, etag=made.etag)).queue
    assert again == said


async def test_a_queue_with_open_jobs_keeps_its_lanes_and_itself(plant: Plant) -> None:
    await plant.create("laned", kind=settings_pb2.QUEUE_KIND_FIFO, settings=QueueSettings(lanes=2))
    job_id = (await plant.enqueue(queue="laned", key="k")).job.envelope.job_id
    assert await refused(update(plant, "laned", QueueSettings(lanes=4))) == "LANES_FIXED"
    assert await refused(delete(plant, "laned")) == "QUEUE_NOT_EMPTY"
    await plant.finish(job_id)
    assert (await update(plant, "laned", QueueSettings(lanes=4))).queue.settings.lanes == 4
    await delete(plant, "laned")
    assert await refused(get(plant, "laned")) == "UNKNOWN_QUEUE"
    done = await plant.list(states=[JobState.JOB_STATE_SUCCEEDED], queue="laned")
    assert [job.envelope.job_id for job in done.jobs] == [job_id]


async def test_a_paused_queue_takes_in_and_hands_out_nothing(plant: Plant) -> None:
    await plant.create("paused")
    await plant.pause("paused")
    job_id = (await plant.enqueue(queue="paused")).job.envelope.job_id
    with pytest.raises(TimeoutError):
        await plant.take("paused", wait_s=0.3)
    await plant.resume("paused")
    (came,) = await plant.take("paused")
    assert envelope_of(came).job_id == job_id


async def test_queues_are_listed_by_name_and_state(plant: Plant) -> None:
    for name in ("shelf-a", "shelf-b", "shelf-c"):
        await plant.create(name)
    await plant.pause("shelf-b")
    request = pb.ListQueuesRequest(filter='state = "PAUSED" AND queue:"shelf-*"')
    paused = (await plant.queues.ListQueues(request, metadata=plant.who)).queues
    assert [queue.queue for queue in paused] == ["shelf-b"]
    page = pb.ListQueuesRequest(filter='queue:"shelf-*"', page_size=2)
    first = await plant.queues.ListQueues(page, metadata=plant.who)
    page.page_token = first.next_page_token
    second = await plant.queues.ListQueues(page, metadata=plant.who)
    assert [queue.queue for queue in (*first.queues, *second.queues)] == ["shelf-a", "shelf-b", "shelf-c"]
    await plant.resume("shelf-b")


async def test_the_first_rule_that_holds_routes(plant: Plant) -> None:
    await plant.create("vip")
    await route(
        plant,
        RoutingRule(name="off", condition="true", queue="default", disabled=True),
        RoutingRule(name="broken", condition="job.labels.absent == 'x'", queue="default"),
        RoutingRule(
            name="acme",
            condition='job.type.startsWith("mail.") && job.metadata.size_class == "big" && job.size > 2',
            queue="vip",
            priority=Priority.PRIORITY_HIGH,
            delay=Duration(seconds=60),
        ),
        RoutingRule(name="rest", condition='job.type == "mail.small"', queue="vip"),
    )
    payload = Payload(data=b"xyz", metadata={"size_class": "big"})
    job = (await plant.enqueue("mail.big", payload=payload)).job
    assert (job.envelope.queue, job.routed_by) == ("vip", "acme")
    assert (job.envelope.priority, job.state) == (Priority.PRIORITY_HIGH, JobState.JOB_STATE_SCHEDULED)
    assert (await plant.enqueue("mail.small")).job.routed_by == "rest"
    assert (await plant.enqueue("else")).job.envelope.queue == "default"
    assert await refused(delete(plant, "vip")) == "QUEUE_NEEDED"
    await route(plant)


@pytest.mark.parametrize(
    ("rule", "why", "field"),
    [
        (RoutingRule(name="a", condition="job.size"), "CONDITION_REFUSED", "condition"),
        (RoutingRule(name="a", condition="job.size >"), "CONDITION_REFUSED", "condition"),
        (RoutingRule(name="a", condition="secrets.x == 1"), "CONDITION_REFUSED", "condition"),
        (RoutingRule(name="a", condition='job.type.matches("(a+)+$")'), "CONDITION_REFUSED", "condition"),
        (RoutingRule(name="a", condition="true", queue="nowhere"), "ROUTE_TO_UNKNOWN_QUEUE", "queue"),
    ],
)
async def test_rules_that_cannot_route_are_refused(
    plant: Plant, rule: RoutingRule, why: str, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await route(plant, rule)
    assert reason(caught.value) == why
    assert list(broken_fields(caught.value)) == [f"rules[0].{field}"]


async def test_rules_that_somebody_else_replaced_are_not_overwritten(plant: Plant) -> None:
    read = (await plant.queues.GetRouting(pb.GetRoutingRequest(), metadata=plant.who)).routing
    await route(plant)
    request = pb.ReplaceRoutingRequest(etag=read.etag)
    assert await refused(plant.queues.ReplaceRouting(request, metadata=plant.who)) == "ETAG_MISMATCH"


async def test_a_pause_is_of_one_queue_alone(plant: Plant) -> None:
    await plant.create("one")
    await plant.create("two")
    await plant.pause("one")
    job_id = (await plant.enqueue(queue="two")).job.envelope.job_id
    (came,) = await plant.take("two")
    assert envelope_of(came).job_id == job_id
    assert (await get(plant, "one")).queue.state == settings_pb2.QUEUE_STATE_PAUSED
