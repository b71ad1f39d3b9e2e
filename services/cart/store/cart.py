"""Carts: read and written whole, one row each, by statements that are prepared once."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from services.cart.domain.cart import Cart, Line, State, UnknownCart
from services.cart.domain.row import CartRow
from services.chassis.db import Connection, Database, Tx, execute
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page

CARTS = Listing(
    {
        "customer_id": Field(CartRow.customer_id, nullable=True, order=False),
        "state": Field(CartRow.state, order=False),
        "currency": Field(CartRow.currency, order=False),
        "units": Field(CartRow.units, order=False),
        "create_time": Field(CartRow.created_at),
        "update_time": Field(CartRow.updated_at, order=False),
        "cart_id": Field(CartRow.cart_id, order=False),
    },
    "create_time desc",
    "cart_id",
)
COLUMNS = """cart_id, customer_id, token_sha256, currency, country, state, version, lines, units,
    coupon_codes, order_id, merged_into_id, created_at, updated_at, expires_at, expires_on"""
GET = f"select {COLUMNS} from cart where cart_id = $1"
OPEN = f"select {COLUMNS} from cart where customer_id = $1 and state in ('OPEN', 'CHECKING_OUT')"
ADD = f"""
insert into cart ({COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
on conflict (cart_id) do nothing returning true
"""
SET = """
update cart set customer_id = $2, token_sha256 = $3, currency = $4, country = $5, state = $6, version = $7,
    lines = $8, units = $9, coupon_codes = $10, order_id = $11, merged_into_id = $12, created_at = $13,
    updated_at = $14, expires_at = $15, expires_on = $16
where cart_id = $1
"""
# What changes the carts of one customer goes one after another: there is one open cart, or none.
OF_CUSTOMER = "select pg_advisory_xact_lock(hashtextextended($1::text, 0))"
STALE = """
select cart_id from cart
where state = 'OPEN' and expires_at < $1 and expires_on <= ($1 at time zone 'utc')::date
order by expires_on limit $2 for update skip locked
"""
HANGING = (
    "select cart_id from cart where state = 'CHECKING_OUT' and updated_at < $1 order by updated_at limit $2"
)
FORGET = """
delete from cart where cart_id in (
    select cart_id from cart
    where state not in ('OPEN', 'CHECKING_OUT') and expires_at < $1
        and expires_on <= ($1 at time zone 'utc')::date
    limit $2
)
"""


async def find(db: Database | Connection, cart_id: UUID) -> Cart | None:
    row = await db.fetchrow(GET, cart_id)
    return _cart(row) if row else None


async def locked(tx: Connection, cart_id: UUID) -> Cart:
    """Nobody else changes it until the transaction ends. Raises UnknownCart."""
    row = await tx.fetchrow(f"{GET} for update", cart_id)
    if row is None:
        raise UnknownCart(cart_id=cart_id)
    return _cart(row)


async def open_of(db: Database | Connection, customer_id: UUID) -> Cart | None:
    row = await db.fetchrow(OPEN, customer_id)
    return _cart(row) if row else None


async def one_at_a_time(tx: Connection, customer_id: UUID) -> None:
    await tx.execute(OF_CUSTOMER, str(customer_id))


async def add(tx: Connection, cart: Cart) -> bool:
    """False: there is one of this id."""
    return bool(await tx.fetchval(ADD, *_values(cart)))


async def save(tx: Connection, cart: Cart) -> None:
    await tx.execute(SET, *_values(cart))


async def stale(tx: Connection, now: datetime, limit: int) -> list[UUID]:
    """Carts that nobody came back to; they are locked, and those that others have locked passed over."""
    return [row["cart_id"] for row in await tx.fetch(STALE, now, limit)]


async def hanging(db: Database, since: datetime, limit: int) -> list[UUID]:
    """Carts whose checkout was begun before `since`, and has not ended."""
    return [row["cart_id"] for row in await db.fetch(HANGING, since, limit)]


async def forget(db: Database, before: datetime, limit: int) -> bool:
    """Deletes carts that were closed long ago. False: there are none left."""
    return not (await db.execute(FORGET, before, limit)).endswith(" 0")


async def forget_customer(tx: Tx, customer_id: UUID) -> None:
    await execute(tx, "delete from cart where customer_id = $1", customer_id)


async def page(tx: Tx, page: Page) -> tuple[Sequence[Cart], str]:
    """Carts, and the next page's token."""
    rows, token = page.cut((await tx.scalars(page.select(select(CartRow)))).all())
    return [_cart({name: getattr(row, name) for name in NAMES}) for row in rows], token


NAMES = [name.strip() for name in COLUMNS.split(",")]


def _values(cart: Cart) -> tuple[Any, ...]:
    lines = [
        {"sku": line.sku, "units": line.units, "saved": line.saved, "at": line.at.isoformat()}
        for line in cart.lines.values()
    ]
    own = {"state": cart.state.value, "lines": json.dumps(lines)}
    return tuple(own.get(name, getattr(cart, name)) for name in NAMES)


def _cart(row: Any) -> Cart:
    """From a record, or the columns of a mapped row."""
    values = {name: row[name] for name in NAMES if name not in ("state", "lines", "units", "expires_on")}
    lines = row["lines"] if isinstance(row["lines"], list) else json.loads(row["lines"])
    made = [
        Line(each["sku"], each["units"], each["saved"], datetime.fromisoformat(each["at"])) for each in lines
    ]
    values["coupon_codes"] = list(row["coupon_codes"])
    return Cart(state=State(row["state"]), lines={line.sku: line for line in made}, **values)
