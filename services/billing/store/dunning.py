"""The chase after invoices."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from services.billing.domain.dunning import Dunning, DunningAction, DunningPolicy, UnknownDunningPolicy
from services.chassis.db import AnyTx, Tx, execute, fetch

BATCH_MAX = 200  # Chases moved on, or actions taken, in one round: about a second of other services' work.
FINISH = """
update dunning set finished_at = $3, outcome = $2, next_at = null
where invoice_id = $1 and finished_at is null returning invoice_id
"""
CLEAR = """
update dunning set standing = 'GOOD' where invoice_id = $1 and standing <> 'GOOD' returning invoice_id
"""
BEGIN_AGAIN = """
update dunning set step = 0, next_at = $2, finished_at = null, outcome = null, restarts = restarts + 1,
    restarted_at = $3
where invoice_id = $1
"""
SETTINGS = """
select p.settings::text as settings from dunning left join dunning_policy p using (policy_id)
where invoice_id = $1
"""
SKIP = """
update dunning_action set state = 'SKIPPED', next_at = null, ended_at = $2, detail = 'settled'
where invoice_id = $1 and state = 'PENDING'
"""
DUE = """
select d.invoice_id, i.customer_id, i.issued_at, i.due_at, i.collection, d.policy_id, d.step, d.next_at,
    d.standing, d.attempts, d.restarts, d.restarted_at, i.currency, p.settings::text as settings,
    i.gross - i.credit_applied - i.credited_due - i.amount_paid as amount
from invoice i join dunning d using (invoice_id) left join dunning_policy p using (policy_id)
where d.next_at <= $1 order by d.next_at limit $2
for update of i, d skip locked
"""
MOVE = "update dunning set step = $2, next_at = $3, standing = $4, attempts = $5 where invoice_id = $1"
ACT = """
insert into dunning_action
    (action_id, invoice_id, kind, number, amount, state, tries, next_at, detail, created_at)
values ($1, $2, $3, $4, $5, 'PENDING', 0, $6, '', $6) on conflict do nothing
"""
CHASE = """
select i.customer_id, i.state, i.currency, i.number_text, i.issued_at, i.due_at, p.method_id, p.time_zone,
    i.gross - i.credit_applied - i.credited_due - i.amount_paid as due,
    coalesce(a.name, '') as name, coalesce(a.email, '') as email, coalesce(a.locale, '') as locale
from invoice i join billing_profile p using (customer_id) left join billing_party a using (customer_id)
where invoice_id = $1
"""
# An attempt whose end is not known yet keeps others from being made.
UNDER_WAY = """
select exists (
    select from dunning_action where invoice_id = $1 and kind = 'ATTEMPT' and state in ('PENDING', 'CALLED')
) as under_way
"""
TAKE = """
update dunning_action a set tries = tries + 1, next_at = $2
from (
    select action_id from dunning_action where next_at <= $1 order by next_at limit $3
    for update skip locked
) as due
where a.action_id = due.action_id returning a.*
"""
END = """
update dunning_action set state = $2, detail = $3, next_at = null, ended_at = $4
where action_id = $1 and state in ('PENDING', 'CALLED') returning action_id
"""
CALLED = """
update dunning_action set state = 'CALLED', next_at = null where action_id = $1 and state = 'PENDING'
"""


async def policy(tx: Tx, policy_id: UUID) -> DunningPolicy:
    """Raises UnknownDunningPolicy."""
    row = await tx.get(DunningPolicy, policy_id)
    if row is None:
        raise UnknownDunningPolicy(policy_id=policy_id)
    return row


async def get(tx: Tx, invoice_id: UUID) -> Dunning | None:
    return await tx.get(Dunning, invoice_id)


async def actions(tx: Tx, invoice_id: UUID) -> Sequence[DunningAction]:
    wanted = select(DunningAction).where(DunningAction.invoice_id == invoice_id)
    return (await tx.scalars(wanted.order_by(DunningAction.created_at, DunningAction.number))).all()


async def finish(tx: AnyTx, invoice_id: UUID, outcome: str, now: datetime) -> bool:
    """False when it has finished before, or never began. The invoice is locked."""
    await execute(tx, SKIP, invoice_id, now)
    return bool(await fetch(tx, FINISH, invoice_id, outcome, now))


async def begin_again(tx: AnyTx, invoice_id: UUID, next_at: datetime, now: datetime) -> None:
    """A chase that was over goes on from its first step. The invoice is locked."""
    await execute(tx, BEGIN_AGAIN, invoice_id, next_at, now)


async def settings(tx: AnyTx, invoice_id: UUID) -> str | None:
    """Of the chase's policy, as JSON; None: the default one."""
    rows = await fetch(tx, SETTINGS, invoice_id)
    return rows[0]["settings"] if rows else None


async def clear(tx: AnyTx, invoice_id: UUID) -> bool:
    """It no longer weighs on its customer; False: it did not."""
    return bool(await fetch(tx, CLEAR, invoice_id))


async def standings(tx: AnyTx, customer_id: UUID) -> list[str]:
    """What invoices make of a customer's standing; of those that make it worse than good."""
    sql = "select standing from dunning where customer_id = $1 and standing <> 'GOOD'"
    return [row["standing"] for row in await fetch(tx, sql, customer_id)]


async def due(tx: AnyTx, now: datetime) -> Sequence[Any]:
    """Chases whose next step has come, locked with their invoices."""
    return await fetch(tx, DUE, now, BATCH_MAX)


async def move(tx: AnyTx, invoice_id: UUID, step: int, next_at: datetime | None, row: Any) -> None:
    """To the next step. `row` has standing and attempts as they are now."""
    await execute(tx, MOVE, invoice_id, step, next_at, row["standing"], row["attempts"])


async def act(
    tx: AnyTx, action_id: UUID, invoice_id: UUID, what: tuple[str, int, int], now: datetime
) -> None:
    """Notes what is to be done outside: its kind, its number, and what is due."""
    await execute(tx, ACT, action_id, invoice_id, *what, now)


async def chased(tx: AnyTx, invoice_id: UUID) -> Any:
    """What the invoice and its customer are now, for who charges or writes."""
    return (await fetch(tx, CHASE, invoice_id))[0]


async def tried(tx: AnyTx, invoice_id: UUID) -> int:
    """One attempt more. Returns how many there are now."""
    sql = "update dunning set attempts = attempts + 1 where invoice_id = $1 returning attempts"
    return int((await fetch(tx, sql, invoice_id))[0]["attempts"])


async def under_way(tx: AnyTx, invoice_id: UUID) -> bool:
    return bool((await fetch(tx, UNDER_WAY, invoice_id))[0]["under_way"])


async def take(tx: AnyTx, now: datetime, again: datetime) -> Sequence[Any]:
    """Actions to be taken now; nobody else takes them until `again`."""
    return await fetch(tx, TAKE, now, again, BATCH_MAX)


async def end(tx: AnyTx, action_id: UUID, state: str, detail: str, now: datetime) -> bool:
    """False when it had ended, or is not known."""
    return bool(await fetch(tx, END, action_id, state, detail, now))


async def cancelled(tx: AnyTx, intent_id: UUID, now: datetime) -> None:
    """Notes a payment that was given up."""
    sql = "insert into cancelled_payment (intent_id, at) values ($1, $2) on conflict do nothing"
    await execute(tx, sql, intent_id, now)


async def was_cancelled(tx: AnyTx, intent_id: UUID) -> bool:
    return bool(await fetch(tx, "select 1 as was from cancelled_payment where intent_id = $1", intent_id))


async def called(tx: AnyTx, action_id: UUID) -> None:
    """It was handed over; how it ends is heard later."""
    await execute(tx, CALLED, action_id)
