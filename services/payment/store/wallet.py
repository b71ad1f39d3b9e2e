"""Balances and their entries. Whatever changes a balance holds its row until the end."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from services.chassis.db import AnyTx, Tx, execute, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.chassis.money import Money
from services.payment.domain.wallet import Change, EntryIdReused, Reason, Wallet, WalletEntry, WalletTooLow

ENTRIES = Listing(
    {
        "create_time": Field(WalletEntry.created_at),
        "entry_id": Field(WalletEntry.entry_id, order=False),
        "currency": Field(WalletEntry.currency, order=False),
        "reason": Field(WalletEntry.reason, order=False, values={each.value: each.value for each in Reason}),
    },
    "create_time desc",
    "entry_id",
)
OPEN = """
insert into wallet (customer_id, currency, balance, held, charged_back, updated_at)
values ($1, $2, 0, 0, 0, $3) on conflict do nothing
"""
LOCK = "select balance, held from wallet where customer_id = $1 and currency = $2 for update"
FIND = "select customer_id, currency, amount, balance, reason from wallet_entry where entry_id = $1"
CHANGE = """
update wallet set balance = balance + $3, held = held + $4, charged_back = charged_back + $5, updated_at = $6
where customer_id = $1 and currency = $2
"""
ADD = """
insert into wallet_entry (entry_id, customer_id, currency, amount, balance, reason, reference, created_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)
"""


async def change(tx: AnyTx, wanted: Change, now: datetime, *, held: int = 0) -> tuple[int, bool]:
    """The balance after it, and whether it is new. `held` of what is spent was held. Raises WalletTooLow."""
    row = await _locked(tx, wanted.customer_id, wanted.amount.currency, now)
    if found := await fetch(tx, FIND, wanted.entry_id):
        return _repeated(wanted, found[0]), False
    available = row["balance"] - row["held"] + held
    lost = -wanted.amount.minor if wanted.reason is Reason.CHARGED_BACK else 0
    if not lost and wanted.amount.minor < 0 and available + wanted.amount.minor < 0:
        _refuse(available, wanted.amount)
    of = (wanted.customer_id, wanted.amount.currency)
    await execute(tx, CHANGE, *of, wanted.amount.minor, -held, lost, now)
    after = row["balance"] + wanted.amount.minor
    rest = (wanted.amount.minor, after, wanted.reason.value, wanted.reference, now)
    await execute(tx, ADD, wanted.entry_id, *of, *rest)
    return after, True


async def hold(tx: AnyTx, customer_id: UUID, amount: Money, now: datetime) -> bool:
    """Keeps an amount for a payment, or lets go of it where it is negative; False: there is not so much."""
    row = await _locked(tx, customer_id, amount.currency, now)
    if amount.minor > 0 and row["balance"] - row["held"] < amount.minor:
        return False
    await execute(tx, CHANGE, customer_id, amount.currency, 0, amount.minor, 0, now)
    return True


async def of_customer(tx: Tx, customer_id: UUID) -> Sequence[Wallet]:
    wanted = select(Wallet).where(Wallet.customer_id == customer_id).order_by(Wallet.currency)
    return (await tx.scalars(wanted)).all()


async def entry(tx: Tx, entry_id: UUID) -> WalletEntry | None:
    return await tx.get(WalletEntry, entry_id)


async def entry_page(tx: Tx, page: Page, customer_id: UUID) -> tuple[Sequence[WalletEntry], str]:
    wanted = select(WalletEntry).where(WalletEntry.customer_id == customer_id)
    return page.cut((await tx.scalars(page.select(wanted))).all())


async def _locked(tx: AnyTx, customer_id: UUID, currency: str, now: datetime) -> Any:
    await execute(tx, OPEN, customer_id, currency, now)
    return (await fetch(tx, LOCK, customer_id, currency))[0]


def _repeated(wanted: Change, found: Any) -> int:
    """The balance after the entry. Raises EntryIdReused."""
    same = (wanted.customer_id, wanted.amount.currency, wanted.amount.minor, wanted.reason)
    if (found["customer_id"], found["currency"], found["amount"], found["reason"]) != same:
        raise EntryIdReused(entry_id=wanted.entry_id)
    return int(found["balance"])


def _refuse(available: int, wanted: Money) -> None:
    """Raises WalletTooLow."""
    raise WalletTooLow(available=Money(available, wanted.currency), wanted=-wanted)
