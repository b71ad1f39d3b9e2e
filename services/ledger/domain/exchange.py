"""Exchanging one currency into another: one linked chain, through the house's position in each."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid5

from services.chassis.money import Money
from services.ledger.domain.book import Wanted
from services.ledger.domain.chart import account_of, position
from services.ledger.domain.entry import Kind, NothingBought


@dataclass(frozen=True, slots=True)
class Exchange:
    """What is asked for. `buy_currency` is that of the account that is credited."""

    exchange_id: UUID
    sell_account_id: UUID
    buy_account_id: UUID
    sold: Money
    buy_currency: str
    rate: Decimal
    fee_minor: int
    fee_account_id: UUID | None
    reference: str
    effective_at: datetime | None
    asked: bytes

    def bought(self) -> Money:
        """Raises NothingBought."""
        bought = self.sold.convert(self.rate, self.buy_currency)
        if not bought:
            raise NothingBought(amount=self.sold, rate=self.rate, currency=self.buy_currency, field="amount")
        return bought

    def transfers(self) -> list[Wanted]:
        """The sale, the purchase, the fee; linked."""
        house = account_of(position(self.sold.currency)), account_of(position(self.buy_currency))
        made = [
            self._transfer("sale", self.sell_account_id, house[0], self.sold),
            self._transfer("purchase", house[1], self.buy_account_id, self.bought()),
        ]
        if self.fee_minor and self.fee_account_id:
            fee = Money(self.fee_minor, self.sold.currency)
            made.append(self._transfer("fee", self.sell_account_id, self.fee_account_id, fee))
        for each in made[:-1]:
            each.linked = True
        return made

    def _transfer(self, part: str, debit: UUID, credit: UUID, amount: Money) -> Wanted:
        return Wanted(
            transfer_id=uuid5(self.exchange_id, part),
            kind=Kind.POSTED,
            asked=self.asked,
            debit_account_id=debit,
            credit_account_id=credit,
            amount_minor=amount.minor,
            currency=amount.currency,
            code=f"exchange.{part}",
            reference=self.reference or f"exchange:{self.exchange_id}",
            effective_at=self.effective_at,
        )
