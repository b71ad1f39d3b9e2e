"""weft.notification.v1.NotificationService."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from google.api import httpbody_pb2
from nats.aio.msg import Msg

from services.chassis.bus import Bus
from services.chassis.clock import Clock
from services.chassis.db import Database, Tx
from services.chassis.events import emit
from services.chassis.method import Call
from services.notification import bounce, lists, store
from services.notification.bouncing import Bouncer
from services.notification.catalogue import Catalogue
from services.notification.composing import Composer, Wanted
from services.notification.domain import (
    Message,
    MessageIdReused,
    NotResendable,
    State,
    UnknownSubscription,
    ValuesErased,
)
from services.notification.rendering import Reader, Renderer
from services.notification.sealing import Sealing
from services.notification.service import pack
from weft.notification.v1 import (
    events_pb2 as announced,
    notification_pb2 as pb,
    suppression_pb2,
    template_pb2,
)
from weft.notification.v1.notification_pb2_grpc import NotificationServiceServicer

WATCH_BACKLOG_MAX = 1_000  # Changes a slow watcher may lag behind before it is let go.
SUBJECTS = "weft.notification.v1.*.*"
RESENDABLE = {State.SENT, State.DELIVERED, State.FAILED}


@dataclass(frozen=True, kw_only=True)
class Means:
    """What the service works with."""

    db: Database
    bus: Bus
    clock: Clock
    catalogue: Catalogue
    renderer: Renderer
    composer: Composer
    sealing: Sealing
    bouncer: Bouncer
    page_key: str  # Seals page tokens.


class Messages(NotificationServiceServicer):
    def __init__(self, means: Means) -> None:
        self._means, self._db, self._clock = means, means.db, means.clock

    async def SendMessage(self, request: pb.SendMessageRequest, call: Call) -> pb.SendMessageResponse:
        to = request.recipient
        wanted = Wanted(
            message_id=UUID(request.message_id),
            template=request.template,
            channel=pack.CHANNELS[request.channel],
            user_id=to.user_id,
            address=to.address,
            locale=to.locale,
            time_zone=to.time_zone,
            values=dict(request.values),
            body=request.SerializeToString(deterministic=True),
        )
        return pb.SendMessageResponse(message=pack.message(await self._accept(wanted)))

    async def _accept(self, wanted: Wanted) -> Message:
        row = self._means.composer.row(wanted, self._clock.now())
        async with self._db.transaction() as tx:
            stored, fresh = await store.accept(tx, row)
            if fresh:
                accepted = announced.MessageAccepted(
                    message_id=str(row.message_id),
                    user_id=row.user_id,
                    template=row.template,
                    channel=row.channel,
                )
                await emit(tx, accepted)
        if stored.body_mac != self._means.sealing.body_mac(wanted.body):
            raise MessageIdReused(message_id=wanted.message_id)
        return stored

    async def GetMessage(self, request: pb.GetMessageRequest, call: Call) -> pb.GetMessageResponse:
        message_id = UUID(request.message_id)
        async with self._db.transaction() as tx:
            row, attempts = await store.found(tx, message_id), await store.attempts(tx, message_id)
        return pb.GetMessageResponse(message=pack.message(row), attempts=map(pack.attempt, attempts))

    async def ListMessages(self, request: pb.ListMessagesRequest, call: Call) -> pb.ListMessagesResponse:
        page = lists.MESSAGES.page(request, self._means.page_key)
        async with self._db.transaction() as tx:
            rows, token = await lists.messages(tx, page)
        return pb.ListMessagesResponse(messages=map(pack.message, rows), next_page_token=token)

    async def WatchMessages(
        self, request: pb.WatchMessagesRequest, call: Call
    ) -> AsyncIterator[pb.WatchMessagesResponse]:
        heard: asyncio.Queue[UUID] = asyncio.Queue(WATCH_BACKLOG_MAX)

        async def hear(message: Msg) -> None:
            heard.put_nowait(UUID(message.subject.rpartition(".")[2]))

        subscription = await self._means.bus.nc.subscribe(SUBJECTS, cb=hear)
        try:
            await self._means.bus.check()  # NATS has the subscription: nothing from here on is missed.
            await call.send_initial_metadata(())
            while True:
                row = await self._changed(await heard.get())
                if row and request.user_id in ("", row.user_id):
                    yield pb.WatchMessagesResponse(message=pack.message(row))
        finally:
            if not self._means.bus.nc.is_closed:
                await subscription.unsubscribe()

    async def _changed(self, message_id: UUID) -> Message | None:
        """None when the id is of something else: suppressions and opt-outs are announced too."""
        async with self._db.transaction() as tx:
            return await tx.get(Message, message_id)

    async def CancelMessage(self, request: pb.CancelMessageRequest, call: Call) -> pb.CancelMessageResponse:
        async with self._db.transaction() as tx:
            row = await store.lock(tx, UUID(request.message_id))
            if row.cancel(self._clock.now()):
                cancelled = announced.MessageCancelled(message_id=request.message_id, user_id=row.user_id)
                await emit(tx, cancelled)
        return pb.CancelMessageResponse(message=pack.message(row))

    async def ResendMessage(self, request: pb.ResendMessageRequest, call: Call) -> pb.ResendMessageResponse:
        async with self._db.transaction() as tx:
            old = await store.found(tx, UUID(request.message_id))
            repeated = await tx.get(Message, UUID(request.new_message_id))
        body = f"resend {old.message_id}".encode()
        if repeated is not None:
            if repeated.body_mac != self._means.sealing.body_mac(body):
                raise MessageIdReused(message_id=request.new_message_id)
            return pb.ResendMessageResponse(message=pack.message(repeated))
        if old.state not in RESENDABLE:
            raise NotResendable(message_id=request.message_id, state=old.state)
        if old.sealed_values is None:
            raise ValuesErased(message_id=request.message_id)
        wanted = Wanted(
            message_id=UUID(request.new_message_id),
            template=old.template,
            channel=old.channel,
            user_id=old.user_id,
            address=old.address,
            locale=old.locale,
            time_zone=old.time_zone,
            values=self._means.sealing.unseal(old.sealed_values, old.message_id),
            body=body,
        )
        return pb.ResendMessageResponse(message=pack.message(await self._accept(wanted)))

    async def ListTemplates(
        self, request: template_pb2.ListTemplatesRequest, call: Call
    ) -> template_pb2.ListTemplatesResponse:
        catalogue = self._means.catalogue
        known = [catalogue.templates[name] for name in sorted(catalogue.templates)]
        return template_pb2.ListTemplatesResponse(templates=[pack.template(one, catalogue) for one in known])

    async def PreviewTemplate(
        self, request: template_pb2.PreviewTemplateRequest, call: Call
    ) -> template_pb2.PreviewTemplateResponse:
        template = self._means.catalogue.template(request.template)
        reader = Reader(request.locale, request.time_zone)
        texts = self._means.renderer.render(template, dict(request.values) or template.example, reader)
        return template_pb2.PreviewTemplateResponse(
            locale=texts.locale, subject=texts.subject, text=texts.text, html=texts.html
        )

    async def RecordBounce(
        self, request: suppression_pb2.RecordBounceRequest, call: Call
    ) -> suppression_pb2.RecordBounceResponse:
        report = bounce.read(request.report)
        row = await self._means.bouncer.record(report)
        message_id = str(row.message_id) if row else ""
        return suppression_pb2.RecordBounceResponse(kind=pack.BOUNCES[report.kind], message_id=message_id)

    async def ListSuppressions(
        self, request: suppression_pb2.ListSuppressionsRequest, call: Call
    ) -> suppression_pb2.ListSuppressionsResponse:
        page = lists.SUPPRESSIONS.page(request, self._means.page_key)
        async with self._db.transaction() as tx:
            rows, token = await lists.suppressions(tx, page)
        return suppression_pb2.ListSuppressionsResponse(
            suppressions=map(pack.suppression, rows), next_page_token=token
        )

    async def DeleteSuppression(
        self, request: suppression_pb2.DeleteSuppressionRequest, call: Call
    ) -> suppression_pb2.DeleteSuppressionResponse:
        async with self._db.transaction() as tx:
            gone = await store.release(tx, UUID(request.suppression_id))
            released = announced.AddressReleased(suppression_id=request.suppression_id, user_id=gone.user_id)
            await emit(tx, released)
        return suppression_pb2.DeleteSuppressionResponse()

    async def GetUnsubscribePage(
        self, request: suppression_pb2.GetUnsubscribePageRequest, call: Call
    ) -> suppression_pb2.GetUnsubscribePageResponse:
        async with self._db.transaction() as tx:
            row = await self._subscription(tx, request.token)
        return suppression_pb2.GetUnsubscribePageResponse(page=self._page(row, done=False))

    async def Unsubscribe(
        self, request: suppression_pb2.UnsubscribeRequest, call: Call
    ) -> suppression_pb2.UnsubscribeResponse:
        async with self._db.transaction() as tx:
            row = await self._subscription(tx, request.token)
            await self._means.bouncer.opt_out(tx, row)
        return suppression_pb2.UnsubscribeResponse(page=self._page(row, done=True))

    async def _subscription(self, tx: Tx, token: str) -> Message:
        """The message whose link was followed. Raises UnknownSubscription."""
        message_id = self._means.sealing.message_of(token)
        row = await tx.get(Message, message_id) if message_id else None
        if row is None:
            raise UnknownSubscription
        return row

    def _page(self, row: Message, *, done: bool) -> httpbody_pb2.HttpBody:
        html = self._means.renderer.unsubscribe_page(row.locale, done=done)
        return httpbody_pb2.HttpBody(content_type="text/html; charset=utf-8", data=html.encode())
