"""Payments at gateways that have no server but us: kept in our own tables, by the same rules as elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.db import Connection, Database
from services.chassis.money import Money
from services.payment.domain.remote import (
    Charge,
    Decline,
    GatewayRefused,
    Kept,
    Notice,
    Remote,
    RemoteRefund,
    RemoteState,
)
from services.payment.domain.webhook import WebhookRefused

FIND = "select * from desk_payment where gateway = $1 and ref = $2"
LOCK = FIND + " for update"
REFUNDS = "select key, amount, done from desk_movement where gateway = $1 and ref = $2 and kind = 'REFUND'"
ADD = """
insert into desk_payment (gateway, ref, customer_id, currency, amount, state, captured, plan, redirect_url,
    return_url, decline_code, dispute)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, '')
on conflict do nothing returning *
"""
MOVE = "update desk_payment set state = $3, captured = $4 where gateway = $1 and ref = $2 returning *"
ADD_MOVEMENT = """
insert into desk_movement (gateway, key, kind, ref, amount, done) values ($1, $2, $3, $4, $5, $6)
on conflict do nothing returning key
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a payment begins as."""

    state: RemoteState
    plan: str = ""
    redirect_url: str = ""
    decline_code: str = ""


class Desk:
    """A gateway whose rules are ours. Subclasses say how a payment begins, and what moves beside it."""

    name: str
    several_captures = True
    refunds_at_once = True

    def __init__(self, db: Database) -> None:
        self._db = db

    def check(self, amount: Money) -> None:
        """Any amount will do."""

    def ref(self, charge: Charge) -> str:
        return f"{self.name}_{charge.intent_id.hex}"

    async def open(self, charge: Charge) -> str:
        return self.ref(charge)

    async def keep(self, customer_id: UUID, method_id: UUID, token: str, known: str) -> Kept:
        raise GatewayRefused("not_offered", "There are no cards here.")

    def notice(self, header: Callable[[str], str], body: bytes, now: datetime) -> Notice | None:
        raise WebhookRefused

    async def authorise(self, charge: Charge) -> Remote:
        async with self._db.fast() as tx:
            if await tx.fetchrow(LOCK, self.name, charge.ref) is None:
                opening = await self.opening(tx, charge)
                await self._add(tx, charge, opening)
            return await self._seen(tx, charge)

    async def capture(self, charge: Charge, key: str, amount: int, *, final: bool) -> Remote:
        async with self._db.fast() as tx:
            row = await tx.fetchrow(LOCK, self.name, charge.ref)
            if await tx.fetchval(ADD_MOVEMENT, self.name, key, "CAPTURE", charge.ref, amount, True):
                await self._capture(tx, row, key, amount, final=final)
            return await self._seen(tx, charge)

    async def _capture(self, tx: Connection, row: Any, key: str, amount: int, *, final: bool) -> None:
        """Raises GatewayRefused."""
        left = row["amount"] - row["captured"] if row and row["state"] == RemoteState.AUTHORISED else 0
        if amount > left:
            raise GatewayRefused("not_capturable", "So much is not held.")
        closed = final or amount == left
        await self.take(tx, row, key, amount)
        if closed:
            await self.release(tx, row, left - amount)
        state = RemoteState.TAKEN if closed else RemoteState.AUTHORISED
        await tx.execute(MOVE, self.name, row["ref"], state, row["captured"] + amount)

    async def void(self, charge: Charge, key: str) -> Remote:
        async with self._db.fast() as tx:
            await self._add(tx, charge, Opening(state=RemoteState.VOIDED))  # Whoever asks later is too late.
            row = await tx.fetchrow(LOCK, self.name, charge.ref)
            if row["state"] in (RemoteState.AUTHORISED, RemoteState.ACTION, RemoteState.PROCESSING):
                if row["state"] == RemoteState.AUTHORISED:
                    await self.release(tx, row, row["amount"] - row["captured"])
                state = RemoteState.TAKEN if row["captured"] else RemoteState.VOIDED
                await tx.execute(MOVE, self.name, charge.ref, state, row["captured"])
            return await self._seen(tx, charge)

    async def refund(self, charge: Charge, key: str, amount: int) -> Remote:
        async with self._db.fast() as tx:
            row = await tx.fetchrow(LOCK, self.name, charge.ref)
            begun = {each["key"]: each["amount"] for each in await tx.fetch(REFUNDS, self.name, charge.ref)}
            if row is None or amount > row["captured"] - sum(n for k, n in begun.items() if k != key):
                raise GatewayRefused("charge_already_refunded", "So much was not taken.")
            added = (self.name, key, "REFUND", charge.ref, amount, self.refunds_at_once)
            if await tx.fetchval(ADD_MOVEMENT, *added):
                await self.give(tx, row, key, amount)
            return await self._seen(tx, charge)

    async def look(self, charge: Charge) -> Remote:
        async with self._db.fast() as tx:
            return await self._seen(tx, charge)

    async def _seen(self, tx: Connection, charge: Charge) -> Remote:
        row = await tx.fetchrow(FIND, self.name, charge.ref)
        refunds = await tx.fetch(REFUNDS, self.name, charge.ref) if row and row["captured"] else []
        return self.remote(row, refunds) if row else Remote(state=RemoteState.NEW)

    def remote(self, row: Any, refunds: list[Any]) -> Remote:
        return Remote(
            state=RemoteState(row["state"]),
            captured=row["captured"],
            refunds={each["key"]: RemoteRefund(each["amount"], each["done"]) for each in refunds},
            redirect_url=row["redirect_url"],
            decline=Decline(row["decline_code"]) if row["decline_code"] else None,
        )

    async def opening(self, tx: Connection, charge: Charge) -> Opening:
        """How a payment begins."""
        raise NotImplementedError

    async def take(self, tx: Connection, row: Any, key: str, amount: int) -> None:
        """What moves when an amount is captured."""

    async def release(self, tx: Connection, row: Any, amount: int) -> None:
        """What moves when an amount is held no longer, and was not captured."""

    async def give(self, tx: Connection, row: Any, key: str, amount: int) -> None:
        """What moves when an amount is given back."""

    async def _add(self, tx: Connection, charge: Charge, opening: Opening) -> None:
        taken = charge.amount.minor if opening.state == RemoteState.TAKEN else 0
        await tx.execute(
            ADD,
            self.name,
            charge.ref,
            charge.customer_id,
            charge.amount.currency,
            charge.amount.minor,
            opening.state,
            taken,
            opening.plan,
            opening.redirect_url,
            charge.return_url,
            opening.decline_code,
        )
