"""What the servicers work with."""

from dataclasses import dataclass
from uuid import UUID

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.payment.domain.intent import Kind, KindNotOffered
from services.payment.domain.sealing import Sealer
from services.payment.gateways.bank import Bank
from services.payment.gateways.gateway import Gateway
from services.payment.paying import Means, Payer


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Lent to each servicer."""

    means: Means
    payer: Payer
    cards: str  # The gateway of cards; empty: none.
    page_key: str  # Seals page tokens.

    @property
    def bank(self) -> Bank | None:
        found = self.means.gateways.get(Bank.name)
        return found if isinstance(found, Bank) else None

    @property
    def db(self) -> Database:
        return self.means.db

    @property
    def clock(self) -> Clock:
        return self.means.clock

    @property
    def sealer(self) -> Sealer:
        return self.means.sealer

    def gateway(self, kind: Kind) -> Gateway:
        """Where what is paid by `kind` is paid. Raises KindNotOffered."""
        by_bank = {Kind.BANK_TRANSFER: "bank", Kind.INVOICE: "bank", Kind.WALLET: "wallet"}
        found = self.means.gateways.get(by_bank.get(kind, self.cards))
        if found is None:
            raise KindNotOffered(kind=kind.value)
        return found

    def at(self, kind: str, name: str) -> Gateway:
        """The gateway that a payment is at. Raises KindNotOffered where it is not configured any more."""
        found = self.means.gateways.get(name)
        if found is None:
            raise KindNotOffered(kind=kind)
        return found


def optional(text: str) -> UUID | None:
    """The id that a field holds, if any."""
    return UUID(text) if text else None
