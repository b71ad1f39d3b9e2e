"""What moves in wallets, with the events that tell of it."""

from collections.abc import Sequence
from datetime import datetime

from services.chassis.db import AnyTx
from services.chassis.events import emit
from services.chassis.money import Money, money_to_pb
from services.payment.domain.dispute import Dispute
from services.payment.domain.intent import Asked, Intent, Outcome
from services.payment.domain.settling import Captured, Ended, Fact
from services.payment.domain.wallet import Change, Reason, entry_of
from services.payment.store import wallet as store
from weft.payment.v1.events_pb2 import WalletChanged


async def change(tx: AnyTx, wanted: Change, now: datetime, *, held: int = 0) -> None:
    """Once for each entry. Raises WalletTooLow, EntryIdReused."""
    balance, new = await store.change(tx, wanted, now, held=held)
    if new:
        changed = WalletChanged(
            entry_id=str(wanted.entry_id),
            customer_id=str(wanted.customer_id),
            amount=money_to_pb(wanted.amount),
            balance_minor=balance,
            reason=wanted.reason.value,
            reference=wanted.reference,
        )
        await emit(tx, changed)


async def follow(tx: AnyTx, intent: Intent, facts: Sequence[Fact], now: datetime) -> None:
    """What was captured of a top-up is credited; what could not be refunded of it, too."""
    if not intent.top_up:
        return
    for fact in facts:
        if isinstance(fact, Captured) and not fact.late:
            amount, reason, key = fact.capture.money, Reason.TOP_UP, fact.capture.key
        elif isinstance(fact, Ended) and _kept(fact):
            amount, reason, key = fact.operation.money, Reason.GIVEN_BACK, f"{fact.operation.key} kept"
        else:
            continue
        credit = Change(
            entry_id=entry_of(key),
            customer_id=intent.customer_id,
            amount=amount,
            reason=reason,
            reference=f"intent:{intent.intent_id}",
        )
        await change(tx, credit, now)


async def charge_back(tx: AnyTx, intent: Intent, dispute: Dispute, now: datetime) -> None:
    """What a lost dispute of a top-up takes out of the wallet, also where that is no longer there."""
    if intent.top_up_kept and dispute.amount:
        gone = Change(
            entry_id=entry_of(f"{dispute.dispute_id} lost"),
            customer_id=intent.customer_id,
            amount=-Money(dispute.amount, dispute.currency),
            reason=Reason.CHARGED_BACK,
            reference=f"intent:{intent.intent_id}",
        )
        await change(tx, gone, now)


def _kept(fact: Ended) -> bool:
    """A refund that took from the wallet, and failed."""
    refund = fact.operation
    return refund.kind == Asked.REFUND and refund.state == Outcome.FAILED and refund.reason != "late"
