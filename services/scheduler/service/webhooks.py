"""weft.scheduler.v1.WebhookService."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

from google.protobuf.message import Message

from services.chassis.clock import uuid7
from services.chassis.events import emit, proven
from services.chassis.masks import check_etag
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
from weft.scheduler.v1 import webhook_endpoint_pb2 as endpoints, webhook_pb2 as pb
from weft.scheduler.v1.events_pb2 import (
    HookCreated,
    HookDeleted,
    HookSecretRotated,
    HookUpdated,
    WebhookEndpointCreated,
    WebhookEndpointDeleted,
    WebhookEndpointSecretRotated,
    WebhookEndpointUpdated,
)
from weft.scheduler.v1.webhook_pb2_grpc import WebhookServiceServicer

BODY = {"body"}  # What expressions of hooks see.


class Webhooks(WebhookServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def CreateHook(self, request: pb.CreateHookRequest, call: Call) -> pb.CreateHookResponse:
        settings = request.settings
        _check(settings)
        secret, now = rules.new_secret(), self._shared.clock.now()
        row = Hook(hook_id=uuid7(), revision=1, created_at=now)
        row.workflow_id, row.settings = UUID(settings.workflow_id), _packed(settings)
        row.sealed_secret = self._sealed(row, secret)
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

    async def UpdateHook(self, request: pb.UpdateHookRequest, call: Call) -> pb.UpdateHookResponse:
        _check(request.settings)
        async with self._shared.db.transaction() as tx:
            row = await store.hook(tx, UUID(request.hook_id), lock=True)
            check_etag(request.etag, row.revision)
            workflow = await workflows.get(tx, UUID(request.settings.workflow_id))
            if row.replace(_packed(request.settings), self._shared.clock.now()):
                row.workflow_id = workflow.workflow_id
                await emit(tx, HookUpdated(hook_id=request.hook_id))
        return pb.UpdateHookResponse(hook=pack.hook(row))

    async def RotateHookSecret(
        self, request: pb.RotateHookSecretRequest, call: Call
    ) -> pb.RotateHookSecretResponse:
        secret = rules.new_secret()
        async with self._shared.db.transaction() as tx:
            row = await store.hook(tx, UUID(request.hook_id), lock=True)
            row.rotate(self._sealed(row, secret), self._shared.clock.now(), _overlap(request))
            await emit(tx, HookSecretRotated(hook_id=request.hook_id))
        return pb.RotateHookSecretResponse(hook=pack.hook(row), secret=rules.shown(secret))

    def _sealed(self, row: Hook | WebhookEndpoint, secret: bytes) -> bytes:
        return self._shared.sealer.seal(secret, _about(row))

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
        if pb.HookSettings.FromString(row.settings).disabled:
            raise WebhookRefused
        now = self._shared.clock.now()
        secrets = [self._shared.sealer.open(each, _about(row)) for each in row.sealed_secrets(now)]
        rules.verify(secrets, headers, request.body.data, now)
        proven(f"hook:{row.hook_id}")
        return row, headers[0]

    async def CreateWebhookEndpoint(
        self, request: endpoints.CreateWebhookEndpointRequest, call: Call
    ) -> endpoints.CreateWebhookEndpointResponse:
        rules.check_url(request.settings.url, development=self._shared.development)
        secret = rules.new_secret()
        row = WebhookEndpoint(endpoint_id=uuid7(), revision=1, created_at=self._shared.clock.now())
        row.settings, row.disabled = _packed(request.settings), request.settings.disabled
        row.sealed_secret = self._sealed(row, secret)
        async with self._shared.db.transaction() as tx:
            if len(await store.endpoints(tx)) >= rules.ENDPOINTS_MAX:
                raise TooManyWebhookEndpoints(max=rules.ENDPOINTS_MAX)
            tx.add(row)
            await tx.flush()
            await emit(tx, WebhookEndpointCreated(endpoint_id=str(row.endpoint_id)))
        return endpoints.CreateWebhookEndpointResponse(
            endpoint=pack.endpoint(row), secret=rules.shown(secret)
        )

    async def ListWebhookEndpoints(
        self, request: endpoints.ListWebhookEndpointsRequest, call: Call
    ) -> endpoints.ListWebhookEndpointsResponse:
        page = store.ENDPOINTS.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.endpoint_page(tx, page)
        return endpoints.ListWebhookEndpointsResponse(
            endpoints=map(pack.endpoint, rows), next_page_token=token
        )

    async def UpdateWebhookEndpoint(
        self, request: endpoints.UpdateWebhookEndpointRequest, call: Call
    ) -> endpoints.UpdateWebhookEndpointResponse:
        settings = request.settings
        rules.check_url(settings.url, development=self._shared.development)
        async with self._shared.db.transaction() as tx:
            row = await store.endpoint(tx, UUID(request.endpoint_id), lock=True)
            check_etag(request.etag, row.revision)
            if row.replace(_packed(settings), self._shared.clock.now()):
                row.disabled = settings.disabled
                await emit(tx, WebhookEndpointUpdated(endpoint_id=request.endpoint_id))
        return endpoints.UpdateWebhookEndpointResponse(endpoint=pack.endpoint(row))

    async def RotateWebhookEndpointSecret(
        self, request: endpoints.RotateWebhookEndpointSecretRequest, call: Call
    ) -> endpoints.RotateWebhookEndpointSecretResponse:
        secret = rules.new_secret()
        async with self._shared.db.transaction() as tx:
            row = await store.endpoint(tx, UUID(request.endpoint_id), lock=True)
            row.rotate(self._sealed(row, secret), self._shared.clock.now(), _overlap(request))
            await emit(tx, WebhookEndpointSecretRotated(endpoint_id=request.endpoint_id))
        return endpoints.RotateWebhookEndpointSecretResponse(
            endpoint=pack.endpoint(row), secret=rules.shown(secret)
        )

    async def DeleteWebhookEndpoint(
        self, request: endpoints.DeleteWebhookEndpointRequest, call: Call
    ) -> endpoints.DeleteWebhookEndpointResponse:
        async with self._shared.db.transaction() as tx:
            await tx.delete(await store.endpoint(tx, UUID(request.endpoint_id)))
            await emit(tx, WebhookEndpointDeleted(endpoint_id=request.endpoint_id))
        return endpoints.DeleteWebhookEndpointResponse()

    async def ListWebhookDeliveries(
        self, request: endpoints.ListWebhookDeliveriesRequest, call: Call
    ) -> endpoints.ListWebhookDeliveriesResponse:
        page, endpoint_id = store.DELIVERIES.page(request, self._shared.page_key), UUID(request.endpoint_id)
        async with self._shared.db.transaction() as tx:
            await store.endpoint(tx, endpoint_id)
            rows, token = await store.delivery_page(tx, endpoint_id, page)
        return endpoints.ListWebhookDeliveriesResponse(
            deliveries=map(pack.delivery, rows), next_page_token=token
        )

    async def RedeliverWebhook(
        self, request: endpoints.RedeliverWebhookRequest, call: Call
    ) -> endpoints.RedeliverWebhookResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.delivery(tx, UUID(request.endpoint_id), UUID(request.delivery_id))
            if row.state != DeliveryState.WAITING:
                row.state, row.attempts, row.due_at = DeliveryState.WAITING, 0, self._shared.clock.now()
        return endpoints.RedeliverWebhookResponse(delivery=pack.delivery(row))


def _check(settings: pb.HookSettings) -> None:
    """Raises ExpressionRefused."""
    if settings.filter:
        expression.check(settings.filter, BODY, "settings.filter")
    reading.checked_mapping(settings.inputs, BODY, "settings.inputs")


def _packed(settings: Message) -> bytes:
    return settings.SerializeToString(deterministic=True)


def _about(row: Hook | WebhookEndpoint) -> str:
    """The place of its secrets, which is sealed with them."""
    return f"hook:{row.hook_id}" if isinstance(row, Hook) else f"endpoint:{row.endpoint_id}"


def _overlap(request: pb.RotateHookSecretRequest | endpoints.RotateWebhookEndpointSecretRequest) -> timedelta:
    return request.overlap.ToTimedelta() if request.HasField("overlap") else rules.OVERLAP


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
