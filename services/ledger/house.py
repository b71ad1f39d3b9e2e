"""Makes sure that accounts of the house are there."""

from collections.abc import Sequence

from services.chassis.db import AnyTx, database_of, fetch
from services.chassis.events import emit
from services.ledger.domain.account import AccountCodeTaken
from services.ledger.domain.chart import House, account_of
from weft.ledger.v1.account_pb2 import AccountKind
from weft.ledger.v1.events_pb2 import AccountCreated

MAKE = """
insert into account (account_id, code, currency, kind, limit_kind, overdraft_minor, owner_id, debits_posted,
    credits_posted, debits_pending, credits_pending, closed, created_at)
values ($1, $2, $3, $4, 'NONE', 0, '', 0, 0, 0, 0, false, $5)
on conflict do nothing returning account_id
"""
THERE = "select account_id from account where account_id = any($1::uuid[])"


async def ensure(tx: AnyTx, houses: Sequence[House]) -> None:
    """Those that are not there are made; in the order of their codes, so that two makers do not lock."""
    ids = {account_of(house): house for house in houses}
    there = {row["account_id"] for row in await fetch(tx, THERE, list(ids))}
    now = database_of(tx).clock.now()
    for account_id in sorted(ids.keys() - there, key=lambda each: ids[each].code):
        house = ids[account_id]
        if await fetch(tx, MAKE, account_id, house.code, house.currency, house.kind.value, now):
            await emit(tx, _created(house))
        elif not await fetch(tx, THERE, [account_id]):
            raise AccountCodeTaken(code=house.code)


def _created(house: House) -> AccountCreated:
    return AccountCreated(
        account_id=str(account_of(house)),
        code=house.code,
        currency=house.currency,
        kind=AccountKind.Value(f"ACCOUNT_KIND_{house.kind}"),
    )
