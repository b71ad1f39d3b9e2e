"""Published test cards: each does what it is published to do, and its number is nowhere."""

import asyncio
import csv
import gzip
import json
import logging
from typing import Any
from uuid import uuid4

import pytest
from google.api.httpbody_pb2 import HttpBody
from hypothesis import given, strategies as st

from services.payment.domain.method import CardNumberRefused, luhn, no_card_number
from services.payment.gateways.sandbox import PLANS, plan_of
from tests.data import shared
from tests.payment.till import Till, refused, state_of
from weft.payment.v1 import intent_pb2 as pb, method_pb2, sandbox_pb2, wallet_pb2
from weft.payment.v1.method_pb2_grpc import MethodServiceStub
from weft.payment.v1.sandbox_pb2_grpc import SandboxServiceStub
from weft.payment.v1.wallet_pb2_grpc import WalletServiceStub

# The tokens that stand for the numbers, by the last eight digits where four are not enough.
TOKENS = {
    "4242424242424242": "pm_card_visa",
    "4012888888881881": "tok_visa",
    "4000056655665556": "pm_card_visa_debit",
    "5555555555554444": "pm_card_mastercard",
    "5200828282828210": "pm_card_mastercard_debit",
    "5105105105105100": "pm_card_mastercard_prepaid",
    "378282246310005": "tok_amex",
    "371449635398431": "pm_card_amex",
    "6011111111111117": "pm_card_discover",
    "6011000990139424": "tok_discover",
    "30569309025904": "tok_diners",
    "38520000023237": "pm_card_diners",
    "3530111333300000": "tok_jcb",
    "3566002020360505": "pm_card_jcb",
    "4000000000000002": "pm_card_visa_chargeDeclined",
    "4000000000009995": "pm_card_visa_chargeDeclinedInsufficientFunds",
    "4000000000009987": "pm_card_visa_chargeDeclinedLostCard",
    "4000000000009979": "pm_card_visa_chargeDeclinedStolenCard",
    "4000000000000069": "pm_card_chargeDeclinedExpiredCard",
    "4000000000000127": "pm_card_chargeDeclinedIncorrectCvc",
    "4000000000000119": "pm_card_chargeDeclinedProcessingError",
    "4000000000000259": "pm_card_createDispute",
    "4000000000000341": "pm_card_chargeCustomerFail",
    "4000000000000077": "pm_card_bypassPending",
    "4000000000000010": "pm_card_avsFail",
    "4000000000000028": "pm_card_avsLine1Fail",
    "4000000000000036": "pm_card_avsZipFail",
    "4000000000000101": "pm_card_cvcCheckFail",
    "4000002500003155": "pm_card_authenticationRequiredOnSetup",
    "4000002760003184": "pm_card_authenticationRequired",
    "4000003800000446": "pm_card_authenticationRequiredSetupForOffSession",
    "4000008260003178": "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds",
    "4000000000003220": "pm_card_threeDSecure2Required",
    "4000008400001629": "pm_card_threeDSecureRequiredChargeDeclined",
    "4000008400001280": "pm_card_threeDSecureRequiredProcessingError",
    "4000000000003055": "pm_card_threeDSecureOptional",
}
# What is published of them, in words of the file: the state at once, after an authentication, and the code.
OUTCOMES = {
    "success": ("SUCCEEDED", "", ""),
    "success, available at once": ("SUCCEEDED", "", ""),
    "address_line1 and zip checks fail": ("SUCCEEDED", "", ""),
    "address_line1 check fails": ("SUCCEEDED", "", ""),
    "zip check fails": ("SUCCEEDED", "", ""),
    "cvc check fails": ("SUCCEEDED", "", ""),
    "dispute_later": ("SUCCEEDED", "", ""),
    "3DS supported, not required": ("SUCCEEDED", "", ""),
    "3DS on-session only (already set up)": ("SUCCEEDED", "", ""),
    "attach ok, later charge fails": ("FAILED", "", "card_declined"),
    "3DS unless set up": ("REQUIRES_ACTION", "SUCCEEDED", ""),
    "3DS always": ("REQUIRES_ACTION", "SUCCEEDED", ""),
    "3DS2 required, success": ("REQUIRES_ACTION", "SUCCEEDED", ""),
    "3DS ok then insufficient_funds": ("REQUIRES_ACTION", "FAILED", "insufficient_funds"),
    "3DS required, then card_declined": ("REQUIRES_ACTION", "FAILED", "card_declined"),
    "3DS required, processing error": ("REQUIRES_ACTION", "FAILED", "processing_error"),
}
TABLES = "select table_name from information_schema.tables where table_schema = 'public'"


def cards() -> list[dict[str, str]]:
    """Those of the file whose outcome a payment has; the one that fails Luhn has no token."""
    with shared("09_billing/test_cards.csv").open() as file:
        return [
            row for row in csv.DictReader(file) if row["gateway"] == "stripe" and row["luhn_valid"] == "1"
        ]


async def authenticate(till: Till, paid: pb.Intent, outcome: str) -> pb.Intent:
    """The customer follows the link, answers, and comes back."""
    stub, ref = SandboxServiceStub(till.lab.channel), paid.next_action.redirect_url.rpartition("/")[2]
    shown = await stub.GetAuthenticationPage(sandbox_pb2.GetAuthenticationPageRequest(payment_ref=ref))
    assert ref in shown.page.data.decode()
    form = HttpBody(data=f"outcome={outcome}".encode())
    done = sandbox_pb2.CompleteAuthenticationRequest(payment_ref=ref, form=form)
    answer = await stub.CompleteAuthentication(done)
    assert "https://shop.test/back" in answer.page.data.decode()
    return await till.confirm(paid.intent_id)


async def test_every_published_card_does_what_is_published(shared_till: Till) -> None:
    listed = cards()
    assert {row["number"] for row in listed} == set(TOKENS)
    for row in listed:
        token, at_once = TOKENS[row["number"]], OUTCOMES.get(row["outcome"])
        first, then, code = at_once or ("FAILED", "", row["outcome"])
        paid = await shared_till.pay(card_token=token, return_url="https://shop.test/back")
        assert state_of(paid) == first, row
        if then:
            paid = await authenticate(shared_till, paid, "success")
            assert state_of(paid) == then, row
        assert paid.decline.code == code, row


def test_the_sandbox_knows_the_brands_and_last_digits_of_the_published_numbers() -> None:
    for number, token in TOKENS.items():
        plan = PLANS[plan_of(token)]
        if not token.startswith("tok_"):
            assert plan.last4 == number[-4:], token


async def test_a_customer_who_does_not_authenticate_has_not_paid(shared_till: Till) -> None:
    paid = await shared_till.pay(
        card_token="pm_card_threeDSecure2Required", return_url="https://shop.test/back"
    )
    again = await shared_till.confirm(paid.intent_id)
    assert state_of(again) == "REQUIRES_ACTION"
    failed = await authenticate(shared_till, paid, "failure")
    assert (state_of(failed), failed.decline.code) == ("FAILED", "authentication_failed")
    told = ["IntentCreated", "PaymentStarted", "PaymentActionRequired", "PaymentFailed"]
    assert await shared_till.events(paid.intent_id) == told


async def test_a_held_card_is_authenticated_and_then_captured(shared_till: Till) -> None:
    held = await shared_till.hold(
        card_token="pm_card_threeDSecure2Required", return_url="https://shop.test/back"
    )
    assert state_of(await authenticate(shared_till, held, "success")) == "AUTHORISED"
    assert (await shared_till.capture(held.intent_id)).intent.captured.amount_minor == 1000


async def test_no_number_of_a_card_is_in_any_table_event_or_log(
    shared_till: Till, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    numbers = [row["number"] for row in cards()]
    spaced = [" ".join(each[n : n + 4] for n in range(0, len(each), 4)) for each in numbers]
    for number in (*numbers, *spaced):
        await attempt_everywhere(shared_till, number)
    dump = await everything(shared_till)
    logged = "\n".join(record.getMessage() + str(vars(record)) for record in caplog.records)
    for number in (*numbers, *spaced):
        assert number not in dump
        assert number not in logged


async def attempt_everywhere(till: Till, number: str) -> None:
    """A number where a token, a reference or a name belongs: refused, and the refusal does not repeat it."""
    methods, wallets = MethodServiceStub(till.lab.channel), WalletServiceStub(till.lab.channel)
    attach = method_pb2.AttachMethodRequest(
        method_id=str(uuid4()), customer_id=str(uuid4()), card_token=number
    )
    account = method_pb2.BankAccount(iban=number, holder="Ada")
    kept = method_pb2.AttachMethodRequest(
        method_id=str(uuid4()), customer_id=str(uuid4()), bank_account=account
    )
    adjust = wallet_pb2.AdjustWalletRequest(
        entry_id=str(uuid4()), customer_id=str(uuid4()), reference=f"order:{number}"
    )
    adjust.amount.amount_minor, adjust.amount.currency = 1, "EUR"
    for asking in (
        till.create(card_token=number),
        till.create(reference=f"order:{number}"),
        till.create(return_url=f"https://shop.test/{number.replace(' ', '-')}"),
        methods.AttachMethod(attach, metadata=till.me),
        methods.AttachMethod(kept, metadata=till.me),
        wallets.AdjustWallet(adjust, metadata=till.me),
    ):
        assert await refused(asking) in ("CARD_NUMBER_REFUSED", "MALFORMED", "IBAN_REFUSED")


async def everything(till: Till) -> str:
    """Every row of every table of the service, events included."""
    db = till.lab.db("payment")
    tables = [row["table_name"] for row in await db.fetch(TABLES)]
    rows = [await db.fetch(f"select row_to_json(t)::text as row from {table} t") for table in tables]
    payloads = [bytes(row["payload"]) for row in await db.fetch("select payload from event")]
    return "\n".join(row["row"] for found in rows for row in found) + str(payloads)


@given(st.from_regex(r"\A[0-9]{12,19}\Z"))
def test_a_number_that_luhn_allows_is_refused_however_it_is_written(digits: str) -> None:
    body = digits[:-1]
    number = next(body + str(last) for last in range(10) if luhn(body + str(last)))
    for written in (number, " ".join(number), "-".join((number[:4], number[4:])), f"x:{number}."):
        with pytest.raises(CardNumberRefused) as error:
            no_card_number(written, "reference")
        assert number not in str(error.value)


@given(st.uuids())
def test_ids_are_never_taken_for_cards(given_id: Any) -> None:
    assert no_card_number(f"order:{given_id}", "reference")


def test_the_fixtures_of_stripe_hold_no_number_that_we_keep() -> None:
    with gzip.open(shared("09_billing/stripe_fixtures3.json.gz")) as file:
        resources = json.load(file)["resources"]
    assert "number" not in resources["payment_method"]["card"]


async def test_a_token_is_sealed_while_it_is_needed_and_gone_afterwards(shared_till: Till) -> None:
    token = f"tok_{uuid4().hex}"
    made = await shared_till.create(card_token=token)
    row = await shared_till.lab.db("payment").fetchrow(
        "select sealed_source from intent where intent_id = $1", made.intent_id
    )
    assert row["sealed_source"]
    assert token not in await everything(shared_till)
    assert state_of(await shared_till.confirm(made.intent_id)) == "FAILED"
    row = await shared_till.lab.db("payment").fetchrow(
        "select sealed_source from intent where intent_id = $1", made.intent_id
    )
    assert row["sealed_source"] is None
    await asyncio.sleep(0)
