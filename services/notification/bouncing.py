"""What follows from a report about a mail that had left: failures, suppressed addresses, opt-outs."""

from datetime import timedelta

from services.chassis.clock import Clock, uuid7
from services.chassis.db import Database, Tx
from services.chassis.events import emit
from services.notification import store
from services.notification.bounce import Kind, Report
from services.notification.delivering import Deliverer
from services.notification.domain import Message, OptOut, State, UnknownMessage, address_key
from services.notification.sealing import Sealing
from weft.notification.v1 import events_pb2 as announced


class Bouncer:
    """Acts on reports, each as often as it comes with the same result."""

    def __init__(self, db: Database, clock: Clock, sealing: Sealing, deliverer: Deliverer) -> None:
        self._db, self._clock, self._sealing, self._deliverer = db, clock, sealing, deliverer

    async def record(self, report: Report) -> Message | None:
        """The message that the report is about; None when it names none of ours, and nothing happens.

        Anybody can write a report. Only one that returns our Message-ID, mark and all, is believed.
        """
        if report.message_id is None or report.mark != self._sealing.mark(report.message_id):
            return None
        async with self._db.transaction() as tx:
            try:
                row = await store.lock(tx, report.message_id)
            except UnknownMessage:
                return None
            await self._follow(tx, row, report)
        return row

    async def _follow(self, tx: Tx, row: Message, report: Report) -> None:
        ids = {"message_id": str(row.message_id), "user_id": row.user_id}
        if report.kind in (Kind.HARD, Kind.SOFT) and self._move(row, State.FAILED):
            await emit(tx, announced.MessageFailed(attempts=row.attempts, status=report.status, **ids))
        if report.kind is Kind.HARD:
            await self._deliverer.suppress(tx, row, report.status)
        if report.kind is Kind.DELIVERED and self._move(row, State.DELIVERED):
            await emit(tx, announced.MessageDelivered(**ids))
        if report.kind is Kind.COMPLAINT:
            await self.opt_out(tx, row)

    def _move(self, row: Message, state: State) -> bool:
        """False when the message is past `state` already."""
        if not row.settled or not row.may_become(state):
            return False
        keep = row.erase_at - self._clock.now() if row.erase_at else timedelta()
        row.settle(state, self._clock.now(), max(keep, timedelta()))
        return True

    async def opt_out(self, tx: Tx, row: Message) -> None:
        """The reader of `row` hears about security only from now on."""
        choice = OptOut(
            opt_out_id=uuid7(),
            address_key=address_key(row.address),
            user_id=row.user_id,
            create_time=self._clock.now(),
        )
        if await store.opt_out(tx, choice):
            opted = announced.ReaderOptedOut(opt_out_id=str(choice.opt_out_id), user_id=row.user_id)
            await emit(tx, opted)
