"""Webhooks: signed as the specification has it, taken once, delivered until they arrive, led nowhere."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, strategies as st

from services.chassis.testing import reason, until
from services.scheduler.domain.webhook import (
    RETRIES,
    DeliveryState,
    UrlRefused,
    WebhookDelivery,
    WebhookRefused,
    check_url,
    may_go_to,
    signature,
    verify,
)
from tests.scheduler.world import World
from weft.scheduler.v1 import webhook_endpoint_pb2 as endpoints, webhook_pb2 as pb, workflow_run_pb2 as runs
from weft.scheduler.v1.webhook_pb2_grpc import WebhookServiceStub

Made = endpoints.CreateWebhookEndpointResponse
NOW = datetime(2026, 1, 1, tzinfo=UTC)
# The example that the specification's own libraries test with.
KEY = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
MESSAGE, AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_signature_is_the_one_of_the_specifications_example() -> None:
    assert signature(KEY, MESSAGE, AT, BODY) == SIGNED


def test_one_good_signature_among_others_suffices_and_an_old_one_does_not() -> None:
    at = datetime.fromtimestamp(AT, UTC)
    several = f"v1a,eA== v1,AAAA {SIGNED}"
    verify([KEY], (MESSAGE, str(AT), several), BODY, at)
    for change in (timedelta(minutes=6), timedelta(minutes=-6)):
        with pytest.raises(WebhookRefused):
            verify([KEY], (MESSAGE, str(AT), SIGNED), BODY, at + change)


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=60), st.binary(max_size=30))
def test_nothing_made_up_verifies(message_id: str, timestamp: str, signatures: str, body: bytes) -> None:
    with pytest.raises(WebhookRefused):
        verify([KEY], (message_id, timestamp, signatures), body, datetime.fromtimestamp(AT, UTC))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://user@example.com/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://10.1.2.3/x",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:10.0.0.1]/",
        "https://[fd00::1]/",
        "https://exa mple.com",
        "https://example.com\\@evil",
        "ftp://example.com/",
        "https:///x",
        "https://example.com:99999/",
    ],
)
def test_urls_that_lead_inside_are_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        check_url(url, development=False)


def test_a_name_with_one_private_address_leads_nowhere() -> None:
    assert may_go_to(["93.184.215.14"], development=False)
    for addresses in (["93.184.215.14", "10.0.0.1"], ["::1"], ["0.0.0.0"], ["100.64.0.1"], ["224.0.0.1"], []):
        assert not may_go_to(addresses, development=False), addresses
    assert may_go_to(["127.0.0.1"], development=True)


def test_retries_follow_the_specification_and_come_to_an_end() -> None:
    row = WebhookDelivery(attempts=0, state=DeliveryState.WAITING)
    waits = []
    while row.state == DeliveryState.WAITING:
        row.attempts += 1
        row.answered(500, "answered 500", NOW)
        waits += [row.due_at - NOW] if row.due_at else []
    assert (tuple(waits), row.state, row.attempts) == (RETRIES, DeliveryState.GIVEN_UP, len(RETRIES) + 1)
    row = WebhookDelivery(attempts=1, state=DeliveryState.WAITING)
    row.answered(410, "gone", NOW)
    assert row.state == DeliveryState.GIVEN_UP


@asynccontextmanager
async def receiver(*statuses: int) -> AsyncIterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """An HTTP server that answers with these statuses, the last one again and again. Its URL, what came."""
    came: list[tuple[dict[str, str], bytes]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:]
        headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in head)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        status = statuses[min(len(came), len(statuses) - 1)]
        came.append((headers, body))
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hear?x=1", came


def stub(here: World) -> WebhookServiceStub:
    return WebhookServiceStub(here.lab.channel)


async def endpoint(here: World, url: str, *types: str, **rest: Any) -> Made:
    settings = endpoints.WebhookEndpointSettings(name="partner", url=url, types=types, **rest)
    made: Made = await stub(here).CreateWebhookEndpoint(
        endpoints.CreateWebhookEndpointRequest(settings=settings), metadata=here.me
    )
    return made


async def update(here: World, made: Made, **changes: Any) -> None:
    settings = endpoints.WebhookEndpointSettings()
    settings.CopyFrom(made.endpoint.settings)
    for name, value in changes.items():
        setattr(settings, name, value)
    request = endpoints.UpdateWebhookEndpointRequest(
        endpoint_id=made.endpoint.endpoint_id, settings=settings, etag=made.endpoint.etag
    )
    answer = await stub(here).UpdateWebhookEndpoint(request, metadata=here.me)
    made.endpoint.CopyFrom(answer.endpoint)


def secret_of(shown: str) -> bytes:
    return base64.b64decode(shown.removeprefix("whsec_"))


def is_signed_by(secret: bytes, headers: dict[str, str], body: bytes) -> bool:
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    try:
        verify([secret], tuple(headers[name] for name in names), body, datetime.now(UTC))  # type: ignore[arg-type]
    except WebhookRefused:
        return False
    return True


async def test_while_secrets_overlap_each_delivery_is_signed_with_both(shared_world: World) -> None:
    here, workflow_id = shared_world, await shared_world.workflow({"name": "rotated"})
    async with receiver(200) as (url, came):
        made = await endpoint(here, url, "workflow_run.started", workflow_ids=[workflow_id])
        shown = [made.secret]
        for overlap in (None, Duration(seconds=60), Duration()):
            request = endpoints.RotateWebhookEndpointSecretRequest(
                endpoint_id=made.endpoint.endpoint_id, overlap=overlap
            )
            answer = await stub(here).RotateWebhookEndpointSecret(request, metadata=here.me)
            assert answer.endpoint.HasField("previous_secret_end_time") == (overlap != Duration())
            shown.append(answer.secret)
            await here.start(workflow_id)
            await until(lambda: arrived(came, len(shown) - 1))
    secrets = [secret_of(each) for each in shown]
    signed = [[is_signed_by(secret, *each) for secret in secrets] for each in came]
    assert signed == [[True, True, False, False], [False, True, True, False], [False, False, False, True]]


async def test_what_waits_for_a_disabled_endpoint_goes_to_its_new_address(shared_world: World) -> None:
    here, workflow_id = shared_world, await shared_world.workflow({"name": "moved"})
    async with receiver(503) as (url, before), receiver(200) as (new, after), receiver(200) as (last, marks):
        made = await endpoint(here, url, "workflow_run.started", workflow_ids=[workflow_id])
        old = made.endpoint.etag
        run_id = await here.start(workflow_id)

        async def failed_once() -> bool:
            return any(each.status == 503 for each in await deliveries(here, made.endpoint.endpoint_id))

        await until(failed_once)
        await update(here, made, disabled=True)
        await here.lab.db("scheduler").execute(
            "update webhook_delivery set due_at = now() where status = 503"
        )
        await endpoint(here, last, "workflow_run.started", workflow_ids=[workflow_id])
        await here.start(workflow_id)  # Only the last one is told: what was due has been looked at by then.
        await until(lambda: arrived(marks, 1))
        assert (len(before), after) == (1, [])
        await update(here, made, disabled=False, url=new)
        await until(lambda: arrived(after, 1))
        assert json.loads(after[0][1])["data"]["run_id"] == run_id
        assert (await deliveries(here, made.endpoint.endpoint_id))[0].attempts == 2
    made.endpoint.etag = old
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await update(here, made, name="late")
    assert reason(refused.value) == "ETAG_MISMATCH"


async def deliveries(here: World, endpoint_id: str) -> list[endpoints.WebhookDelivery]:
    request = endpoints.ListWebhookDeliveriesRequest(endpoint_id=endpoint_id)
    return list((await stub(here).ListWebhookDeliveries(request, metadata=here.me)).deliveries)


async def test_a_run_is_told_of_to_those_who_want_to_hear(shared_world: World) -> None:
    here, workflow_id = shared_world, await shared_world.workflow({"name": "told"})
    async with receiver(200) as (url, came):
        made = await endpoint(here, url, "workflow_run.succeeded", "task.started", workflow_ids=[workflow_id])
        other = await here.workflow({"name": "unheard"})
        await here.start(other)
        run_id = await here.start(workflow_id)
        await here.queue.end(await here.task_job("told"))
        await until(lambda: arrived(came, 2))
    heard = {json.loads(body)["type"]: (headers, body) for headers, body in came}
    assert set(heard) == {"workflow_run.succeeded", "task.started"}
    headers, body = heard["workflow_run.succeeded"]
    assert json.loads(body)["data"] == {"run_id": run_id, "workflow_id": workflow_id, "version": 1}
    secret = base64.b64decode(made.secret.removeprefix("whsec_"))
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    verify([secret], tuple(headers[name] for name in names), body, datetime.now(UTC))  # type: ignore[arg-type]


async def arrived(came: list[Any], count: int) -> bool:
    return len(came) == count


async def test_what_is_refused_is_tried_again_and_can_be_sent_again(shared_world: World) -> None:
    here, workflow_id = shared_world, await shared_world.workflow({"name": "gone"})
    async with receiver(503, 410, 204) as (url, came):
        made = await endpoint(here, url, "workflow_run.started", workflow_ids=[workflow_id])
        await here.start(workflow_id)
        await until(lambda: arrived(came, 1))

        async def failed_once() -> endpoints.WebhookDelivery | None:
            found = await deliveries(here, made.endpoint.endpoint_id)
            return found[0] if found[0].status == 503 else None

        delivery = await until(failed_once)
        assert (delivery.state, delivery.problem) == (endpoints.DELIVERY_STATE_WAITING, "answered 503")
        wait = delivery.next_time.ToDatetime(UTC) - datetime.now(UTC)
        assert timedelta(0) < wait <= RETRIES[0]
        await here.lab.db("scheduler").execute(
            "update webhook_delivery set due_at = now() where status = 503"
        )
        await until(lambda: arrived(came, 2))
        request = endpoints.RedeliverWebhookRequest(
            endpoint_id=made.endpoint.endpoint_id, delivery_id=delivery.delivery_id
        )

        async def redelivered() -> bool:
            await stub(here).RedeliverWebhook(request, metadata=here.me)
            found = await deliveries(here, made.endpoint.endpoint_id)
            return found[0].state == endpoints.DELIVERY_STATE_DELIVERED and len(came) >= 3

        await until(redelivered)
    assert len({headers["webhook-id"] for headers, _ in came}) == 1, "the receiver can tell repeats"


async def test_secrets_are_shown_once_and_lie_sealed(shared_world: World) -> None:
    here, workflow_id = shared_world, await shared_world.workflow({"name": "sealed"})
    made = await endpoint(here, "https://partner.example/hear")
    hook = await hook_for(here, workflow_id)
    secrets = [base64.b64decode(each.secret.removeprefix("whsec_")) for each in (made, hook)]
    for table in ("hook", "webhook_endpoint"):
        rows = await here.lab.db("scheduler").fetch(f"select sealed_secret, settings from {table}")
        assert not any(secret in row["sealed_secret"] + row["settings"] for row in rows for secret in secrets)
    listed = await stub(here).ListWebhookEndpoints(endpoints.ListWebhookEndpointsRequest(), metadata=here.me)
    assert made.endpoint in listed.endpoints


async def hook_for(here: World, workflow_id: str, **settings: Any) -> pb.CreateHookResponse:
    request = pb.CreateHookRequest(settings=pb.HookSettings(name="shop", workflow_id=workflow_id, **settings))
    made: pb.CreateHookResponse = await stub(here).CreateHook(request, metadata=here.me)
    return made


async def receive(
    here: World, hook: pb.CreateHookResponse, body: bytes, message_id: str = "m-1", **forged: str
) -> str:
    """As the partner would send it. Returns the run's id."""
    at = int(datetime.now(UTC).timestamp())
    secret = base64.b64decode(hook.secret.removeprefix("whsec_"))
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": signature(secret, message_id, at, body),
        **{name.replace("_", "-"): text for name, text in forged.items()},
    }
    request = pb.ReceiveWebhookRequest(hook_id=hook.hook.hook_id, body=HttpBody(data=body))
    answer = await stub(here).ReceiveWebhook(request, metadata=tuple(headers.items()))
    return str(answer.run_id)


async def test_a_signed_webhook_starts_a_run_once(shared_world: World) -> None:
    here = shared_world
    workflow_id = await here.workflow(
        {"name": "hooked", "inputs": {"id": "input.order"}}, inputs={"order": {}}
    )
    hook = await hook_for(here, workflow_id, filter='body.kind == "paid"', inputs={"order": "body.order.id"})
    body = b'{"kind": "paid",  "order": {"id": 17}}'
    run_id = await receive(here, hook, body)
    assert await receive(here, hook, body) == run_id
    assert (await here.run(run_id)).cause == f"hook:{hook.hook.hook_id}"
    assert here.queue.jobs[await here.task_job("hooked")].payload.data == b'{"id": 17}'
    assert await receive(here, hook, b'{"kind": "refunded"}', "m-2") == ""
    found = await here.runs.ListWorkflowRuns(
        runs.ListWorkflowRunsRequest(filter=f'workflow_id = "{workflow_id}"'), metadata=here.me
    )
    assert len(found.runs) == 1


async def test_a_hook_is_changed_and_its_secret_rotated_while_both_sides_go_on(shared_world: World) -> None:
    here = shared_world
    hook = await hook_for(here, await here.workflow({"name": "first"}))
    settings = pb.HookSettings(name="shop", workflow_id=await here.workflow({"name": "second"}))

    async def change(**changes: Any) -> None:
        for name, value in changes.items():
            setattr(settings, name, value)
        request = pb.UpdateHookRequest(hook_id=hook.hook.hook_id, settings=settings)
        await stub(here).UpdateHook(request, metadata=here.me)

    async def rotate(**overlap: Any) -> pb.CreateHookResponse:
        request = pb.RotateHookSecretRequest(hook_id=hook.hook.hook_id, **overlap)
        answer = await stub(here).RotateHookSecret(request, metadata=here.me)
        return pb.CreateHookResponse(hook=answer.hook, secret=answer.secret)

    async def refused(by: pb.CreateHookResponse) -> bool:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await receive(here, by, b"{}", "refused")
        return reason(error.value) == "WEBHOOK_REFUSED"

    await change(filter="body.wanted")
    run_id = await receive(here, hook, b'{"wanted": true}')
    assert (await here.run(run_id)).workflow_id == settings.workflow_id
    newer = await rotate()
    for n, each in enumerate((hook, newer)):
        assert await receive(here, each, b'{"wanted": false}', f"both-{n}") == ""
    newest = await rotate(overlap=Duration())
    assert await refused(hook)
    assert await refused(newer)
    assert await receive(here, newest, b'{"wanted": false}', "newest") == ""
    await change(disabled=True)
    assert await refused(newest)
    for wrong, why in (
        ({"workflow_id": str(uuid4())}, "UNKNOWN_WORKFLOW"),
        ({"filter": "("}, "EXPRESSION_REFUSED"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await change(**wrong)
        assert reason(error.value) == why


async def test_a_webhook_that_is_forged_or_unreadable_is_refused(shared_world: World) -> None:
    here = shared_world
    hook = await hook_for(here, await here.workflow({"name": "forged"}), inputs={"x": "body.x"})
    for forged in ({"webhook_signature": "v1,AAAA"}, {"webhook_id": "m-2"}, {"webhook_timestamp": "1"}):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await receive(here, hook, b"{}", **forged)
        assert reason(refused.value) == "WEBHOOK_REFUSED"
    for body in (b"no json", b"{}", b"[" * 20_000, b'{"x": [' + b"1," * 12_000 + b"1]}"):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await receive(here, hook, body)
        assert reason(refused.value) == "WEBHOOK_UNREADABLE"
    await stub(here).DeleteHook(pb.DeleteHookRequest(hook_id=hook.hook.hook_id), metadata=here.me)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await receive(here, hook, b'{"x": 1}')
    assert reason(refused.value) == "WEBHOOK_REFUSED", "an address that is none looks like a bad signature"
