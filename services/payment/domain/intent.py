"""Payments and what is asked of gateways for them: rows, states, and what may follow what."""

import re
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid5

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from services.chassis.money import Money
from services.payment.domain.remote import Decline
from services.payment.domain.row import Row

EXPIRE_DEFAULT = timedelta(days=1)
EXPIRE_TRANSFER = timedelta(days=14)  # Banks take days, and so do people.
EXPIRE_MAX = timedelta(days=90)  # Whoever waits longer asks again.
RF = "2715"  # The letters, as ISO 7064 counts them.
REFUNDS_MAX = 100  # Of one payment; each is a row that is read under its lock.


class UnknownIntent(NotFound):
    """There is no payment {intent_id}."""


class IntentIdReused(AlreadyExists):
    """Payment {intent_id} was asked for with other content."""


class CaptureIdReused(AlreadyExists):
    """Capture {capture_id} was asked for with other content."""


class RefundIdReused(AlreadyExists):
    """Refund {refund_id} was asked for with other content."""


class UnknownRefund(NotFound):
    """There is no refund {refund_id}."""


class IntentStateRefused(FailedPrecondition):
    """Payment {intent_id} is {state}; {action} is for {allowed}."""


class IntentBusy(Aborted):
    """Payment {intent_id} waits for the gateway's answer to a {operation}."""


class MethodRequired(FailedPrecondition):
    """Nothing says by what payment {intent_id} is paid."""


class MoreThanAuthorised(FailedPrecondition):
    """Of payment {intent_id} {left} can be captured, not {wanted}."""


class MoreThanCaptured(FailedPrecondition):
    """Of payment {intent_id} {left} can be given back, not {wanted}."""


class CaptureMustBeFinal(FailedPrecondition):
    """{gateway} captures once for each payment: take all that is left, or say that this is final."""


class TooManyRefunds(FailedPrecondition):
    """Payment {intent_id} has {max} refunds already."""


class KindNotOffered(FailedPrecondition):
    """Nobody can pay by {kind} here."""


class AmountNotPositive(InvalidArgument):
    """{field} must be more than nothing."""


class AmountNotChargeable(InvalidArgument):
    """{gateway} cannot take {amount}: {rule}."""


class CaptureModeRefused(InvalidArgument):
    """{rule}"""


class ExpireTimePassed(InvalidArgument):
    """expire_time must lie ahead, by {max_days} days at most."""


class Kind(StrEnum):
    """By what is paid."""

    NONE = ""
    CARD = "CARD"
    BANK_TRANSFER = "BANK_TRANSFER"
    INVOICE = "INVOICE"
    WALLET = "WALLET"


BY_BANK = {Kind.BANK_TRANSFER, Kind.INVOICE}


class State(StrEnum):
    """Where a payment stands."""

    REQUIRES_METHOD = "REQUIRES_METHOD"
    REQUIRES_CONFIRMATION = "REQUIRES_CONFIRMATION"
    REQUIRES_ACTION = "REQUIRES_ACTION"
    PROCESSING = "PROCESSING"
    AUTHORISED = "AUTHORISED"
    SUCCEEDED = "SUCCEEDED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


FOLLOWING = {
    State.REQUIRES_METHOD: {State.REQUIRES_CONFIRMATION, State.CANCELLED},
    State.REQUIRES_CONFIRMATION: {State.PROCESSING, State.CANCELLED},
    State.REQUIRES_ACTION: {
        State.PROCESSING,
        State.AUTHORISED,
        State.SUCCEEDED,
        State.FAILED,
        State.CANCELLED,
    },
    State.PROCESSING: {
        State.REQUIRES_ACTION,
        State.AUTHORISED,
        State.SUCCEEDED,
        State.FAILED,
        State.CANCELLED,
    },
    State.AUTHORISED: {State.SUCCEEDED, State.CANCELLED},
    State.SUCCEEDED: set(),
    State.CANCELLED: set(),
    State.FAILED: set(),
}
FINAL = {State.SUCCEEDED, State.CANCELLED, State.FAILED}
WAITING = {State.PROCESSING, State.REQUIRES_ACTION}  # The gateway has the word.


class Asked(StrEnum):
    """What a gateway is asked."""

    AUTHORISE = "AUTHORISE"
    CAPTURE = "CAPTURE"
    VOID = "VOID"
    REFUND = "REFUND"


class Outcome(StrEnum):
    """What became of it."""

    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class Operation(Row):
    """One thing asked of a gateway. Written before it is asked: a crash leaves it to be found."""

    __tablename__ = "operation"
    kind: Mapped[str] = mapped_column(primary_key=True)
    operation_id: Mapped[UUID] = mapped_column(primary_key=True)
    intent_id: Mapped[UUID]
    asked: Mapped[int | None]  # As the caller said: none is all that is left.
    amount: Mapped[int]
    currency: Mapped[str]
    final: Mapped[bool]
    reason: Mapped[str]
    state: Mapped[str]
    decline_code: Mapped[str]
    decline_message: Mapped[str]
    attempts: Mapped[int]
    due_at: Mapped[datetime | None]  # When it is looked after (again). None: never.
    effective_at: Mapped[datetime]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    @property
    def key(self) -> str:
        """What makes it one thing at the gateway, however often it is asked."""
        return f"weft-{self.kind.lower()}-{self.operation_id}"

    @property
    def pending(self) -> bool:
        return self.state == Outcome.PENDING

    @property
    def money(self) -> Money:
        return Money(self.amount, self.currency)

    def end(self, outcome: Outcome, now: datetime, decline: Decline | None = None) -> None:
        assert self.pending, f"{self.key} has ended before"
        self.state, self.ended_at, self.due_at = outcome, now, None
        if decline:
            self.decline_code, self.decline_message = decline.code, decline.message


class Intent(Row):
    """A payment."""

    __tablename__ = "intent"
    intent_id: Mapped[UUID] = mapped_column(primary_key=True)
    body_mac: Mapped[bytes]  # Keyed hash of what was asked for: tells a retry from a reused id.
    reference: Mapped[str]
    customer_id: Mapped[UUID]
    currency: Mapped[str]
    amount: Mapped[int]
    kind: Mapped[str]
    method_id: Mapped[UUID | None]
    sealed_source: Mapped[bytes | None]  # Erased when the payment is final.
    gateway: Mapped[str]
    gateway_ref: Mapped[str]
    capture: Mapped[bool]  # With the authorisation.
    top_up: Mapped[bool]
    return_url: Mapped[str]
    redirect_url: Mapped[str]
    state: Mapped[str]
    authorised: Mapped[int]
    captured: Mapped[int]
    refunded: Mapped[int]
    disputed: Mapped[int]
    decline_code: Mapped[str]
    decline_message: Mapped[str]
    cancel_reason: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    expire_at: Mapped[datetime | None]
    look_at: Mapped[datetime | None]  # When the gateway is asked (again) how it stands.
    looks: Mapped[int]

    def money(self, minor: int) -> Money:
        return Money(minor, self.currency)

    @property
    def owed(self) -> Money:
        return self.money(self.amount)

    @property
    def top_up_kept(self) -> bool:
        """What it brought went to the customer's wallet, and was not given back by itself."""
        return self.top_up and self.state not in (State.CANCELLED, State.FAILED)

    def move(self, state: State, now: datetime) -> None:
        """Raises AssertionError for what FOLLOWING does not have: a bug, for callers are refused before."""
        assert state in FOLLOWING[State(self.state)], f"{self.state} does not become {state}"
        self.state, self.updated_at = state, now
        if state in FINAL or state == State.AUTHORISED:
            self.redirect_url = ""
        if state in FINAL:
            self.sealed_source, self.expire_at = None, None

    def allow(self, action: str, *states: State) -> None:
        """Raises IntentStateRefused."""
        if self.state not in states:
            allowed = ", ".join(states)
            raise IntentStateRefused(
                intent_id=self.intent_id, state=self.state, action=action, allowed=allowed
            )

    def ask(self, kind: Asked, amount: int, now: datetime, operation_id: UUID | None = None) -> Operation:
        """What a gateway is to be asked, due at once."""
        return Operation(
            kind=kind,
            operation_id=operation_id or self.intent_id,
            intent_id=self.intent_id,
            asked=None,
            amount=amount,
            currency=self.currency,
            final=False,
            reason="",
            state=Outcome.PENDING,
            decline_code="",
            decline_message="",
            attempts=0,
            due_at=now,
            effective_at=now,
            created_at=now,
            ended_at=None,
        )

    def own(self, what: str) -> UUID:
        """An id for something of this payment's: the same for the same."""
        return uuid5(self.intent_id, what)

    def start(self, now: datetime) -> Operation:
        """The gateway is asked for the money. Raises MethodRequired, IntentStateRefused."""
        if self.state == State.REQUIRES_METHOD:
            raise MethodRequired(intent_id=self.intent_id)
        self.allow("confirm", State.REQUIRES_CONFIRMATION)
        self.move(State.PROCESSING, now)
        return self.ask(Asked.AUTHORISE, self.amount, now)


def positive(amount: Money, field: str) -> Money:
    """Raises AmountNotPositive."""
    if amount.minor <= 0:
        raise AmountNotPositive(field=field)
    return amount


def expiry(wanted: datetime | None, kind: Kind, now: datetime) -> datetime:
    """Until when a new payment must be authorised. Raises ExpireTimePassed."""
    if wanted is None:
        return now + (EXPIRE_TRANSFER if kind is Kind.BANK_TRANSFER else EXPIRE_DEFAULT)
    if not now < wanted <= now + EXPIRE_MAX:
        raise ExpireTimePassed(field="expire_time", max_days=EXPIRE_MAX.days)
    return wanted


def bank_reference(intent_id: UUID) -> str:
    """The creditor reference (ISO 11649) of a payment by bank: RF, two check digits, and 20 digits."""
    digits = f"{uuid5(intent_id, 'bank reference').int % 10**20:020d}"
    return f"RF{98 - int(f'{digits}{RF}00') % 97:02d}{digits}"


def bank_references(text: str) -> set[str]:
    """The references of ours that a text of a statement holds, however it is spaced or broken."""
    found = re.findall(r"(?=(RF\d{22}))", re.sub(r"[^0-9A-Za-z]", "", text).upper())
    return {each for each in found if int(f"{each[4:]}{RF}{each[2:4]}") % 97 == 1}
