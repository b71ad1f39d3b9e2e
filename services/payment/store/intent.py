"""Payments, and what was asked for them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update

from services.chassis.db import Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.payment.domain.intent import (
    FINAL,
    Asked,
    Intent,
    Kind,
    Operation,
    Outcome,
    State,
    UnknownIntent,
    UnknownRefund,
)

DUE_MAX = 50  # Of one round; the next follows at once.
NAMES = {each.value: each.value for each in State}

INTENTS = Listing(
    {
        "create_time": Field(Intent.created_at),
        "intent_id": Field(Intent.intent_id, order=False),
        "reference": Field(Intent.reference, order=False),
        "state": Field(Intent.state, order=False, values=NAMES),
        "kind": Field(Intent.kind, order=False, values={each.value: each.value for each in Kind if each}),
        "gateway": Field(Intent.gateway, order=False),
        "currency": Field(Intent.currency, order=False),
        "amount_minor": Field(Intent.amount, order=False),
    },
    "create_time desc",
    "intent_id",
)
REFUNDS = Listing(
    {
        "create_time": Field(Operation.created_at),
        "refund_id": Field(Operation.operation_id, order=False),
        "intent_id": Field(Operation.intent_id, order=False),
        "state": Field(Operation.state, order=False, values={each.value: each.value for each in Outcome}),
        "reason": Field(Operation.reason, order=False),
        "currency": Field(Operation.currency, order=False),
        "amount_minor": Field(Operation.amount, order=False),
    },
    "create_time desc",
    "refund_id",
)


async def get(tx: Tx, intent_id: UUID, *, lock: bool = False) -> Intent:
    """Raises UnknownIntent."""
    row = await tx.get(Intent, intent_id, with_for_update=lock, populate_existing=lock)
    if row is None:
        raise UnknownIntent(intent_id=intent_id)
    return row


async def operations(tx: Tx, intent_id: UUID) -> Sequence[Operation]:
    """Oldest first."""
    wanted = select(Operation).where(Operation.intent_id == intent_id)
    return (await tx.scalars(wanted.order_by(Operation.created_at, Operation.operation_id))).all()


async def operation(tx: Tx, kind: Asked, operation_id: UUID) -> Operation | None:
    return await tx.get(Operation, (kind, operation_id))


async def refund(tx: Tx, refund_id: UUID) -> Operation:
    """Raises UnknownRefund."""
    row = await operation(tx, Asked.REFUND, refund_id)
    if row is None:
        raise UnknownRefund(refund_id=refund_id)
    return row


async def of_gateway(tx: Tx, gateway: str, ref: str, *, lock: bool = False) -> Intent | None:
    """The payment with the gateway's id."""
    wanted = select(Intent).where(
        Intent.gateway == gateway, Intent.gateway_ref == ref, Intent.gateway_ref != ""
    )
    return (await tx.scalars(wanted.with_for_update() if lock else wanted)).one_or_none()


async def page(tx: Tx, page: Page, customer_id: UUID | None) -> tuple[Sequence[Intent], str]:
    """Rows, and the next page's token."""
    wanted = select(Intent)
    if customer_id:
        wanted = wanted.where(Intent.customer_id == customer_id)
    return page.cut((await tx.scalars(page.select(wanted))).all())


async def refund_page(tx: Tx, page: Page) -> tuple[Sequence[Operation], str]:
    wanted = select(Operation).where(Operation.kind == Asked.REFUND)
    return page.cut((await tx.scalars(page.select(wanted))).all())


async def owed(tx: Tx, method_id: UUID) -> int:
    """What is promised on a method and not paid yet, in minor units."""
    wanted = select(func.coalesce(func.sum(Intent.amount - Intent.captured), 0)).where(
        Intent.method_id == method_id, Intent.state.not_in(FINAL)
    )
    return int(await tx.scalar(wanted) or 0)


async def claim_operations(tx: Tx, now: datetime, again: datetime) -> Sequence[Operation]:
    """Operations that are due; nobody else takes them until `again`."""
    due = select(Operation.kind, Operation.operation_id).where(Operation.due_at <= now)
    taken = due.order_by(Operation.due_at).limit(DUE_MAX).with_for_update(skip_locked=True).cte()
    same = (Operation.kind == taken.c.kind, Operation.operation_id == taken.c.operation_id)
    claimed = update(Operation).where(*same).values(due_at=again, attempts=Operation.attempts + 1)
    return (await tx.scalars(claimed.returning(Operation))).all()


async def claim_looks(tx: Tx, now: datetime, again: datetime) -> Sequence[UUID]:
    """Payments whose gateway is to be asked; nobody else does until `again`."""
    due = select(Intent.intent_id).where(Intent.look_at <= now)
    taken = due.order_by(Intent.look_at).limit(DUE_MAX).with_for_update(skip_locked=True)
    claimed = update(Intent).where(Intent.intent_id.in_(taken)).values(look_at=again, looks=Intent.looks + 1)
    return (await tx.scalars(claimed.returning(Intent.intent_id))).all()


async def expired(tx: Tx, now: datetime) -> Sequence[UUID]:
    """Payments whose time is over."""
    wanted = select(Intent.intent_id).where(Intent.expire_at <= now).order_by(Intent.expire_at)
    return (await tx.scalars(wanted.limit(DUE_MAX))).all()
