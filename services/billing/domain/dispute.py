"""Lost disputes of payments of invoices: the customer's bank has the money, and the debt is back."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class LostDispute:
    """Money of one payment that is gone."""

    dispute_id: UUID
    intent_id: UUID
    invoice_id: UUID
    currency: str
    amount: int
    gateway: str
    at: datetime


def takeable(amount: int, taken: int, brought: int, taken_of_all: int) -> int:
    """What of a dispute can be undone now: no more than its payment is known to have brought.

    `taken_of_all`: by all disputes of the payment. Events may come in any order; what is not known yet waits.
    """
    return max(0, min(amount - taken, brought - taken_of_all))
