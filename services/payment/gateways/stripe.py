"""A gateway that is shaped like Stripe, at whatever address, through Stripe's own client.

A payment there is made without asking for money, and written down here, before it is confirmed. So how it
stands can always be asked, and a second confirmation, capture or release of it finds the first. Refunds carry
our key, by which they are found among the payment's.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Set
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard
from uuid import UUID

from services.chassis.money import Money, exponent
from services.payment.domain.intent import AmountNotChargeable
from services.payment.domain.remote import (
    Charge,
    Decline,
    DisputeState,
    GatewayAway,
    GatewayRefused,
    Kept,
    Notice,
    Remote,
    RemoteDispute,
    RemoteRefund,
    RemoteState,
    Source,
)
from services.payment.domain.webhook import WebhookUnreadable, verify
from services.payment.settings import PaymentSettings

if TYPE_CHECKING:
    from stripe import StripeClient

    from services.payment.gateways.stripe_http import Http

# Amounts are of the smallest unit, which for these is not that of ISO 4217 (docs.stripe.com/currencies).
EXPONENTS = {"ISK": 2, "UGX": 2, "MGA": 0}
TENS = {"BHD", "JOD", "KWD", "OMR", "TND"}  # Of three decimals the last one is always zero.
AMOUNT_MAX = 99_999_999  # Eight digits, whatever the currency.
HELD = frozenset({RemoteState.NEW, RemoteState.AUTHORISED})
KEY = "weft_key"  # The metadata by which our refunds are known.
STATES = {
    "requires_confirmation": RemoteState.NEW,
    "requires_action": RemoteState.ACTION,
    "processing": RemoteState.PROCESSING,
    "requires_capture": RemoteState.AUTHORISED,
    "canceled": RemoteState.VOIDED,
    "succeeded": RemoteState.TAKEN,
}
DISPUTES = {"won": DisputeState.WON, "prevented": DisputeState.WON, "lost": DisputeState.LOST}


class Stripe:
    name = "stripe"

    def __init__(self, settings: PaymentSettings) -> None:
        self._settings, self.several_captures = settings, settings.stripe_multicapture
        self._made: StripeClient | None = None
        self._http: Http | None = None

    @property
    def _client(self) -> "StripeClient":
        """Made when it is first needed: whoever has another gateway never imports it."""
        if self._made is None:
            from stripe import StripeClient

            from services.payment.gateways.stripe_http import Http

            self._http = Http(self._settings.call_s)
            self._made = StripeClient(
                self._settings.stripe_api_key,
                base_addresses={"api": self._settings.stripe_api_base},
                http_client=self._http,
                max_network_retries=0,
            )
        return self._made

    async def open_at_start(self) -> None:
        """Its import takes seconds where the machine is busy: not in the first customer's time."""
        assert self._client is not None

    async def close_at_end(self) -> None:
        """For ever; its connections are closed with the process."""
        try:
            await asyncio.Event().wait()
        finally:
            if self._http is not None:
                await self._http.close_async()

    def check(self, amount: Money) -> None:
        units(amount)

    def ref(self, charge: Charge) -> str:
        return ""

    async def open(self, charge: Charge) -> str:
        params: dict[str, Any] = {
            "amount": units(charge.amount),
            "currency": charge.amount.currency.lower(),
            "capture_method": "automatic" if charge.capture else "manual",
            "payment_method_types": ["card"],
            "metadata": {"weft_intent": str(charge.intent_id), "weft_reference": charge.reference},
        }
        source = charge.source or Source("")
        params |= {"customer": source.customer} if source.customer else {}
        if source.token.startswith("tok_"):
            params["payment_method_data"] = {"type": "card", "card": {"token": source.token}}
        else:
            params["payment_method"] = source.token
        key = f"weft-open-{charge.intent_id}"
        made = await self._ask(lambda: self._intents.create_async(params, {"idempotency_key": key}))
        return str(made.id)

    async def authorise(self, charge: Charge) -> Remote:
        params = {"return_url": charge.return_url} if charge.return_url else {}
        key = {"idempotency_key": f"weft-authorise-{charge.intent_id}"}
        confirmed = partial(self._intents.confirm_async, charge.ref, params, key)
        return await self._moved(charge, confirmed, {RemoteState.NEW})

    async def capture(self, charge: Charge, key: str, amount: int, *, final: bool) -> Remote:
        params: dict[str, Any] = {"amount_to_capture": units(Money(amount, charge.amount.currency))}
        if self.several_captures:
            params["final_capture"] = final
        options = {"idempotency_key": key}
        return await self._moved(charge, lambda: self._intents.capture_async(charge.ref, params, options))

    async def void(self, charge: Charge, key: str) -> Remote:
        options = {"idempotency_key": key}
        return await self._moved(charge, lambda: self._intents.cancel_async(charge.ref, {}, options))

    async def refund(self, charge: Charge, key: str, amount: int) -> Remote:
        params = {
            "payment_intent": charge.ref,
            "amount": units(Money(amount, charge.amount.currency)),
            "metadata": {KEY: key},
        }
        options = {"idempotency_key": key}
        made = await self._ask(lambda: self._api.refunds.create_async(params, options))
        currency = charge.amount.currency
        return Remote(state=RemoteState.NEW, refunds={key: _refund(_plain(made), currency)})

    async def look(self, charge: Charge) -> Remote:
        found = await self._ask(
            lambda: self._intents.retrieve_async(charge.ref, {"expand": ["latest_charge"]})
        )
        intent, refunds = _plain(found), []
        if intent["status"] in ("succeeded", "requires_capture", "canceled") and intent.get("latest_charge"):
            refunds = await self._refunds(charge.ref)
        return remote(intent, refunds, charge.amount.currency)

    async def keep(self, customer_id: UUID, method_id: UUID, token: str, known: str) -> Kept:
        client = self._api
        customer = known
        if not customer:
            metadata = {"metadata": {"weft_customer": str(customer_id)}}
            options = {"idempotency_key": f"weft-customer-{method_id}"}
            customer = str((await self._ask(lambda: client.customers.create_async(metadata, options))).id)
        if token.startswith("tok_"):
            card = {"type": "card", "card": {"token": token}}
            options = {"idempotency_key": f"weft-card-{method_id}"}
            token = str((await self._ask(lambda: client.payment_methods.create_async(card, options))).id)
        attach = {"customer": customer}
        key = {"idempotency_key": f"weft-attach-{method_id}"}
        kept = await self._ask(lambda: client.payment_methods.attach_async(token, attach, key))
        card = _plain(kept)["card"]
        expiry = f"{card['exp_year']:04d}-{card['exp_month']:02d}"
        return Kept(
            source=Source(str(kept.id), customer), brand=card["brand"], last4=card["last4"], expiry=expiry
        )

    def notice(self, header: Callable[[str], str], body: bytes, now: datetime) -> Notice | None:
        verify(self._settings.stripe_webhook_secret, header("stripe-signature"), body, now)
        return notice_of(body)

    @property
    def _api(self) -> Any:
        """Untyped: its parameters are dictionaries, whose types are as many as its rpcs."""
        return self._client.v1

    @property
    def _intents(self) -> Any:
        return self._api.payment_intents

    async def _moved(
        self, charge: Charge, call: Callable[[], Awaitable[Any]], undone: Set[RemoteState] = HELD
    ) -> Remote:
        """How the payment stands after a call. One that is refused was done before, unless it is `undone`."""
        try:
            done = await self._ask(call)
        except GatewayRefused:
            seen = await self.look(charge)
            if seen.state in undone:
                raise
            return seen
        intent = _plain(done)
        if intent.get("latest_charge") and "amount_received" not in intent:
            return await self.look(charge)
        return remote(intent, [], charge.amount.currency)

    async def _refunds(self, ref: str) -> list[Mapping[str, Any]]:
        listed = await self._ask(lambda: self._api.refunds.list_async({"payment_intent": ref, "limit": 100}))
        return [_plain(each) async for each in listed.auto_paging_iter()]

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Raises GatewayRefused for what it says will never be done, else GatewayAway."""
        import stripe

        try:
            return await call()
        except (stripe.CardError, stripe.InvalidRequestError, stripe.IdempotencyError) as error:
            details = error.error
            code = getattr(details, "decline_code", None) or error.code or "invalid_request"
            raise GatewayRefused(str(code), str(error.user_message or "")) from error
        except stripe.StripeError as error:
            raise GatewayAway(type(error).__name__) from error


def units(amount: Money) -> int:
    """As the gateway counts. Raises AmountNotChargeable."""
    decimals = exponent(amount.currency)
    shift = EXPONENTS.get(amount.currency, decimals) - decimals
    counted, rest = divmod(amount.minor * int(10 ** max(shift, 0)), int(10 ** max(-shift, 0)))
    if rest or (amount.currency in TENS and counted % 10):
        _refuse(amount, "its last decimals must be zero")
    if counted > AMOUNT_MAX:
        _refuse(amount, "it has more than eight digits")
    return counted


def _refuse(amount: Money, rule: str) -> None:
    """Raises AmountNotChargeable."""
    raise AmountNotChargeable(gateway=Stripe.name, amount=amount, rule=rule, field="amount")


def minor(counted: int, currency: str) -> int:
    """In minor units of ISO 4217."""
    shift = EXPONENTS.get(currency, exponent(currency)) - exponent(currency)
    return int(counted // 10**shift if shift >= 0 else counted * 10**-shift)


def remote(intent: Mapping[str, Any], refunds: list[Mapping[str, Any]], currency: str) -> Remote:
    """A PaymentIntent with its refunds."""
    failed = intent.get("last_payment_error") or {}
    state = STATES.get(intent["status"], RemoteState.NEW)
    decline = None
    if intent["status"] == "requires_payment_method" and failed:
        state = RemoteState.DECLINED
        code = failed.get("decline_code") or failed.get("code") or "declined"
        decline = Decline(str(code)[:100], str(failed.get("message") or "")[:300])
    action = intent.get("next_action") or {}
    captured, listed = _captured(intent, refunds)
    return Remote(
        state=state,
        captured=minor(captured, currency),
        refunds={_key(each): _refund(each, currency) for each in listed},
        redirect_url=str((action.get("redirect_to_url") or {}).get("url") or ""),
        decline=decline,
    )


def _captured(
    intent: Mapping[str, Any], refunds: list[Mapping[str, Any]]
) -> tuple[int, list[Mapping[str, Any]]]:
    """What was captured, and the refunds of it.

    Where `amount_received` is not told, what was released by a capture of less is among the refunds.
    """
    if intent.get("amount_received") is not None:
        return int(intent["amount_received"]), refunds
    charge = intent.get("latest_charge") or {}
    if not isinstance(charge, Mapping) or not charge.get("captured") or charge.get("status") != "succeeded":
        return 0, []
    ours = [each for each in refunds if KEY in (each.get("metadata") or {})]
    return int(charge["amount"]) - sum(each["amount"] for each in refunds if each not in ours), ours


def _key(refund: Mapping[str, Any]) -> str:
    """Ours; or the gateway's id of one that was made there by hand."""
    return str((refund.get("metadata") or {}).get(KEY) or refund["id"])


def _refund(refund: Mapping[str, Any], currency: str) -> RemoteRefund:
    amount, status = minor(int(refund["amount"]), currency), refund.get("status")
    if status in ("failed", "canceled"):
        return RemoteRefund(amount, False, Decline(str(refund.get("failure_reason") or status)))
    return RemoteRefund(amount, status == "succeeded")


def notice_of(body: bytes) -> Notice | None:
    """What an event is about. Raises WebhookUnreadable."""
    try:
        event = json.loads(body)
        about, notice_id, kind = event["data"]["object"], event["id"], event["type"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise WebhookUnreadable(problem="it is no event", field="body") from None
    if not isinstance(about, dict) or not isinstance(kind, str) or not _is_id(notice_id):
        raise WebhookUnreadable(problem="it is no event", field="body")
    ref = about.get("id") if about.get("object") == "payment_intent" else about.get("payment_intent")
    if not _is_id(ref):
        return None
    dispute = _dispute(about, ref) if about.get("object") == "dispute" else None
    return Notice(notice_id=notice_id, kind=kind[:100], ref=ref, dispute=dispute)


def _is_id(text: Any) -> TypeGuard[str]:
    return isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9_]{1,255}", text) is not None


def _dispute(about: Mapping[str, Any], ref: str) -> RemoteDispute | None:
    """None for an inquiry: no money has moved. Raises WebhookUnreadable."""
    if str(about.get("status")).startswith("warning_"):
        return None
    try:
        currency = str(about["currency"]).upper()
        fees = sum(int(each.get("fee", 0)) for each in about.get("balance_transactions") or [])
        due = (about.get("evidence_details") or {}).get("due_by")
        return RemoteDispute(
            ref=str(about["id"])[:255],
            payment_ref=ref,
            amount=minor(int(about["amount"]), currency),
            currency=currency,
            state=DISPUTES.get(about["status"], DisputeState.OPEN),
            fee=max(0, minor(fees, currency)),
            reason=str(about.get("reason") or "")[:100],
            respond_by=datetime.fromtimestamp(due, UTC) if due else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError):
        raise WebhookUnreadable(problem="it is no dispute", field="body") from None


def _plain(found: Any) -> Mapping[str, Any]:
    """A resource as plain data."""
    data: Mapping[str, Any] = found.to_dict()
    return data
