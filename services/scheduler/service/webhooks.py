"""weft.scheduler.v1.WebhookService."""

import json
from typing import Any
from uuid import UUID, uuid5

from services.chassis.clock import uuid7
from services.chassis.events import emit, proven
from services.chassis.method import Call
from services.scheduler import reading
from services.scheduler.domain import expression, webhook as rules
from services.scheduler.domain.expression import EvaluationFailed
from services.scheduler.domain.webhook import (
    DeliveryState,
    Hook,
    TooManyWebhookEndpoints,
    UnknownHook,
    WebhookEndpoint,
    WebhookRefused,
    WebhookUnreadable,
)
from services.scheduler.service import pack
from services.scheduler.service.shared import Shared
from services.scheduler.store import webhook as store, workflow as workflows
from weft.scheduler.v1 import webhook_pb2 as pb
from weft.scheduler.v1.events_pb2 import (
    HookCreated,
    HookDeleted,
    WebhookEndpointCreated,
    WebhookEndpointDeleted,
)
from weft.scheduler.v1.webhook_pb2_grpc import WebhookServiceServicer

BODY = {"body"}  # What expressions of hooks see.


class Webhooks(WebhookServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def CreateHook(self, request: pb.CreateHookRequest, call: Call) -> pb.CreateHookResponse:
        settings = request.settings
        if settings.filter:
            expression.check(settings.filter, BODY, "settings.filter")
        reading.checked_mapping(settings.inputs, BODY, "settings.inputs")
        secret, row = rules.new_secret(), Hook(hook_id=uuid7(), created_at=self._shared.clock.now())
        row.workflow_id, row.settings = (
            UUID(settings.workflow_id),
            settings.SerializeToString(deterministic=True),
        )
        row.sealed_secret = self._shared.sealer.seal(secret, f"hook:{row.hook_id}")
        async with self._shared.db.transaction() as tx:
            await workflows.get(tx, row.workflow_id)
            tx.add(row)
            await tx.flush()
            await emit(tx, HookCreated(hook_id=str(row.hook_id)))
        return pb.CreateHookResponse(hook=pack.hook(row), secret=rules.shown(secret))

    async def ListHooks(self, request: pb.ListHooksRequest, call: Call) -> pb.ListHooksResponse:
        page = store.HOOKS.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.hook_page(tx, page)
        return pb.ListHooksResponse(hooks=map(pack.hook, rows), next_page_token=token)

    async def DeleteHook(self, request: pb.DeleteHookRequest, call: Call) -> pb.DeleteHookResponse:
        async with self._shared.db.transaction() as tx:
            await tx.delete(await store.hook(tx, UUID(request.hook_id)))
            await emit(tx, HookDeleted(hook_id=request.hook_id))
        return pb.DeleteHookResponse()

    async def ReceiveWebhook(
        self, request: pb.ReceiveWebhookRequest, call: Call
    ) -> pb.ReceiveWebhookResponse:
        row, message_id = await self._verified(request, call)
        settings = pb.HookSettings.FromString(row.settings)
        given = _input(settings, request.body.data)
        if given is None:
            return pb.ReceiveWebhookResponse()
        run_id = uuid5(row.hook_id, message_id)
        async with self._shared.db.transaction() as tx:
            cause = f"hook:{row.hook_id}"
            run = await self._shared.launcher.start(tx, row.workflow_id, given, cause, run_id)
        return pb.ReceiveWebhookResponse(run_id=str(run.run_id))

    async def _verified(self, request: pb.ReceiveWebhookRequest, call: Call) -> tuple[Hook, str]:
        """The hook, and the message's id. Raises WebhookRefused."""
        headers = (
            call.header("webhook-id"),
            call.header("webhook-timestamp"),
            call.header("webhook-signature"),
        )
        try:
            async with self._shared.db.transaction() as tx:
                row = await store.hook(tx, UUID(request.hook_id))
        except UnknownHook:
            raise WebhookRefused from None
        secret = self._shared.sealer.open(row.sealed_secret, f"hook:{row.hook_id}")
        rules.verify(secret, headers, request.body.data, self._shared.clock.now())
        proven(f"hook:{row.hook_id}")
        return row, headers[0]

    async def CreateWebhookEndpoint(
        self, request: pb.CreateWebhookEndpointRequest, call: Call
    ) -> pb.CreateWebhookEndpointResponse:
        rules.check_url(request.settings.url, development=self._shared.development)
        secret = rules.new_secret()
        row = WebhookEndpoint(endpoint_id=uuid7(), created_at=self._shared.clock.now())
        row.settings = request.settings.SerializeToString(deterministic=True)
        row.sealed_secret = self._shared.sealer.seal(secret, f"endpoint:{row.endpoint_id}")
        async with self._shared.db.transaction() as tx:
            if len(await store.endpoints(tx)) >= rules.ENDPOINTS_MAX:
                raise TooManyWebhookEndpoints(max=rules.ENDPOINTS_MAX)
            tx.add(row)
            await tx.flush()
            await emit(tx, WebhookEndpointCreated(endpoint_id=str(row.endpoint_id)))
        return pb.CreateWebhookEndpointResponse(endpoint=pack.endpoint(row), secret=rules.shown(secret))

    async def ListWebhookEndpoints(
        self, request: pb.ListWebhookEndpointsRequest, call: Call
    ) -> pb.ListWebhookEndpointsResponse:
        page = store.ENDPOINTS.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.endpoint_page(tx, page)
        return pb.ListWebhookEndpointsResponse(endpoints=map(pack.endpoint, rows), next_page_token=token)

    async def DeleteWebhookEndpoint(
        self, request: pb.DeleteWebhookEndpointRequest, call: Call
    ) -> pb.DeleteWebhookEndpointResponse:
        async with self._shared.db.transaction() as tx:
            await tx.delete(await store.endpoint(tx, UUID(request.endpoint_id)))
            await emit(tx, WebhookEndpointDeleted(endpoint_id=request.endpoint_id))
        return pb.DeleteWebhookEndpointResponse()

    async def ListWebhookDeliveries(
        self, request: pb.ListWebhookDeliveriesRequest, call: Call
    ) -> pb.ListWebhookDeliveriesResponse:
        page, endpoint_id = store.DELIVERIES.page(request, self._shared.page_key), UUID(request.endpoint_id)
        async with self._shared.db.transaction() as tx:
            await store.endpoint(tx, endpoint_id)
            rows, token = await store.delivery_page(tx, endpoint_id, page)
        return pb.ListWebhookDeliveriesResponse(deliveries=map(pack.delivery, rows), next_page_token=token)

    async def RedeliverWebhook(
        self, request: pb.RedeliverWebhookRequest, call: Call
    ) -> pb.RedeliverWebhookResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.delivery(tx, UUID(request.endpoint_id), UUID(request.delivery_id))
            if row.state != DeliveryState.WAITING:
                row.state, row.attempts, row.due_at = DeliveryState.WAITING, 0, self._shared.clock.now()
        return pb.RedeliverWebhookResponse(delivery=pack.delivery(row))


def _input(settings: pb.HookSettings, data: bytes) -> dict[str, Any] | None:
    """None: the filter does not hold. Raises WebhookUnreadable."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise WebhookUnreadable(problem="its body is no JSON", field="body") from None
    try:
        if not expression.holds(settings.filter, {"body": body}):
            return None
        return expression.mapped(settings.inputs, {"body": body})
    except EvaluationFailed as error:
        raise WebhookUnreadable(problem=str(error), field="body") from None
