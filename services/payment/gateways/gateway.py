"""What every gateway can do. Each call may be repeated with the same key, at any time, after any crash."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol
from uuid import UUID

from services.chassis.money import Money
from services.payment.domain.remote import Charge, Kept, Notice, Remote


class Gateway(Protocol):
    """Every call raises GatewayAway when it is not known what became of it, GatewayRefused when nothing did.

    No call moves money twice for one key: `authorise` and `void` by the payment's own id at the gateway,
    `capture` and `refund` by `key`.
    """

    name: str
    several_captures: bool  # Whether a payment can be captured in parts that follow each other.

    def check(self, amount: Money) -> None:
        """Raises AmountNotChargeable."""

    def ref(self, charge: Charge) -> str:
        """The payment's id at the gateway where it follows from ours; else empty, and `open` makes one."""

    async def open(self, charge: Charge) -> str:
        """The id of a payment for which nothing is taken or held yet. One too many does no harm."""

    async def authorise(self, charge: Charge) -> Remote:
        """Asks for the money, and takes it where `charge.capture`."""

    async def capture(self, charge: Charge, key: str, amount: int, *, final: bool) -> Remote: ...

    async def void(self, charge: Charge, key: str) -> Remote:
        """Gives up what was not captured; also what has not been asked for, and never will be then."""

    async def refund(self, charge: Charge, key: str, amount: int) -> Remote: ...

    async def look(self, charge: Charge) -> Remote:
        """How the payment stands."""

    async def keep(self, customer_id: UUID, method_id: UUID, token: str, known: str) -> Kept:
        """Exchanges a token for one that can be charged again and again.

        `known` is the gateway's id of the customer, from another method; empty: none.
        """

    def notice(self, header: Callable[[str], str], body: bytes, now: datetime) -> Notice | None:
        """What a webhook says; None: nothing that matters here. Raises WebhookRefused, WebhookUnreadable."""
