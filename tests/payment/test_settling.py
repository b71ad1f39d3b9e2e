"""What follows from an answer: every pair of states, and answers in any order."""

from datetime import UTC, datetime
from itertools import product
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from services.chassis.errors import Refusal
from services.chassis.money import Money
from services.payment.domain.intent import (
    FINAL,
    FOLLOWING,
    AmountNotChargeable,
    Asked,
    Intent,
    Operation,
    Outcome,
    State,
)
from services.payment.domain.remote import Decline, Remote, RemoteRefund, RemoteState
from services.payment.domain.settling import Captured, Ended, Opened, Settlement, capturable, refundable
from services.payment.gateways.stripe import minor, units

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEGAL = [(each, other) for each in State for other in State if other in FOLLOWING[each]]
ILLEGAL = [pair for pair in product(State, State) if pair not in LEGAL]


def intent(state: State = State.PROCESSING, **rest: object) -> Intent:
    made = {
        "intent_id": UUID(int=1),
        "customer_id": UUID(int=2),
        "reference": "order:1",
        "currency": "EUR",
        "amount": 1000,
        "authorised": 0,
        "captured": 0,
        "refunded": 0,
        "disputed": 0,
        "gateway": "counting",
        "gateway_ref": "pay_1",
        "cancel_reason": "",
        "redirect_url": "",
        "state": state,
        **rest,
    }
    return Intent(**made)


@pytest.mark.parametrize(("before", "after"), ILLEGAL, ids=lambda each: each.value)
def test_no_state_follows_another_that_the_table_does_not_have(before: State, after: State) -> None:
    row = intent(before)
    with pytest.raises(AssertionError, match="does not become"):
        row.move(after, NOW)
    assert row.state == before


@pytest.mark.parametrize(("before", "after"), LEGAL, ids=lambda each: each.value)
def test_states_follow_each_other_as_the_table_has_it(before: State, after: State) -> None:
    row = intent(before)
    row.move(after, NOW)
    assert row.state == after
    if after in FINAL:
        assert (row.sealed_source, row.expire_at) == (None, None)


@pytest.mark.parametrize("state", State)
def test_only_what_was_not_confirmed_is_started(state: State) -> None:
    row = intent(state)
    if state is State.REQUIRES_CONFIRMATION:
        assert row.start(NOW).kind == Asked.AUTHORISE
        return
    with pytest.raises(Refusal):
        row.start(NOW)
    assert row.state == state


@pytest.mark.parametrize("state", State)
def test_what_is_final_is_not_cancelled(state: State) -> None:
    settlement = Settlement(intent(state), [], NOW)
    if state in FINAL:
        with pytest.raises(Refusal):
            settlement.cancel("requested")
        return
    settlement.cancel("requested")
    assert settlement.intent.state == State.CANCELLED


REMOTES = st.builds(
    Remote,
    state=st.sampled_from(RemoteState),
    captured=st.sampled_from([0, 300, 1000]),
    decline=st.none() | st.just(Decline("declined")),
)


@given(st.sampled_from(State), st.lists(REMOTES, max_size=6), st.booleans())
def test_no_order_of_answers_loses_or_invents_money(
    state: State, answers: list[Remote], capturing: bool
) -> None:
    row = intent(state, authorised=1000 if state is State.AUTHORISED else 0)
    operations: list[Operation] = [row.ask(Asked.AUTHORISE, 1000, NOW)] if state is State.PROCESSING else []
    if capturing and state is State.AUTHORISED:
        operations.append(row.ask(Asked.CAPTURE, 300, NOW, UUID(int=9)))
    told = 0
    for answer in answers:
        settlement = Settlement(row, operations, NOW)
        settlement.settle(answer)
        operations += settlement.added
        told += sum(each.capture.amount for each in settlement.facts if isinstance(each, Captured))
    assert row.captured == told == max([0, *(each.captured for each in answers)])
    ended = [each for each in operations if each.kind == Asked.CAPTURE and each.state == Outcome.SUCCEEDED]
    assert sum(each.amount for each in ended) == row.captured
    if row.state in (State.CANCELLED, State.FAILED):
        assert refundable(row, operations) == 0, "whatever came is on its way back"
    assert refundable(row, operations) >= 0


@given(st.lists(st.sampled_from([100, 300, 600]), max_size=6), st.integers(0, 1000))
def test_what_can_be_given_back_is_never_less_than_nothing(amounts: list[int], captured: int) -> None:
    row, operations = intent(State.SUCCEEDED, captured=captured), []
    for n, amount in enumerate(amounts):
        if amount <= refundable(row, operations):
            operations.append(row.ask(Asked.REFUND, amount, NOW, UUID(int=n)))
    assert 0 <= refundable(row, operations) <= captured
    answers = {each.key: RemoteRefund(each.amount) for each in operations}
    settlement = Settlement(row, operations, NOW)
    for _ in range(2):
        settlement.settle(Remote(state=RemoteState.TAKEN, captured=captured, refunds=answers))
    assert row.refunded == sum(each.amount for each in operations)
    assert sum(isinstance(each, Ended) for each in settlement.facts) == len(operations)


def test_a_refund_that_fails_can_be_asked_for_anew() -> None:
    row = intent(State.SUCCEEDED, captured=1000)
    refund = row.ask(Asked.REFUND, 1000, NOW, UUID(int=3))
    settlement = Settlement(row, [refund], NOW)
    failed = {refund.key: RemoteRefund(1000, False, Decline("expired_card"))}
    settlement.settle(Remote(state=RemoteState.TAKEN, captured=1000, refunds=failed))
    assert (refund.state, refund.decline_code, row.refunded) == (Outcome.FAILED, "expired_card", 0)
    assert refundable(row, [refund]) == 1000


def test_a_capture_that_is_asked_for_counts_against_the_next() -> None:
    row = intent(State.AUTHORISED, authorised=1000)
    assert capturable(row, [row.ask(Asked.CAPTURE, 600, NOW, UUID(int=3))]) == 400


def test_what_comes_late_is_given_back_once_however_often_it_is_heard_of() -> None:
    row = intent(State.CANCELLED)
    settlement = Settlement(row, [], NOW)
    for _ in range(3):
        settlement.settle(Remote(state=RemoteState.TAKEN, captured=1000))
    assert [each.operation.amount for each in settlement.facts if isinstance(each, Opened)] == [1000]


@pytest.mark.parametrize(
    ("amount", "counted"),
    [
        (Money(1234, "EUR"), 1234),
        (Money(500, "JPY"), 500),
        (Money(5, "UGX"), 500),
        (Money(7, "ISK"), 700),
        (Money(1230, "BHD"), 1230),
        (Money(500, "MGA"), 5),
    ],
    ids=str,
)
def test_amounts_are_counted_as_the_gateway_counts(amount: Money, counted: int) -> None:
    assert units(amount) == counted
    assert minor(counted, amount.currency) == amount.minor


@pytest.mark.parametrize(
    "amount", [Money(1234, "BHD"), Money(512, "MGA"), Money(10**8, "EUR"), Money(10**7, "UGX")], ids=str
)
def test_what_the_gateway_cannot_count_is_refused(amount: Money) -> None:
    with pytest.raises(AmountNotChargeable):
        units(amount)
