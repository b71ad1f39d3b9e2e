"""What of an order is no event: whom it is for, what its goods were called, what it was asked for by."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx, Database, execute, fetch
from services.order.domain.words import words

MADE = """
insert into order_detail (order_id, request_mac, customer_id, created_at, titles, contact, payment, words)
values ($1, $2, $3, $4, $5::text::jsonb, $6, $7, array_to_tsvector($8::text[])) on conflict do nothing
returning true
"""
MADE_MANY = """
insert into order_detail (order_id, request_mac, customer_id, created_at, titles, words)
select order_id, mac, customer_id, at, titles::jsonb, array_to_tsvector(string_to_array(words, ' '))
from unnest($1::uuid[], $2::bytea[], $3::uuid[], $4::timestamptz[], $5::text[], $6::text[])
    as new (order_id, mac, customer_id, at, titles, words)
"""
FIND = """
select request_mac, titles::text as titles, contact, payment, next_action_url from order_detail
where order_id = $1
"""
MACS = "select order_id, request_mac from order_detail where order_id = any($1::uuid[])"
PAID = "update order_detail set payment = null, next_action_url = '' where order_id = $1"
ACT = "update order_detail set next_action_url = $2 where order_id = $1"
ERASE = """
update order_detail set contact = null, payment = null, next_action_url = '',
    words = array_to_tsvector($2::text[])
where order_id = $1
"""
OF_CUSTOMER = "select order_id from order_detail where customer_id = $1 and contact is not null limit $2"
REFUNDS = "select refund_id, request_mac from imported_refund where refund_id = any($1::uuid[])"
REFUND = """
insert into imported_refund (refund_id, request_mac)
select * from unnest($1::uuid[], $2::bytea[])
"""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A new order's details."""

    order_id: UUID
    request_mac: bytes
    customer_id: UUID | None
    created_at: datetime
    titles: Mapping[str, str]  # By line.
    words: Iterable[str]  # Texts that it is found by.
    contact: bytes | None = None
    payment: bytes | None = None


@dataclass(frozen=True)
class Found:
    request_mac: bytes
    titles: Mapping[str, str]
    contact: bytes | None
    payment: bytes | None
    next_action_url: str


async def make(tx: AnyTx, made: Made) -> bool:
    """False: there is one with this id."""
    about = (
        made.order_id,
        made.request_mac,
        made.customer_id,
        made.created_at,
        json.dumps(dict(made.titles)),
    )
    return bool(await fetch(tx, MADE, *about, made.contact, made.payment, words(made.words)))


async def make_many(tx: AnyTx, made: Sequence[Made]) -> None:
    """Those that were imported: they have neither contact nor payment."""
    columns = (
        [each.order_id for each in made],
        [each.request_mac for each in made],
        [each.customer_id for each in made],
        [each.created_at for each in made],
        [json.dumps(dict(each.titles)) for each in made],
        [" ".join(words(each.words)) for each in made],
    )
    await execute(tx, MADE_MANY, *columns)


async def find(source: Database | AnyTx, order_id: UUID) -> Found | None:
    rows = await (
        source.fetch(FIND, order_id) if isinstance(source, Database) else fetch(source, FIND, order_id)
    )
    if not rows:
        return None
    row = rows[0]
    titles = json.loads(row["titles"])
    return Found(row["request_mac"], titles, row["contact"], row["payment"], row["next_action_url"])


async def macs(tx: AnyTx, ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """Of those that are there."""
    return {row["order_id"]: row["request_mac"] for row in await fetch(tx, MACS, list(ids))}


async def paid(tx: AnyTx, order_id: UUID) -> None:
    """How it was to be paid is needed no more."""
    await execute(tx, PAID, order_id)


async def act(tx: AnyTx, order_id: UUID, url: str) -> None:
    """Where the customer has to go."""
    await execute(tx, ACT, order_id, url)


async def erase(tx: AnyTx, order_id: UUID, kept: Iterable[str]) -> None:
    """Forgets the person; it is still found by the texts that are kept."""
    await execute(tx, ERASE, order_id, words(kept))


async def of_customer(tx: AnyTx, customer_id: UUID, count: int) -> list[UUID]:
    """Orders that know something of a person."""
    return [row["order_id"] for row in await fetch(tx, OF_CUSTOMER, customer_id, count)]


async def refund_macs(tx: AnyTx, ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """Of imported refunds that are there."""
    return {row["refund_id"]: row["request_mac"] for row in await fetch(tx, REFUNDS, list(ids))}


async def refunds(tx: AnyTx, macs: Mapping[UUID, bytes]) -> None:
    """Imported refunds that are there from now on."""
    await execute(tx, REFUND, list(macs), list(macs.values()))


def texts(reference: str, skus: Iterable[str], titles: Iterable[str], *personal: Any) -> list[str]:
    """What an order is found by."""
    return [reference, *skus, *titles, *(str(each) for each in personal if each)]
