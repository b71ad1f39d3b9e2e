"""The checkout saga: redeem, reserve, authorise, take, confirm, capture, fulfil, tell; and all of it back.

The order is written down before its first step, and `create` stands for that: its undoing is what says that
the order is cancelled. `open` comes before it, so that whoever was told of the order hears of its end when
that is true.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from services.chassis.clock import Clock
from services.chassis.db import Connection, Database
from services.chassis.saga import Change, Done, Run, Saga, Step, Wait
from services.order import exchanging, keeping, telling
from services.order.domain.ids import derived
from services.order.domain.order import Order
from services.order.domain.refusals import FulfilmentRefused, FulfilmentTimedOut
from services.order.domain.states import GONE, OrderState
from services.order.keeping import Held
from services.order.mailing import Mailer
from services.order.paying import PAID, Paying
from services.order.sealing import Sealing
from services.order.settings import OrderSettings
from services.order.settling import Settling
from services.order.steps import CALL_S, LOOK_EVERY_S, nothing, said
from services.order.stocking import Stocking
from services.order.store import detail
from weft.order.v1 import events_pb2 as events
from weft.payment.v1 import intent_pb2 as intents

KIND = "checkout"
RESERVED_LONGER_S = 600  # Than the checkout may take: what is paid in the last second is there still.
GATEWAY_S = 2.0  # A gateway that has not answered yet is asked again.


class Checkout:
    """The steps."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        settings: OrderSettings,
        means: tuple[Paying, Stocking, Mailer, Sealing, Settling],
        exchanges: exchanging.Exchanges,
    ) -> None:
        self._db, self._clock, self._settings = db, clock, settings
        self._paying, self._stocking, self._mailer, self._sealing, self._settling = means
        self._exchanges = exchanges

    def saga(self) -> Saga:
        return Saga(
            KIND,
            timeout_s=self._settings.checkout_s,
            until="confirm",
            steps=[
                Step("open", nothing, self._told_of_end),
                Step("create", nothing, self._cancelled),
                Step("redeem", self._redeem, self._unredeem, only_if=said("redeems")),
                Step("reserve", self._reserve, self._release, only_if=said("stocks")),
                Step("authorise", self._authorise, self._void, CALL_S, only_if=said("pays")),
                Step("take", self._take, self._put_back, only_if=said("stocks")),
                Step("confirm", self._confirm, self._revoke),
                Step("capture", self._capture, self._give_back, CALL_S, only_if=said("captures")),
                Step("fulfil", self._fulfil, only_if=said("fulfils")),
                Step("tell", self._tell),
            ],
        )

    async def _order(self, run: Run) -> Order:
        order, _ = await keeping.look(self._db, run.saga_id)
        return order

    async def _redeem(self, run: Run) -> None:
        await self._stocking.redeem(await self._order(run))

    async def _unredeem(self, run: Run) -> None:
        await self._stocking.release_redemption(str(run.saga_id))

    async def _reserve(self, run: Run) -> None:
        left = (run.deadline_at - self._clock.now()).total_seconds() if run.deadline_at else 0.0
        await self._stocking.reserve(await self._order(run), int(max(0.0, left)) + RESERVED_LONGER_S)

    async def _release(self, run: Run) -> None:
        await self._stocking.release(str(run.saga_id))

    async def _authorise(self, run: Run) -> Done | Wait:
        order = await self._order(run)
        payment = await self._sealing.payment(self._db, order.key)
        intent = await self._paying.authorise(order, payment, run.deadline_at, again=run.attempt > 1)
        if intent.state in PAID:
            return Done(change=self._change(run, _authorised(intent)))
        if intent.state == intents.INTENT_STATE_PROCESSING:
            return Wait(GATEWAY_S)
        return Wait(LOOK_EVERY_S, change=self._change(run, _awaits(intent)))

    async def _void(self, run: Run) -> None:
        await self._paying.void(str(run.saga_id))

    async def _take(self, run: Run) -> None:
        await self._stocking.take(str(run.saga_id))

    async def _put_back(self, run: Run) -> None:
        await self._stocking.put_back(str(run.saga_id))

    async def _confirm(self, run: Run) -> Done:
        async def confirm(held: Held) -> None:
            order = held.order
            moved = telling.status(order, OrderState.CONFIRMED)
            await held.tell(moved, telling.confirmed(order, self._clock.now()))

        return Done(change=self._change(run, confirm))

    async def _revoke(self, run: Run) -> Done:
        """A sale that was announced is taken back."""

        async def revoke(held: Held) -> None:
            order, refund_id = held.order, derived(run.saga_id, "revoked")
            if order.confirmed_at is None or refund_id in order.refunds:
                return
            if order.state not in GONE:
                await held.tell(telling.status(order, OrderState.CANCELLING, run.reason))
            await held.tell(_revoked(order, refund_id, run.reason, telling.stamp(self._clock.now())))

        return Done(change=self._change(run, revoke))

    async def _capture(self, run: Run) -> Done | Wait:
        order = await self._order(run)
        if order.captured >= order.due:  # It was captured as it was authorised.
            return Done()
        capture_id = derived(order.order_id, "capture")
        intent, settled = await self._paying.capture(order, capture_id, order.due, final=True)
        if not settled:
            return Wait(LOOK_EVERY_S)
        return Done(change=self._change(run, _paid(intent)))

    async def _give_back(self, run: Run) -> None:
        await self._paying.void(str(run.saga_id))

    async def _fulfil(self, run: Run) -> Done | Wait:
        order, now = await self._order(run), self._clock.now()
        if order.fulfilment:
            raise FulfilmentRefused(why=order.fulfilment)
        if order.fulfilment is not None:
            return Done()
        if order.fulfil_by is None:
            return Wait(self._settings.fulfil_s, change=self._change(run, self._ask_for_fulfilment))
        if order.fulfil_by <= now:
            raise FulfilmentTimedOut
        return Wait((order.fulfil_by - now).total_seconds())

    async def _ask_for_fulfilment(self, held: Held) -> None:
        order = held.order
        expires = self._clock.now() + timedelta(seconds=self._settings.fulfil_s)
        asked = events.OrderFulfilmentRequested(
            order_id=order.order_id,
            customer_id=order.customer_id,
            lines=telling.whole(order),
            expire_time=telling.stamp(expires),
        )
        await held.tell(asked)

    async def _tell(self, run: Run) -> Done | None:
        """The confirmation; what has nothing to be shipped is complete by it."""
        order = await self._order(run)
        await self._mailer.confirmed(order)
        if order.shippable:
            return None
        return Done(change=self._change(run, self._complete))

    async def _complete(self, held: Held) -> None:
        if held.order.state is OrderState.CONFIRMED:
            await held.tell(*completed(held.order, self._clock))

    async def _cancelled(self, run: Run) -> Done:
        async def cancelled(held: Held) -> None:
            order = held.order
            if order.state is OrderState.CANCELLED:
                return
            moved = telling.status(order, OrderState.CANCELLED, run.reason)
            over = events.OrderCancelled(
                order_id=order.order_id,
                customer_id=order.customer_id,
                reason=run.reason,
                step=run.failed_step,
            )
            await held.tell(moved, over)
            await detail.paid(held.tx, order.key)

        return Done({"message": run.message}, self._change(run, cancelled, self._exchanges.given_up))

    async def _told_of_end(self, run: Run) -> None:
        """Who waited for the outcome has seen it; a mail is for those who had been told otherwise."""
        order = await self._order(run)
        if order.confirmed_at is not None or order.intent_id:
            await self._mailer.cancelled(order)

    def _change(self, run: Run, *parts: Callable[[Held], Awaitable[None]]) -> Change:
        async def change(tx: Connection) -> None:
            held = await keeping.hold(tx, run.saga_id)
            for part in parts:
                await part(held)
            self._settling.moved(tx, held.order.order_id)

        return change


def completed(order: Order, clock: Clock) -> tuple[events.OrderStatusUpdated, events.OrderCompleted]:
    """Raises IllegalTransition."""
    over = events.OrderCompleted(
        order_id=order.order_id, customer_id=order.customer_id, effective_time=telling.stamp(clock.now())
    )
    return telling.status(order, OrderState.COMPLETED), over


def _authorised(intent: intents.Intent) -> Callable[[Held], Awaitable[None]]:
    async def authorised(held: Held) -> None:
        await _paid(intent)(held)
        await detail.paid(held.tx, held.order.key)

    return authorised


def _paid(intent: intents.Intent) -> Callable[[Held], Awaitable[None]]:
    async def paid(held: Held) -> None:
        order = held.order
        captured = max(order.captured, intent.captured.amount_minor)
        authorised = max(order.authorised, intent.authorised.amount_minor, captured)
        if (order.intent_id, order.authorised, order.captured) != (intent.intent_id, authorised, captured):
            await held.tell(telling.paid(order, intent.intent_id, authorised, captured))

    return paid


def _awaits(intent: intents.Intent) -> Callable[[Held], Awaitable[None]]:
    async def awaits(held: Held) -> None:
        if held.order.state is OrderState.PENDING:
            await held.tell(
                telling.status(held.order, OrderState.AWAITING_PAYMENT),
                telling.paid(held.order, intent.intent_id, 0, 0),
            )
        await detail.act(held.tx, held.order.key, intent.next_action.redirect_url)

    return awaits


def _revoked(order: Order, refund_id: str, reason: str, at: Any) -> events.OrderRefunded:
    net = order.net - sum(each.net for each in order.taken_back)
    tax = order.tax - sum(each.tax for each in order.taken_back)
    return events.OrderRefunded(
        order_id=order.order_id,
        customer_id=order.customer_id,
        refund_id=refund_id,
        currency=order.currency,
        lines=telling.rest(order),
        net=telling.money(order, net),
        tax=telling.money(order, tax),
        gross=telling.money(order, net + tax),
        paid_back=telling.money(order, order.captured - order.paid_back),
        reason=reason,
        effective_time=at,
        country=order.country,
    )
