"""The house's own accounts, made when they are first needed: one of each kind for a currency."""

from dataclasses import dataclass
from uuid import UUID, uuid5

from services.ledger.domain.account import Kind

NAMESPACE = UUID("5b1e8c0a-8a53-4d3e-9a35-2f6c7d1b4e60")  # Of ids of accounts that are derived from codes.

WALLET = "wallet"  # The gateway of payments out of a wallet.
BY_HAND = "by-hand"  # In a gateway's place, of money that came by a way that payment does not know.


@dataclass(frozen=True, slots=True)
class House:
    """An account of the house."""

    code: str
    kind: Kind
    currency: str


def account_of(house: House) -> UUID:
    return uuid5(NAMESPACE, house.code)


def receivables(currency: str) -> House:
    """What customers owe; what they paid ahead where it is negative."""
    return House(f"assets:receivables:{currency}", Kind.ASSET, currency)


def clearing(gateway: str, currency: str) -> House:
    """What a gateway has taken for us and not yet paid out; a wallet's money was with us all along."""
    if gateway == WALLET:
        return wallets(currency)
    return House(f"assets:clearing:{gateway}:{currency}", Kind.ASSET, currency)


def wallets(currency: str) -> House:
    """What customers have in their wallets: theirs, until they pay with it."""
    return House(f"liabilities:wallets:{currency}", Kind.LIABILITY, currency)


def credits(currency: str) -> House:
    """What customers have with us beyond what they owe: it pays their next invoices."""
    return House(f"liabilities:credits:{currency}", Kind.LIABILITY, currency)


def goodwill(currency: str) -> House:
    """Credits that were granted for nothing."""
    return House(f"expenses:goodwill:{currency}", Kind.EXPENSE, currency)


def disputed(currency: str) -> House:
    """What a gateway holds back until a dispute is decided."""
    return House(f"assets:disputed:{currency}", Kind.ASSET, currency)


def vat(currency: str) -> House:
    """Tax that was charged and is owed to the state."""
    return House(f"liabilities:vat:{currency}", Kind.LIABILITY, currency)


def position(currency: str) -> House:
    """What exchanges have moved between currencies."""
    return House(f"equity:position:{currency}", Kind.EQUITY, currency)


def sales(currency: str) -> House:
    return House(f"income:sales:{currency}", Kind.INCOME, currency)


def returns(currency: str) -> House:
    """Sales taken back; it reduces income."""
    return House(f"income:returns:{currency}", Kind.INCOME, currency)


def invoices(currency: str) -> House:
    """What was invoiced for subscriptions and services."""
    return House(f"income:invoices:{currency}", Kind.INCOME, currency)


def credit_notes(currency: str) -> House:
    """Invoices taken back; it reduces income."""
    return House(f"income:credit-notes:{currency}", Kind.INCOME, currency)


def bad_debts(currency: str) -> House:
    return House(f"expenses:bad-debts:{currency}", Kind.EXPENSE, currency)


def chargebacks(currency: str) -> House:
    return House(f"expenses:chargebacks:{currency}", Kind.EXPENSE, currency)


def dispute_fees(currency: str) -> House:
    return House(f"expenses:dispute-fees:{currency}", Kind.EXPENSE, currency)
