"""What follows from how a gateway has a payment: the one place where its answers become ours.

Answers, webhooks and looks come here alike, in any order, as often as they like, and at any time. Sums grow
and states move forward; an old answer changes nothing. What is taken of a payment that was given up is given
back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from services.payment.domain.intent import (
    FINAL,
    WAITING,
    Asked,
    Intent,
    IntentBusy,
    Operation,
    Outcome,
    State,
)
from services.payment.domain.remote import Decline, Remote, RemoteState

GIVEN_UP = {State.CANCELLED, State.FAILED}
HOLDING = {RemoteState.AUTHORISED, RemoteState.ACTION, RemoteState.PROCESSING}
ELSEWHERE = "at_gateway"  # The reason of refunds that were made at the gateway by hand.
OURS = "weft-"  # How our own keys begin.
LATE = "late"  # The reason of refunds that are made by themselves.
RELEASED = Decline("authorisation_gone", "The gateway holds the money no longer.")


@dataclass(frozen=True, slots=True)
class Moved:
    """The payment stands elsewhere."""

    state: State


@dataclass(frozen=True, slots=True)
class Captured:
    """Money was taken."""

    capture: Operation
    total: int  # Of the payment so far.
    late: bool  # Nobody wanted it any more.


@dataclass(frozen=True, slots=True)
class Ended:
    """What was asked for has another end: a capture that failed, a refund that was made or failed."""

    operation: Operation


@dataclass(frozen=True, slots=True)
class Opened:
    """A refund was begun by itself."""

    operation: Operation


@dataclass(frozen=True, slots=True)
class Released:
    """What was not captured was given up; what was stays."""


Fact = Moved | Captured | Ended | Opened | Released


@dataclass
class Settlement:
    """A payment with all that was asked for it, its row locked."""

    intent: Intent
    operations: Sequence[Operation]
    now: datetime
    facts: list[Fact] = field(default_factory=list)
    added: list[Operation] = field(default_factory=list)  # Rows to be written.

    def settle(self, remote: Remote) -> None:
        """Takes an answer of the gateway in."""
        self._captures(remote)
        self._refunds(remote)
        self._state(remote)
        if self.intent.state in GIVEN_UP:
            self._give_back()
            if remote.state in HOLDING and not self.pending(Asked.VOID):
                self.release()

    def refuse(self, operation: Operation, decline: Decline) -> None:
        """The gateway will not do it, and nothing moved."""
        if not operation.pending:
            return
        if operation.kind == Asked.AUTHORISE:
            self._decline(decline)
            self._end(Asked.AUTHORISE, Outcome.FAILED, decline)
        elif operation.kind != Asked.VOID:  # A release is asked for until the money is accounted for.
            operation.end(Outcome.FAILED, self.now, decline)
            self.facts.append(Ended(operation))

    def cancel(self, reason: str) -> Operation | None:
        """Gives up what was not captured; what the gateway is to be asked for it, if anything.

        Raises IntentBusy, IntentStateRefused.
        """
        intent = self.intent
        if self.pending(Asked.CAPTURE):
            raise IntentBusy(intent_id=intent.intent_id, operation="capture")
        intent.allow("cancel", *(state for state in State if state not in FINAL))
        intent.cancel_reason = reason
        if not intent.gateway_ref:  # Whoever is opening it there finds it given up, and goes no further.
            self._end(Asked.AUTHORISE, Outcome.FAILED, Decline("cancelled"))
        if intent.state == State.AUTHORISED and intent.captured:
            intent.move(State.SUCCEEDED, self.now)
            self.facts.append(Released())
        else:
            self._move(State.CANCELLED)
            self._give_back()
        return self.release() if intent.gateway_ref else None

    def release(self) -> Operation:
        """Asks the gateway to hold nothing any more."""
        nth = sum(each.kind == Asked.VOID for each in self.operations)
        own = self.intent.own(f"release {nth}")
        void = self.intent.ask(Asked.VOID, 0, self.now, own)
        self.added.append(void)
        return void

    def arrived(self, amount: int, capture: Operation) -> None:
        """Money came by bank."""
        self._took(amount, capture)
        self._state(Remote(state=self._by_bank(), captured=self.intent.captured))
        if self.intent.state in GIVEN_UP:
            self._give_back()

    def _by_bank(self) -> RemoteState:
        if self.intent.captured >= self.intent.amount:
            return RemoteState.TAKEN
        return RemoteState.AUTHORISED if self.intent.state == State.AUTHORISED else RemoteState.ACTION

    @property
    def pending_capture(self) -> bool:
        return self.pending(Asked.CAPTURE) is not None

    def pending(self, kind: Asked) -> Operation | None:
        every = (*self.operations, *self.added)
        return next((each for each in every if each.kind == kind and each.pending), None)

    def _captures(self, remote: Remote) -> None:
        more, asked = remote.captured - self.intent.captured, self.pending(Asked.CAPTURE)
        if asked and more >= asked.amount:
            asked.end(Outcome.SUCCEEDED, self.now)
            more -= asked.amount
            self._took(asked.amount, asked)
        if more > 0:
            own = self.intent.own(f"captured {remote.captured}")
            capture = self.intent.ask(Asked.CAPTURE, more, self.now, own)
            capture.end(Outcome.SUCCEEDED, self.now)
            self.added.append(capture)
            self._took(more, capture)
        closed = remote.state in (RemoteState.TAKEN, RemoteState.VOIDED)
        if asked and asked.pending and closed:
            asked.end(Outcome.FAILED, self.now, remote.decline or RELEASED)
            self.facts.append(Ended(asked))

    def _took(self, amount: int, capture: Operation) -> None:
        self.intent.captured += amount
        late = self.intent.state in GIVEN_UP
        self.facts.append(Captured(capture, self.intent.captured, late))

    def _refunds(self, remote: Remote) -> None:
        self._elsewhere(remote)
        for operation in (*self.operations, *self.added):
            found = remote.refunds.get(operation.key)
            if operation.kind != Asked.REFUND or not operation.pending or found is None:
                continue
            if found.decline:
                operation.end(Outcome.FAILED, self.now, found.decline)
            elif found.done:
                operation.end(Outcome.SUCCEEDED, self.now)
                self.intent.refunded += operation.amount
            else:
                continue
            self.facts.append(Ended(operation))

    def _elsewhere(self, remote: Remote) -> None:
        """Refunds that people made at the gateway itself."""
        known = {each.key for each in self.operations if each.kind == Asked.REFUND}
        known |= {str(each.operation_id) for each in self.operations}
        for key, found in remote.refunds.items():
            own = self.intent.own(f"refund {key}")
            if not found.done or key in known or str(own) in known or key.startswith(OURS):
                continue
            left = self.intent.captured - self.intent.refunded
            refund = self.intent.ask(Asked.REFUND, min(found.amount, left), self.now, own)
            refund.reason = ELSEWHERE
            refund.end(Outcome.SUCCEEDED, self.now)
            self.intent.refunded += refund.amount
            self.added.append(refund)
            self.facts.append(Ended(refund))

    def _state(self, remote: Remote) -> None:
        """Moves the payment, and ends what the gateway has answered by being where it is."""
        if remote.state == RemoteState.NEW:
            return
        follow = {
            RemoteState.ACTION: self._act,
            RemoteState.AUTHORISED: self._hold,
            RemoteState.TAKEN: self._close,
            RemoteState.DECLINED: self._refuse,
            RemoteState.VOIDED: self._release,
        }.get(remote.state)
        if follow:
            follow(remote)
        failed = remote.state in (RemoteState.DECLINED, RemoteState.VOIDED)
        self._end(Asked.AUTHORISE, Outcome.FAILED if failed else Outcome.SUCCEEDED)
        if remote.state in (RemoteState.DECLINED, RemoteState.VOIDED, RemoteState.TAKEN):
            self._end(Asked.VOID, Outcome.SUCCEEDED)

    def _act(self, remote: Remote) -> None:
        if self.intent.state == State.PROCESSING:
            self.intent.redirect_url = remote.redirect_url
            self._move(State.REQUIRES_ACTION)

    def _hold(self, _: Remote) -> None:
        self._move_waiting(State.AUTHORISED)

    def _close(self, _: Remote) -> None:
        self._move_waiting(State.SUCCEEDED)
        if self.intent.state == State.AUTHORISED:
            self._move(State.SUCCEEDED)

    def _refuse(self, remote: Remote) -> None:
        self._decline(remote.decline or Decline("declined"))

    def _move_waiting(self, state: State) -> None:
        if self.intent.state in WAITING:
            self.intent.authorised = self.intent.amount
            self._move(state)

    def _move(self, state: State) -> None:
        self.intent.move(state, self.now)
        self.facts.append(Moved(state))

    def _decline(self, decline: Decline) -> None:
        if self.intent.state in WAITING:
            self.intent.decline_code, self.intent.decline_message = decline.code, decline.message
            self._move(State.FAILED)

    def _release(self, _: Remote) -> None:
        """The gateway holds nothing any more: asked for, or because it was held for too long."""
        if self.intent.state in (*WAITING, State.AUTHORISED):
            self.intent.cancel_reason = self.intent.cancel_reason or "released_by_gateway"
            self._move(State.SUCCEEDED if self.intent.captured else State.CANCELLED)

    def _end(self, kind: Asked, outcome: Outcome, decline: Decline | None = None) -> None:
        if operation := self.pending(kind):
            operation.end(outcome, self.now, decline)

    def _give_back(self) -> None:
        """A payment that was given up keeps nothing."""
        left = refundable(self.intent, (*self.operations, *self.added))
        if left > 0:
            own = self.intent.own(f"late {self.intent.captured}")
            refund = self.intent.ask(Asked.REFUND, left, self.now, own)
            refund.reason = LATE
            self.added.append(refund)
            self.facts.append(Opened(refund))


def refundable(intent: Intent, operations: Sequence[Operation]) -> int:
    """What can still be given back: captured, not given back or about to be, and not disputed."""
    begun = (each for each in operations if each.kind == Asked.REFUND and each.state != Outcome.FAILED)
    return intent.captured - sum(each.amount for each in begun) - intent.disputed


def capturable(intent: Intent, operations: Sequence[Operation]) -> int:
    """What can still be captured of what is held."""
    begun = sum(each.amount for each in operations if each.kind == Asked.CAPTURE and each.pending)
    return intent.authorised - intent.captured - begun
