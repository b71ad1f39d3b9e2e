"""The shipment saga: its part of the payment is captured, then it leaves."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from services.chassis.clock import Clock
from services.chassis.db import Connection, Database
from services.chassis.saga import Done, Run, Saga, Start, Step, Wait
from services.chassis.saga_runner import Sagas
from services.order import keeping, telling
from services.order.domain.states import OrderState, ShipmentState
from services.order.keeping import Held
from services.order.mailing import Mailer
from services.order.paying import Paying
from services.order.steps import CALL_S, LOOK_EVERY_S, nothing, said
from weft.order.v1 import events_pb2 as events

KIND = "shipment"
CAPTURE_S = 86_400.0  # A gateway that is away for a day; then the shipment is refused, and made anew.


class Shipping:
    """Begins shipments, and has their steps."""

    def __init__(self, db: Database, clock: Clock, paying: Paying, mailer: Mailer) -> None:
        self._db, self._clock, self._paying, self._mailer = db, clock, paying, mailer
        self.sagas: Sagas | None = None  # Given once it is made: it is made of these.

    def saga(self) -> Saga:
        return Saga(
            KIND,
            timeout_s=CAPTURE_S,
            until="ship",
            steps=[
                Step("open", nothing, self._refused),
                Step("capture", self._capture, timeout_s=CALL_S, only_if=said("amount")),
                Step("ship", self._ship),
                Step("tell", self._tell),
            ],
        )

    async def begin(
        self, held: Held, shipment_id: str, units: Mapping[str, int], about: tuple[str, str]
    ) -> None:
        """Units that `Order.to_ship` gave; carrier and number. What has nothing to capture leaves at once."""
        assert self.sagas is not None
        order = held.order
        amount = 0 if order.auto_capture else order.shipment_amount(units)
        last = not order.auto_capture and amount == order.due - order.captured
        proposed = telling.shipment(order, shipment_id, ShipmentState.PENDING)
        proposed.lines.extend(telling.units_pb(units))
        proposed.amount.CopyFrom(telling.money(order, amount))
        proposed.carrier, proposed.tracking_number = about
        await held.tell(proposed)
        if not amount:
            await self._leave(held, shipment_id)
        data = {"amount": amount, "last": last}
        after = "open" if amount else "ship"
        begun = Start(kind=KIND, saga_id=UUID(shipment_id), data=data, subject=order.order_id, after=after)
        await self.sagas.start(held.tx, begun)

    async def _capture(self, run: Run) -> Done | Wait:
        order, _ = await keeping.look(self._db, run.subject)
        amount, last = run.data["amount"], run.data["last"]
        intent, settled = await self._paying.capture(order, str(run.saga_id), amount, final=last)
        if not settled:
            return Wait(LOOK_EVERY_S)

        async def captured(tx: Connection) -> None:
            held = await keeping.hold(tx, run.subject)
            known = max(held.order.captured, intent.captured.amount_minor)
            if known != held.order.captured:
                paid = telling.paid(held.order, intent.intent_id, held.order.authorised, known)
                await held.tell(paid)

        return Done(change=captured)

    async def _ship(self, run: Run) -> Done:
        async def ship(tx: Connection) -> None:
            await self._leave(await keeping.hold(tx, run.subject), str(run.saga_id))

        return Done(change=ship)

    async def _leave(self, held: Held, shipment_id: str) -> None:
        order, shipment = held.order, held.order.shipment(shipment_id)
        if shipment.state is not ShipmentState.PENDING:
            return
        gone = {line.line_id: line.shipped + shipment.units.get(line.line_id, 0) for line in order.shippable}
        last = all(gone[line.line_id] == line.units for line in order.shippable)
        shipped = events.OrderShipped(
            order_id=order.order_id,
            customer_id=order.customer_id,
            shipment_id=shipment_id,
            lines=telling.lines(order, shipment.units),
            last=last,
            carrier=shipment.carrier,
            tracking_number=shipment.tracking_number,
            effective_time=telling.stamp(self._clock.now()),
        )
        told: list[Any] = [shipped]
        to = OrderState.SHIPPED if last else OrderState.PARTIALLY_SHIPPED
        if order.state is not to:
            told.append(telling.status(order, to))
        await held.tell(*told)

    async def _refused(self, run: Run) -> Done:
        async def refused(tx: Connection) -> None:
            held = await keeping.hold(tx, run.subject)
            if held.order.shipment(str(run.saga_id)).state is ShipmentState.PENDING:
                state = ShipmentState.REFUSED
                await held.tell(telling.shipment(held.order, str(run.saga_id), state, run.reason))

        return Done(change=refused)

    async def _tell(self, run: Run) -> None:
        order, _ = await keeping.look(self._db, run.subject)
        await self._mailer.shipped(order, str(run.saga_id))
