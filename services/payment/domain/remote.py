"""A payment as its gateway has it: what every call of a gateway answers, at whatever time it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from services.chassis.money import Money


class RemoteState(StrEnum):
    """Where a payment stands at the gateway."""

    NEW = "NEW"  # It was not asked for money yet.
    ACTION = "ACTION"  # The customer has to do something.
    PROCESSING = "PROCESSING"
    AUTHORISED = "AUTHORISED"  # Held; more can be captured.
    TAKEN = "TAKEN"  # Captured, and no more can be.
    DECLINED = "DECLINED"
    VOIDED = "VOIDED"  # Released: nothing can be captured any more.


class DisputeState(StrEnum):
    """Where a dispute stands, in the order it moves."""

    OPEN = "OPEN"
    WON = "WON"
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class Decline:
    """Why a gateway refused."""

    code: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class RemoteRefund:
    """A refund of ours as the gateway has it."""

    amount: int
    done: bool = True
    decline: Decline | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteDispute:
    """A customer's bank wants the money back."""

    ref: str  # The gateway's id of it.
    payment_ref: str  # The gateway's id of the payment.
    amount: int
    currency: str
    state: DisputeState
    fee: int = 0
    reason: str = ""
    respond_by: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """All that matters of a payment. Sums only ever grow, so that an old answer does no harm."""

    state: RemoteState
    captured: int = 0
    refunds: Mapping[str, RemoteRefund] = field(default_factory=dict)  # By the key we gave.
    disputes: tuple[RemoteDispute, ...] = ()
    redirect_url: str = ""
    decline: Decline | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What a gateway charges: its tokens, never a number. Sealed at rest."""

    token: str
    customer: str = ""  # The gateway's id of the customer that the token belongs to.

    def __repr__(self) -> str:
        return "Source(...)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """A payment as a gateway is asked for it."""

    intent_id: UUID
    customer_id: UUID
    reference: str
    amount: Money
    capture: bool  # With the authorisation.
    deferred: bool = False  # Paid after delivery: a promise is enough.
    source: Source | None = None
    return_url: str = ""
    ref: str = ""  # The gateway's id of the payment; empty before it is opened.


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A card as a gateway keeps it."""

    source: Source
    brand: str
    last4: str
    expiry: str  # 2030-08


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What a webhook says that is believed: that something happened, and how a dispute stands."""

    notice_id: str
    kind: str
    ref: str = ""  # The gateway's id of the payment; empty: it is about none.
    dispute: RemoteDispute | None = None


class GatewayAway(Exception):
    """It did not answer, or not in time: the call may have had its effect, or may still have it."""


class GatewayRefused(Exception):
    """It answered that it will not: the call had no effect, and has none when repeated."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(code)
        self.decline = Decline(code[:100], message[:300])
