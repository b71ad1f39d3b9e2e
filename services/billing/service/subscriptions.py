"""weft.billing.v1.SubscriptionService."""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

from services.billing.changing import Changed, Choice
from services.billing.domain.invoice import InvoiceLine
from services.billing.domain.plan import PlanHasEnded
from services.billing.domain.subscription import (
    Running,
    State,
    SubscriptionIdReused,
    SubscriptionRefused,
)
from services.billing.domain.totals import Line
from services.billing.service import invoice_pack, subscription_pack as pack
from services.billing.service.shared import Shared
from services.billing.service.stamps import maybe_id, moment
from services.billing.store import plan as plans, profile as profiles, subscription as store
from services.chassis.caller import NotPermitted
from services.chassis.db import Connection
from services.chassis.masks import check_etag
from services.chassis.method import Call
from weft.billing.v1 import (
    invoice_messages_pb2,
    subscription_messages_pb2 as pb,
    subscription_pb2,  # noqa: F401 - its service, which the stub looks up
)
from weft.billing.v1.subscription_pb2_grpc import SubscriptionServiceServicer

START_MAX = timedelta(days=731)  # Two years either way: what a business takes over, or sells ahead.
WRITE = "billing.subscriptions.write"
Act = Callable[[Connection, Running], Awaitable[Changed]]


class Subscriptions(SubscriptionServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def CreateSubscription(
        self, request: pb.CreateSubscriptionRequest, call: Call
    ) -> pb.CreateSubscriptionResponse:
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        if (request.HasField("start_time") or request.HasField("trial_days")) and not call.caller.can(WRITE):
            raise NotPermitted(permission=WRITE)
        subscription_id, customer_id = UUID(request.subscription_id), UUID(request.customer_id)
        async with self._shared.db.fast() as tx:
            profile = await profiles.lock(tx, customer_id)
            new = await self._fresh(tx, request, profile["time_zone"], digest)
            if await store.insert(tx, new):
                await self._shared.changing.unblocked(tx, customer_id)
            elif (await store.get(tx, subscription_id)).digest != digest:
                raise SubscriptionIdReused(subscription_id=subscription_id)
        if new.start_at <= self._shared.clock.now():
            await self._shared.biller.of_customer(customer_id)
        async with self._shared.db.fast() as tx:
            kept = await store.get(tx, subscription_id)
        return pb.CreateSubscriptionResponse(subscription=pack.to_pb(kept))

    async def _fresh(
        self, tx: Connection, request: pb.CreateSubscriptionRequest, time_zone: str, digest: bytes
    ) -> Running:
        """Raises UnknownPlan, PlanHasEnded, SubscriptionRefused."""
        plan_id, now = UUID(request.plan_id), self._shared.clock.now().replace(microsecond=0)
        newest = await plans.newest(tx, plan_id)
        if newest["archived_at"]:
            raise PlanHasEnded(plan_id=plan_id)
        start = moment(request.start_time).replace(microsecond=0) if request.HasField("start_time") else now
        _start_is_near(start, now)
        return Running(
            subscription_id=UUID(request.subscription_id),
            customer_id=UUID(request.customer_id),
            plan_id=plan_id,
            plan_version=newest["version"],
            quantity=request.quantity or 1,
            state=State.SCHEDULED,
            currency=newest["currency"],
            time_zone=time_zone,
            billing_day=request.billing_day or None,
            trial_days=request.trial_days if request.HasField("trial_days") else None,
            start_at=start,
            next_bill_at=start,
            digest=digest,
            created_at=now,
            updated_at=now,
        )

    async def GetSubscription(
        self, request: pb.GetSubscriptionRequest, call: Call
    ) -> pb.GetSubscriptionResponse:
        async with self._shared.db.fast() as tx:
            sub = await store.get(tx, UUID(request.subscription_id), maybe_id(request.customer_id))
        return pb.GetSubscriptionResponse(subscription=pack.to_pb(sub))

    async def ListSubscriptions(
        self, request: pb.ListSubscriptionsRequest, call: Call
    ) -> pb.ListSubscriptionsResponse:
        page = store.SUBSCRIPTIONS.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page, maybe_id(request.customer_id))
        return pb.ListSubscriptionsResponse(subscriptions=map(pack.to_pb, rows), next_page_token=token)

    async def ChangeSubscription(
        self, request: pb.ChangeSubscriptionRequest, call: Call
    ) -> pb.ChangeSubscriptionResponse:
        at_once = pack.at_once(request.effective_from)
        choice = Choice(maybe_id(request.plan_id), request.quantity if request.HasField("quantity") else None)

        async def act(tx: Connection, sub: Running) -> Changed:
            check_etag(request.etag, sub.revision)
            return await self._shared.changing.change(tx, sub, choice, at_once, request.bill_later)

        changed = await self._act(request.subscription_id, request.customer_id, act)
        invoice = await self._invoice(changed.invoice_id)
        return pb.ChangeSubscriptionResponse(subscription=pack.to_pb(changed.sub), invoice=invoice)

    async def _act(self, subscription_id: str, customer_id: str, act: Act) -> Changed:
        async with self._shared.db.fast() as tx:
            sub = await self._shared.changing.take(tx, UUID(subscription_id), maybe_id(customer_id))
            return await act(tx, sub)

    async def _invoice(self, invoice_id: UUID | None) -> invoice_messages_pb2.Invoice | None:
        if invoice_id is None:
            return None
        async with self._shared.db.transaction() as tx:
            return await invoice_pack.whole(tx, invoice_id)

    async def PreviewChange(self, request: pb.PreviewChangeRequest, call: Call) -> pb.PreviewChangeResponse:
        choice = Choice(maybe_id(request.plan_id), request.quantity if request.HasField("quantity") else None)
        async with self._shared.db.fast() as tx:
            sub, lines, upgrade = await self._shared.changing.preview(
                tx, UUID(request.subscription_id), maybe_id(request.customer_id), choice
            )
        return pb.PreviewChangeResponse(
            lines=[
                invoice_pack.line(_row(line, number), sub.currency) for number, line in enumerate(lines, 1)
            ],
            amount_minor=sum(line.amount for line in lines),
            currency=sub.currency,
            upgrade=upgrade,
        )

    async def PauseSubscription(
        self, request: pb.PauseSubscriptionRequest, call: Call
    ) -> pb.PauseSubscriptionResponse:
        changed = await self._act(request.subscription_id, request.customer_id, self._shared.changing.pause)
        return pb.PauseSubscriptionResponse(subscription=pack.to_pb(changed.sub))

    async def ResumeSubscription(
        self, request: pb.ResumeSubscriptionRequest, call: Call
    ) -> pb.ResumeSubscriptionResponse:
        changed = await self._act(request.subscription_id, request.customer_id, self._shared.changing.resume)
        return pb.ResumeSubscriptionResponse(subscription=pack.to_pb(changed.sub))

    async def CancelSubscription(
        self, request: pb.CancelSubscriptionRequest, call: Call
    ) -> pb.CancelSubscriptionResponse:
        now = bool(pack.at_once(request.effective_from))

        async def act(tx: Connection, sub: Running) -> Changed:
            return await self._shared.changing.cancel(tx, sub, now=now, credit=request.credit_unused)

        changed = await self._act(request.subscription_id, request.customer_id, act)
        return pb.CancelSubscriptionResponse(subscription=pack.to_pb(changed.sub))

    async def KeepSubscription(
        self, request: pb.KeepSubscriptionRequest, call: Call
    ) -> pb.KeepSubscriptionResponse:
        changed = await self._act(request.subscription_id, request.customer_id, self._shared.changing.keep)
        return pb.KeepSubscriptionResponse(subscription=pack.to_pb(changed.sub))


def _start_is_near(start: datetime, now: datetime) -> None:
    """Raises SubscriptionRefused."""
    if abs(start - now) > START_MAX:
        raise SubscriptionRefused(problem="it begins within two years", field="start_time")


def _row(line: Line, position: int) -> InvoiceLine:
    """As an invoice would have it."""
    return InvoiceLine(
        position=position,
        line_id=None,
        subscription_id=line.subscription_id,
        charge=line.charge,
        sku=line.sku,
        description=line.description,
        units=line.units,
        unit_price=line.unit_price,
        amount=line.amount,
        discount=0,
        net=line.amount,
        tax_category=line.tax_category,
        supply=line.supply,
        tax_code="",
        tax_rate=line.rate.percent,
        service_start=line.start,
        service_end=line.end,
    )
