"""The refund saga: goods back into stock, money back to the customer, the sale unbooked."""

import logging
from collections.abc import Sequence
from uuid import UUID

from services.chassis.clock import Clock
from services.chassis.db import Connection, Database
from services.chassis.errors import CallFailed
from services.chassis.saga import AWAY, Done, Run, Saga, Start, Step, Wait
from services.chassis.saga_runner import Sagas
from services.order import keeping, telling
from services.order.domain.ids import derived
from services.order.domain.order import Order, Part
from services.order.domain.states import RefundState, ReturnState
from services.order.keeping import Held
from services.order.paying import Paying
from services.order.steps import CALL_S, nothing, said
from services.order.stocking import Restock, Stocking
from weft.money.v1.money_pb2 import Money

KIND = "refund"
KEPT_S = 90 * 86_400.0  # A bank may take weeks; then a person looks.
LOOK_EVERY_S = 600.0  # A refund that is on its way is asked for; events come sooner.

log = logging.getLogger("weft.order")


class Refunds:
    """Begins refunds, and has their steps."""

    def __init__(self, db: Database, clock: Clock, paying: Paying, stocking: Stocking) -> None:
        self._db, self._clock = db, clock
        self._paying, self._stocking = paying, stocking
        self.sagas: Sagas | None = None  # Given once it is made: it is made of these.

    def saga(self) -> Saga:
        return Saga(
            KIND,
            timeout_s=KEPT_S,
            steps=[
                Step("open", nothing, self._failed),
                Step("restock", self._restock, only_if=said("restock")),
                Step("pay", self._pay, timeout_s=CALL_S, only_if=said("parts")),
                Step("settle", self._settle),
            ],
        )

    async def begin(
        self,
        held: Held,
        refund_id: str,
        taken: tuple[Sequence[Part], int, int],
        paid_back: int,
        *,
        reason: str,
        of_return: Restock | None = None,
    ) -> None:
        """Sets a refund's amount aside, and starts it. `taken`: parts, net and tax."""
        assert self.sagas is not None
        order = held.order
        wanted = telling.refund_wanted(order, refund_id, *taken)
        wanted.reason, wanted.return_id = reason, of_return.return_id if of_return else ""
        wanted.paid_back.CopyFrom(telling.money(order, paid_back))
        sources = _sources(order, paid_back)
        await held.tell(wanted)
        data = {
            "order_id": order.order_id,
            "currency": order.currency,
            "parts": sources,
            "return_id": wanted.return_id,
            "restock": dict(of_return.units) if of_return else {},
            "before": dict(of_return.before) if of_return else {},
            "location_id": of_return.location_id if of_return else "",
        }
        await self.sagas.start(
            held.tx,
            Start(kind=KIND, saga_id=UUID(refund_id), data=data, subject=order.order_id, after="open"),
        )

    async def _restock(self, run: Run) -> None:
        """Goods that inventory will not have are a matter for people, and not the customer's."""
        order, _ = await keeping.look(self._db, run.subject)
        of, where = run.data, run.data.get("location_id", "")
        try:
            back = Restock(of["return_id"], of["restock"], of.get("before", {}), where)
            await self._stocking.restock(order, back)
        except CallFailed as failed:
            if failed.code in AWAY:
                raise
            facts = {"order": run.subject, "return": run.data["return_id"], "reason": failed.reason}
            log.warning("goods that came back are not in stock", extra={"facts": facts})

    async def _pay(self, run: Run) -> Wait | None:
        settled = True
        for number, (intent_id, minor) in enumerate(run.data["parts"]):
            refund_id = str(run.saga_id) if number == 0 else derived(run.saga_id, str(number))
            amount = Money(amount_minor=minor, currency=run.data["currency"])
            settled &= await self._paying.give_back(intent_id, refund_id, amount)
        return None if settled else Wait(LOOK_EVERY_S)

    async def _settle(self, run: Run) -> Done:
        async def settle(tx: Connection) -> None:
            held = await keeping.hold(tx, run.subject)
            order, refund_id = held.order, str(run.saga_id)
            if order.refunds[refund_id].state is RefundState.REQUESTED:
                await held.tell(telling.refunded(order, refund_id, self._clock.now()))
            back = order.returns.get(run.data["return_id"])
            if back and back.state is ReturnState.RECEIVED:
                await held.tell(telling.return_(order, back.return_id, ReturnState.REFUNDED))

        return Done(change=settle)

    async def _failed(self, run: Run) -> Done:
        async def failed(tx: Connection) -> None:
            held = await keeping.hold(tx, run.subject)
            if held.order.refunds[str(run.saga_id)].state is RefundState.REQUESTED:
                await held.tell(telling.refund_failed(held.order, str(run.saga_id), run.reason))

        return Done(change=failed)


def _sources(order: Order, amount: int) -> list[tuple[str, int]]:
    """The payments that an amount goes back to: the order's own first, then what paid by an exchange."""
    own = min(amount, max(0, order.captured - order.exchanged - order.paid_back))
    parts = [(order.intent_id, own), (order.credit_intent_id, amount - own)]
    return [(intent_id, minor) for intent_id, minor in parts if minor > 0]
