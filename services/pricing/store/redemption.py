"""Uses of promotions, counted under the locks that make limits hold.

Who takes several takes them in the order of their promotions' ids, so that two orders wait for each other
and never for ever. A promotion without limits of the whole is locked in share: orders do not wait for each
other, but who sets a limit waits for them, and counts them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.db import Conflict, Connection, Database
from services.pricing.domain.promotion import State
from services.pricing.domain.redemption import REDEEMED, RELEASED, PromotionExhausted, Use

ARCHIVED = State.ARCHIVED.value
TAKE_ID = """
insert into redemption (redemption_id, quote_id, customer_id, state, created_at)
values ($1, $2, $3, $4, $5) on conflict do nothing returning true
"""
GET = "select * from redemption where redemption_id = $1"
USES = "select * from redemption_use where redemption_id = $1 order by number"
LIMITS = """
select uses_max, uses_per_customer_max, uses_per_coupon_max, budget_minor, state from promotion
where promotion_id = $1
"""
TAKE = """
update promotion set uses = uses + (uses_max is not null)::int,
    spent_minor = spent_minor + case when budget_minor is null then 0 else $2 end
where promotion_id = $1 and (uses_max is null or uses < uses_max)
    and (budget_minor is null or spent_minor + $2 <= budget_minor)
returning uses_max, uses_per_customer_max, uses_per_coupon_max, budget_minor, state
"""
TAKE_OF_CUSTOMER = """
insert into customer_use values ($1, $2, 1)
on conflict (promotion_id, customer_id) do update set uses = customer_use.uses + 1
where customer_use.uses < $3 returning true
"""
TAKE_OF_COUPON = """
update coupon set uses = uses + 1
where code = $1 and not revoked and uses < coalesce(uses_max, $2, uses + 1) returning true
"""
ADD_USE = """
insert into redemption_use (redemption_id, number, promotion_id, code, amount_minor, net_minor, currency,
    created_at) values ($1, $2, $3, $4, $5, $6, $7, $8)
"""
RELEASE = """
update redemption set state = 'RELEASED', released_at = $2 where redemption_id = $1 and state = 'REDEEMED'
returning customer_id
"""
GIVE = """
update promotion set uses = greatest(0, uses - (uses_max is not null)::int),
    spent_minor = greatest(0, spent_minor - case when budget_minor is null then 0 else $2 end)
where promotion_id = $1 and (uses_max is not null or budget_minor is not null)
"""
GIVE_OF_CUSTOMER = """
update customer_use set uses = uses - 1 where promotion_id = $1 and customer_id = $2 and uses > 0
"""
GIVE_OF_COUPON = "update coupon set uses = uses - 1 where code = $1 and uses > 0"


@dataclass(frozen=True, slots=True)
class Order:
    """What took the uses."""

    redemption_id: UUID
    net_minor: int
    currency: str
    at: datetime


async def begin(
    tx: Connection, redemption_id: UUID, quote_id: UUID, customer_id: UUID | None, now: datetime
) -> bool:
    """False: there is one of this id. Waits for a rival that has not committed."""
    return bool(await tx.fetchval(TAKE_ID, redemption_id, quote_id, customer_id, REDEEMED, now))


async def get(db: Database | Connection, redemption_id: UUID) -> Any:
    """None: there is none."""
    return await db.fetchrow(GET, redemption_id)


async def uses(db: Database | Connection, redemption_id: UUID) -> Sequence[Any]:
    found: Sequence[Any] = await db.fetch(USES, redemption_id)
    return found


async def take(tx: Connection, use: Use, customer_id: UUID | None) -> None:
    """One use. Raises PromotionExhausted."""
    limits = await _taken_of_all(tx, use)
    if limits["state"] == ARCHIVED:
        raise PromotionExhausted(promotion_id=use.promotion_id, limit="archived")
    await _take_of_customer(tx, use, customer_id, limits["uses_per_customer_max"])
    if use.code and not await tx.fetchval(TAKE_OF_COUPON, use.code, limits["uses_per_coupon_max"]):
        raise PromotionExhausted(promotion_id=use.promotion_id, limit="coupon")


async def _taken_of_all(tx: Connection, use: Use) -> Any:
    """The limits that hold until this transaction ends, those of the whole taken from.

    Raises Conflict when a limit was set just now: a lock in share that wants to be more would wait for others
    that want the same. Run again, it sees the limit before it locks.
    """
    limits = await tx.fetchrow(LIMITS, use.promotion_id)
    if not _counts(limits):
        limits = await tx.fetchrow(f"{LIMITS} for share", use.promotion_id)
        if _counts(limits):
            raise Conflict
        return limits
    limits = await tx.fetchrow(TAKE, use.promotion_id, use.amount_minor)
    if limits is None:
        raise PromotionExhausted(promotion_id=use.promotion_id, limit="total")
    return limits


def _counts(limits: Any) -> bool:
    return limits["uses_max"] is not None or limits["budget_minor"] is not None


async def _take_of_customer(tx: Connection, use: Use, customer_id: UUID | None, most: int | None) -> None:
    if most is None:
        return
    if customer_id is None or not await tx.fetchval(TAKE_OF_CUSTOMER, use.promotion_id, customer_id, most):
        raise PromotionExhausted(promotion_id=use.promotion_id, limit="customer")


async def note(tx: Connection, order: Order, uses: Sequence[Use]) -> None:
    """Writes down what was taken."""
    rest = (order.net_minor, order.currency, order.at)
    rows = [
        (order.redemption_id, n, use.promotion_id, use.code, use.amount_minor, *rest)
        for n, use in enumerate(uses)
    ]
    await tx.executemany(ADD_USE, rows)


async def bury(tx: Connection, redemption_id: UUID, now: datetime) -> bool:
    """Releases what never came. False: it came."""
    made = await tx.fetchval(TAKE_ID, redemption_id, None, None, RELEASED, now)
    if made:
        await tx.execute(
            "update redemption set released_at = $2 where redemption_id = $1", redemption_id, now
        )
    return bool(made)


async def release(tx: Connection, redemption_id: UUID, now: datetime) -> tuple[bool, UUID | None]:
    """Gives all uses back. False: they were given back before. Whose they were."""
    rows = await tx.fetch(RELEASE, redemption_id, now)
    if not rows:
        return False, None
    customer_id = rows[0]["customer_id"]
    for row in sorted(await uses(tx, redemption_id), key=lambda row: row["promotion_id"]):
        await tx.execute(GIVE, row["promotion_id"], row["amount_minor"])
        if customer_id:
            await tx.execute(GIVE_OF_CUSTOMER, row["promotion_id"], customer_id)
        if row["code"]:
            await tx.execute(GIVE_OF_COUPON, row["code"])
    return True, customer_id
