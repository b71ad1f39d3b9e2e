"""By what customers pay: rows, rules and refusals; what may stand where a token is expected."""

import re
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from services.chassis.money import Money
from services.payment.domain.intent import Kind
from services.payment.domain.row import Row

METHODS_MAX = 20  # Of one customer: nobody has more cards than that to choose from.
DIGIT_RUN = re.compile(r"(?<!\d)\d(?:[ -]?\d){11,18}(?!\d)")
UUID_TEXT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class UnknownMethod(NotFound):
    """There is no payment method {method_id}."""


class MethodIdReused(AlreadyExists):
    """Payment method {method_id} was attached with other content."""


class MethodDetached(FailedPrecondition):
    """Payment method {method_id} was detached."""


class TooManyMethods(FailedPrecondition):
    """A customer has at most {max} payment methods."""


class InvoiceNotGranted(FailedPrecondition):
    """This customer may not pay on invoice in {currency}."""


class CreditLimitExceeded(FailedPrecondition):
    """With this payment the customer would owe more than {limit} on invoice."""


class CardRefused(FailedPrecondition):
    """The gateway refused the card: {code}."""


class CardNumberRefused(InvalidArgument):
    """{field} looks like a card number; only tokens of the gateway are taken."""


class GatewayUnreachable(Unavailable):
    """{gateway} does not answer."""


class IbanRefused(InvalidArgument):
    """The IBAN breaks a rule: {rule}."""


class Method(Row):
    """By what a customer pays."""

    __tablename__ = "method"
    method_id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID]
    body_mac: Mapped[bytes]
    kind: Mapped[str]
    preferred: Mapped[bool]
    gateway: Mapped[str]
    sealed_source: Mapped[bytes | None]  # Of a card. Erased when it is detached.
    sealed_account: Mapped[bytes | None]  # IBAN and holder, as JSON.
    account_mac: Mapped[bytes | None]  # Keyed hash of the IBAN: finds the transfers that come from it.
    brand: Mapped[str]
    last4: Mapped[str]
    expiry: Mapped[str]
    country: Mapped[str]
    currency: Mapped[str]  # Of the credit limit; empty: none.
    credit_limit: Mapped[int]
    created_at: Mapped[datetime]
    detached_at: Mapped[datetime | None]

    def usable(self) -> "Method":
        """Raises MethodDetached."""
        if self.detached_at is not None:
            raise MethodDetached(method_id=self.method_id)
        return self

    def detach(self, now: datetime) -> bool:
        """Erases what it held. False when it was detached before."""
        if self.detached_at is not None:
            return False
        self.detached_at, self.preferred = now, False
        self.sealed_source = self.sealed_account = self.account_mac = None
        self.last4 = self.brand = self.expiry = self.country = ""
        return True

    def lend(self, owed: int, amount: Money) -> None:
        """Raises InvoiceNotGranted, CreditLimitExceeded."""
        if self.kind != Kind.INVOICE or self.currency != amount.currency:
            raise InvoiceNotGranted(currency=amount.currency)
        if owed + amount.minor > self.credit_limit:
            raise CreditLimitExceeded(limit=Money(self.credit_limit, self.currency))


def no_card_number(text: str, field: str) -> str:
    """`text`, unless a number of a card stands in it (ISO/IEC 7812: 12 to 19 digits by Luhn).

    Raises CardNumberRefused, which does not repeat it.
    """
    for found in DIGIT_RUN.findall(UUID_TEXT.sub("", text)):
        if luhn(re.sub(r"\D", "", found)):
            raise CardNumberRefused(field=field)
    return text


def luhn(digits: str) -> bool:
    doubled = (int(each) * (2 if n % 2 else 1) for n, each in enumerate(reversed(digits)))
    return sum(each // 10 + each % 10 for each in doubled) % 10 == 0
