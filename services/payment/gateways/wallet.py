"""The customer's own balance here, as a gateway like any other."""

from typing import Any

from services.chassis.clock import Clock
from services.chassis.db import Connection, Database
from services.chassis.money import Money
from services.payment import purse
from services.payment.domain.remote import Charge, GatewayRefused, RemoteState
from services.payment.domain.wallet import Change, Reason, WalletTooLow, entry_of
from services.payment.gateways.desk import Desk, Opening
from services.payment.store import wallet as store

TOO_LOW = "insufficient_funds"


class WalletGateway(Desk):
    name = "wallet"

    def __init__(self, db: Database, clock: Clock) -> None:
        super().__init__(db)
        self._clock = clock

    async def opening(self, tx: Connection, charge: Charge) -> Opening:
        if not charge.capture:
            held = await store.hold(tx, charge.customer_id, charge.amount, self._clock.now())
            if held:
                return Opening(state=RemoteState.AUTHORISED, plan=charge.reference)
            return Opening(state=RemoteState.DECLINED, decline_code=TOO_LOW)
        spent = Change(
            entry_id=entry_of(charge.ref),
            customer_id=charge.customer_id,
            amount=-charge.amount,
            reason=Reason.SPENT,
            reference=charge.reference,
        )
        try:
            await purse.change(tx, spent, self._clock.now())
        except WalletTooLow:
            return Opening(state=RemoteState.DECLINED, decline_code=TOO_LOW)
        return Opening(state=RemoteState.TAKEN, plan=charge.reference)

    async def take(self, tx: Connection, row: Any, key: str, amount: int) -> None:
        """Raises GatewayRefused: what was held is there no more, as a top-up was charged back."""
        try:
            await self._move(tx, row, key, -amount, Reason.SPENT, held=amount)
        except WalletTooLow as refused:
            raise GatewayRefused(TOO_LOW, "The balance does not cover what was held.") from refused

    async def give(self, tx: Connection, row: Any, key: str, amount: int) -> None:
        await self._move(tx, row, key, amount, Reason.GIVEN_BACK)

    async def release(self, tx: Connection, row: Any, amount: int) -> None:
        if amount:
            freed = Money(-amount, row["currency"])
            await store.hold(tx, row["customer_id"], freed, self._clock.now())

    async def _move(
        self, tx: Connection, row: Any, key: str, amount: int, reason: Reason, *, held: int = 0
    ) -> None:
        change = Change(
            entry_id=entry_of(key),
            customer_id=row["customer_id"],
            amount=Money(amount, row["currency"]),
            reason=reason,
            reference=row["plan"],
        )
        await purse.change(tx, change, self._clock.now(), held=held)
