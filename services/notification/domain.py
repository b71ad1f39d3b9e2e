"""Messages and what may become of them: the rows, the states, the refusals."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.chassis.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
)

WAKE_FIRST = timedelta(seconds=10)  # MessageAccepted itself wakes a sender; this is for when it is lost.
WAKE_AGAIN = timedelta(seconds=60)  # A wake-up that led to nothing (its event was lost) is repeated.


class UnknownTemplate(NotFound):
    """There is no template {template}."""


class MissingValue(InvalidArgument):
    """The template {template} needs the value {value}."""


class BadValue(InvalidArgument):
    """The template {template} takes as {value} only {rule}."""


class BadAddress(InvalidArgument):
    """The recipient's address is none that mail can go to: {why}"""


class ChannelNotOffered(Unimplemented):
    """Messages cannot be sent by {channel} here."""


class MessageIdReused(AlreadyExists):
    """Message {message_id} was accepted with other content."""


class UnknownMessage(NotFound):
    """There is no message {message_id}."""


class NotCancellable(FailedPrecondition):
    """Message {message_id} is {state} and can no longer be called back."""


class NotResendable(FailedPrecondition):
    """Message {message_id} is {state}; only one that was sent or failed is sent once more."""


class ValuesErased(FailedPrecondition):
    """The values of message {message_id} are erased, so it cannot be made once more."""


class UnknownSuppression(NotFound):
    """There is no suppression {suppression_id}."""


class UnknownSubscription(NotFound):
    """The link names no subscription."""


class MailboxOff(Unimplemented):
    """There is a mailbox in development only."""


class UnknownMail(NotFound):
    """There is no mail {mail_id}."""


class State(StrEnum):
    """Where a message stands, in the order it moves."""

    QUEUED = "QUEUED"
    SENDING = "SENDING"
    SENT = "SENT"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    SUPPRESSED = "SUPPRESSED"
    CANCELLED = "CANCELLED"


# What may follow a state. A mail that was sent can still bounce, and one that a relay reported as
# delivered can bounce behind it.
FOLLOWING = {
    State.QUEUED: {State.SENDING, State.SUPPRESSED, State.CANCELLED},
    State.SENDING: {State.SENT, State.FAILED, State.SUPPRESSED, State.CANCELLED},
    State.SENT: {State.DELIVERED, State.FAILED},
    State.DELIVERED: {State.FAILED},
    State.FAILED: set(),
    State.SUPPRESSED: set(),
    State.CANCELLED: set(),
}
WAITING = {State.QUEUED, State.SENDING}


class Category(StrEnum):
    """Why a message is sent."""

    SECURITY = "SECURITY"
    SERVICE = "SERVICE"


class Row(DeclarativeBase):
    """A row of this service's database."""

    type_annotation_map = {datetime: DateTime(timezone=True), str: Text}  # noqa: RUF012


class Message(Row):
    """A message to one person."""

    __tablename__ = "message"
    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    body_mac: Mapped[bytes]  # Keyed hash of what was asked for: tells a retry from a reused id.
    template: Mapped[str]
    channel: Mapped[str]
    category: Mapped[str]
    user_id: Mapped[str]  # Empty: the recipient is no user.
    address: Mapped[str]
    locale: Mapped[str]
    time_zone: Mapped[str]
    sealed_values: Mapped[bytes | None]
    state: Mapped[str]
    attempts: Mapped[int]
    create_time: Mapped[datetime]
    update_time: Mapped[datetime]
    resting: Mapped[bool]  # No attempt is under way. One that was killed leaves it false.
    due_at: Mapped[datetime | None]  # No attempt starts earlier. None: none will start.
    wake_at: Mapped[datetime | None]  # When the senders are told (again) that it is due.
    sent_at: Mapped[datetime | None]
    erase_at: Mapped[datetime | None]

    @property
    def settled(self) -> bool:
        """Whether no attempt will start any more."""
        return self.state not in WAITING

    def due(self, now: datetime) -> bool:
        """Whether an attempt may start: the last one, if any, ended or outlived its lease."""
        return not self.settled and self.due_at is not None and self.due_at <= now

    def begin(self, now: datetime, lease: timedelta) -> Attempt:
        """Starts an attempt. Until `lease` has passed nobody else starts the next."""
        self._move(State.SENDING, now)
        self.attempts, self.resting = self.attempts + 1, False
        self.due_at = self.wake_at = now + lease
        return Attempt(
            message_id=self.message_id, number=self.attempts, started_at=now, code=0, status="", reply=""
        )

    def defer(self, now: datetime, delay: timedelta) -> None:
        """The attempt failed in a way that may pass."""
        self.update_time, self.resting = now, True
        self.due_at = self.wake_at = now + delay

    def settle(self, state: State, now: datetime, keep: timedelta) -> None:
        """No attempt follows; the values are erased when `keep` has passed."""
        self._move(state, now)
        self.due_at = self.wake_at = None
        self.resting = True
        if state is State.SENT:
            self.sent_at = now
        if not keep:
            self.sealed_values = None
        self.erase_at = now + keep if self.sealed_values is not None else None

    def may_become(self, state: State) -> bool:
        return state in FOLLOWING[State(self.state)]

    def cancel(self, now: datetime) -> bool:
        """False when it was cancelled before. Raises NotCancellable, also while an attempt runs."""
        if self.state == State.CANCELLED:
            return False
        leased = not self.resting and self.due_at is not None and self.due_at > now
        if self.settled or leased:
            raise NotCancellable(message_id=self.message_id, state=self.state)
        self.settle(State.CANCELLED, now, timedelta())
        return True

    def _move(self, state: State, now: datetime) -> None:
        assert state == self.state or self.may_become(state), f"{self.state} does not become {state}"
        self.state, self.update_time = state, now


class Attempt(Row):
    """One try to hand a message over."""

    __tablename__ = "attempt"
    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    code: Mapped[int]
    status: Mapped[str]
    reply: Mapped[str]


class Suppression(Row):
    """An address that mail bounced from for good."""

    __tablename__ = "suppression"
    suppression_id: Mapped[UUID] = mapped_column(primary_key=True)
    address_key: Mapped[str]
    address: Mapped[str]
    user_id: Mapped[str]
    message_id: Mapped[UUID]
    status: Mapped[str]
    create_time: Mapped[datetime]


class OptOut(Row):
    """A reader who wants no messages but those about security."""

    __tablename__ = "opt_out"
    opt_out_id: Mapped[UUID] = mapped_column(primary_key=True)
    address_key: Mapped[str]
    user_id: Mapped[str]
    create_time: Mapped[datetime]


class Mail(Row):
    """A mail that the local SMTP server took."""

    __tablename__ = "mail"
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    mail_id: Mapped[UUID]
    received_at: Mapped[datetime]
    sender: Mapped[str]
    recipients: Mapped[list[str]] = mapped_column(ARRAY(Text))
    source: Mapped[bytes]


def address_key(address: str) -> str:
    """What two spellings of one mailbox have in common. Local parts differ by case on no server we know."""
    return address.strip().casefold()
